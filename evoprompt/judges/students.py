"""Students: the inputs that a task gives them, the check that they accept these, and their answers."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import inspect
import json
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, cast

import dspy
from dspy.utils.callback import BaseCallback
from dspy.utils.exceptions import AdapterParseError, LMError
from pydantic import Field
from pydantic_core import PydanticUndefined

from evoprompt.datasets import Dataset
from evoprompt.errors import EvoPromptError, UsageError
from evoprompt.judges.steps import NAME, tracing, unread
from evoprompt.lm.resolve import one_line
from evoprompt.plain import labelled, plain, text
from evoprompt.tasks import Task
from evoprompt.wording import counted

_TELLING = AdapterParseError | LMError | EvoPromptError
"""Errors of a model or of ours that pass through a student."""
_INNER = ("predict", "module", "program")
"""Where DSPy's modules keep the module that they give all inputs to."""


class ExampleTask(Task):
    """A task that an example asks: another wording of a task with tests, or one whose answer a metric judges.

    Attributes:
        example: What the student gets the inputs of, and a metric the whole. Its labels are shown to no model.
        content: Hash of the inputs, and of the labels where a metric judges.
        task: The task whose tests judge the answer; None where a metric does.
    """

    entry_point: str = ""
    base: tuple[str, ...] = Field(default=(), repr=False)
    example: Any = Field(repr=False, exclude=True)
    content: str
    task: Task | None = Field(default=None, repr=False, exclude=True)

    @cached_property
    def key(self) -> str:
        """Content hash of the task and the example (16 hex digits)."""
        return digest([self.task.key if self.task else self.task_id, self.content])[:16]


class Wordings:
    """The tasks of examples: as they are where an example asks just that, else with the example's inputs.

    The first wording of a task keeps its id, each other one gets an id of its own.
    """

    def __init__(self) -> None:
        self._first: dict[str, str] = {}

    def task(self, task: Task, example: dspy.Example, number: int) -> Task:
        """The task as an example asks it.

        Raises:
            UsageError: The example's inputs can't be told as text.
        """
        inputs, own = dict(example.inputs().items()), inputs_of(task)
        same = inputs.keys() == own.keys() and all(isinstance(v, str) and v == own[n] for n, v in inputs.items())
        content = "" if same else content_of(number, inputs)
        first = self._first.setdefault(task.task_id, content) == content
        if first and not content:
            return task
        task_id = task.task_id if first else f"{task.task_id}-{(content or task.key)[:6]}"
        fields = {name: getattr(task, name) for name in Task.model_fields} | {"task_id": task_id}
        return ExampleTask(**fields | {"prompt": _asked(inputs)}, example=example, task=task, content=content)


def original(task: Task) -> Task:
    """The task whose tests judge the answer."""
    return getattr(task, "task", None) or task


def examples_of(tasks: Iterable[Task]) -> list[dspy.Example]:
    """The examples of tasks, as DSPy's optimizers take them; those of code without tests and solution."""
    return [getattr(t, "example", None) or Dataset([t]).examples()[0] for t in tasks]


def _asked(inputs: Mapping[str, Any]) -> str:
    problem, rest = inputs.get("prompt"), {n: v for n, v in inputs.items() if n not in ("prompt", "entry_point")}
    return "\n\n".join([text(problem), *([shown(rest)] if rest else [])]) if problem is not None else shown(inputs)


def inputs_of(task: Task) -> dict[str, Any]:
    """The arguments that a student is called with."""
    example = getattr(task, "example", None)
    if example is None:
        return {"prompt": task.prompt, "entry_point": task.interface}
    return dict(example.inputs().items())


def listed(examples: Iterable[Any]) -> list[Any]:
    """The examples of a set.

    Raises:
        UsageError: It is no set of examples.
    """
    if isinstance(examples, str | bytes | Mapping | dspy.Example) or not isinstance(examples, Iterable):
        raise UsageError(f"examples must come as a list of dspy.Example, not as {kind_of(examples)}")
    return list(examples)


def split(number: int, example: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs and labels of an example.

    Args:
        number: Its place in its set, for people.
        example: The example.

    Raises:
        UsageError: It is none, or has no inputs.
    """
    try:
        inputs, labels = dict(example.inputs().items()), dict(example.labels().items())
    except (AttributeError, TypeError, ValueError):
        inputs, labels = {}, {}
    if not inputs:
        what = "" if isinstance(example, dspy.Example) else f", it is {kind_of(example)}"
        fix = f"give dspy.Example(…).with_inputs('…'){what}"
        raise UsageError(f"example {number} has no inputs, {fix}: {text(example)[:100]}")
    return inputs, labels


def content_of(number: int, *parts: Mapping[str, Any]) -> str:
    """Hash of an example's fields.

    Raises:
        UsageError: They hold themselves, or an integer too long to print.
    """
    try:
        return digest([plain(part) for part in parts])
    except (RecursionError, ValueError) as e:
        raise UsageError(f"example {number} holds what can't be told as text: {type(e).__name__}: {e}") from e


def digest(value: Any) -> str:
    """Hash of plain data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def shown(inputs: Mapping[str, Any]) -> str:
    """Fields as people and a debugger see them."""
    return labelled({str(name): text(value) for name, value in inputs.items()})


def require_fit(student: dspy.Module, tasks: Iterable[Task], output: str = "") -> None:
    """Check before anything is paid for that the student accepts the inputs of the tasks.

    Args:
        student: The program to ask.
        tasks: The tasks.
        output: A field that its answer must have.

    Raises:
        UsageError: It needs an input that one lacks, takes none of that name, or gives another output.
    """
    function, signature = _forward(student), _signature(student)
    fields = [] if signature is None else _needed(signature)
    if output and signature is not None and output not in signature.output_fields:
        gives = ", ".join(map(repr, signature.output_fields))
        raise UsageError(f"the student must give the output field {output!r}; its signature gives {gives}")
    for task in tasks:
        inputs = inputs_of(task)
        gives = ", ".join(map(repr, inputs))
        lacks = [n for n in fields if n not in inputs]
        if function is not None:
            needs, takes = _parameters(function)
            lacks += [n for n in needs if n not in inputs and n not in lacks]
            foreign = [] if takes is None else [n for n in inputs if n not in takes]
            if foreign and not lacks:
                other = ", ".join(map(repr, takes or ())) or "none"
                raise UsageError(
                    f"task {task.task_id!r}: the student takes no input {foreign[0]!r}; it takes {other}: leave it out "
                    "of the example's with_inputs(…), or let `forward` take it"
                )
        if lacks:
            raise UsageError(
                f"task {task.task_id!r}: the student needs the input {lacks[0]!r}, and the example gives {gives}: add "
                "the field to the examples and to their with_inputs(…)"
            )


def _forward(student: dspy.Module) -> Callable[..., Any] | None:
    """The student's own function of the inputs; None where it is DSPy's, which takes any."""
    kind = type(student)
    names = ("aforward",) if "forward" in vars(student) else ("forward", "aforward")  # as `dspy.syncify` puts it there
    found = next((f for n in names if callable(f := getattr(kind, n, None))), None)
    if found is None or getattr(found, "__module__", "").startswith("dspy."):
        return None
    return types.MethodType(found, student)


def _parameters(function: Callable[..., Any]) -> tuple[list[str], list[str] | None]:
    """The names that it needs, and those that it takes; None for any."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return [], None
    named = [p for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    needs = [p.name for p in named if p.default is p.empty]
    return needs, None if any(p.kind is p.VAR_KEYWORD for p in found) else [p.name for p in named]


def _signature(student: Any) -> Any:
    """The signature of one of DSPy's own modules, as far as it has one for the whole."""
    if not isinstance(student, dspy.Module) or _forward(student) is not None:
        return None
    signature = getattr(student, "signature", None)
    if isinstance(signature, type(dspy.Signature)):
        return signature
    return _signature(next((m for n in _INNER if isinstance(m := getattr(student, n, None), dspy.Module)), None))


def _needed(signature: Any) -> list[str]:
    """The input fields that a module of DSPy must have: it would go on without them."""
    given = signature.input_fields.items()
    return [n for n, f in given if f.default is PydanticUndefined and type(None) not in typing.get_args(f.annotation)]


@contextlib.contextmanager
def answering(task_id: str, trace: list[Any] | None = None) -> Iterator[None]:
    """Re-raise a student's own exception as a `UsageError` that names the task.

    Raises:
        UsageError: The student raised. Nobody knows if the model or the student is to blame, so there is no score.
    """
    try:
        with tracing([] if trace is None else trace):
            yield
    except Exception as e:
        cause = _cause(e)
        if cause is e:
            raise
        if cause is not None:
            raise cause from e
        told = f"{type(e).__name__}: {one_line(e)}"
        raise UsageError(
            f"task {task_id!r}: the student raised {told}; let it give an answer there, and go on with what was paid "
            "for in a fork (`journal.fork`)"
        ) from e


def _cause(error: BaseException) -> BaseException | None:
    """The error of a model or of ours: the error itself, or the first such one in an exception group."""
    if isinstance(error, BaseExceptionGroup):
        return next((c for e in error.exceptions if (c := _cause(e)) is not None), None)
    return error if isinstance(error, _TELLING) else None


def answer(program: Any, task: Task, trace: list[Any] | None = None) -> Any:
    """Ask a program that has `forward` or `aforward` for its answer to a task.

    Args:
        program: The program to ask.
        task: The task.
        trace: Receives the calls of its predictors.

    Raises:
        AdapterParseError: The model's reply can't be parsed.
        LMError: There is none.
        UsageError: The program fails, or gives nothing.
    """
    trace = [] if trace is None else trace
    with answering(task.task_id, trace):
        waits = isinstance(program, dspy.Module) and not _has_forward(program)
        try:
            found = program.acall(**inputs_of(task)) if waits else program(**inputs_of(task))
            if inspect.isawaitable(found):
                found = asyncio.run(_result(found))
        except AdapterParseError as e:
            trace += unread(program, e)
            raise
    if found is None:
        raise UsageError(f"task {task.task_id!r}: the student gives None: does its `forward` return its prediction?")
    return found


class Called(BaseCallback):
    """Records which predictors of a student are called, in any thread and in any copy of it."""

    def __init__(self, student: dspy.Module) -> None:
        self._names = [name for name, _ in student.named_predictors()]
        self._heard: set[str] = set()
        self.answers = 0
        for name, predictor in student.named_predictors():
            vars(predictor)[NAME] = name

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """One of somebody's modules is called."""
        if (name := vars(instance).get(NAME)) is not None:
            self._heard.add(name)

    def listening(self) -> AbstractContextManager[None]:
        """Listen until a predictor is called; after that a callback would only cost time."""
        if self._heard:
            return contextlib.nullcontext()
        return cast("AbstractContextManager[None]", dspy.context(callbacks=[*dspy.settings.callbacks, self]))

    def require(self) -> None:
        """Raise if the student answers without calling a predictor whose instruction evolves.

        Raises:
            UsageError: The student has answered without them.
        """
        if self.answers and not self._heard:
            names = ", ".join(map(repr, self._names))
            raise UsageError(
                f"the instruction of {names} would evolve, and {counted(self.answers, 'answer')} came without a call "
                "of it: let the student call the predictors that it holds, or compile the part that does"
            )


def _has_forward(program: dspy.Module) -> bool:
    return "forward" in vars(program) or callable(getattr(type(program), "forward", None))


async def _result(found: Any) -> Any:
    return await found


def kind_of(value: Any) -> str:
    """The type of a value with its article: `a str`, `an int`."""
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
