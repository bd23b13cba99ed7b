"""The decision for a prompt, on what 18 real models solved under 64 prompts that people really used.

    python benchmarks/replay.py [--pairs 24,48,96] [--draws 200] [--seed 0] [--data FILE] [--out FOLDER]

Of every ordered pair of prompts of one model the first is the start and the second the proposal. Half of the pairs of
outcomes is of training tasks, half of dev tasks, drawn at random; the truth is the difference over all tasks. A tie in
truth is "not better". Then the same as selection: a budget of evaluations for all prompts of a model
(`replay_selection.py`). `benchmarks/data/README.md` names the sources. Writes `replay.json` and `replay.md`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import shared
from benchmarks.replay_selection import regrets
from evoprompt.evolve.factorial import comparison
from evoprompt.evolve.factorial.decision import Pairs, decide, gain
from evoprompt.evolve.factorial.sequential_test import looks_at

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

DATA = Path(__file__).resolve().parent / "data" / "replay.json.gz"
GATE = 3
"""Tasks of GEPA's minibatch."""
GAINS = (-3.0, 0.0, 3.0, 8.0, 15.0)
"""Where the groups of true gains end, in points. The third begins above 0."""
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.97)
"""Where the groups of P(better) begin."""
LIMITS = (3, 6, 9)
"""Percent of errors for which the best rule is shown."""
SOLVED = "2"
NO_ANSWER = "-"


@dataclass(frozen=True)
class Model:
    """What one model solved.

    Attributes:
        name: Of the model and its data set.
        solved: By prompt and task.
        measured: Whether there was an answer.
    """

    name: str
    solved: Bools
    measured: Bools


@dataclass(frozen=True)
class Sample:
    """Pairs of outcomes that were drawn, a row each.

    Attributes:
        truth: Gain of the proposal over all tasks, in points.
        signs: 1 where the proposal alone solved a task, -1 where the start alone did; training tasks come first.
    """

    truth: Floats
    signs: npt.NDArray[np.int8]

    @property
    def wins(self) -> Ints:
        return np.asarray((self.signs > 0).sum(1))

    @property
    def losses(self) -> Ints:
        return np.asarray((self.signs < 0).sum(1))


def load(path: Path = DATA) -> list[Model]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        found = json.load(file)
    return [
        Model(
            f"{one['model']}, {one['dataset']}",
            np.array([[c == SOLVED for c in codes] for codes in one["prompts"].values()]),
            np.array([[c != NO_ANSWER for c in codes] for codes in one["prompts"].values()]),
        )
        for one in found
    ]


def sample(models: Sequence[Model], pairs: int, draws: int, seed: int) -> Sample:
    """Draws for every ordered pair of prompts."""
    random = np.random.default_rng([seed, pairs])
    truths, signs = [], []
    for model in models:
        for start in range(len(model.solved)):
            for proposal in range(len(model.solved)):
                if start == proposal:
                    continue
                both = model.measured[start] & model.measured[proposal]
                sign = model.solved[proposal][both].astype(np.int8) - model.solved[start][both]
                order = np.argsort(random.random((draws, len(sign))), axis=1)[:, :pairs]
                truths.append(np.full(draws, 100 * sign.mean()))
                signs.append(sign[order])
    return Sample(np.concatenate(truths), np.concatenate(signs))


# The rules


def in_turn(pairs: int) -> list[int]:
    """The order in which the search compares them: training tasks, and dev tasks between."""
    return comparison.in_turn(range(pairs // 2), range(pairs // 2, pairs))


def words(drawn: Sample) -> npt.NDArray[np.str_]:
    """The word of our decision on each row, with its looks at the data."""
    signs = drawn.signs[:, in_turn(drawn.signs.shape[1])]
    pairs = signs.shape[1]
    looks = looks_at(pairs)
    counts = np.stack([np.cumsum(signs == side, axis=1)[:, np.array(looks) - 1] for side in (1, -1)], axis=2)
    known: dict[bytes, str] = {}
    return np.array([known.get(c.tobytes()) or known.setdefault(c.tobytes(), _word(c, looks)) for c in counts])


def _word(counts: Ints, looks: Sequence[int]) -> str:
    """The word where wins and losses at the looks are these: nothing else of the order counts."""
    signs: list[float] = []
    for (wins, losses), look in zip(np.diff(counts, axis=0, prepend=[[0, 0]]).tolist(), looks, strict=True):
        signs += [1.0] * wins + [-1.0] * losses
        signs += [0.0] * (look - len(signs))
        verdict = decide(signs, looks[-1])
        if verdict.final:
            break
    return verdict.word


def rules(drawn: Sample) -> dict[str, Bools]:
    """Whether each rule takes the proposal."""
    found, half = words(drawn), drawn.signs.shape[1] // 2
    train, dev = drawn.signs[:, :half].astype(int), drawn.signs[:, half:].astype(int)
    return {
        "ours, `probable` (the default)": found != "start kept",
        "ours, `confirmed`": found == "confirmed",
        f"GEPA's gate (more of {GATE}, then more of dev)": (train[:, :GATE].sum(1) > 0) & (dev.sum(1) > 0),
        "take what solved more": drawn.wins > drawn.losses,
        "the start, always": np.zeros(len(drawn.truth), dtype=bool),
        "the better one, always (knows the truth)": drawn.truth > 0,
    }


# The numbers


def figures(truth: Floats, taken: Bools) -> dict[str, Any]:
    """What comes of taking these."""
    better = truth > 1e-9
    group = np.digitize(truth, GAINS, right=True)
    wrong = truth[taken & ~better]
    return {
        "shares": [100 * int(taken[group == g].sum()) / max(1, int((group == g).sum())) for g in range(len(GAINS) + 1)],
        "gain": float((truth * taken).mean()),
        "taken": 100 * float(taken.mean()),
        "not better": 100 * len(wrong) / max(1, int(taken.sum())),
        "by": -float(wrong.mean()) if len(wrong) else 0.0,
    }


def frontier(drawn: Sample, limit: float) -> float:
    """The mean gain of the best of all rules that see wins and losses alone, where so many percent are not better.

    It is chosen after the fact, cell by cell: no rule that was fixed beforehand can be expected to reach it.
    """
    cells, at = np.unique(np.stack([drawn.wins, drawn.losses], axis=1), axis=0, return_inverse=True)
    at = at.ravel()
    gains = np.bincount(at, drawn.truth, len(cells))
    excess = np.bincount(at, (drawn.truth <= 1e-9) - limit / 100, len(cells))
    # Take what brings gain and lowers the share of errors, then what brings most for each error. The last in part.
    free = (gains > 0) & (excess <= 0)
    total, room = gains[free].sum(), -excess[free].sum()
    rest = np.flatnonzero((gains > 0) & (excess > 0))
    for cell in rest[np.argsort(-gains[rest] / excess[rest])]:
        part = min(1.0, room / excess[cell])
        total, room = total + part * gains[cell], room - part * excess[cell]
    return float(total / len(at))


def calibration(drawn: Sample) -> list[dict[str, float]]:
    """Of the proposals with P(better) in each group, the share that is better."""
    pairs = drawn.signs.shape[1]
    cells, at = np.unique(np.stack([drawn.wins, drawn.losses], axis=1), axis=0, return_inverse=True)
    found = [gain(Pairs(w, n, pairs - w - n)) for w, n in cells.astype(float).tolist()]
    p, expected = (
        np.array(side)[at.ravel()] for side in ([g.better for g in found], [100 * g.expected for g in found])
    )
    rows = []
    for low, high in zip(LEVELS, (*LEVELS[1:], 1.01), strict=True):
        here = (p >= low) & (p < high)
        if here.any():
            told, better = float(p[here].mean()), float((drawn.truth[here] > 1e-9).mean())
            means = {"expected": float(expected[here].mean()), "gain": float(drawn.truth[here].mean())}
            share = 100 * float(here.mean())
            rows.append(
                {"from": low, "to": min(high, 1.0), "share": share, "told": 100 * told, "better": 100 * better} | means
            )
    return rows


# The output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--pairs", type=shared.numbers, default=(24, 48, 96), help="pairs of outcomes for a decision")
    parser.add_argument("--draws", type=int, default=100, help="of every ordered pair of prompts")
    parser.add_argument("--budgets", type=shared.numbers, default=(50, 100, 200, 400), help="of a selection")
    parser.add_argument("--runs", type=int, default=40, help="selections for each model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for the JSON and the tables")
    arguments = parser.parse_args()
    began = time.monotonic()
    models = load(arguments.data)
    decisions = [decision(models, n, arguments.draws, arguments.seed) for n in arguments.pairs]
    several = [model.solved.astype(float) for model in models if len(model.solved) > 2]
    selections = {b: regrets(several, b, arguments.runs, arguments.seed) for b in arguments.budgets}
    text = markdown(models, decisions, selections)
    print(text)
    print(f"\n{time.monotonic() - began:.0f} s")
    if arguments.out is not None:
        found = {"decisions": decisions, "selections": selections}
        shared.write(arguments.out, {"replay.json": json.dumps(found), "replay.md": text})


def decision(models: Sequence[Model], pairs: int, draws: int, seed: int) -> dict[str, Any]:
    """All numbers for one number of pairs."""
    drawn = sample(models, pairs, draws, seed)
    rows = {name: figures(drawn.truth, taken) for name, taken in rules(drawn).items()}
    limits = {str(limit): frontier(drawn, limit) for limit in LIMITS}
    return {"pairs": pairs, "rules": rows, "frontier": limits, "calibration": calibration(drawn)}


def markdown(
    models: Sequence[Model], decisions: Sequence[Mapping[str, Any]], selections: Mapping[int, Mapping[str, Any]]
) -> str:
    prompts = sum(len(model.solved) for model in models)
    lines = [
        f"{len(models)} real models, {prompts} prompts. Percent taken by true gain in points, and what it comes to."
    ]
    for one in decisions:
        lines += ["", f"## {one['pairs']} pairs", ""]
        ends = [f"{end:g}" for end in GAINS]
        groups = [f"to {ends[0]}", *(f"{a} to {b}" for a, b in pairwise(ends)), f"over {ends[-1]}"]
        heads = ["rule", *groups, "mean gain", "not better among the taken", "by"]
        lines += [_row(heads), f"|{'---|' * len(heads)}"]
        for name, row in one["rules"].items():
            numbers = [f"{share:.1f}" for share in row["shares"]]
            lines.append(_row([name, *numbers, f"{row['gain']:.2f}", f"{row['not better']:.1f} %", f"{row['by']:.1f}"]))
        best = ", ".join(f"{gain:.2f} with {limit} %" for limit, gain in one["frontier"].items())
        lines += ["", f"No rule that sees wins and losses alone gains more than this, with so many not better: {best}."]
        lines += ["", _row(["P(better)", "of all", "mean P", "better", "expected gain", "gain"]), f"|{'---|' * 6}"]
        for c in one["calibration"]:
            numbers = [f"{c[name]:.0f} %" for name in ("share", "told", "better")]
            lines.append(
                _row([f"{c['from']:.2f} to {c['to']:.2f}", *numbers, f"{c['expected']:.1f}", f"{c['gain']:.1f}"])
            )
    names = list(next(iter(selections.values()), {}))
    lines += ["", "## Selection", "", "Regret in points (percent of the runs that return less than the start).", ""]
    lines += [_row(["evaluations", *names]), f"|{'---|' * (len(names) + 1)}"]
    for budget, found in selections.items():
        lines.append(_row([str(budget), *(f"{regret:.2f} ({worse:.0f})" for regret, worse in found.values())]))
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
