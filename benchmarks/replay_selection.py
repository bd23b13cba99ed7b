"""Which of a model's prompts a search returns for a budget of evaluations, on the outcomes of real models.

Every search is given the same prompts, one of them the start, and may look up so many outcomes of a prompt on a task
that it has not tried that prompt on. The regret is what the best prompt solves more than the one that it returns, over
all tasks.

`ours`: Thompson sampling on three fifths of the tasks and of the budget, then the leader against the start on other
tasks; the decision of the package has both. `halving, our decision`: the reference with the start kept beside it, and
that decision in the end. `GEPA`: a prompt that solves more of a minibatch of 3 is tried on the dev tasks; the best
there is returned. `fixed sample`: all prompts on the same tasks. References: successive halving (K. Jamieson and A.
Talwalkar, AISTATS 2016) and UCB1 (P. Auer and others, *Machine Learning* 47, 2002), which choose among prompts that are
all there from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, log2

import numpy as np
import numpy.typing as npt

from evoprompt.evolve.factorial.constants import PROBABLE
from evoprompt.evolve.factorial.decision import Pairs, gain

Outcomes = npt.NDArray[np.float64]
Random = np.random.Generator

SEARCHED = 0.6
"""Share of the tasks and of the budget that our search has before it compares."""
MINIBATCH = 3
DEV = 24
"""Tasks by which GEPA chooses, or as many as half of its budget is for all prompts."""


def ours(outcomes: Outcomes, budget: int, random: Random) -> int:
    """`outcomes` by prompt and task, in the order in which the tasks come; prompt 0 is the start."""
    count, tasks = outcomes.shape
    known, used = int(SEARCHED * tasks), 0
    solved, failed, tried = np.ones(count), np.ones(count), np.zeros(count, dtype=int)
    while used < SEARCHED * budget and (tried < known).any():
        drawn = random.beta(solved, failed)
        drawn[tried >= known] = -1
        one = int(np.argmax(drawn))
        # The start solves the same tasks, so that the difference can be told.
        for prompt in {one, 0} if tried[0] <= tried[one] < known else {one}:
            found = outcomes[prompt, tried[prompt]]
            solved[prompt], failed[prompt] = solved[prompt] + found, failed[prompt] + 1 - found
            tried[prompt] += 1
            used += 1
    leader = int(np.argmax(solved / (solved + failed)))
    differences = outcomes[leader] - outcomes[0]
    both = differences[: min(tried[leader], tried[0])]
    new = differences[known:][: (budget - used) // 2]
    return leader if _better(leader, new, both) else 0


def _better(leader: int, *differences: Outcomes) -> bool:
    """Whether the decision prefers the leader to the start, by its new tasks, and those that it was chosen by."""
    return leader > 0 and gain(*(Pairs.of(part.tolist(), 1.0) for part in differences)).better >= PROBABLE


def gepa(outcomes: Outcomes, budget: int, random: Random) -> int:
    count, tasks = outcomes.shape
    dev = min(DEV, budget // (2 * count))
    scores = {0: outcomes[0, :dev].sum()}
    budget -= dev
    for turn in range(2 * tasks):
        waiting = [p for p in range(count) if p not in scores]
        if not waiting or budget < 2 * MINIBATCH:
            break
        one, parent = waiting[turn % len(waiting)], max(scores, key=lambda p: scores[p])
        batch = random.choice(np.arange(dev, tasks), MINIBATCH, replace=False)
        budget -= 2 * MINIBATCH
        if outcomes[one, batch].sum() > outcomes[parent, batch].sum() and budget >= dev:
            scores[one] = outcomes[one, :dev].sum()
            budget -= dev
    return max(scores, key=lambda p: scores[p])


def fixed_sample(outcomes: Outcomes, budget: int, random: Random) -> int:
    return int(np.argmax(outcomes[:, : max(1, budget // len(outcomes))].sum(1)))


def successive_halving(outcomes: Outcomes, budget: int, random: Random) -> int:
    return _halved(outcomes, budget, beside=False)[0]


def halving_then_ours(outcomes: Outcomes, budget: int, random: Random) -> int:
    leader, done = _halved(outcomes, budget, beside=True)
    return leader if _better(leader, (outcomes[leader] - outcomes[0])[:done]) else 0


def _halved(outcomes: Outcomes, budget: int, *, beside: bool) -> tuple[int, int]:
    """The last prompt, and how many tasks it was tried on; `beside`: the start was tried on them too."""
    alive, done = np.arange(len(outcomes)), 0
    rounds = max(1, ceil(log2(len(outcomes))))
    for _ in range(rounds):
        asked = len(alive) + (beside and 0 not in alive)
        done = min(outcomes.shape[1], done + max(1, budget // (rounds * asked)))
        order = np.argsort(-outcomes[alive, :done].sum(1), kind="stable")
        alive = alive[order[: ceil(len(alive) / 2)]]
    return int(alive[0]), done


def ucb(outcomes: Outcomes, budget: int, random: Random) -> int:
    count, tasks = outcomes.shape
    solved, tried = outcomes[:, 0].copy(), np.ones(count)
    for step in range(count, min(budget, count * tasks)):
        bound = solved / tried + np.sqrt(2 * np.log(step) / tried)
        bound[tried >= tasks] = -1
        one = int(np.argmax(bound))
        solved[one] += outcomes[one, int(tried[one])]
        tried[one] += 1
    return int(np.argmax(solved / tried))


SEARCHES: dict[str, Callable[[Outcomes, int, Random], int]] = {
    "the start": lambda *_: 0,
    "ours": ours,
    "halving, our decision": halving_then_ours,
    "GEPA": gepa,
    "fixed sample": fixed_sample,
    "successive halving": successive_halving,
    "UCB1": ucb,
}


def regrets(models: Sequence[Outcomes], budget: int, runs: int, seed: int) -> dict[str, tuple[float, float]]:
    """Mean regret of each search in points, and percent of its runs that return less than the start.

    Args:
        models: Outcomes by prompt and task.
        budget: Evaluations in each run.
        runs: For each model, each with another start and order of the tasks.
        seed: Of these.
    """
    random = np.random.default_rng([seed, budget])
    found: dict[str, list[tuple[float, bool]]] = {name: [] for name in SEARCHES}
    for outcomes in models:
        for _ in range(runs):
            shown = outcomes[random.permutation(len(outcomes))][:, random.permutation(outcomes.shape[1])]
            truth = 100 * shown.mean(1)
            for name, search in SEARCHES.items():
                score = truth[search(shown, budget, random)]
                found[name].append((float(truth.max() - score), bool(score < truth[0] - 1e-9)))
    return {
        name: (float(np.mean([r for r, _ in f])), 100 * float(np.mean([w for _, w in f]))) for name, f in found.items()
    }
