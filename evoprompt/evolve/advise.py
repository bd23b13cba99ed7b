"""Questions to the debugger (why did these fail?) and to the optimizer (what should the instruction say?)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dspy.utils.exceptions import LMError

from evoprompt.errors import ModelError
from evoprompt.evolve.factorial.wrapped import unwrapped
from evoprompt.evolve.options import Options
from evoprompt.evolve.records import Diagnosed
from evoprompt.evolve.triage import cluster, triage
from evoprompt.judges import Rollout
from evoprompt.judges.steps import told
from evoprompt.lm.resolve import one_line
from evoprompt.metric import failures_of, feedback
from evoprompt.plain import labelled
from evoprompt.program import Advisor, Program, ask
from evoprompt.rollout import Runner
from evoprompt.tasks import Task
from evoprompt.wording import counted
from signatures import Attempt, Blame, Diagnosis, Failure, FailureGroup

logger = logging.getLogger("evoprompt")

Roles = Program | Advisor
"""The program that asks the debugger and the optimizer: for code, or for anything else."""


class Advice:
    """Asks for diagnoses and proposals.

    Args:
        roles: A `Program` for rollouts that were judged by tests, an `Advisor` for all others.
        runner: Asks concurrently, in other threads.
        options: How much may stay without an answer.
    """

    def __init__(self, roles: Roles, runner: Runner, options: Options) -> None:
        self._roles, self._runner, self._options = roles, runner, options
        self._several = len(runner.program.predictors()) > 1

    def diagnose(self, rollouts: Sequence[Rollout], tasks: Iterable[Task]) -> tuple[Diagnosed, ...]:
        """Say why rollouts failed: without a model where that is certain, else by the debugger.

        One failure is one call: the same answer to the same task is asked about once.

        Args:
            rollouts: Failed ones.
            tasks: Their tasks, and maybe others.

        Returns:
            The diagnoses in the order of the rollouts, without those that nobody could explain.

        Raises:
            ModelError: The debugger could not be asked about too many of them.
        """
        by_id = {t.task_id: t for t in tasks}
        distinct: dict[tuple[str, ...], Rollout] = {}
        for r in rollouts:
            distinct.setdefault(r.said, r)
        answers = self._runner.map(lambda r: self._one_diagnosis(r, by_id[r.task_id]), list(distinct.values()))
        known = dict(zip(distinct, answers, strict=True))
        found = [known[r.said] for r in rollouts]
        asked = [d for d in answers if not isinstance(d, Diagnosed) or d.by == "debugger"]
        if asked and not any(asked):
            failures = counted(len(asked), "failure")
            logger.warning("none of %s was explained: the debugger does not keep the form", failures)
        lost = [d for d in found if isinstance(d, LMError)]
        if len(lost) > self._options.max_unmeasured * len(rollouts):
            raise ModelError(
                f"the debugger could not be asked about {len(lost)} of {counted(len(rollouts), 'failure')}; the last: "
                f"{one_line(lost[-1])}"
            )
        return tuple(d for d in found if isinstance(d, Diagnosed))

    def propose(self, current_instruction: str, groups: Sequence[FailureGroup], attempts: Sequence[Attempt]) -> str:
        """Ask the optimizer for a better instruction.

        Args:
            current_instruction: What it should improve.
            groups: What went wrong under it, most frequent first.
            attempts: Earlier attempts and their effect, newest last.

        Returns:
            The proposal; empty when the reply holds none.

        Raises:
            ModelError: The optimizer could not be asked.
        """
        return self._optimizer(
            lambda: self._roles.propose(
                current_instruction=current_instruction, failures=list(groups), attempts=list(attempts)
            ),
            current_instruction,
        )

    def shorten(self, current_instruction: str, attempts: Sequence[Attempt], words: int) -> str:
        """Ask the optimizer to say the same in at most so many words.

        Args:
            current_instruction: What it should shorten.
            attempts: The rules in it whose effects are known.
            words: The limit. The reply may be longer all the same.

        Raises:
            ModelError: The optimizer could not be asked.
        """
        limit = f"at most {words} words"
        return self._optimizer(
            lambda: self._roles.shorten(
                current_instruction=current_instruction, attempts=list(attempts), length_limit=limit
            ),
            current_instruction,
        )

    def _optimizer(self, call: Callable[[], str], before: str) -> str:
        try:
            # Not in this thread: Ctrl-C would lose what it pays for.
            (reply,) = self._runner.map(lambda _: ask(call, "optimizer"), [None])
        except LMError as e:
            raise ModelError(f"the optimizer could not be asked: {one_line(e)}") from e
        return unwrapped(reply or "", before)

    def _one_diagnosis(self, rollout: Rollout, task: Task) -> Diagnosed | LMError | None:
        certain, last = triage(rollout), rollout.steps[-1].predictor if self._several and rollout.steps else ""
        if certain is not None:
            return Diagnosed(task_id=task.task_id, by="program", diagnosis=certain, predictor=last)
        try:
            diagnosis = ask(lambda: self._asked(rollout, task), f"debugger, task {task.task_id}")
        except LMError as e:
            logger.warning("debugger, task %s: no answer from the model: %s", task.task_id, one_line(e))
            return e
        if diagnosis is None:
            return None
        if isinstance(diagnosis, Blame):
            last = _named(diagnosis.predictor, [step.predictor for step in rollout.steps])
            diagnosis = Diagnosis.model_validate(dict(diagnosis))
        return Diagnosed(task_id=task.task_id, by="debugger", diagnosis=diagnosis, predictor=last)

    def _asked(self, rollout: Rollout, task: Task) -> Diagnosis | None:
        roles, report = self._roles, rollout.report
        asked = len({step.predictor for step in rollout.steps}) > 1
        steps = told(rollout.steps) if asked else []
        if isinstance(roles, Program):
            status: Any = rollout.status
            other = Failure(status=status, observed=rollout.feedback)
            failures = failures_of(report, task.prompt) if report else [other]
            if steps:
                return roles.blame(prompt=task.prompt, code=rollout.code, failures=failures, steps=steps)
            return roles.debug(prompt=task.prompt, code=rollout.code, failures=failures)
        # A judge of somebody's own tells in a form of its own: all of it is shown.
        output = rollout.output if rollout.code in ("", *rollout.output.values()) else {
            **rollout.output, "code": rollout.code
        }  # fmt: skip
        said = [rollout.feedback, feedback(report, task.prompt) if report else ""]
        known = (
            "\n".join(filter(None, said)) or f"It was judged as {rollout.status}, with the score {rollout.score:.3g}."
        )
        if steps:
            return roles.blame(inputs=task.prompt, output=labelled(output), feedback=known, steps=steps)
        return roles.explain(inputs=task.prompt, output=labelled(output), feedback=known)


def _named(said: str, called: Sequence[str]) -> str:
    """The predictor that a debugger means; the last one that was called where it names none of them."""
    said = said.strip(" `'\"*.[]").casefold()
    known = {name.strip("[]").casefold(): name for name in called}
    parts = [name for low, name in known.items() if said and said in low.split(".")]
    return known.get(said) or (parts[0] if len(parts) == 1 else called[-1])


def blamed(diagnosed: Iterable[Diagnosed]) -> dict[str, list[FailureGroup]]:
    """The failures in groups, by the predictor that is to blame; the one with most of them first."""
    found: dict[str, list[Diagnosis]] = {}
    for one in diagnosed:
        found.setdefault(one.predictor, []).append(one.diagnosis)
    return {p: cluster(found[p]) for p in sorted(found, key=lambda p: -len(found[p]))}
