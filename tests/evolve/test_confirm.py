"""The comparison with the start: its error rate, what it finds, when it stops."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from math import comb
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import acceptance, acceptance_reuse
from evoprompt import Program, Task
from evoprompt.candidate import Candidate
from evoprompt.cli.display import confirmation_line
from evoprompt.evolve.factorial.comparison import Confirming
from evoprompt.evolve.factorial.constants import ALPHA
from evoprompt.evolve.factorial.sequential_test import Decision, looks_at, sign_test
from evoprompt.evolve.records import Confirmation
from evoprompt.judges import Rollout
from evoprompt.rollout import Job
from tests.world import data

SIGNS = st.lists(st.sampled_from([1.0, 0.0, -1.0]), max_size=64)


def accepted_by_chance(planned: int, decided: Sequence[int]) -> float:
    """Exact probability that a coin is ever called better; `decided` pairs with a difference come before each look.

    Walks of the coin that lead alike at a look are told apart by nothing later, so one of them stands for all.
    """
    alive: dict[int, tuple[float, list[float]]] = {0: (1.0, [])}
    crossed, begin = 0.0, 0
    for look, count in zip(looks_at(planned), decided, strict=True):
        after: dict[int, tuple[float, list[float]]] = {}
        for lead, (chance, path) in alive.items():
            for wins in range(count + 1):
                p = chance * comb(count, wins) / 2**count
                longer = path + [1.0] * wins + [-1.0] * (count - wins) + [0.0] * (look - begin - count)
                better = sign_test(longer, planned).better
                if better:
                    crossed += p
                elif better is None:
                    at = lead + 2 * wins - count
                    after[at] = (after.get(at, (0.0, []))[0] + p, longer)
        alive, begin = after, look
    return crossed


@pytest.mark.parametrize("planned", [5, 24, 48, 64])
def test_a_coin_is_called_better_in_one_of_twenty_runs_at_most(planned: int) -> None:
    steps = np.diff([0, *looks_at(planned)])
    chance = accepted_by_chance(planned, [int(s) for s in steps])
    assert chance <= ALPHA
    assert chance > (0.03 if planned > 5 else 0), "the error rate that is allowed is made use of"


@settings(max_examples=25, deadline=None)
@given(planned=st.integers(1, 40), data=st.data())
def test_so_it_is_wherever_the_ties_are(planned: int, data: st.DataObject) -> None:
    steps = np.diff([0, *looks_at(planned)])
    decided = [data.draw(st.integers(0, int(most))) for most in steps]
    assert accepted_by_chance(planned, decided) <= ALPHA


@pytest.mark.slow
@pytest.mark.parametrize("fixed", [0.0, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("pairs", acceptance.PAIRS)
def test_no_ops_are_refused_and_gains_found_as_the_page_says(pairs: int, fixed: float) -> None:
    runs = 1000
    noop = acceptance.cell(pairs, fixed, 0.0, runs, seed=1)
    assert noop["accepted"] <= ALPHA + 2.6 * (ALPHA * (1 - ALPHA) / runs) ** 0.5
    assert noop["gepa"] > noop["accepted"], "a gate of three tasks takes more"
    gain = acceptance.cell(pairs, fixed, 0.1, runs, seed=1)
    assert gain["accepted"] > 2 * noop["accepted"]
    assert gain["interval"][0] <= gain["bound"], "nobody does better than the best possible test"
    large = acceptance.cell(pairs, fixed, 0.2, runs, seed=1)
    assert large["used"] <= pairs and large["accepted"] > gain["accepted"]
    if pairs == 64:
        assert large["accepted"] > 0.8


def test_ten_points_cant_be_found_in_64_pairs_when_all_outcomes_are_drawn_anew() -> None:
    wins, losses = acceptance.chances(0.0, 0.1)
    assert acceptance.bound(64, wins, losses) < 0.4
    needed = acceptance.pairs_needed(wins, losses)
    assert needed is not None and needed > 200
    assert acceptance.gate(3, *acceptance.chances(0.0, 0.0)) == pytest.approx(1 / 3, abs=0.01)
    assert acceptance.bound(64, *acceptance.chances(0.95, 0.1)) > 0.8


@settings(max_examples=50, deadline=None)
@given(pairs=st.integers(1, 40), wins=st.floats(0.01, 0.5), losses=st.floats(0.0, 0.5))
def test_the_bound_is_above_what_any_of_the_tests_finds(pairs: int, wins: float, losses: float) -> None:
    if wins > losses:
        power = acceptance.sign_power(pairs, wins, losses)
        assert power <= acceptance.bound(pairs, wins, losses) + 1e-9
        assert acceptance.bound(pairs, wins, losses) >= ALPHA - 1e-9


def test_the_sign_tests_power_is_that_of_the_binomial() -> None:
    # All pairs differ: 15 of 20 wins is the first count that a coin reaches in fewer than one of twenty runs.
    by_hand = sum(comb(20, k) * 0.8**k * 0.2 ** (20 - k) for k in range(15, 21))
    assert acceptance.sign_power(20, 0.8, 0.2) == pytest.approx(by_hand)


@settings(max_examples=200, deadline=None)
@given(SIGNS, st.integers(1, 64))
def test_the_decision_adds_up(signs: list[float], planned: int) -> None:
    decision = sign_test(signs, planned)
    assert (decision.wins, decision.losses, decision.pairs) == (signs.count(1), signs.count(-1), len(signs))
    if len(signs) >= planned:
        assert decision.better is not None
    if decision.better:
        assert decision.wins >= 5, "fewer wins without a loss are no evidence at this level"


@settings(max_examples=100, deadline=None)
@given(SIGNS, st.floats(1e-6, 1.0), st.randoms(use_true_random=False))
def test_only_who_wins_counts_and_not_the_order_between_two_looks(
    signs: list[float], by: float, random: object
) -> None:
    planned = max(len(signs), 1)
    shuffled: list[float] = []
    for begin, end in zip([0, *looks_at(planned)], looks_at(planned), strict=False):
        part = signs[begin:end]
        random.shuffle(part)  # type: ignore[attr-defined]
        shuffled += part
    assert sign_test([by * s for s in shuffled], planned) == sign_test(signs, planned)


@settings(max_examples=100, deadline=None)
@given(SIGNS, st.data())
def test_a_win_in_place_of_a_loss_never_speaks_against_the_proposal(signs: list[float], data: st.DataObject) -> None:
    losses = [n for n, s in enumerate(signs) if s < 0]
    if losses:
        better = list(signs)
        better[data.draw(st.sampled_from(losses))] = 1.0
        assert not sign_test(signs, len(signs)).better or sign_test(better, len(signs)).better


def test_it_stops_as_soon_as_it_can_tell() -> None:
    def until(signs: list[float]) -> tuple[bool | None, int]:
        for look in looks_at(len(signs)):
            if (better := sign_test(signs[:look], len(signs)).better) is not None:
                return better, look
        raise AssertionError

    assert until([1.0] * 64) == (True, 16)
    assert until([-1.0] * 64) == (False, 32), "no boundary can be reached any more"
    assert until([0.0] * 64) == (False, 64)
    assert sign_test([1.0] * 16 + [-1.0] * 48, 64).better, "what is crossed stays crossed"


def test_ties_say_nothing() -> None:
    assert sign_test([], 24).better is None
    assert sign_test([0.0] * 23, 24).better is False, "one pair can't tell"
    assert sign_test([1e-15] * 24, 24).wins == 0, "rounding is no difference"
    assert sign_test([1.0] * 4 + [0.0] * 20, 24).better is False
    assert sign_test([0.0] * 15 + [1.0] * 9, 24).better is True
    assert str(sign_test([1.0, 1.0, 0.0, -1.0], 24)) == "wins 2, loses 1 of 4 paired tasks"
    assert sign_test([1.0], 24) == Decision(None, 1, 0, 1, 24)


@pytest.mark.slow
def test_the_simulation_prints_its_table(tmp_path: Path) -> None:
    script = Path(acceptance.__file__)
    out = tmp_path / "acceptance.json"
    words = [sys.executable, str(script), "--runs", "3", "--out", str(out)]
    run = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path)
    lines = run.stdout.strip().splitlines()
    assert len([line for line in lines if line.startswith("| ")]) == 1 + len(acceptance.FIXED) * len(acceptance.GAINS)
    assert len({line.count("|") for line in lines[2:]}) == 1, "every row has all columns"
    cells = json.loads(out.read_text())["cells"]
    assert len(cells) == len(acceptance.FIXED) * len(acceptance.GAINS) * len(acceptance.PAIRS)
    assert all(c["interval"][0] <= c["accepted"] <= c["interval"][1] for c in cells)


def test_the_documented_table_holds_these_numbers() -> None:
    page = (Path(__file__).parents[2] / "docs" / "measurements" / "decision.md").read_text()
    rows = [
        [c.strip() for c in line.strip("|").split("|")] for line in page.splitlines() if re.match(r"\| \d+ % ", line)
    ]
    assert len(rows) == len(acceptance.FIXED) * len(acceptance.GAINS)
    for row in rows:
        gain = 0.0 if row[1] == "no-op" else float(row[1]) / 100
        wins, losses = acceptance.chances(float(row[0].rstrip(" %")) / 100, gain)
        assert row[2] == f"{100 * acceptance.gate(3, wins, losses):.1f}"
        for pairs, (ours, sign, bound) in zip(acceptance.PAIRS, (row[3:6], row[6:9], row[9:12]), strict=True):
            assert sign == f"{100 * acceptance.sign_power(pairs, wins, losses):.1f}"
            assert bound == (f"{100 * acceptance.bound(pairs, wins, losses):.1f}" if gain else "")
            assert gain or float(ours.split(" ")[0]) <= 100 * ALPHA


@pytest.mark.slow
def test_rollouts_that_chose_the_prompt_are_no_evidence_for_it(tmp_path: Path) -> None:
    script = Path(acceptance.__file__).with_name("acceptance_reuse.py")
    words = [sys.executable, str(script), "--runs", "3"]
    run = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert re.findall(r"^\| (reused|final anew|both anew) \| \d", run.stdout, re.MULTILINE) == [*acceptance_reuse.WAYS]


class Tried(Confirming):
    """The end of a search whose rollouts are given: pass or fail, by prompt and task."""

    def __init__(
        self, train: Sequence[Task], dev: Sequence[Task], scores: dict[tuple[str, str], float],
        accept_when: str = "probable", searched: tuple[float, float] = (0.0, 1.0),
    ) -> None:  # fmt: skip
        self._train, self._dev, self.asked, self.searched = list(train), list(dev), 0, searched
        self._options = SimpleNamespace(max_unmeasured=0.1, seed=0, accept_when=accept_when)
        self._runner = SimpleNamespace(repeats=True, known=lambda job: self._known(job))
        self._scores = scores

    def _known(self, job: Job) -> Rollout:
        key, task = job.candidate.key, job.task.task_id
        return Rollout(candidate=key, task_id=task, status="passed", score=self._scores[key, task])

    def _roll(self, what: str, jobs: list[Job]) -> tuple[Rollout, ...]:
        self.asked += len(jobs)
        return tuple(self._known(job) for job in jobs)

    def _expected(self) -> tuple[float, float]:
        return self.searched


def _compared(accept_when: str, wins: int, losses: int, searched: tuple[float, float]) -> tuple[Confirmation, int, int]:
    """What comes of a prompt that wins and loses so many of 48 tasks, and how many rollouts that took of all."""
    train, dev = data(32), data(16, first=41)
    seed = Candidate.of(Program())
    final = seed.child("Better.")
    order = Tried(train, dev, {})._order()
    won, lost = ({t.task_id for t in part} for part in (order[:wins], order[wins : wins + losses]))
    scores = {(seed.key, t.task_id): float(t.task_id in lost) for t in order}
    scores |= {(final.key, t.task_id): float(t.task_id in won) for t in order}
    search = Tried(train, dev, scores, accept_when, searched)
    start, proposed, verdict, spent = search._paired(seed, final, order)
    return search._judged(final, start, proposed, verdict, spent), search.asked, 2 * len(order)


NOTHING = (0.0, 1.0)
"""What a search expects that has learnt nothing."""


def test_the_better_bet_is_the_result_and_its_word_says_how_sure_it_is() -> None:
    record, asked, all_of_them = _compared("probable", 5, 1, NOTHING)
    assert (record.word, record.accepted, record.wins, record.losses, record.pairs) == ("probable", True, 5, 1, 48)
    assert record.p_better is not None and 0.8 <= record.p_better < 0.97 and asked == all_of_them
    assert (
        record.gain is not None
        and record.interval is not None
        and record.interval[0] < record.gain < record.interval[1]
    )
    careful, *_ = _compared("confirmed", 5, 1, NOTHING)
    assert (careful.word, careful.accepted, careful.p_better) == ("start kept", False, record.p_better)
    assert "only what is confirmed was asked for" in careful.reason
    for accept_when in ("probable", "confirmed"):
        sure, asked, all_of_them = _compared(accept_when, 24, 0, NOTHING)
        assert (sure.word, sure.accepted) == ("confirmed", True) and asked < all_of_them, "it stops when it can tell"
        none, *_ = _compared(accept_when, 3, 3, NOTHING)
        assert (none.word, none.accepted) == ("start kept", False)


def test_where_it_must_be_confirmed_no_pair_is_paid_for_after_the_test_can_tell_no_more() -> None:
    (record, asked, all_of_them), (_, more, _) = (_compared(word, 0, 3, NOTHING) for word in ("confirmed", "probable"))
    assert record.word == "start kept" and asked < more == all_of_them


def test_people_are_told_the_word_how_sure_it_is_and_the_gain() -> None:
    told = {word: confirmation_line(_compared("probable", wins, 1, NOTHING)[0]) for word, wins in
            (("confirmed", 24), ("probable", 6), ("start kept", 1))}  # fmt: skip
    assert told["confirmed"].startswith("confirmed against the start prompt: wins ")
    assert told["probable"].startswith("probably better than the start prompt: wins 6, loses 1 of 48 paired tasks; ")
    assert told["start kept"].startswith("the start prompt stays, nothing better was found that is sure enough: wins 1")
    for line in told.values():
        assert re.search(
            r"better with a probability of \d\d? %, [+-]\d+\.\d points expected \(95 % interval [+-]\S+ to [+-]\S+\)$",
            line,
        )


def test_what_the_search_has_measured_counts_too() -> None:
    assert _compared("probable", 3, 2, NOTHING)[0].word == "start kept"
    assert _compared("probable", 3, 2, (0.12, 0.04))[0].word == "probable"
    assert _compared("probable", 4, 1, (-0.1, 0.04))[0].word == "start kept"
