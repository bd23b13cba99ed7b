#!/usr/bin/env python3
"""How often the confirmation takes a prompt that is as good as the start, and one that is better.

    python benchmarks/acceptance.py --out acceptance.json

Both prompts solve the same tasks; the start solves 70 %. A share of the tasks has a fixed outcome: whoever solves it
solves it again, and a better prompt turns some of the failures over for good. On the others both prompts draw anew.
Our sequential test stands beside GEPA's gate (a higher score on 3 tasks), the sign test on all pairs at once, and the
bound: the power of the most powerful test of level 0.05 against the hardest no-op of a grid (Neyman and Pearson, 1933),
which no test that takes at most 5 % of *all* no-ops can surpass.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from evoprompt.evolve.factorial.constants import ALPHA
from evoprompt.evolve.factorial.sequential_test import looks_at, sign_test

START = 0.7
PAIRS = (24, 48, 64)
FIXED = (0.0, 0.5, 0.8, 0.95, 1.0)
GAINS = (0.0, 0.05, 0.10, 0.20)
GEPA_TASKS = 3
MOST = 512
"""Pairs beyond which nobody would ask what a test needs."""
NOOPS = (0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0, 1.1)
"""No-ops that the bound looks at, by their share of pairs with a difference: so many times the proposal's."""

Array = npt.NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=2000, help="simulated confirmations for each cell")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a JSON file for the numbers")
    arguments = parser.parse_args()
    cells = [
        cell(pairs, fixed, gain, arguments.runs, arguments.seed) for fixed in FIXED for gain in GAINS for pairs in PAIRS
    ]
    print(markdown(cells, arguments.runs))
    if arguments.out:
        arguments.out.write_text(json.dumps({"runs": arguments.runs, "seed": arguments.seed, "cells": cells}, indent=1))


def chances(fixed: float, gain: float, start: float = START) -> tuple[float, float]:
    """Probabilities that the proposal wins a pair, and that it loses one."""
    wins = fixed * gain + (1 - fixed) * (start + gain) * (1 - start)
    return wins, (1 - fixed) * start * (1 - start - gain)


def cell(pairs: int, fixed: float, gain: float, runs: int, seed: int) -> dict[str, Any]:
    """The numbers of one row: shares of accepted proposals, and the pairs that this took."""
    wins, losses = chances(fixed, gain)
    random = np.random.default_rng([seed, pairs, round(100 * fixed), round(100 * gain)])
    taken = [confirm(random.choice([1, -1, 0], size=pairs, p=[wins, losses, 1 - wins - losses])) for _ in range(runs)]
    accepted = sum(better for better, _ in taken)
    return {
        "pairs": pairs,
        "fixed": fixed,
        "gain": gain,
        "accepted": accepted / runs,
        "interval": wilson(accepted, runs),
        "used": sum(used for _, used in taken) / runs,
        "sign_test": sign_power(pairs, wins, losses),
        "bound": bound(pairs, wins, losses),
        "gepa": gate(GEPA_TASKS, wins, losses),
        "needed": pairs_needed(wins, losses),
    }


def confirm(signs: npt.NDArray[np.int64]) -> tuple[bool, int]:
    """Whether the test takes the proposal, and after how many pairs it knows."""
    looks = looks_at(len(signs))
    at = [(int((signs[:look] > 0).sum()), int((signs[:look] < 0).sum())) for look in looks]
    return _confirm(len(signs), tuple(at))


@cache
def _confirm(planned: int, counts: tuple[tuple[int, int], ...]) -> tuple[bool, int]:
    signs: list[float] = []
    had = (0, 0)
    for look, (wins, losses) in zip(looks_at(planned), counts, strict=True):
        more = [1.0] * (wins - had[0]) + [-1.0] * (losses - had[1])
        signs += more + [0.0] * (look - len(signs) - len(more))
        had = (wins, losses)
        if (better := sign_test(signs, planned).better) is not None:
            return better, look
    raise AssertionError("the last look decides")


def wilson(found: int, runs: int) -> tuple[float, float]:
    """The 95 % interval of a share."""
    z, share = 1.96, found / runs
    middle, reach = share + z * z / (2 * runs), z * sqrt(share * (1 - share) / runs + (z / (2 * runs)) ** 2)
    return max(0.0, (middle - reach) / (1 + z * z / runs)), min(1.0, (middle + reach) / (1 + z * z / runs))


def gate(tasks: int, wins: float, losses: float) -> float:
    """Probability that the proposal wins more of so many pairs than it loses."""
    w, lost, p = _outcomes(tasks, wins, losses)
    return float(p[w > lost].sum())


def sign_power(pairs: int, wins: float, losses: float, alpha: float = ALPHA) -> float:
    """Exact power of the sign test that looks once, at all pairs."""
    w, lost, p = _outcomes(pairs, wins, losses)
    least = {n: _least_wins(n, alpha) for n in range(pairs + 1)}
    return float(sum(p[i] for i in range(len(p)) if w[i] >= least[int(w[i] + lost[i])]))


def bound(pairs: int, wins: float, losses: float, alpha: float = ALPHA) -> float:
    """What no test surpasses that takes at most this share of all no-ops.

    Any no-op bounds it by the power of the most powerful test against that no-op; here it is the least of `NOOPS`.
    """
    if wins <= losses:
        return alpha
    outcomes = _outcomes(pairs, wins, losses)
    return min(_most_powerful(pairs, outcomes, share * (wins + losses) / 2, alpha) for share in NOOPS)


def _most_powerful(pairs: int, outcomes: tuple[Array, Array, Array], even: float, alpha: float) -> float:
    """Power against a no-op that wins and loses with the same probability.

    Where several outcomes speak for the proposal alike, they are taken in the share that uses the level up.
    """
    null, better = _outcomes(pairs, even, even)[2], outcomes[2]
    ratio = better / np.maximum(null, 1e-300)
    order = np.argsort(-ratio, kind="stable")
    spent = np.cumsum(null[order])
    last = int(np.searchsorted(spent, alpha))
    share = (alpha - (spent[last - 1] if last else 0.0)) / null[order[last]]
    return float(better[order[:last]].sum() + share * better[order[last]])


@cache
def pairs_needed(wins: float, losses: float, power: float = 0.8) -> int | None:
    """Pairs below which no test of level 0.05 has this power; None where there are more than `MOST`."""
    if wins <= losses:
        return None
    low, high = 1, 16
    while bound(high, wins, losses) < power:
        if high >= MOST:
            return None
        low, high = high + 1, 2 * high
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if bound(middle, wins, losses) >= power else (middle + 1, high)
    return low


@cache
def _log_factorials(most: int) -> Array:
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, most + 1)))])


def _outcomes(pairs: int, wins: float, losses: float) -> tuple[Array, Array, Array]:
    """All numbers of wins and losses, with their probabilities."""
    w, lost = (a.ravel() for a in np.meshgrid(np.arange(pairs + 1), np.arange(pairs + 1), indexing="ij"))
    inside = w + lost <= pairs
    w, lost = w[inside], lost[inside]
    ties, logs = pairs - w - lost, _log_factorials(pairs)
    log = logs[pairs] - logs[w] - logs[lost] - logs[ties]
    for count, p in ((w, wins), (lost, losses), (ties, 1 - wins - losses)):
        log = log + (count * np.log(p) if p > 1e-12 else np.where(count > 0, -np.inf, 0.0))
    return w, lost, np.exp(log)


@cache
def _least_wins(decided: int, alpha: float) -> int:
    """The least wins of so many decided pairs that a coin reaches with at most this probability."""
    logs = _log_factorials(decided)
    n = np.arange(decided + 1)
    tail = np.cumsum(np.exp(logs[decided] - logs[n] - logs[decided - n] - decided * np.log(2))[::-1])[::-1]
    return int(next((k for k in n if tail[k] <= alpha), decided + 1))


def markdown(cells: Sequence[dict[str, Any]], runs: int) -> str:
    """The table: a row for each world and gain, a group of columns for each number of pairs."""
    sizes = sorted({c["pairs"] for c in cells})
    heads = [f"{n} pairs: ours ± (pairs used) | sign test | bound" for n in sizes]
    lines = [
        f"Accepted, percent; ours from {runs} simulated confirmations a cell (± half of the 95 % interval), the rest"
        " exact. Needed: pairs below which no test of level 0.05 has 80 % power.",
        "",
        f"| fixed outcomes | gain | GEPA's gate | {' | '.join(heads)} | needed |",
        f"|{'---|' * (4 + 3 * len(sizes))}",
    ]
    return "\n".join([*lines, *_rows(cells, sizes)])


def _rows(cells: Sequence[dict[str, Any]], sizes: Sequence[int]) -> Iterator[str]:
    found = {(c["fixed"], c["gain"], c["pairs"]): c for c in cells}
    for fixed, gain in dict.fromkeys((c["fixed"], c["gain"]) for c in cells):
        row = [found[fixed, gain, n] for n in sizes]
        parts = [f"{100 * fixed:.0f} %", f"{100 * gain:+.0f}" if gain else "no-op", _percent(row[0]["gepa"])]
        for c in row:
            low, high = c["interval"]
            parts += [f"{_percent(c['accepted'])} ± {_percent((high - low) / 2)} ({c['used']:.0f})"]
            parts += [_percent(c["sign_test"]), _percent(c["bound"]) if gain else ""]
        needed = row[0]["needed"]
        yield f"| {' | '.join([*parts, '' if not gain else str(needed or f'over {MOST}')])} |"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


if __name__ == "__main__":
    main()
