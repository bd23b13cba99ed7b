"""`Program`: generator, debugger and optimizer composed into one DSPy module."""

from __future__ import annotations

import ast
import builtins
import re
from pathlib import Path
from typing import Any

import dspy

from evoprompt.errors import DataError
from evoprompt.harness import Harness, Report
from evoprompt.lm.adapter import CodeAdapter, adapter_by_name
from evoprompt.lm.extract import extract_code
from evoprompt.metric import failures_of
from signatures import Attempt, DebugCode, Diagnosis, Failure, FailureGroup, GenerateCode, OptimizePrompt

ADAPTER_KEY = "evoprompt_adapter"


class Program(dspy.Module):
    """Writes code for a problem; debugs it and rewrites its own instruction when a teleprompter asks.

    `forward` uses the generator, and the debugger where repairs are allowed. Optimizers see those alone in
    `named_predictors()`: GEPA or COPRO would otherwise spend their budget on roles that no metric measures.

    Args:
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
        generator_lm: dspy.LM | None = None,
        debugger_lm: dspy.LM | None = None,
        optimizer_lm: dspy.LM | None = None,
        adapter: dspy.Adapter | None = None,
        max_repairs: int = 0,
        harness: Harness | None = None,
    ) -> None:
        super().__init__()
        self.generator = dspy.Predict(GenerateCode)
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
            A prediction with `code`: the extracted source, empty when the reply held none.
        """
        with dspy.context(adapter=self.adapter):
            prediction = self.generator(prompt=prompt, entry_point=entry_point)
            code = extract_code(str(prediction.code or ""), entry_point)
            if self.max_repairs > 0:
                code = self._repair(prompt, entry_point, code)
        prediction.code = code
        return prediction

    def debug(self, *, prompt: str, code: str, failures: list[Failure], fix: bool = False) -> Diagnosis:
        """Ask the debugger why `code` fails, and with `fix` for a corrected program."""
        with dspy.context(adapter=self.adapter):
            diagnosis = self.debugger(prompt=prompt, code=code, failures=failures, fix=fix).diagnosis
        return Diagnosis.model_validate(diagnosis)

    def propose(self, *, current_instruction: str, failures: list[FailureGroup], attempts: list[Attempt]) -> str:
        """Ask the optimizer for a better instruction."""
        with dspy.context(adapter=self.adapter):
            reply = self.optimizer(current_instruction=current_instruction, failures=failures, attempts=attempts)
        return str(reply.new_instruction).strip()

    def _repair(self, prompt: str, entry_point: str, code: str) -> str:
        examples = visible_examples(prompt)
        if not examples:
            return code
        harness = self.harness or Harness()
        name = entry_point.partition("(")[0].strip() or _called(examples)
        for _ in range(self.max_repairs):
            result = harness.check_asserts(code, name, examples)
            if result.status == "passed":
                break
            report = Report(task_id="", status=result.status, base=result)
            fixed = self.debug(prompt=prompt, code=code, failures=failures_of(report), fix=True).fixed_code
            fixed = extract_code(fixed, entry_point)
            if not fixed or fixed == code:
                break
            code = fixed
        return code

    def named_predictors(self) -> list[tuple[str, dspy.Predict]]:
        """The predictors that `forward` uses: what an optimizer may change."""
        names = ("generator", "debugger") if self.max_repairs > 0 else ("generator",)
        return [(n, getattr(self, n)) for n in names]

    def dump_state(self, json_mode: bool = True) -> dict[str, Any]:
        """DSPy's state of all three predictors, with the adapter's name: a prompt is tuned for its adapter."""
        state: dict[str, Any] = super().dump_state(json_mode=json_mode)
        state[ADAPTER_KEY] = getattr(self.adapter, "name", type(self.adapter).__name__)
        return state

    def load_state(self, state: dict[str, Any], *, allow_unsafe_lm_state: bool = False) -> None:
        """Take over a saved state. A role keeps its model where the state has none.

        Raises:
            DataError: It is not the state of a `Program`.
        """
        known = ("generator", "debugger", "optimizer")
        missing = [n for n in known if n not in state]
        if missing:
            raise DataError(f"{missing[0]!r} is missing from the state")
        models = [getattr(self, n).lm for n in known]
        super().load_state({n: state[n] for n in known}, allow_unsafe_lm_state=allow_unsafe_lm_state)
        for name, lm in zip(known, models, strict=True):
            role = getattr(self, name)
            role.lm = role.lm or lm
        if ADAPTER_KEY in state and getattr(self.adapter, "name", "") != state[ADAPTER_KEY]:
            self.adapter = adapter_by_name(state[ADAPTER_KEY], default=self.adapter)

    def load(self, path: str | Path, allow_pickle: bool = False, allow_unsafe_lm_state: bool = False) -> Program:
        """Load a state saved with `save`, as `dspy.Module.load` does, and return the program itself.

        Raises:
            DataError: The file can't be read or holds something else.
        """
        try:
            super().load(path, allow_pickle=allow_pickle, allow_unsafe_lm_state=allow_unsafe_lm_state)
        except FileNotFoundError as e:
            raise DataError(f"program file {str(path)!r} does not exist") from e
        except (OSError, ValueError, KeyError, TypeError, DataError) as e:
            raise DataError(f"{path}: not a saved evoprompt Program: {e}") from e
        return self


def visible_examples(prompt: str) -> list[str]:
    """Asserts and doctests that stand in a problem's text, as asserts.

    Only one-line forms: `assert f(1) == 2`, and `>>> f(1)` followed by a line with its value.
    """
    lines = [line.strip() for line in prompt.splitlines()]
    found = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("assert "):
            found.append(line)
        elif match := re.match(r">>>\s*(.+)", line):
            found.append(f"assert {match[1]} == {following}" if following else "")
    return [text for text in found if _parses(text)]


def _parses(text: str) -> bool:
    try:
        return isinstance(ast.parse(text).body[0], ast.Assert)
    except (SyntaxError, ValueError, IndexError, RecursionError):
        return False


def _called(examples: list[str]) -> str:
    """The function that the first example calls."""
    calls = (n.func for n in ast.walk(ast.parse(examples[0])) if isinstance(n, ast.Call))
    names = (f.id for f in calls if isinstance(f, ast.Name) and not hasattr(builtins, f.id))
    return next(names, "")
