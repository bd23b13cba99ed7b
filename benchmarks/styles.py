"""EvoPrompt beside other optimizers where the advisor writes as chat models do. All numbers are of a SIMULATED model.

    python benchmarks/styles.py [--styles gpt,terse] [--optimizers factorial,gepa] [--seeds 16]
                                [--first_seed 0] [--budgets 100,200] [--out FOLDER]

Every (style, seed) is one unit of another world than those of `benchmarks/optimizers.py`, with words and laws of its
own. Each optimizer gets the same 24 tasks to learn from, 24 to select by, metric, models and budget of task-model
calls. Its prompt is scored on 24 other tasks, exactly: by the laws of the world. Writes `styles.json` (every run) and
`styles.md` (tables).
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import optimizers_report as report
from benchmarks import shared
from benchmarks.optimizers_numbers import Cell, summarize
from benchmarks.optimizers_units import OPTIMIZERS, TRAIN, VAL, Unit, metric_of, run_one, setting_of
from benchmarks.styles_voices import STYLES, best
from benchmarks.styles_world import Laws, StylesEngine

OURS = "factorial"
COMPARED = (OURS, "refine", "gepa", "random")


def main() -> None:
    arguments = _arguments()
    began = time.monotonic()
    units = [
        Unit(style, seed, arguments.optimizers, arguments.budgets)
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds)
        for style in arguments.styles
    ]
    rows = list(shared.in_processes(run_unit, units, workers=2))
    head = shared.head(arguments, time.monotonic() - began)
    text = tables(rows, head)
    print(text)
    if arguments.out is not None:
        shared.write(arguments.out, {"styles.json": json.dumps({**head, "runs": rows}), "styles.md": text})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--styles", type=shared.names(tuple(STYLES)), default=tuple(STYLES))
    parser.add_argument("--optimizers", type=shared.names(tuple(OPTIMIZERS)), default=COMPARED)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--first_seed", type=int, default=0, help="0 to 15 were looked at while developing")
    parser.add_argument("--budgets", type=shared.numbers, default=(100, 200))
    parser.add_argument("--out", type=Path, help="folder for the JSON and the tables")
    return parser.parse_args()


def run_unit(unit: Unit) -> list[dict[str, Any]]:
    """One row for each optimizer and budget; the world of the unit is a style."""
    tasks = list(metric_of(unit.tasks).tasks.values())
    random.Random(f"indep:{unit.seed}").shuffle(tasks)
    laws, held_out = Laws(unit.seed, tasks), tasks[TRAIN + VAL :]
    score = functools.cache(lambda text: laws.score(text, held_out))
    common = {"world": unit.world, "seed": unit.seed, "best": score(best())}
    return [
        {**common, **run_one(name, setting_of(unit, StylesEngine(laws, unit.world), tasks, budget), score, unit.world)}
        for name in unit.optimizers
        for budget in unit.budgets
    ]


def tables(rows: Sequence[Mapping[str, Any]], head: Mapping[str, Any]) -> str:
    """A short table, and all cells."""
    optimizers = list(dict.fromkeys(row["optimizer"] for row in rows))
    others = [name for name in optimizers if name != OURS]
    cells = summarize(rows, ours=OURS, rivals=others)
    return "\n".join(
        [
            "# Advisors that talk like chat models (SIMULATED)",
            "",
            *_short(cells, optimizers),
            "",
            report.markdown(rows, cells, OURS, others, head),
        ]
    )


def _short(cells: Iterable[Cell], optimizers: Sequence[str]) -> list[str]:
    found = {(cell.world, cell.budget, cell.optimizer): cell for cell in cells}
    columns = ["style", "calls", "start", "best reachable", *(f"`{name}`" for name in optimizers)]
    lines = [
        f"| {' | '.join(columns)} | `{OURS}` less the best other | words, in the same order |",
        f"|{'---|' * (len(columns) + 2)}",
    ]
    for style, budget in dict.fromkeys((world, budget) for world, budget, _ in found):
        line = [found[style, budget, name] for name in optimizers]
        values = [style, str(budget), f"{line[0].start:.1f}", f"{line[0].best:.1f}"]
        values += [f"{cell.final:.1f}" for cell in line]
        mine = found.get((style, budget, OURS))
        low, high = (mine.gain_interval if mine else None) or (0.0, 0.0)
        gain = f"{mine.against}: {mine.gain:+.1f} [{low:+.1f}, {high:+.1f}]" if mine and mine.against else ""
        words = ", ".join(f"{cell.words:.0f}" for cell in line)
        lines.append(f"| {' | '.join([*values, gain, words])} |")
    return lines


if __name__ == "__main__":
    main()
