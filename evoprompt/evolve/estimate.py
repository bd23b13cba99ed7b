"""Estimate the cost of a search before it begins: calls by the strategy's plan, tokens by the prompts it would send."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

import dspy

from evoprompt.candidate import Candidate
from evoprompt.errors import UsageError
from evoprompt.evolve.advise import Roles
from evoprompt.evolve.factorial.allowance import Allowance
from evoprompt.evolve.factorial.comparison import in_turn
from evoprompt.evolve.factorial.constants import ERROR
from evoprompt.evolve.factorial.sequential_test import sign_test
from evoprompt.evolve.options import Options
from evoprompt.evolve.refine import MAX_ATTEMPTS, batches
from evoprompt.evolve.strategies import name_of, strategy_class
from evoprompt.judges.students import inputs_of
from evoprompt.lm.budget import Budget
from evoprompt.lm.dspy_internals import never_priced, price
from evoprompt.lm.words import tokens_of
from evoprompt.program import Advisor, Program
from evoprompt.tasks import Task
from evoprompt.wording import counted
from signatures import Attempt, Failure, FailureGroup

CHARACTERS = 4
"""Characters of a token: the usual guess for English and code."""
NO_CODE = "x" * 300
"""In the place of a solution, for its length, where a task has none; and of any other answer."""
FEEDBACK = 80
"""Characters of a short feedback."""
FAILING = 0.4
"""Share of the solutions that are likely to fail."""
LARGE = 0.25
"""Gain that few prompts reach: where even this is not confirmed, that is said beforehand."""
SIZES = {
    "growth": (300, 600),  # characters that the instruction has grown by
    "failures": (2, 3),  # of a task, that the debugger is told
    "groups": (3, 6),  # kinds of failures that the optimizer is told
    "attempts": (2, MAX_ATTEMPTS),  # earlier ones that the optimizer is told
    "code": (2, 5),  # tokens of an answer with code, for each of the canonical solution
    "words": (60, 200),  # tokens beside the code
    "debugger": (150, 300),  # tokens of its answer
    "optimizer": (200, 500),  # tokens of its answer
}
"""Sizes of requests and answers, likely ones and the largest: guesses. A finished run says what its own were."""


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
    """The calls of `Factorial`: the start prompt on each task, passes, and the confirmation."""
    options = case.options
    size = min(options.batch_size, case.train)
    confirmation = case.train + 2 * case.dev
    passes = options.epochs * math.ceil(2 * case.train / size) * size
    least = case.train
    allowance = Allowance(options.budget, confirmation)
    if (left := allowance.left()) is not None:  # it goes on until that is spent
        least, confirmation, passes = left, allowance.kept, left
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
class Cost:
    """Cost of the calls in one role, or in all.

    Attributes:
        model: Name of the model.
        calls: Answers that are paid for.
        tokens: Of all requests and answers.
        usd: US dollars; None where the price is not known.
    """

    model: str
    calls: float
    tokens: float
    usd: float | None

    def of(self, calls: float) -> Cost:
        """Return the cost of so many of these calls."""
        share = calls / self.calls if self.calls else 0.0
        return Cost(self.model, calls, self.tokens * share, None if self.usd is None else self.usd * share)


@dataclass(frozen=True)
class Estimate:
    """The expected cost of a search. `str()` of it is a table for people.

    Attributes:
        likely: The likely cost of each role (`generator`, `debugger`, `optimizer`; for a student of your own the names
            of its predictors). Empty where the strategy does not tell.
        most: The most that each role can take, but for answers that are longer than any that were seen.
        failing: Share of the solutions that fail in the likely case.
        options: Of the search; its budget may end it earlier.
        hint: What `confirmable` says of the tasks.
    """

    likely: Mapping[str, Cost]
    most: Mapping[str, Cost]
    failing: float
    options: Options
    hint: str = ""

    @property
    def total(self) -> tuple[Cost, Cost]:
        """The likely cost of all roles, and the most that they can take; infinite where the strategy does not tell.

        A budget of calls counts: the most is then less than the sum of the roles.
        """
        limit = self.options.budget.lm_calls or math.inf
        return _total(list(self.likely.values()), limit), _total(list(self.most.values()), limit)

    def __str__(self) -> str:
        """A table, and what it assumes."""
        if not self.likely:
            who = name_of(self.options.strategy)
            return "\n".join([f"What {who} will cost is not known: its class has no `plan(case)`.", *self._limits])
        rows: list[tuple[str, ...]] = [("role", "model", "calls", "at most", "tokens", "at most", "US $", "at most")]
        for role, both in [*((r, (c, self.most[r])) for r, c in self.likely.items()), ("all", self.total)]:
            calls, tokens = [f"{c.calls:,.0f}" for c in both], [f"{c.tokens:,.0f}" for c in both]
            usd = ["?" if c.usd is None else f"{c.usd:,.4f}" for c in both]
            rows.append((role, both[0].model, *calls, *tokens, *usd))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        sides = "<<>>>>>>"
        lines = ["  ".join(f"{c:{s}{w}}" for c, s, w in zip(row, sides, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, *self.notes])

    @property
    def notes(self) -> list[str]:
        """The assumptions behind the numbers, a line each."""
        notes = [
            f"Likely: {100 * self.failing:.0f} % of the solutions fail, half of the proposals are accepted. At most: "
            "all fail, the debugger explains them all, every proposal is accepted.",
            f"Input: the prompts as they would be sent, {CHARACTERS} characters a token. Output: guessed; a model that "
            "thinks first writes more. Calls that are tried again after a failure come on top.",
        ]
        if not self.likely.keys() & {"debugger", "optimizer"}:
            who = name_of(self.options.strategy)
            notes.append(
                f"Calls of the model that proposes for {who} come on top, and it may make somewhat more than said."
            )
        if len(self.likely) > 3:
            notes.append("Each predictor of the student is taken to be asked once for each solution.")
        unknown = sorted({c.model for c in self.likely.values() if c.usd is None})
        if unknown:
            notes.append(f"The price is not known of: {', '.join(unknown)}.")
        return notes + self._limits + ([f"{self.hint[0].upper()}{self.hint[1:]}."] if self.hint else [])

    @property
    def _limits(self) -> list[str]:
        limits = {k: v for k, v in asdict(self.options.budget).items() if v is not None}
        names = {"lm_calls": "calls", "usd": "dollars"}
        told = ", ".join(f"{v:,} {names.get(k, k)}" for k, v in limits.items())
        return [f"The budget ends it at {told}."] if told else []


def estimate(
    student: dspy.Module, roles: Roles, train: Sequence[Task], dev: Sequence[Task], options: Options, failing: float
) -> Estimate:
    """Estimate the cost of a search.

    Args:
        student: The program to improve.
        roles: Serves the debugger and the optimizer.
        train: Tasks to learn from.
        dev: Tasks to choose by.
        options: How to search.
        failing: Share of the solutions that fail in the likely case.
    """
    plan = PLANS.get(name_of(options.strategy)) or getattr(strategy_class(options.strategy), "plan", None)
    if plan is None:
        return Estimate({}, {}, failing, options)
    cases = [Case(len(train), len(dev), options, *shares) for shares in ((failing, 0.75, 0.5), (1.0, 1.0, 1.0))]
    plans = [dict(plan(case)) for case in cases]
    rollouts = min(options.budget.rollouts or math.inf, options.budget.lm_calls or math.inf)
    ended = min(1.0, rollouts / max(1.0, plans[0]["generator"]))  # the other roles end with the rollouts
    plans[0] = {role: calls * ended for role, calls in plans[0].items()}
    # Where one advisor is asked less, another may be asked more.
    plans[1] = {role: max(calls, plans[0].get(role, 0.0)) for role, calls in plans[1].items()}
    found = []
    for at, (case, calls) in enumerate(zip(cases, plans, strict=True)):
        calls["generator"] = min(calls["generator"], rollouts)
        sizes = {name: both[at] for name, both in SIZES.items()}
        found.append(_costs(student, roles, [*train, *dev], case, calls, sizes))
    likely, most = found
    if (limit := options.budget.lm_calls) is not None:
        asked = max(1.0, sum(cost.calls for cost in likely.values()))
        likely = {role: cost.of(math.floor(cost.calls * min(1.0, limit / asked))) for role, cost in likely.items()}
        most = {role: cost.of(min(cost.calls, limit)) for role, cost in most.items()}
    return Estimate(likely, most, failing, options, confirmable(train, dev, options))


def confirmable(train: Sequence[Task], dev: Sequence[Task], options: Options) -> str:
    """Say in a line that not even a large gain can be confirmed, by the test that would have to; empty where one can.

    Args:
        train: Tasks to learn from.
        dev: Tasks to choose by.
        options: How to search.
    """
    if name_of(options.strategy) != "factorial":
        return ""
    known = {task.task_id for task in dev}
    costs = in_turn([1 for task in train if task.task_id not in known], [2] * len(dev))  # calls, as the search goes
    allowance = Allowance(options.budget, sum(costs))
    paid = sum(costs) if allowance.counted is None else allowance.kept
    pairs = sum(spent <= paid for spent in accumulate(costs))
    wins = range(1, pairs + 1)
    lead = next((n for n in wins if sign_test([1.0] * n + [0.0] * (pairs - n), pairs, ERROR).better), None)
    if lead is not None and lead / pairs <= LARGE:
        return ""
    cut = pairs < len(costs)
    where = f"{'about ' if cut else ''}{counted(pairs, 'task')}{', for which the budget has room' if cut else ''}"
    told = f"the result will be compared with the start on {where}: "
    if lead is None:
        return f"{told}too few to confirm any gain"
    points, more = f"{100 * lead / pairs:.0f} points", "a larger budget" if cut else "more tasks"
    return f"{told}to be confirmed it must win {lead} more than it loses, {points}; {more} can confirm smaller gains"


def require_prices(budget: Budget, programs: Iterable[dspy.Module]) -> None:
    """Refuse a limit in dollars that can't be kept, before the first call.

    Raises:
        UsageError: A model's price is not known.
    """
    if budget.usd is None:
        return
    models = (p.lm or dspy.settings.lm for program in programs for p in program.predictors())
    unknown = sorted({lm.model for lm in models if never_priced(lm)})
    if unknown:
        raise UsageError(
            f"a budget in dollars (--max_cost) can't be kept: the price of {', '.join(map(repr, unknown))} is not "
            "known; use --max_calls or --max_total_tokens, or Budget(lm_calls=…, tokens=…)"
        )


def _costs(
    student: dspy.Module, roles: Roles, tasks: Sequence[Task], case: Case, calls: dict[str, float],
    sizes: Mapping[str, int],
) -> dict[str, Cost]:  # fmt: skip
    """Cost of so many calls, by role."""
    length = _mean(tokens_of(t.code or NO_CODE) for t in tasks)
    found = {}
    for name, predictor in student.named_predictors():
        if not isinstance(student, Program) or predictor is not student.debugger:
            shown = _mean(_shown(student, predictor, inputs_of(t)) for t in tasks)
            reads = shown + sizes["growth"] / CHARACTERS + case.options.max_demos * (shown + length)
            found[name] = _cost(predictor, calls["generator"], reads, sizes["code"] * length + sizes["words"])
    if repairs := getattr(student, "max_repairs", 0):
        calls["debugger"] = calls.get("debugger", 0.0) + repairs * calls["generator"] * case.failing
    if "debugger" in calls:
        reads = _mean(_debugged(roles, t, sizes["failures"]) for t in tasks)
        found["debugger"] = _cost(roles.debugger, calls["debugger"], reads, sizes["debugger"])
    if "optimizer" in calls:
        grown = Candidate.of(student).instruction + "x" * sizes["growth"]
        reads = _optimized(roles, grown, sizes["groups"], sizes["attempts"])
        found["optimizer"] = _cost(roles.optimizer, calls["optimizer"], reads, sizes["optimizer"])
    return found


def _cost(predictor: Any, calls: float, reads: float, writes: float) -> Cost:
    """Cost of so many calls that read and write so many tokens each."""
    lm = predictor.lm or dspy.settings.lm
    longest = (getattr(lm, "kwargs", None) or {}).get("max_tokens")
    calls, writes = float(math.ceil(calls)), min(writes, longest or math.inf)
    bill = price(lm, round(reads), round(writes))
    return Cost(getattr(lm, "model", "none"), calls, calls * (reads + writes), None if bill is None else calls * bill)


def _total(costs: Sequence[Cost], limit: float) -> Cost:
    """Cost of all these calls; where only so many may be made, of the dearest ones."""
    if not costs:
        return Cost("", math.inf, math.inf, None)

    def dearest(value: Callable[[Cost], float]) -> float:
        left, found = limit, 0.0
        for cost in sorted(costs, key=lambda c: value(c) / max(1.0, c.calls), reverse=True):
            some = cost.of(min(cost.calls, left))
            left, found = left - some.calls, found + value(some)
        return found

    usd = None if any(c.usd is None for c in costs) else dearest(lambda c: c.usd or 0.0)
    return Cost("", dearest(lambda c: c.calls), dearest(lambda c: c.tokens), usd)


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


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
