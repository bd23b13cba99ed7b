"""A yardstick for `factorial`: the same idea in few lines, for the worlds of `benchmarks/edges.py` alone."""

from __future__ import annotations

import random
from statistics import NormalDist

import dspy
import numpy as np

from benchmarks.optimizers_units import Setting
from evoprompt.evolve.triage import same_rule
from signatures import ExplainFailure

BATCH = 30
PRIOR, NOISE, LEVEL = 0.12, 0.4, 0.45
"""Deviations of a rule's effect, of an outcome, and of what a task has before any rule."""
LOW, HIGH = 0.15, 0.85
"""Probability of a rule in a prompt, at least and at most."""

Trial = tuple[int, list[bool], float]
"""A task by its place, which of the rules the prompt had, and the score."""


def sketch(setting: Setting) -> dspy.Module:
    """Each rule of a diagnosis is a factor at once, and what seems to help in the end is kept.

    A batch tries random prompts on random tasks, of which each rule is a part with the probability that it helps,
    and one failure of it is explained.
    """
    dice = random.Random(f"sketch:{setting.seed}")
    examples = [*setting.train, *setting.val]
    start = setting.student().signature.instructions
    rules: list[str] = []
    trials: list[Trial] = []
    debugger = dspy.Predict(ExplainFailure)
    spent = setting.meter.calls
    while spent["generator"] < setting.budget:
        chances = [min(max(share, LOW), HIGH) for share in _helps(rules, trials, len(examples))[1]]
        failed = []
        for _ in range(min(BATCH, setting.budget - spent["generator"])):
            place = dice.randrange(len(examples))
            chosen = [dice.random() < chance for chance in chances]
            program = _program(setting, start, rules, chosen)
            answer = program(**examples[place].inputs())
            judged = setting.metric(examples[place], answer)
            trials.append((place, chosen, judged.score))
            if judged.score < 1:
                failed.append((place, answer, judged.feedback))
        if failed:
            place, answer, feedback = dice.choice(failed)
            told = {"inputs": examples[place].prompt, "output": answer.answer, "feedback": feedback}
            rule = debugger(**told).diagnosis.rule
            if not any(same_rule(rule, known) for known in rules):
                rules.append(rule)
    return _program(setting, start, rules, [mean > 0 for mean in _helps(rules, trials, len(examples))[0]])


def _program(setting: Setting, start: str, rules: list[str], chosen: list[bool]) -> dspy.Module:
    text = " ".join([start, *(rule for rule, taken in zip(rules, chosen, strict=False) if taken)])
    program = setting.student()
    program.signature = program.signature.with_instructions(text)
    return program


def _helps(
    rules: list[str], trials: list[tuple[int, list[bool], float]], tasks: int
) -> tuple[list[float], list[float]]:
    """Of each rule the mean of its effect, and the probability that it is above 0: a linear model, solved exactly."""
    if not rules:
        return [], []
    if not trials:
        return [0.0] * len(rules), [0.5] * len(rules)
    design = np.zeros((len(trials), tasks + len(rules)))
    for row, (place, chosen, _) in enumerate(trials):
        design[row, place] = 1.0
        design[row, tasks : tasks + len(chosen)] = chosen
    outcomes = np.array([score for _, _, score in trials]) - LEVEL
    precision = np.diag([1 / LEVEL**2] * tasks + [1 / PRIOR**2] * len(rules)) + design.T @ design / NOISE**2
    covariance = np.linalg.inv(precision)
    means = (covariance @ design.T @ outcomes / NOISE**2)[tasks:]
    deviations = np.sqrt(np.diag(covariance)[tasks:])
    return means.tolist(), [NormalDist().cdf(m / d) for m, d in zip(means, deviations, strict=True)]
