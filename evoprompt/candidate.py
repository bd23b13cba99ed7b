"""A candidate: the instruction texts under test, and where they come from."""

from __future__ import annotations

import hashlib
import inspect
import json
from functools import cached_property
from typing import Literal, TypeVar

import dspy
from pydantic import BaseModel, ConfigDict

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
    def length(self) -> int:
        """Characters of all instructions together; the shorter of two equals is kept."""
        return sum(len(text) for _, text in self.instructions)

    @classmethod
    def of(cls, program: dspy.Module) -> Candidate:
        """The instructions that a program has now."""
        return cls(instructions=tuple((n, _normal(p.signature.instructions)) for n, p in program.named_predictors()))

    def child(self, instruction: str) -> Candidate:
        """This candidate with another first instruction."""
        (name, _), *rest = self.instructions
        return Candidate(
            instructions=((name, _normal(instruction)), *rest),
            parents=(self.key,),
            generation=self.generation + 1,
            operator="rewrite",
        )

    def apply(self, program: Module) -> Module:
        """Return a copy of `program` with these instructions; the program itself stays as it is."""
        copy: Module = program.deepcopy()
        texts = dict(self.instructions)
        for name, predictor in copy.named_predictors():
            # Signatures are classes shared between copies: assigning `.instructions` would change them all.
            predictor.signature = predictor.signature.with_instructions(texts[name])
        return copy


def _normal(instruction: str) -> str:
    """The text as DSPy will send it, so that what is recorded is what was asked."""
    return inspect.cleandoc(instruction)
