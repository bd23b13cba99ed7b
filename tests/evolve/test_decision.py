"""The posterior of the gain, the word on it, and what real outcomes make of both."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import replay, replay_selection
from evoprompt.evolve.factorial.constants import PROBABLE
from evoprompt.evolve.factorial.decision import Pairs, decide, gain
from evoprompt.evolve.factorial.sequential_test import looks_at

COUNTS = st.integers(0, 40)


def share_of_beta(wins: int, losses: int) -> float:
    """P(share of wins > 1/2) after a uniform prior: the tail of a binomial."""
    n = wins + losses + 1
    return sum(math.comb(n, k) for k in range(wins + 1)) / 2**n


@settings(max_examples=60, deadline=None)
@given(COUNTS, COUNTS, COUNTS)
def test_binary_outcomes_are_exact(wins: int, losses: int, ties: int) -> None:
    found = gain(Pairs(wins, losses, ties))
    assert found.better == pytest.approx(share_of_beta(wins, losses), abs=3e-3)
    assert found.interval[0] <= found.expected <= found.interval[1]
    mirrored = gain(Pairs(losses, wins, ties))
    assert mirrored.better == pytest.approx(1 - found.better) and mirrored.expected == pytest.approx(-found.expected)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), max_size=60), st.floats(0.01, 1.0))
def test_differences_become_the_same_counts_whatever_a_win_is_worth(signs: list[float], worth: float) -> None:
    found = Pairs.of([worth * s for s in signs])
    counted = (signs.count(1), signs.count(-1), signs.count(0))
    assert (found.wins, found.losses, found.ties) == pytest.approx(counted, abs=1e-6)
    if any(signs):
        assert found.unit == pytest.approx(worth)
        plain = gain(Pairs.of(signs))
        assert gain(found).better == pytest.approx(plain.better, abs=1e-6)
        assert gain(found).expected == pytest.approx(worth * plain.expected, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40))
def test_the_mean_of_the_differences_is_kept(differences: list[float]) -> None:
    pairs = Pairs.of(differences)
    total = pairs.wins + pairs.losses + pairs.ties
    assert total == pytest.approx(len(differences)) and min(pairs.wins, pairs.losses, pairs.ties) >= 0
    assert pairs.unit * (pairs.wins - pairs.losses) == pytest.approx(math.fsum(differences), abs=1e-6)
    assert all(-1 <= side <= 1 for side in gain(pairs).interval)


def test_a_probability_is_one_at_most() -> None:
    found = [gain(Pairs(wins, losses, 0), Pairs(wins), (0.5, 0.05)) for wins in range(120) for losses in (0, 1)]
    assert all(0 <= f.better <= 1 and -1 <= f.interval[0] <= f.interval[1] <= 1 for f in found)


def test_no_pairs_are_no_evidence() -> None:
    assert Pairs.of([]) == Pairs() and Pairs.of([0.0] * 5) == Pairs(ties=5)
    assert gain(Pairs()).better == pytest.approx(0.5)


def test_what_a_search_expects_counts_beside_the_pairs() -> None:
    few = Pairs(3, 2, 19)
    alone, hopeful, doubtful = (gain(few, searched=(mean, 0.05)) for mean in (0.0, 0.15, -0.15))
    assert doubtful.better < alone.better < hopeful.better
    assert doubtful.expected < alone.expected < hopeful.expected
    assert gain(few, searched=(0.15, 9.0)).better == pytest.approx(gain(few).better, abs=0.01), "a guess says nothing"
    sure, unsure = (gain(Pairs(), searched=(mean, 0.02)).better for mean in (0.15, 0.01))
    assert unsure < PROBABLE < sure < 0.99, "no search is sure of new tasks"


def test_training_tasks_count_less_than_new_ones() -> None:
    some = Pairs(6, 1, 17)
    assert 0.8 < gain(Pairs(), some).better < gain(some).better
    assert gain(some, some).better > gain(some).better
    wins, even = [1.0] * 6 + [0.0] * 18, [0.0] * 24
    of_training, of_new = (decide(wins + even, 48, [side] * 24 + [not side] * 24) for side in (True, False))
    assert PROBABLE < of_training.gain.better < of_new.gain.better


def test_new_tasks_that_contradict_the_training_are_believed() -> None:
    training = {"trained": Pairs(8, 0, 8), "searched": (0.2, 0.05)}
    assert gain(Pairs(2, 0, 14), **training).better > 0.97
    assert gain(Pairs(0, 4, 4), **training).better < 0.7 and gain(Pairs(0, 8, 8), **training).better < 0.3
    assert gain(Pairs(0, 1, 23), **training).better > PROBABLE, "one loss is no contradiction"


def test_ties_alone_make_nothing_probable() -> None:
    assert decide([0.0] * 48, 48, searched=(0.10, 0.03)).word == "start kept"


def test_nothing_is_confirmed_that_the_posterior_doubts() -> None:
    verdict = decide([1.0] * 6 + [0.0] * 5, 24, [True] * 11, (0.07, 0.08), over=True)
    assert verdict.test.better and 0.8 < verdict.gain.better < 0.95
    assert verdict.word == "probable", "the test counts training tasks in full, of which the proposal was made"


def test_the_words() -> None:
    assert decide([1.0] * 8 + [0.0] * 16, 24).word == "confirmed"
    assert decide([1.0] * 4 + [-1.0] + [0.0] * 19, 24).word == "probable", "too few for the test, but the better bet"
    assert decide([1.0] * 2 + [-1.0] + [0.0] * 21, 24).word == "start kept"
    assert decide([], 24).word == "start kept" and not decide([], 24).final
    assert decide([], 0).final and decide([], 24, over=True).final


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([-1.0, 0.0, 0.0, 1.0]), max_size=40), st.integers(0, 20), st.data())
def test_it_ends_early_only_where_nothing_can_change_the_word(
    signs: list[float], left: int, data: st.DataObject
) -> None:
    planned = len(signs) + left
    verdict = decide(signs, planned)
    if verdict.final:
        rest = data.draw(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=left, max_size=left))
        assert decide(signs + rest, planned).word == verdict.word


# On real outcomes


@pytest.fixture(scope="module")
def models() -> list[replay.Model]:
    return replay.load()


@pytest.mark.slow
def test_the_rows_that_others_have_measured_come_out_alike(models: list[replay.Model]) -> None:
    drawn = replay.sample(models, 48, 20, seed=1)
    assert len(models) == 18 and sum(len(m.solved) for m in models) == 64 and len(drawn.truth) == 20 * 204
    rows = {name: replay.figures(drawn.truth, taken) for name, taken in replay.rules(drawn).items()}
    by = dict(zip(("probable", "confirmed", "gate", "more"), rows.values(), strict=False))
    assert by["probable"]["gain"] == pytest.approx(1.73, abs=0.12) and by["probable"]["not better"] < 8
    assert by["confirmed"]["gain"] == pytest.approx(0.95, abs=0.12) and by["confirmed"]["not better"] < 3
    assert by["gate"]["gain"] == pytest.approx(0.72, abs=0.15) and by["more"]["gain"] == pytest.approx(2.0, abs=0.12)
    assert by["probable"]["gain"] <= replay.frontier(drawn, by["probable"]["not better"]) + 1e-9
    assert [c["better"] for c in replay.calibration(drawn)] == sorted(c["better"] for c in replay.calibration(drawn))


def test_of_the_probable_about_as_many_are_better_as_it_says(models: list[replay.Model]) -> None:
    for pairs in (24, 48):
        (told,) = [c for c in replay.calibration(replay.sample(models, pairs, 40, seed=2)) if c["from"] == PROBABLE]
        assert 80 < told["better"] < 94 and told["gain"] == pytest.approx(told["expected"], rel=0.4)


def test_only_the_counts_at_the_looks_matter() -> None:
    looks = looks_at(24)
    counts = np.array([[min(k, 6), 0] for k in range(1, len(looks) + 1)])
    assert replay._word(counts, looks) == "confirmed" and replay._word(0 * counts, looks) == "start kept"
    assert sorted(replay.in_turn(24)) == list(range(24)) and replay.in_turn(24)[:4] == [0, 1, 12, 2]


def test_a_search_returns_the_best_prompt_where_there_is_no_doubt(models: list[replay.Model]) -> None:
    outcomes = np.stack([np.zeros(120), np.ones(120), np.arange(120) % 2])
    random = np.random.default_rng(0)
    for name, search in replay_selection.SEARCHES.items():
        assert search(outcomes, 200, random) == (0 if name == "the start" else 1), name
    found = replay_selection.regrets([m.solved.astype(float) for m in models if len(m.solved) > 4], 100, 3, seed=0)
    assert found["the start"][1] == 0 and all(0 <= min(pair) <= max(pair) <= 100 for pair in found.values())


def test_the_table_has_all_rows(models: list[replay.Model]) -> None:
    found = [replay.decision(models[:3], 24, 2, seed=0)]
    selections = {50: replay_selection.regrets([m.solved.astype(float) for m in models[:1]], 50, 2, seed=0)}
    text = replay.markdown(models[:3], found, selections)
    assert text.count("\n| ours") == 2 and "## Selection" in text and "GEPA's gate" in text
