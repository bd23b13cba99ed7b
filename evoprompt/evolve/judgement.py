"""Two judgements on a proposal: is it worth a batch of calls, and is it better than its parent?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from evoprompt.evolve.factorial.rules import leak
from evoprompt.evolve.options import Accept
from evoprompt.judges import Rollout
from evoprompt.lm.words import plain
from evoprompt.tasks import Task


def screen(
    proposal: str, known: Iterable[str], tasks: Iterable[Task], max_chars: int, whole: str | None = None
) -> str | None:  # fmt: skip
    """Say why a proposal is not worth trying, or None when it is.

    Args:
        proposal: The proposed instruction.
        known: Instructions that were tried already.
        tasks: The batch's tasks: what gives them away would be learnt by heart.
        max_chars: Longest instruction, in characters.
        whole: The prompt that it would be a part of, as `known` has it; by default it is the whole.
    """
    if not proposal.strip():
        return "the optimizer's reply holds no instruction"
    if len(proposal) > max_chars:
        return f"it has {len(proposal)} characters, more than {max_chars}"
    alike = plain(proposal if whole is None else whole)
    if any(alike == plain(k) for k in known):
        return "it was tried before"
    return leak(proposal, tasks)


@dataclass(frozen=True)
class Comparison:
    """Parent and child on the tasks that were measured with both.

    Attributes:
        paired_tasks: How many those are.
        parent_score: Percent solved by the parent; None without a paired task.
        child_score: Percent solved by the child.
    """

    paired_tasks: int
    parent_score: float | None
    child_score: float | None


def compare(parent: Sequence[Rollout], child: Sequence[Rollout]) -> Comparison:
    """Score both on the same tasks; what was not measured with both counts for neither."""
    before = {(r.task_id, r.sample): r.score for r in parent if r.score is not None}
    after = {(r.task_id, r.sample): r.score for r in child if r.score is not None}
    shared = [k for k in before if k in after]
    if not shared:
        return Comparison(0, None, None)
    return Comparison(
        paired_tasks=len(shared),
        # Exact: partial scores summed in another order must not look like an improvement.
        parent_score=100 * math.fsum(before[k] for k in shared) / len(shared),
        child_score=100 * math.fsum(after[k] for k in shared) / len(shared),
    )


def accepts(comparison: Comparison, rule: Accept) -> tuple[bool, str]:
    """Decide whether the child replaces its parent, and say why."""
    n, parent, child = comparison.paired_tasks, comparison.parent_score, comparison.child_score
    if parent is None or child is None:
        return False, "not measured"
    change = f"{parent:.1f} % to {child:.1f} % on {n} tasks"
    if rule == "always":
        return True, f"accept=always: {change}"
    return (True, f"solves more: {change}") if child > parent else (False, f"does not solve more: {change}")
