"""A candidate: the instruction texts under test, and where they come from."""

from __future__ import annotations

import hashlib
import inspect
import json
import types
from collections.abc import Mapping
from functools import cached_property
from typing import Literal, TypeVar

import dspy
from pydantic import BaseModel, ConfigDict

from evoprompt.errors import UsageError

Operator = Literal["seed", "rewrite"]
"""How a candidate came about: the student's own instruction, or the optimizer's rewrite of its parent."""

Module = TypeVar("Module", bound=dspy.Module)


class Candidate(BaseModel):
    """A set of instructions, by predictor name.

    Attributes:
        instructions: Pairs of predictor name and instruction, in the program's order.
        parents: Keys of the candidates that it was made from.
        generation: Number of steps from the seed.
        operator: How it was made.
    """

    model_config = ConfigDict(frozen=True)

    instructions: tuple[tuple[str, str], ...]
    parents: tuple[str, ...] = ()
    generation: int = 0
    operator: Operator = "seed"

    @cached_property
    def key(self) -> str:
        """Content hash of the instructions (12 hex digits): same texts, same key, whatever their history."""
        return hashlib.sha256(json.dumps(self.instructions).encode()).hexdigest()[:12]

    @property
    def instruction(self) -> str:
        """The text of the first predictor: the generator's in a `Program`."""
        return self.instructions[0][1]

    @property
    def told(self) -> str:
        """All texts for people: where there are several, each below the name of its predictor."""
        if len(self.instructions) == 1:
            return self.instruction
        return "\n\n".join(f"[{name}]\n{text}" for name, text in self.instructions)

    @property
    def length(self) -> int:
        """Characters of all instructions together; the shorter of two equals is kept."""
        return sum(len(text) for _, text in self.instructions)

    @classmethod
    def of(cls, program: dspy.Module) -> Candidate:
        """The instructions that a program has now."""
        return cls(instructions=tuple((n, _normal(p.signature.instructions)) for n, p in program.named_predictors()))

    def child(self, instruction: str) -> Candidate:
        """This candidate with another first instruction."""
        return self.changed({self.instructions[0][0]: instruction})

    def changed(self, texts: Mapping[str, str]) -> Candidate:
        """This candidate with other instructions, by predictor name; the rest stays."""
        return Candidate(
            instructions=tuple((n, _normal(texts[n]) if n in texts else text) for n, text in self.instructions),
            parents=(self.key,),
            generation=self.generation + 1,
            operator="rewrite",
        )

    def apply(self, program: Module) -> Module:
        """Return a copy of `program` with these instructions; the program itself stays as it is.

        Raises:
            UsageError: It can't be copied whole.
        """
        copy = _copied(program)
        texts = dict(self.instructions)
        for name, predictor in copy.named_predictors():
            if name not in texts:
                raise UsageError(
                    f"{type(program).__name__} can't be copied: it holds a predictor more than once, also as {name!r}, "
                    "and something that has no copy (a lock, a client); hold the predictor once, or define __deepcopy__"
                )
            # Signatures are classes shared between copies: assigning `.instructions` would change them all.
            predictor.signature = predictor.signature.with_instructions(texts[name])
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
