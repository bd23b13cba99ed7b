"""EvoPrompt beside DSPy's optimizers in worlds with a known optimum. All numbers are of a SIMULATED model.

    python benchmarks/optimizers.py [--quick] [--worlds easy,weak] [--optimizers factorial,gepa] [--seeds 20]
                                    [--budgets 100,200,400] [--tasks mbppplus] [--ablations] [--out FOLDER]

Every (world, seed) is one unit: each optimizer gets the same 24 tasks to learn from, 24 to select by, metric, models
and budget of task-model calls. Its prompt is scored on 24 other tasks, exactly: by the laws of the world, not by
another sample. Writes `optimizers.json` (every run), `optimizers.md` (tables), `optimizers.svg` (score against calls).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import optimizers_report as report
from benchmarks import shared
from benchmarks.optimizers_numbers import Cell, summarize
from benchmarks.optimizers_units import ABLATIONS, OPTIMIZERS, RIVALS, Unit, available, run_unit, unfit_programs
from benchmarks.shared import in_processes, names, numbers
from benchmarks.worlds.worlds import WORLDS


def main() -> None:
    arguments = _arguments()
    began = time.monotonic()
    rows = list(_rows(arguments))
    cells = summarize(rows, ours=arguments.ours, rivals=RIVALS)
    for cell in cells:
        print(report.line(cell))
    cpu = sum(row["cpu"] for row in rows)
    print(f"{len(rows)} runs, {time.monotonic() - began:.0f} s; {cpu:.0f} s of CPU time without the sandbox'")
    if arguments.out is not None:
        _write(arguments, rows, cells, time.monotonic() - began)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=names(tuple(WORLDS)), default=tuple(WORLDS))
    parser.add_argument("--optimizers", type=names(tuple(OPTIMIZERS)), default=tuple(available()))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first_seed", type=int, default=0, help="seeds that nobody looked at while developing")
    parser.add_argument("--budgets", type=numbers, default=(100, 200, 400))
    parser.add_argument("--tasks", choices=("starter", "mbppplus"), default="starter")
    parser.add_argument("--ablations", action="store_true", help="factorial with one piece after the other off")
    parser.add_argument("--quick", action="store_true", help="three seeds")
    parser.add_argument("--ours", default=available()[0], help="the optimizer that is compared with the best rival")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="folder for the JSON, the tables and the figure")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds = 3
    if arguments.ablations:
        arguments.optimizers = ("factorial", *ABLATIONS)
    return arguments


def _rows(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The rows of all units, as they are done."""
    known = unfit_programs(arguments.tasks)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    units = [
        Unit(world, seed, arguments.optimizers, arguments.budgets, arguments.tasks, known)
        for seed in seeds
        for world in arguments.worlds
    ]
    return in_processes(run_unit, units, arguments.workers)


def _write(arguments: argparse.Namespace, rows: list[dict[str, Any]], cells: list[Cell], seconds: float) -> None:
    head = shared.head(arguments, seconds)
    tables = report.markdown(rows, cells, arguments.ours, RIVALS, head)
    texts = {
        "optimizers.json": json.dumps({**head, "cells": [c.as_dict() for c in cells], "runs": rows}),
        "optimizers.md": tables,
        "optimizers.svg": report.figure(rows, arguments.worlds, arguments.optimizers),
    }
    shared.write(arguments.out, texts)


if __name__ == "__main__":
    main()
