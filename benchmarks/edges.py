"""Optimizers beside each other where a student fails on classes of inputs. All numbers are of a SIMULATED model.

    python benchmarks/edges.py [--worlds base,long] [--optimizers factorial,sketch,gepa,simba,mipro,copro]
                               [--seeds 6] [--first_seed 0] [--budgets 200,850] [--out FOLDER]

The student is any `dspy.Predict` with any metric, and its tasks are MBPP+'s where `EVOPROMPT_SHARED` or
`MBPP_OVERRIDE_PATH` has them, else the starter set. Every (world, seed) is one unit, and has words and laws of its own
(`edges_kinds.py`, `edges_laws.py`): each optimizer gets the same 24 tasks to learn from, 24 to select by, metric,
models and budget of task-model calls. Its prompt is scored on other tasks, exactly: by the laws of the world. Writes
`edges.json` (every run) and `edges.md` (tables).
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import dspy

from benchmarks import optimizers_report as report
from benchmarks import shared
from benchmarks.edges_laws import WORLDS, Laws, calls_of, dice_of
from benchmarks.edges_sketch import sketch
from benchmarks.edges_world import CallsMetric, EdgesEngine, student
from benchmarks.optimizers_numbers import summarize
from benchmarks.optimizers_units import OPTIMIZERS, RIVALS, TEST, TEST_MBPP, TRAIN, VAL, Setting, Unit, run_one
from evoprompt import Task, load_dataset

OURS = "factorial"
KNOWN = {"sketch": sketch, **{name: OPTIMIZERS[name] for name in (OURS, "refine", *RIVALS)}}


def main() -> None:
    arguments = _arguments()
    began = time.monotonic()
    tasks = "mbppplus" if shared.use_mbppplus() or os.environ.get("MBPP_OVERRIDE_PATH") else "starter"
    units = [
        Unit(world, seed, (name,), (budget,), tasks)
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds)
        for world in arguments.worlds
        for budget in arguments.budgets
        for name in arguments.optimizers
    ]
    rows = list(shared.in_processes(run_unit, units, arguments.workers))
    cells = summarize(rows, ours=OURS, rivals=[name for name in arguments.optimizers if name in RIVALS])
    print(f"SIMULATED, tasks: {tasks}")
    for cell in cells:
        print(report.line(cell))
    if arguments.out is not None:
        head = shared.head(arguments, time.monotonic() - began)
        tables = report.markdown(rows, cells, OURS, RIVALS, head)
        shared.write(arguments.out, {"edges.json": json.dumps({**head, "runs": rows}), "edges.md": tables})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=shared.names(tuple(WORLDS)), default=tuple(WORLDS))
    parser.add_argument("--optimizers", type=shared.names(tuple(KNOWN)), default=(OURS, "sketch", *RIVALS))
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--first_seed", type=int, default=0, help="seeds that nobody looked at while developing")
    parser.add_argument("--budgets", type=shared.numbers, default=(200, 850))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="folder for the JSON and the tables")
    return parser.parse_args()


@functools.cache
def tasks_of(name: str) -> tuple[Task, ...]:
    """The tasks of a set with the most kinds of calls, as many as are needed."""
    if name == "mbppplus":
        shared.use_mbppplus()
    kinds = {task: {kind for call in calls_of(task) for kind in call.kinds} for task in load_dataset(name)}
    most = TRAIN + VAL + (TEST_MBPP if name == "mbppplus" else TEST)
    return tuple(sorted(kinds, key=lambda task: (-len(kinds[task]), task.task_id))[:most])


@functools.cache
def _laws(world: str, seed: int, name: str) -> tuple[Laws, list[Task], float]:
    """The laws of a unit, its shuffled tasks and the best score of the held-out ones."""
    tasks = list(tasks_of(name))
    dice_of("order", seed).shuffle(tasks)
    laws = Laws(seed, tasks, WORLDS[world])
    held_out = [task.task_id for task in tasks[TRAIN + VAL :]]
    return laws, tasks, laws.score(laws.best(held_out), held_out)


def run_unit(unit: Unit) -> list[dict[str, Any]]:
    """One row for each optimizer and budget."""
    laws, tasks, best = _laws(unit.world, unit.seed, unit.tasks)
    held_out = [task.task_id for task in tasks[TRAIN + VAL :]]
    examples = [dspy.Example(task_id=t.task_id, prompt=t.prompt).with_inputs("prompt") for t in tasks[: TRAIN + VAL]]
    score = functools.cache(lambda text: laws.score(text, held_out))
    rows = []
    for name in unit.optimizers:
        for budget in unit.budgets:
            engine, metric = EdgesEngine(laws, tasks), CallsMetric(laws)
            setting = Setting(engine, metric, examples[:TRAIN], examples[TRAIN:], budget, unit.seed, student)
            row = run_one(name, setting, score, unit.world, KNOWN[name])
            rows.append({"world": unit.world, "seed": unit.seed, "best": best, **row})
    return rows


if __name__ == "__main__":
    main()
