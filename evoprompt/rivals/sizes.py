"""How large DSPy's own optimizers are run for a budget of task-model calls, as someone who knows them would.

Their documented defaults are for thousands of calls (SIMBA: about 3,700). Where a budget is smaller, everything is made
smaller together rather than one stage left out. What each of them does with its sizes is told beside its function.
"""

from __future__ import annotations

from typing import Final, Literal

from evoprompt.errors import UsageError

Rival = Literal["gepa", "mipro", "simba", "copro"]

LEAST: Final = 40
"""Calls below which none of them gets through one round of proposing and comparing."""
_ENOUGH: Final = 16
"""Tasks on which prompts are compared at least: on fewer, the best of several is the luckiest."""
_COPRO_PROMPTS: Final = 36
"""Beyond about 60 prompts COPRO dies of a RecursionError: each wraps the signature of the one before (dspy 3.4.1)."""


def sizes(rival: Rival, calls: int, train: int, val: int) -> dict[str, int]:
    """The options by which a rival is told how far it may go.

    Args:
        rival: Which.
        calls: Calls of the task model that it may make.
        train: Tasks to learn from.
        val: Tasks to select by; 0 when there are no such.

    Raises:
        UsageError: So few calls are too few.
    """
    if calls < LEAST:
        raise UsageError(f"{calls} calls are too few for {rival}: give at least {LEAST}")
    make = {"gepa": _gepa, "mipro": _mipro, "simba": _simba, "copro": _copro}[rival]
    return make(calls, train, val)


def _gepa(calls: int, train: int, val: int) -> dict[str, int]:
    """It spends until it is stopped. Its own count takes in repeated requests, which a cache answers for nothing."""
    return {"max_metric_calls": 4 * calls, "reflection_minibatch_size": min(3, train)}


def _mipro(calls: int, train: int, val: int) -> dict[str, int]:
    """Demonstrations for its proposer, then every proposed prompt on the valset; a trial that repeats one is free.

    Its own advice is 1.5 trials for each candidate. Without a valset it takes 80 % of the trainset for one.
    """
    deciding = val or max(1, int(train * 0.8))
    bootstrap = min(train, 12)
    candidates = min(18, max(2, round((calls - bootstrap) / deciding)))
    return {"num_candidates": candidates, "num_trials": max(candidates, 3 * candidates // 2)}


def _simba(calls: int, train: int, val: int) -> dict[str, int]:
    """Each step rolls a batch out for each candidate, twice; at the end the winners run on all tasks that it was given.

    It is given fewer where that is what a budget allows.
    """
    tasks = min(train + val, max(_ENOUGH, calls // 8))
    steps = min(8, max(2, calls // 130))
    candidates = min(6, max(2, calls // 65))
    last = (min(steps, candidates) + 1) * tasks
    batch = max(4, (calls - last) // (steps * (2 * candidates + 1)))
    return {"bsize": min(32, batch, tasks), "num_candidates": candidates, "max_steps": steps, "tasks": tasks}


def _copro(calls: int, train: int, val: int) -> dict[str, int]:
    """Every prompt runs on all tasks that it was given; it goes deeper until the calls are spent.

    How deep that is depends on how often its proposer repeats itself, which costs nothing.
    """
    tasks = min(train + val, max(_ENOUGH, calls // _ENOUGH))
    breadth = min(10, max(3, calls // (2 * tasks)))
    return {"breadth": breadth, "depth": min(10, _COPRO_PROMPTS // breadth), "tasks": tasks}
