"""A candidate: the instruction texts under test, and where they come from."""

from __future__ import annotations

import hashlib
import inspect
import json
import types
from collections.abc import Mapping, Sequence
from functools import cached_property
from operator import not_
from typing import Any, Literal, TypeVar

import dspy
from pydantic import BaseModel, ConfigDict, Field

from evoprompt.errors import UsageError

Operator = Literal["seed", "rewrite"]
"""Origin of a candidate: the student's own instruction, or the optimizer's rewrite of its parent."""

Module = TypeVar("Module", bound=dspy.Module)


def fields_told(fields: Mapping[str, Any]) -> str:
    """The fields of a demo for people."""
    return "\n".join(f"{n}: {v if isinstance(v, str) else json.dumps(v)}" for n, v in fields.items())


class Demo(BaseModel):
    """An example that a predictor is shown: a call of it in a rollout that passed.

    Attributes:
        task_id: The task of the rollout.
        source: Hash of what that task asks: a prompt with this demo is no prompt for it.
        inputs: What the predictor was called with, as JSON has it.
        outputs: What it gave.
    """

    model_config = ConfigDict(frozen=True)

    task_id: str
    source: str
    inputs: dict[str, Any]
    outputs: dict[str, Any]

    @property
    def fields(self) -> dict[str, Any]:
        """As DSPy has a demo."""
        return {"augmented": True, **self.inputs, **self.outputs}

    @property
    def told(self) -> str:
        """For people."""
        return fields_told({**self.inputs, **self.outputs})


class Candidate(BaseModel):
    """A set of instructions, by predictor name.

    Attributes:
        instructions: Pairs of predictor name and instruction, in the program's order.
        demos: Pairs of predictor name and demos, of the predictors that have some besides the student's own.
        parents: Keys of the candidates that it was made from.
        generation: Number of steps from the seed.
        operator: How it was made.
    """

    model_config = ConfigDict(frozen=True)

    instructions: tuple[tuple[str, str], ...]
    demos: tuple[tuple[str, tuple[Demo, ...]], ...] = Field(default=(), exclude_if=not_)
    parents: tuple[str, ...] = ()
    generation: int = 0
    operator: Operator = "seed"

    @cached_property
    def key(self) -> str:
        """Content hash of instructions and demos (12 hex digits): same texts, same key, whatever their history."""
        shown = [(name, [demo.fields for demo in demos]) for name, demos in self.demos]
        content = [self.instructions, shown] if shown else self.instructions
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]

    @property
    def instruction(self) -> str:
        """The text of the first predictor: the generator's in a `Program`."""
        return self.instructions[0][1]

    @property
    def told(self) -> str:
        """All texts for people: where there are several, each below the name of its predictor; then the demos."""
        alone, demos = len(self.instructions) == 1, dict(self.demos)
        parts = []
        for name, text in self.instructions:
            parts.append(text if alone else f"[{name}]\n{text}")
            parts += [f"[demo {place}]\n{demo.told}" for place, demo in enumerate(demos.get(name, ()), 1)]
        return "\n\n".join(parts)

    @property
    def length(self) -> int:
        """Characters of all instructions and demos together; the shorter of two equals is kept."""
        shown = sum(len(demo.told) for _, demos in self.demos for demo in demos)
        return shown + sum(len(text) for _, text in self.instructions)

    @classmethod
    def of(cls, program: dspy.Module) -> Candidate:
        """The instructions that a program has now."""
        return cls(instructions=tuple((n, _normal(p.signature.instructions)) for n, p in program.named_predictors()))

    @classmethod
    def compiled(cls, program: Module) -> tuple[Candidate, Module]:
        """The candidate that was applied to a program, and the program without its demos."""
        found, best = cls.of(program), getattr(getattr(program, "detailed_results", None), "best", None)
        if not isinstance(best, cls) or best.instructions != found.instructions or not best.demos:
            return found, program
        bare, shown = _copied(program), dict(best.demos)
        for name, predictor in bare.named_predictors():
            predictor.demos = predictor.demos[: len(predictor.demos) - len(shown.get(name, ()))]
        return best, bare

    def child(self, instruction: str) -> Candidate:
        """This candidate with another first instruction."""
        return self.changed({self.instructions[0][0]: instruction})

    def changed(self, texts: Mapping[str, str], demos: Mapping[str, Sequence[Demo]] | None = None) -> Candidate:
        """This candidate with other instructions and demos, by predictor name; the rest stays."""
        shown = dict(self.demos) | {name: tuple(found) for name, found in (demos or {}).items()}
        return Candidate(
            instructions=tuple((n, _normal(texts[n]) if n in texts else text) for n, text in self.instructions),
            demos=tuple((name, shown[name]) for name, _ in self.instructions if shown.get(name)),
            parents=(self.key,),
            generation=self.generation + 1,
            operator="rewrite",
        )

    def apply(self, program: Module) -> Module:
        """Return a copy of `program` with these instructions and demos; the program itself stays as it is.

        Demos that the program has already stay, before them.

        Raises:
            UsageError: It can't be copied whole.
        """
        copy = _copied(program)
        texts, demos = dict(self.instructions), dict(self.demos)
        for name, predictor in copy.named_predictors():
            if name not in texts:
                raise UsageError(
                    f"{type(program).__name__} can't be copied: it holds a predictor more than once, also as {name!r}, "
                    "and something that has no copy (a lock, a client); hold the predictor once, or define __deepcopy__"
                )
            # Signatures are classes shared between copies: assigning `.instructions` would change them all.
            predictor.signature = predictor.signature.with_instructions(texts[name])
            if shown := demos.get(name):
                predictor.demos = [*predictor.demos, *(dspy.Example(**demo.fields) for demo in shown)]
        return copy


def _copied(program: Module) -> Module:
    """A copy that shares no predictor with the program, and runs what it holds itself."""
    copy: Module = program.deepcopy()
    mine = {id(p): name for name, p in program.named_predictors()}
    shared = next((name for name, p in copy.named_predictors() if id(p) in mine and p is not program), None)
    if shared is not None:
        raise UsageError(
            f"{type(program).__name__} can't be copied with its predictor {shared!r}: something in the same list, dict "
            "or object has no copy (a lock, a client); hold the predictor in an attribute of its own, or define "
            "__deepcopy__"
        )
    for _, module in copy.named_sub_modules(dspy.Module):
        for name, value in list(vars(module).items()):
            # DSPy leaves a method that was put there, as by `dspy.syncify`, with the module that it was copied from.
            if isinstance(value, types.MethodType) and type(value.__self__) is type(module):
                vars(module)[name] = types.MethodType(value.__func__, module)
    return copy


def _normal(instruction: str) -> str:
    """The text as DSPy will send it, so that what is recorded is what was asked."""
    return inspect.cleandoc(instruction)
