"""`Program`: generator, debugger and optimizer in one DSPy module; `Advisor`: the last two for what is no code."""

from __future__ import annotations

import ast
import asyncio
import builtins
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import dspy
from dspy.utils.exceptions import AdapterParseError, LMError
from pydantic import ValidationError

from evoprompt.atomic import home
from evoprompt.errors import DataError
from evoprompt.harness import Harness, Report
from evoprompt.lm.adapter import CodeAdapter, adapter_by_name
from evoprompt.lm.calls import ABOUT_THE_REQUEST
from evoprompt.lm.extract import code_text, extract_code, scrub
from evoprompt.lm.interception import measuring
from evoprompt.lm.resolve import explain_lm_error, one_line
from evoprompt.metric import failures_of
from evoprompt.tasks import parse_python
from signatures import (
    Attempt,
    Blame,
    DebugCode,
    DebugSteps,
    Diagnosis,
    ExplainFailure,
    ExplainSteps,
    Failure,
    FailureGroup,
    GenerateCode,
    OptimizeInstruction,
    OptimizePrompt,
    ShortenPrompt,
    Step,
)

logger = logging.getLogger("evoprompt")

Answer = TypeVar("Answer")
Told = TypeVar("Told", bound=Diagnosis)

ADAPTER_KEY = "evoprompt_adapter"
ROLES = ("generator", "debugger", "optimizer")
"""Names of a program's predictors."""


class Proposing(dspy.Module):
    """A module whose `optimizer` rewrites instructions, through its `adapter`."""

    optimizer: dspy.Predict
    adapter: dspy.Adapter

    def propose(self, *, current_instruction: str, failures: list[FailureGroup], attempts: list[Attempt]) -> str:
        """Ask the optimizer for a better instruction."""
        with dspy.context(adapter=self.adapter):
            reply = self.optimizer(current_instruction=current_instruction, failures=failures, attempts=attempts)
        return scrub(str(reply.new_instruction)).strip()

    def shorten(self, *, current_instruction: str, attempts: list[Attempt], length_limit: str) -> str:
        """Ask the optimizer to say the same in fewer words."""
        told = {"current_instruction": current_instruction, "attempts": attempts, "length_limit": length_limit}
        with dspy.context(adapter=self.adapter):
            reply = self.optimizer(signature=ShortenPrompt, **told)
        return scrub(str(reply.shortened_instruction)).strip()


class Program(Proposing):
    """Writes code for a problem; debugs it and rewrites its own instruction when a teleprompter asks.

    `forward` uses the generator, and the debugger where repairs are allowed. Optimizers see those alone in
    `named_predictors()`: GEPA or COPRO would otherwise spend their budget on roles that no metric measures.

    Args:
        instruction: The prompt to begin with, of any length and language; None for that of `GenerateCode`.
        generator_lm: Model that writes code; None means `dspy.settings.lm`, also for the other two.
        debugger_lm: Model that explains failures.
        optimizer_lm: Model that rewrites the instruction.
        adapter: Turns fields into messages and replies into fields. Default `CodeAdapter`.
        max_repairs: How often `forward` may let the debugger fix code that fails the examples visible in
            the prompt. Each repair is one more call.
        harness: Runs those examples; only used with `max_repairs > 0`.
    """

    def __init__(
        self,
        *,
        instruction: str | None = None,
        generator_lm: dspy.LM | None = None,
        debugger_lm: dspy.LM | None = None,
        optimizer_lm: dspy.LM | None = None,
        adapter: dspy.Adapter | None = None,
        max_repairs: int = 0,
        harness: Harness | None = None,
    ) -> None:
        super().__init__()
        signature = GenerateCode if instruction is None else GenerateCode.with_instructions(instruction)
        self.generator = dspy.Predict(signature)
        self.debugger = dspy.Predict(DebugCode)
        self.optimizer = dspy.Predict(OptimizePrompt)
        roles = (self.generator, self.debugger, self.optimizer)
        for role, lm in zip(roles, (generator_lm, debugger_lm, optimizer_lm), strict=True):
            role.lm = lm
        self.adapter = adapter or CodeAdapter()
        self.max_repairs = max_repairs
        self.harness = harness

    def forward(self, prompt: str, entry_point: str = "") -> dspy.Prediction:
        """Write code for one problem.

        Args:
            prompt: The problem. Asserts and doctests in it are its visible examples.
            entry_point: The function to define, as `name` or `name(parameters)`.

        Returns:
            A prediction with `code`: the extracted source. Empty when the reply held none, which is in `reply` then.
        """
        with dspy.context(adapter=self.adapter):
            prediction = self.generator(prompt=prompt, entry_point=entry_point)
            said = code_text(prediction)
            code = extract_code(said, entry_point)
            if self.max_repairs > 0 and (repaired := self._repair(prompt, entry_point, code)) != code:
                code, prediction = repaired, prediction.copy()  # in a trace stays what the generator said
        prediction.code = code
        if not code:
            prediction.reply = said
        return prediction

    async def aforward(self, prompt: str, entry_point: str = "") -> dspy.Prediction:
        """The same for `acall`, in another thread: code may run in a sandbox there."""
        return await asyncio.to_thread(self.forward, prompt, entry_point)

    def debug(self, *, prompt: str, code: str, failures: list[Failure], fix: bool = False) -> Diagnosis:
        """Ask the debugger why `code` fails, and with `fix` for a corrected program."""
        with dspy.context(adapter=self.adapter):
            diagnosis: Diagnosis = self.debugger(prompt=prompt, code=code, failures=failures, fix=fix).diagnosis
        return scrubbed(diagnosis)

    def blame(self, *, prompt: str, code: str, failures: list[Failure], steps: list[Step]) -> Blame:
        """Ask the debugger which of these steps is why `code` fails."""
        told = {"prompt": prompt, "code": code, "failures": failures, "steps": steps}
        with dspy.context(adapter=self.adapter):
            blame: Blame = self.debugger(signature=DebugSteps, **told).diagnosis
        return scrubbed(blame)

    def _repair(self, prompt: str, entry_point: str, code: str) -> str:
        examples = visible_examples(prompt)
        if not examples:
            return code
        self.harness = harness = self.harness or Harness()
        name = entry_point.partition("(")[0].strip() or _called(examples)
        result = harness.check_asserts(code, name, examples)
        for _ in range(self.max_repairs):
            if result.status == "passed":
                break
            report = Report(task_id="", status=result.status, base=result)
            fixed = self._fixed(prompt, entry_point, code, report)
            after = harness.check_asserts(fixed, name, examples) if fixed else result
            if after.passed <= result.passed:
                break  # the example may be what is wrong: only a measured gain replaces the generator's code
            code, result = fixed, after
        return code

    def _fixed(self, prompt: str, entry_point: str, code: str, report: Report) -> str:
        try:
            diagnosis = ask(
                lambda: self.debug(prompt=prompt, code=code, failures=failures_of(report), fix=True), "debugger"
            )
        except LMError as e:
            if measuring():  # code that was not repaired for an outage says nothing about the program
                raise
            logger.warning("debugger: no answer from the model: %s", one_line(e))
            return ""
        return extract_code(diagnosis.fixed_code, entry_point) if diagnosis is not None else ""

    def named_parameters(self) -> list[tuple[str, dspy.Predict]]:
        """The predictors that `forward` uses: what an optimizer may change, also where another module holds this."""
        names = ("generator", "debugger") if self.max_repairs > 0 else ("generator",)
        return [(n, getattr(self, n)) for n in names]

    def set_lm(self, lm: Any) -> None:
        """Give all three predictors this model."""
        for _, predictor in super().named_parameters():
            predictor.lm = lm

    def dump_state(self, json_mode: bool = True) -> dict[str, Any]:
        """DSPy's state of all three predictors, with the adapter's name: a prompt is tuned for its adapter."""
        state: dict[str, Any] = {n: p.dump_state(json_mode=json_mode) for n, p in super().named_parameters()}
        state[ADAPTER_KEY] = getattr(self.adapter, "name", type(self.adapter).__name__)
        return state

    def load_state(self, state: dict[str, Any], *, allow_unsafe_lm_state: bool = False) -> None:
        """Take over a saved state. A role that has a model keeps it: the file may name another one.

        Raises:
            DataError: It is not the state of a `Program`.
        """
        if missing := [n for n in ROLES if n not in state]:
            raise DataError(f"{missing[0]!r} is missing from the state")
        for trial in (True, False):  # a state that can't be loaded leaves no half of it behind
            for name in ROLES:
                role = getattr(self, name)
                role, lm = (role.deepcopy() if trial else role), role.lm
                role.load_state(state[name], allow_unsafe_lm_state=allow_unsafe_lm_state)
                role.lm = lm or role.lm
        if ADAPTER_KEY in state and getattr(self.adapter, "name", "") != state[ADAPTER_KEY]:
            self.adapter = adapter_by_name(state[ADAPTER_KEY], default=self.adapter)

    def load(self, path: str | Path, allow_pickle: bool = False, allow_unsafe_lm_state: bool = False) -> Program:
        """Load a state saved with `save`, as `dspy.Module.load` does, and return the program itself.

        Raises:
            DataError: The file can't be read or holds something else.
        """
        if home(path).exists() and not home(path).is_file() and not home(path).is_dir():
            raise DataError(f"program file {str(path)!r} is a pipe or a device, and no file")
        try:
            super().load(home(path), allow_pickle=allow_pickle, allow_unsafe_lm_state=allow_unsafe_lm_state)
        except FileNotFoundError as e:
            raise DataError(f"program file {str(path)!r} does not exist") from e
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, DataError) as e:
            raise DataError(f"{path}: not a saved evoprompt Program: {e}") from e
        return self


class Advisor(Proposing):
    """Explains failures under any metric and rewrites the instruction; a `Program` does both for code.

    Args:
        debugger_lm: Model that explains failures; None means `dspy.settings.lm`, also for the other.
        optimizer_lm: Model that rewrites the instruction.
        adapter: Turns fields into messages and replies into fields. Default `CodeAdapter`.
    """

    def __init__(
        self,
        *,
        debugger_lm: dspy.LM | None = None,
        optimizer_lm: dspy.LM | None = None,
        adapter: dspy.Adapter | None = None,
    ) -> None:
        super().__init__()
        self.debugger = dspy.Predict(ExplainFailure)
        self.optimizer = dspy.Predict(OptimizeInstruction)
        self.debugger.lm, self.optimizer.lm = debugger_lm, optimizer_lm
        self.adapter = adapter or CodeAdapter()

    @classmethod
    def of(cls, student: dspy.Module) -> Advisor:
        """With the models and the adapter that the student has for these roles, if it is a `Program`."""
        if not isinstance(student, Program):
            return cls()
        roles = {"debugger_lm": student.debugger.lm, "optimizer_lm": student.optimizer.lm}
        return cls(**roles, adapter=student.adapter)

    def explain(self, *, inputs: str, output: str, feedback: str) -> Diagnosis:
        """Ask the debugger why `output` was not judged right."""
        with dspy.context(adapter=self.adapter):
            diagnosis: Diagnosis = self.debugger(inputs=inputs, output=output, feedback=feedback).diagnosis
        return scrubbed(diagnosis)

    def blame(self, *, inputs: str, output: str, feedback: str, steps: list[Step]) -> Blame:
        """Ask the debugger which of these steps is why `output` was not judged right."""
        told = {"inputs": inputs, "output": output, "feedback": feedback, "steps": steps}
        with dspy.context(adapter=self.adapter):
            blame: Blame = self.debugger(signature=ExplainSteps, **told).diagnosis
        return scrubbed(blame)


def scrubbed(diagnosis: Told) -> Told:
    """A copy of the diagnosis without characters that a file can't hold."""
    fields = {k: scrub(v) if isinstance(v, str) else v for k, v in dict(diagnosis).items()}
    return type(diagnosis).model_validate(fields)


def ask(call: Callable[[], Answer], who: str) -> Answer | None:
    """Call a model; None if it has no usable answer to this request.

    Args:
        call: Asks the model.
        who: Name of the caller in the log.

    Raises:
        ModelError: The model refuses every call.
        LMError: The model could not be reached.
    """
    try:
        return call()
    except (AdapterParseError, ValidationError) as e:
        logger.warning("%s: reply not understood: %s", who, str(e).splitlines()[0])
    except LMError as e:
        fatal = explain_lm_error(e)
        if fatal is not None:
            raise fatal from e
        if e.code not in ABOUT_THE_REQUEST:
            raise
        logger.warning("%s: no answer from the model: %s", who, one_line(e))
    return None


def visible_examples(prompt: str) -> list[str]:
    """Asserts and doctests that stand in a problem's text, as asserts.

    Only one-line forms: `assert f(1) == 2`, and `>>> f(1)` followed by a line with the literal it gives.
    """
    lines = [line.strip() for line in prompt.splitlines()]
    found = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("assert ") and isinstance(_statement(line), ast.Assert):
            found.append(line)
        elif match := re.match(r">>>\s*(.+)", line):
            called, value = _statement(match[1]), _statement(following)
            if isinstance(called, ast.Expr) and isinstance(value, ast.Expr) and _is_literal(value.value):
                call = ast.unparse(called)
                found += [f"assert {call} == {ast.unparse(value)}"] if not call.startswith("print(") else []
    return found


def _statement(text: str) -> ast.stmt | None:
    try:
        body = parse_python(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return body[0] if len(body) == 1 else None


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return False
    return True


def _called(examples: list[str]) -> str:
    """The function that the first example calls."""
    calls = (n.func for n in ast.walk(parse_python(examples[0])) if isinstance(n, ast.Call))
    names = (f.id for f in calls if isinstance(f, ast.Name) and not hasattr(builtins, f.id))
    return next(names, "")
