"""Pydantic types of the signatures' fields. Their descriptions are part of what the models read."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

FailureClass = Literal[
    "no_code",
    "syntax",
    "wrong_name",
    "wrong_arguments",
    "exception",
    "timeout",
    "wrong_type",
    "edge_case",
    "misread_problem",
    "wrong_algorithm",
]
"""Class of a failure, from a reply without code to an algorithm that can't work."""


class Failure(BaseModel):
    """One test that a solution did not pass, told without its expected value."""

    model_config = ConfigDict(frozen=True)

    status: Literal["failed", "error", "timeout", "crashed", "invalid"] = Field(
        description="failed = wrong value, error = exception, timeout, crashed = killed, invalid = no parseable code"
    )
    call: str = Field(default="", description="the call that was made; empty when the test is hidden")
    observed: str = Field(default="", description="what the code did, e.g. `returned 3` or `raised KeyError`")
    hint: str = Field(default="", description="what is special about the input, e.g. `argument 1 is empty`")


class Diagnosis(BaseModel):
    """Why a solution failed, and the one rule that would have prevented it on any problem."""

    model_config = ConfigDict(frozen=True)

    failure_class: FailureClass = Field(description="the class that fits best")
    root_cause: str = Field(description="one or two sentences: the mistake in this code, not its symptom")
    rule: str = Field(
        description=(
            "one imperative sentence that would have prevented this mistake and mistakes of its kind on "
            "unseen problems; it names no function, value or subject of this problem"
        )
    )
    fixed_code: str = Field(default="", description="the whole corrected program when it was asked for, else empty")


class Step(BaseModel):
    """One step of a program of several models: what a predictor was given, and what it answered."""

    model_config = ConfigDict(frozen=True)

    predictor: str = Field(description="name of the predictor")
    inputs: str = Field(description="what it was given")
    outputs: str = Field(description="what it answered")


class Blame(Diagnosis):
    """Why a program of several predictors failed, which of them is to blame, and the rule for that one."""

    predictor: str = Field(
        default="", description="name of the predictor whose step went wrong first; the rule is for this one alone"
    )


class FailureGroup(BaseModel):
    """Diagnoses of one batch that come to the same rule."""

    model_config = ConfigDict(frozen=True)

    rule: str = Field(description="the general rule that would have prevented these failures")
    count: int = Field(description="how many solutions of the batch failed this way")
    failure_class: FailureClass = Field(description="the class of these failures")
    example: str = Field(default="", description="the root cause of one of them")


class Attempt(BaseModel):
    """An instruction, or a single rule of one, that was tried, and what it brought."""

    model_config = ConfigDict(frozen=True)

    instruction: str = Field(description="the instruction that was tried")
    score: float | None = Field(description="percent of the batch's tasks it solved; null when not measured")
    parent_score: float | None = Field(description="what the instruction before it solved of the same tasks")
    accepted: bool = Field(description="whether it replaced the instruction before it; for a rule, whether it is kept")
    effect: float | None = Field(
        default=None, description="for a single rule: by how many percentage points it changes the score, as measured"
    )
