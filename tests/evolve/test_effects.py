"""The effects of the rules, against oracles that know nothing of how they are computed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evoprompt.evolve.factorial.effects import (
    OWN,
    SAID,
    SOLVED,
    UNSOLVED,
    Effects,
    Group,
    Rules,
    Trial,
    estimate_effects,
)

GROUPS = (UNSOLVED, SOLVED)


def conditioned(
    trials: Sequence[Trial], solved: Sequence[bool], rules: Rules, groups: tuple[Group, Group] = GROUPS
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the effects: the joint normal of scores and effects, conditioned on the scores.

    Written from the docstring's formula term by term; there are no unknowns and no normal equations here.
    """
    shares = (1 - sum(solved) / len(solved), sum(solved) / len(solved))
    begin = sum(w for w, start in zip(rules.words, rules.start, strict=True) if start)
    count = range(len(rules.words))
    says = [set(parts) for parts in rules.says] or [set[int]() for _ in count]

    def said(prompt: Collection[int]) -> list[float]:
        """How much of each rule a prompt says, itself or in a sentence that says several."""
        return [min(1.0, sum(1.0 if s == r else SAID * (r in says[s]) for s in prompt)) for r in count]

    def mean_effect(much: Sequence[float], g: int) -> float:
        own = (groups[g].start[0] if rules.start[r] else 0.0 if says[r] else groups[g].mean[0] for r in count)
        return sum(m * e for m, e in zip(much, own, strict=True))

    def effects_between(a: Sequence[float], b: Sequence[float], g: int) -> float:
        added, shared = groups[g].added, [not rules.start[r] and not says[r] for r in count]
        own = [groups[g].start[1] if rules.start[r] else OWN * added if says[r] else added for r in count]
        common = sum(x for x, s in zip(a, shared, strict=True) if s) * sum(
            x for x, s in zip(b, shared, strict=True) if s
        )
        return sum(x * y * e**2 for x, y, e in zip(a, b, own, strict=True)) + common * groups[g].mean[1] ** 2

    def extra(trial: Trial) -> float:
        return sum(rules.words[r] for r in trial.rules) - begin

    def mean_of(trial: Trial) -> float:
        g = int(solved[trial.task])
        level = groups[g].task[0] - groups[g].start[0] * sum(rules.start)
        return level + mean_effect(said(trial.rules), g) + groups[g].word[0] * extra(trial)

    def between(a: Trial, b: Trial) -> float:
        g = int(solved[a.task])
        if g != int(solved[b.task]):
            return 0.0
        level = groups[g].task[1] if a.task == b.task else 0.0
        effects = effects_between(said(a.rules), said(b.rules), g)
        return level + effects + groups[g].word[1] ** 2 * extra(a) * extra(b)

    def with_effect(r: int, trial: Trial) -> float:
        g = int(solved[trial.task])
        own = effects_between(said({r}), said(trial.rules), g)
        return shares[g] * (own + groups[g].word[1] ** 2 * rules.words[r] * extra(trial))

    def both(r: int, s: int, g: int) -> float:
        own = effects_between(said({r}), said({s}), g)
        return shares[g] ** 2 * (own + groups[g].word[1] ** 2 * rules.words[r] * rules.words[s])

    mean = np.array(
        [
            sum(shares[g] * (mean_effect(said({r}), g) + groups[g].word[0] * rules.words[r]) for g in (0, 1))
            for r in count
        ]
    )
    covariance = np.array([[sum(both(r, s, g) for g in (0, 1)) for s in count] for r in count])
    if not trials:
        return mean, covariance
    latent = np.array([[between(a, b) for b in trials] for a in trials])
    where = np.array([int(solved[t.task]) for t in trials])
    noise = np.array([group.noise for group in groups])
    cross = np.array([[with_effect(r, t) for t in trials] for r in count])
    surprise = np.array([t.score - mean_of(t) for t in trials])
    left = noise[where] * np.linalg.solve(latent + np.diag(noise[where]), surprise)
    seen = [(left[where == g] ** 2).mean() if (where == g).any() else 0.0 for g in (0, 1)]
    scores = latent + np.diag(np.maximum(noise, seen)[where])
    return mean + cross @ np.linalg.solve(scores, surprise), covariance - cross @ np.linalg.solve(scores, cross.T)


@st.composite
def experiments(draw: st.DrawFn) -> tuple[list[Trial], list[bool], Rules]:
    solved = draw(st.lists(st.booleans(), min_size=1, max_size=5))
    words = draw(st.lists(st.integers(1, 30), min_size=1, max_size=5))
    start = draw(st.lists(st.booleans(), min_size=len(words), max_size=len(words)))
    trial = st.builds(
        Trial,
        task=st.integers(0, len(solved) - 1),
        rules=st.frozensets(st.integers(0, len(words) - 1)),
        score=st.floats(0, 1),
    )
    says = [
        draw(st.frozensets(st.sampled_from(parts))) if parts and not begins else frozenset[int]()
        for begins, parts in ((start[r], [p for p in range(r) if not start[p]]) for r in range(len(words)))
    ]
    # Only down to rules that say nothing but themselves, as `Pool.says` tells it.
    says = [frozenset(p for p in parts if not says[p]) for parts in says]
    return draw(st.lists(trial, max_size=12)), solved, Rules(words, start, says)


@settings(max_examples=150, deadline=None)
@given(experiments())
def test_they_are_the_conditional_normal(experiment: tuple[list[Trial], list[bool], Rules]) -> None:
    effects = estimate_effects(*experiment)
    mean, covariance = conditioned(*experiment)
    np.testing.assert_allclose(effects.mean, mean, atol=1e-8)
    np.testing.assert_allclose(effects.covariance, covariance, atol=1e-8)


@settings(max_examples=50, deadline=None)
@given(experiments())
def test_the_order_of_the_trials_says_nothing(experiment: tuple[list[Trial], list[bool], Rules]) -> None:
    trials, solved, rules = experiment
    there, back = estimate_effects(trials, solved, rules), estimate_effects(trials[::-1], solved, rules)
    np.testing.assert_allclose(there.mean, back.mean, atol=1e-9)
    assert (np.diag(there.covariance) <= np.diag(estimate_effects([], solved, rules).covariance) + 1e-9).all()


def test_a_sentence_that_says_several_rules_tells_of_each_of_them() -> None:
    rules = Rules([8, 8, 8, 12], [True, False, False, False], [(), (), (), (1, 2)])
    failed = [Trial(task, frozenset({0, 3}), 0.0) for task in range(10)]
    harmed = estimate_effects(failed, [True] * 10, rules)
    before = estimate_effects([], [True] * 10, rules)
    assert (harmed.mean[1:] < before.mean[1:]).all() and harmed.mean[3] < harmed.mean[1] < 0
    alone = estimate_effects([Trial(task, frozenset({0, 1}), 1.0) for task in range(10)] + failed, [True] * 10, rules)
    assert alone.mean[1] > harmed.mean[1], "who does well alone is not to blame"
    assert alone.mean[2] < alone.mean[1]


def test_where_all_is_left_to_chance_nothing_is_sure() -> None:
    random = np.random.default_rng(0)
    prompts = (frozenset({0}), frozenset({0, 1}))
    coin = [Trial(n % 20, prompts[n % 3 == 0], float(random.random() < 0.5)) for n in range(200)]
    steady = [replace(trial, score=1.0) for trial in coin]
    rules = Rules([8, 8], [True, False])
    unsure, sure = (estimate_effects(trials, [True] * 20, rules) for trials in (coin, steady))
    assert unsure.deviation[1] > 1.2 * sure.deviation[1]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_with_a_flat_prior_they_are_those_of_statsmodels(seed: int) -> None:
    from statsmodels.regression.mixed_linear_model import MixedLM

    random = np.random.default_rng(seed)
    tasks, count, each = 40, 4, 12
    where = np.repeat(np.arange(tasks), each)
    had = random.random((len(where), count)) < 0.5
    truth = np.array([0.25, -0.15, 0.0, 0.08])
    y = 0.4 + random.normal(0, 0.25, tasks)[where] + had @ truth + random.normal(0, 0.35, len(where))
    fitted = MixedLM(y, np.column_stack([np.ones(len(y)), had]), groups=where).fit(reml=True)
    # Nothing is assumed: the start's one sentence is in every prompt and stands for the intercept.
    flat = Group(
        noise=float(fitted.scale), task=(0.0, float(np.asarray(fitted.cov_re)[0, 0])), added=50.0, start=(0.0, 50.0),
        mean=(0.0, 1e-3), word=(0.0, 1e-5),
    )  # fmt: skip
    trials = [
        Trial(int(task), frozenset({0, *(np.flatnonzero(row) + 1).tolist()}), float(score))
        for task, row, score in zip(where, had, y, strict=True)
    ]
    effects = estimate_effects(
        trials, [False] * tasks, Rules([1] * (count + 1), [True] + [False] * count), (flat, flat)
    )
    np.testing.assert_allclose(effects.mean, fitted.fe_params, atol=1e-4)
    np.testing.assert_allclose(effects.deviation, fitted.bse_fe, rtol=5e-3)


def drawn(
    random: np.random.Generator, tasks: int, count: int, runs: int
) -> tuple[list[Trial], list[bool], Rules, np.ndarray]:
    """Trials from the model itself, with the effects that they came from."""
    solved = (random.random(tasks) < 0.5).tolist()
    rules = Rules(random.integers(4, 15, count).tolist(), [True] * 2 + [False] * (count - 2))
    words, start = np.array(rules.words), np.array(rules.start)
    share = (1 - sum(solved) / tasks, sum(solved) / tasks)
    effects, levels, word, total = [], np.zeros(tasks), [], np.zeros(count)
    for g, group in enumerate(GROUPS):
        mean = random.normal(*group.mean)
        e = np.where(start, random.normal(*group.start, count), random.normal(mean, group.added, count))
        effects.append(e)
        word.append(random.normal(*group.word))
        total += share[g] * (e + word[g] * words)
        here = np.array(solved) == bool(g)
        levels[here] = random.normal(group.task[0] - group.start[0] * 2, group.task[1] ** 0.5, int(here.sum()))
    trials = []
    for _ in range(runs):
        task, had = int(random.integers(tasks)), random.random(count) < 0.6
        g = int(solved[task])
        expected = levels[task] + had @ effects[g] + word[g] * (had @ words - words[start].sum())
        score = expected + random.normal(0, GROUPS[g].noise ** 0.5)
        trials.append(Trial(task, frozenset(np.flatnonzero(had).tolist()), float(score)))
    return trials, solved, rules, total


def test_the_intervals_cover_what_is_true() -> None:
    random = np.random.default_rng(0)
    covered, sizes, gains = [], [], []
    for _ in range(150):
        trials, solved, rules, total = drawn(random, tasks=20, count=8, runs=150)
        effects = estimate_effects(trials, solved, rules)
        intervals = [effects.interval(r) for r in range(8)]
        covered += [low <= true <= high for (low, high), true in zip(intervals, total, strict=True)]
        sizes.append(np.mean([high - low for low, high in intervals]))
        mean, deviation = effects.gain({2, 3, 4}, {0})
        gains.append(abs(mean - (total[2:5].sum() - total[0])) <= 1.96 * deviation)
    assert 0.93 <= np.mean(covered) <= 0.97
    assert 0.90 <= np.mean(gains) <= 0.99
    assert np.mean(sizes) < 0.2, "and say something"


def binary(random: np.random.Generator, truth: Sequence[float], runs: int) -> Effects:
    """Effects from passes and failures; half of the tasks are solved by the start prompt."""
    tasks, count = 24, len(truth)
    level = np.where(np.arange(tasks) % 2, 0.85, 0.2)
    trials = []
    for n in range(runs):
        had = random.random(count) < 0.5
        p = np.clip(level[n % tasks] + had @ np.array(truth), 0, 1)
        trials.append(Trial(n % tasks, frozenset(np.flatnonzero(had).tolist()), float(random.random() < p)))
    return estimate_effects(trials, (level > 0.5).tolist(), Rules([8] * count, [False] * count))


def test_passes_and_failures_tell_what_helps_what_harms_and_what_does_nothing() -> None:
    random = np.random.default_rng(1)
    found = [binary(random, [0.3, -0.3, 0.0, 0.0], runs=400) for _ in range(10)]
    assert all(e.interval(0)[0] > 0 for e in found)
    assert all(e.interval(1)[1] < 0 for e in found)
    useless = np.array([e.mean[2:] for e in found])
    assert np.abs(useless).mean() < 0.03 and np.abs(useless).max() < 0.12
    assert sum(e.interval(r)[0] <= 0 <= e.interval(r)[1] for e in found for r in (2, 3)) >= 18


def test_luck_in_a_few_trials_is_shrunk() -> None:
    rules = Rules([8, 8], [True, False])
    lucky = [Trial(t, frozenset({0, 1}), 1.0) for t in range(3)] + [Trial(t, frozenset({0}), 0.0) for t in range(3)]
    effects = estimate_effects(lucky, [False] * 3 + [True] * 3, rules)
    assert 0 < effects.mean[1] < 0.1, "the plain difference is 1"
    assert effects.interval(1)[0] < 0


def test_where_advice_has_not_paid_a_new_rule_is_trusted_less() -> None:
    random = np.random.default_rng(2)
    new = Rules([8] * 5, [False] * 5)

    def trusted(effect: float) -> float:
        trials = []
        for n in range(200):
            had = random.random(4) < 0.5
            score = float(random.random() < 0.3 + effect * had.sum())
            trials.append(Trial(n % 20, frozenset(np.flatnonzero(had).tolist()), score))
        return float(estimate_effects(trials, [False] * 20, new).mean[4])

    assert trusted(0.15) > trusted(0.0) > trusted(-0.07)


def test_what_a_words_cost_is_part_of_a_rules_effect() -> None:
    dear = tuple(replace(g, word=(-0.002, 0.0001)) for g in GROUPS)
    effects = estimate_effects([], [True, False], Rules([5, 30], [False, False]), (dear[0], dear[1]))
    assert effects.mean[0] - effects.mean[1] == pytest.approx(25 * 0.002)


def test_draws_have_the_estimates_mean_and_covariance() -> None:
    trials, solved, rules, _ = drawn(np.random.default_rng(3), 10, 5, 60)
    effects = estimate_effects(trials, solved, rules)
    random = np.random.default_rng(4)
    draws = np.array([effects.draw(random, 1.0) for _ in range(8000)])
    np.testing.assert_allclose(draws.mean(axis=0), effects.mean, atol=0.003)
    np.testing.assert_allclose(np.cov(draws.T), effects.covariance, atol=0.0004)
    np.testing.assert_array_equal(effects.draw(random, 0.0), effects.mean)


def test_a_gain_knows_what_the_rules_have_in_common() -> None:
    effects = Effects(np.array([0.1, 0.2]), np.array([[0.04, 0.04], [0.04, 0.05]]))
    mean, deviation = effects.gain({1}, {0})
    assert (mean, deviation) == (pytest.approx(0.1), pytest.approx(0.1))
    assert effects.gain({0, 1}, {0, 1}) == (0.0, 0.0)
