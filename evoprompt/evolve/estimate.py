"""Estimate the cost of a search before it begins: calls by the strategy's plan, tokens by the prompts it would send."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dspy

from evoprompt.candidate import Candidate
from evoprompt.evolve.advise import Roles
from evoprompt.evolve.factorial.allowance import Allowance
from evoprompt.evolve.options import Options
from evoprompt.evolve.refine import MAX_ATTEMPTS, batches
from evoprompt.evolve.strategies import name_of, strategy_class
from evoprompt.judges.students import inputs_of
from evoprompt.lm.dspy_internals import price
from evoprompt.lm.words import tokens_of
from evoprompt.program import Advisor, Program
from evoprompt.tasks import Task
from signatures import Attempt, Failure, FailureGroup

CHARACTERS = 4
"""Characters of a token: the usual guess for English and code."""
GROWTH = 600
"""Characters that an instruction may grow by."""
GROUPS = 6
"""Kinds of failures that the optimizer may be told of."""
ANSWERS = {"debugger": (60, 300), "optimizer": (60, 500)}
"""Tokens of an answer, from short to long."""
NO_CODE = "x" * 300
"""In the place of a solution, for its length, where a task has none; and of any other answer."""
FEEDBACK = 80
"""Characters of a short feedback."""


@dataclass(frozen=True)
class Case:
    """The facts and assumptions that the calls of a search depend on.

    Attributes:
        train: Tasks to learn from.
        dev: Tasks to choose by.
        options: How the search goes.
        failing: Share of the solutions that fail.
        asked: Share of the failures that are no matter for a program: the debugger is asked.
        accepted: Share of the proposals that are accepted.
    """

    train: int
    dev: int
    options: Options
    failing: float
    asked: float
    accepted: float


Plan = Callable[[Case], Mapping[str, float]]
"""A strategy's calls by role: `generator` (one for each rollout), `debugger`, `optimizer`."""


def refine_plan(case: Case) -> dict[str, float]:
    """The calls of `Refine`."""
    calls = {"generator": float(case.dev), "debugger": 0.0, "optimizer": 0.0}
    plan = batches(case.train, case.options)
    for number, (epoch, _, tasks) in enumerate(plan, 1):
        some = 1 - (1 - case.failing) ** len(tasks)  # the chance that one of them fails, so that there is a proposal
        known = (
            0.0 if epoch == 1 else 1 - case.accepted
        )  # what the same prompt made of the same tasks is not asked again
        calls["generator"] += len(tasks) * (1 - known + some)
        calls["debugger"] += len(tasks) * case.failing * case.asked
        calls["optimizer"] += some
        if number % case.options.eval_interval == 0 or number == len(plan):
            calls["generator"] += case.dev * case.accepted
    return calls


def factorial_plan(case: Case) -> dict[str, float]:
    """The calls of `Factorial`: at least the start prompt on each task, at most all passes and the confirmation."""
    options = case.options
    size = min(options.batch_size, case.train)
    confirmation = case.train + 2 * case.dev
    passes = options.epochs * math.ceil(2 * case.train / size) * size
    least = case.train
    allowance = Allowance(options.budget, confirmation)
    if (left := allowance.left()) is not None:  # it goes on until that is spent
        least, confirmation, passes = min(least, left), allowance.kept, left
    search = least + case.accepted * (passes - least)
    some = 1 - (1 - case.failing) ** size
    allowance.done = math.ceil(search)
    most = allowance.advice_left  # about half of it goes to each of the two, where both have enough to do
    optimizer = min(math.ceil(search / size) * some * (1 + case.accepted), most // 2)  # one to shorten
    debugger = min(search * case.failing * case.asked, most - optimizer)
    return {
        "generator": search + case.accepted * confirmation,
        "debugger": debugger,
        "optimizer": optimizer,
    }


PLANS: dict[str, Plan] = {"factorial": factorial_plan, "refine": refine_plan}
"""The plans of our own strategies; others bring theirs."""


@dataclass(frozen=True)
class Span:
    """From the least to the most that is expected."""

    low: float
    high: float

    def __add__(self, other: Span) -> Span:
        """Both together."""
        return Span(self.low + other.low, self.high + other.high)

    def told(self, form: str = ",.0f") -> str:
        """`72-168`, or one number where both are the same."""
        low, high = format(self.low, form), format(self.high, form)
        return low if low == high else f"{low}-{high}"


@dataclass(frozen=True)
class RoleEstimate:
    """The expected cost of the calls in one role.

    Attributes:
        role: `generator`, `debugger`, `optimizer`; for a student of your own the names of its predictors.
        model: Name of the model; empty where none is set.
        calls: Answers that are paid for.
        input_tokens: Of all its requests.
        output_tokens: Of all its answers.
        usd: US dollars; None where the price is not known.
    """

    role: str
    model: str
    calls: Span
    input_tokens: Span
    output_tokens: Span
    usd: Span | None


@dataclass(frozen=True)
class Estimate:
    """The expected cost of a search. `str()` of it is a table for people.

    Attributes:
        roles: By role.
        low: What the lower ends assume.
        high: What the upper ends assume.
        options: Of the search; its budget may end it earlier.
    """

    roles: tuple[RoleEstimate, ...]
    low: Case
    high: Case
    options: Options

    @property
    def calls(self) -> Span:
        """Answers of all roles; any number, where the strategy does not tell."""
        return Span(0, math.inf) if not self.roles else _sum(r.calls for r in self.roles)

    @property
    def tokens(self) -> Span:
        """Tokens of all requests and answers."""
        return _sum(r.input_tokens + r.output_tokens for r in self.roles)

    @property
    def usd(self) -> Span | None:
        """US dollars; None where a price is not known."""
        known = [r.usd for r in self.roles if r.usd is not None]
        return _sum(known) if len(known) == len(self.roles) else None

    def __str__(self) -> str:
        """A table, and what it assumes."""
        strategy = name_of(self.options.strategy)
        if not self.roles:
            return "\n".join([f"What {strategy} will cost is not known: its class has no `plan(case)`.", *self._limits])
        rows = [("role", "model", "calls", "input tokens", "output tokens", "US $")]
        for r in self.roles:
            model = r.model or "none is set"
            numbers = (r.calls.told(), r.input_tokens.told(), r.output_tokens.told())
            rows.append((r.role, model, *numbers, _dollars(r.usd)))
        reads, writes = _sum(r.input_tokens for r in self.roles), _sum(r.output_tokens for r in self.roles)
        rows.append(("all", "", self.calls.told(), reads.told(), writes.told(), _dollars(self.usd)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        sides = "<<>>>>"
        lines = ["  ".join(f"{c:{s}{w}}" for c, s, w in zip(row, sides, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, *self.notes])

    @property
    def notes(self) -> list[str]:
        """The assumptions behind the numbers, a line each."""
        low, high = (f"{100 * c.failing:.0f} %" for c in (self.low, self.high))
        notes = [
            f"From: {low} of the solutions fail and no proposal is accepted. To: {high} fail, the debugger explains "
            "them all, every proposal is accepted.",
            f"Input: the prompts as they would be sent, {CHARACTERS} characters a token. Output: guessed; a model that "
            "thinks first writes more. Calls that are repeated after a failure come on top.",
        ]
        if not {r.role for r in self.roles} & ANSWERS.keys():
            who = name_of(self.options.strategy)
            notes.append(
                f"Calls of the model that proposes for {who} come on top, and it may make somewhat more than said."
            )
        if len(self.roles) > len(ANSWERS) + 1:
            notes.append("Each predictor of the student is taken to be asked once for each solution.")
        unknown = sorted({r.model or "none" for r in self.roles if r.usd is None})
        if unknown:
            notes.append(f"The price is not known of: {', '.join(unknown)}.")
        return notes + self._limits

    @property
    def _limits(self) -> list[str]:
        limits = {k: v for k, v in self.options.as_dict()["budget"].items() if v is not None}
        names = {"lm_calls": "calls", "usd": "dollars"}
        told = ", ".join(f"{v:,} {names.get(k, k)}" for k, v in limits.items())
        return [f"The budget ends it at {told}."] if told else []


def estimate(
    student: dspy.Module, roles: Roles, train: Sequence[Task], dev: Sequence[Task], options: Options,
    failing: tuple[float, float],
) -> Estimate:  # fmt: skip
    """Estimate the cost of a search.

    Args:
        student: The program to improve.
        roles: Serves the debugger and the optimizer.
        train: Tasks to learn from.
        dev: Tasks to choose by.
        options: How to search.
        failing: Least and largest share of the solutions that fail.
    """
    low, high = (
        Case(len(train), len(dev), options, share, asked, accepted)
        for share, asked, accepted in zip(failing, (0.5, 1.0), (0.0, 1.0), strict=True)
    )
    plan = PLANS.get(name_of(options.strategy)) or getattr(strategy_class(options.strategy), "plan", None)
    if plan is None:
        return Estimate((), low, high, options)
    calls = {role: Span(n, plan(high)[role]) for role, n in plan(low).items()}
    tasks = [*train, *dev]
    found = []
    for name, predictor in student.named_predictors():
        if not isinstance(student, Program) or predictor is not student.debugger:
            shown = _mean(_shown(student, predictor, inputs_of(t)) for t in tasks)
            length = _mean(tokens_of(t.code or NO_CODE) for t in tasks)
            most = GROWTH / CHARACTERS + options.max_demos * (shown + length)
            reads, writes = Span(shown, shown + most), Span(length + 20, 5 * length + 200)
            found.append(_role(name, predictor, calls["generator"], (reads, writes)))
    if repairs := getattr(student, "max_repairs", 0):
        calls["debugger"] = calls.get("debugger", Span(0, 0)) + Span(
            0, repairs * calls["generator"].high * high.failing
        )
    if "debugger" in calls:
        reads = Span(*(_mean(_debugged(roles, t, n) for t in tasks) for n in (1, 3)))
        found.append(_role("debugger", roles.debugger, calls["debugger"], (reads, Span(*ANSWERS["debugger"]))))
    if "optimizer" in calls:
        text = Candidate.of(student).instruction
        reads = Span(_optimized(roles, text, 1, 0), _optimized(roles, text + "x" * GROWTH, GROUPS, MAX_ATTEMPTS))
        found.append(_role("optimizer", roles.optimizer, calls["optimizer"], (reads, Span(*ANSWERS["optimizer"]))))
    return Estimate(tuple(found), low, high, options)


def _role(role: str, predictor: Any, calls: Span, size: tuple[Span, Span]) -> RoleEstimate:
    """Of what one call reads and writes, what all of them cost."""
    lm = predictor.lm or dspy.settings.lm
    reads, writes = size
    longest = (getattr(lm, "kwargs", None) or {}).get("max_tokens")
    writes = Span(*(min(n, longest) if longest else n for n in (writes.low, writes.high)))
    calls = Span(float(int(calls.low)), float(-int(-calls.high // 1)))
    bills = [price(lm, round(r), round(w)) for r, w in ((reads.low, writes.low), (reads.high, writes.high))]
    usd = None if bills[0] is None or bills[1] is None else _times(calls, Span(bills[0], bills[1]))
    model = getattr(lm, "model", "") if lm is not None else ""
    return RoleEstimate(role, model, calls, _times(calls, reads), _times(calls, writes), usd)


def _debugged(roles: Roles, task: Task, failures: int) -> float:
    if isinstance(roles, Advisor):
        output, feedback = NO_CODE, "x" * FEEDBACK * failures
        return _shown(roles, roles.debugger, {"inputs": task.prompt, "output": output, "feedback": feedback})
    told = Failure(status="failed", call=f"{task.entry_point}([1, 2, 3], 4)", observed="returned [1, 2, 3]")
    given = {"prompt": task.prompt, "code": task.code or NO_CODE, "failures": [told] * failures, "fix": False}
    return _shown(roles, roles.debugger, given)


def _optimized(roles: Roles, instruction: str, groups: int, attempts: int) -> float:
    group = FailureGroup(rule="x" * 80, count=3, failure_class="edge_case", example="x" * 120)
    attempt = Attempt(instruction=instruction, score=50.0, parent_score=50.0, accepted=False)
    given = {"current_instruction": instruction, "failures": [group] * groups, "attempts": [attempt] * attempts}
    return _shown(roles, roles.optimizer, given)


def _shown(program: dspy.Module, predictor: Any, given: Mapping[str, Any]) -> float:
    """Tokens of what a predictor would send."""
    adapter = getattr(program, "adapter", None) or dspy.settings.adapter or dspy.ChatAdapter()
    inputs = {name: given.get(name, "") for name in predictor.signature.input_fields}
    messages = adapter.format(signature=predictor.signature, demos=predictor.demos, inputs=inputs)
    return sum(tokens_of(str(m["content"])) for m in messages)


def _times(calls: Span, size: Span) -> Span:
    return Span(calls.low * size.low, calls.high * size.high)


def _sum(spans: Iterable[Span]) -> Span:
    return sum(spans, Span(0, 0))


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def _dollars(usd: Span | None) -> str:
    return "not known" if usd is None else usd.told(",.4f")
