"""The steps of an answer: which predictor of a student was called with what, and what it gave."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError
from pydantic import BaseModel, ConfigDict

import signatures
from evoprompt.lm.extract import scrub
from evoprompt.plain import labelled, plain, text

NAME = "_evoprompt_name"
"""Attribute of a student's predictors: copies have it, too."""
MAX_STEPS = 12
"""Steps of one answer that are kept: the last ones, and the first of each predictor."""
MAX_VALUE = 3_000
"""Characters of one value that are kept."""
MAX_TOLD = 12_000
"""Characters that a debugger is told of all steps together, unless there are many values: then `LEAST` of each."""
LEAST = 200


class Step(BaseModel):
    """One call of a predictor.

    Attributes:
        predictor: Its name in `named_predictors()`.
        inputs: What it was called with, as JSON has it.
        outputs: What it gave; `reply` alone where that could not be parsed.
        whole: Whether all values are as they were: plain data, and not too long.
    """

    model_config = ConfigDict(frozen=True)

    predictor: str
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    whole: bool = True


class _Collected(list[Any]):
    """A trace that also receives the calls of traces begun inside it."""


@contextlib.contextmanager
def collecting(wanted: bool) -> Iterator[list[Any]]:
    """Yield a list that collects the calls of all predictors, as DSPy traces them, if `wanted`."""
    trace = _Collected()
    with dspy.context(trace=trace) if wanted else contextlib.nullcontext():
        yield trace


@contextlib.contextmanager
def tracing(trace: list[Any]) -> Iterator[None]:
    """Trace calls into `trace`, and into the list of an outer `collecting`."""
    outer = dspy.settings.trace
    try:
        # DSPy would keep ten thousand traces and calls in memory.
        with dspy.context(trace=trace, disable_history=True):
            yield
    finally:
        if isinstance(outer, _Collected):
            outer.extend(trace)


def unread(program: dspy.Module, error: AdapterParseError) -> list[Any]:
    """The call whose reply could not be parsed, as a trace would have it."""
    wanted = error.signature
    for _, predictor in program.named_predictors() if isinstance(program, dspy.Module) else ():
        mine = predictor.signature
        if mine.instructions == wanted.instructions and set(mine.output_fields) >= set(wanted.output_fields):
            return [(predictor, {}, {"reply": error.lm_response or ""})]
    return []


def told(steps: Sequence[Step]) -> list[signatures.Step]:
    """Steps as a debugger sees them."""
    values = sum(len(step.inputs) + len(step.outputs) for step in steps)
    most = max(LEAST, MAX_TOLD // max(1, values))

    def said(fields: Mapping[str, Any]) -> str:
        texts = {n: text(v) for n, v in fields.items()}
        return labelled({n: v if len(v) <= most else f"{v[:most]}… ({len(v)} characters)" for n, v in texts.items()})

    return [signatures.Step(predictor=s.predictor, inputs=said(s.inputs), outputs=said(s.outputs)) for s in steps]


def steps_of(trace: Sequence[Any]) -> tuple[Step, ...]:
    """The steps of a trace, of the predictors that have a name."""
    named = [(vars(step[0]).get(NAME), *step[1:]) for step in trace]
    known = [step for step in named if step[0] is not None]
    first = {step[0]: place for place, step in reversed(list(enumerate(known)))}
    places = {*first.values(), *range(max(0, len(known) - MAX_STEPS), len(known))}
    return tuple(_step(*known[place]) for place in sorted(places))


def _step(predictor: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Step:
    kept = [{scrub(str(n)): _kept(v) for n, v in side.items()} for side in (inputs, outputs)]
    values = [{n: value for n, (value, _) in side.items()} for side in kept]
    whole = bool(inputs) and all(same for side in kept for _, same in side.values())
    return Step(predictor=predictor, inputs=values[0], outputs=values[1], whole=whole)


def _kept(value: Any) -> tuple[Any, bool]:
    """The value to keep, and True if it is unchanged."""
    value = value.code if isinstance(value, dspy.Code) else value
    try:
        if _is_data(value) and len(json.dumps(found := plain(value))) <= MAX_VALUE:
            return found, True
    except (RecursionError, ValueError):  # it holds itself, or an integer too long to print
        pass
    return text(value)[:MAX_VALUE], False


def _is_data(value: Any) -> bool:
    """True if a prompt shows the JSON form of the value as it would show the value itself."""
    if value is None or isinstance(value, bool | int):
        return True
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, str):
        return scrub(value) == value
    if isinstance(value, list | tuple):
        return all(map(_is_data, value))
    if isinstance(value, dict):
        return all(isinstance(n, str) and _is_data(v) for n, v in value.items())
    if isinstance(value, dspy.Type | dspy.History):
        return False
    return isinstance(value, BaseModel) and all(_is_data(v) for _, v in value)
