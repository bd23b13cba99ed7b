"""Reads solutions that exist already, and judges them."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import dspy

from evoprompt.candidate import Candidate
from evoprompt.datasets import Dataset
from evoprompt.datasets.testsource import parse
from evoprompt.errors import DataError, SandboxError
from evoprompt.evaluate.evaluation import run_jobs
from evoprompt.evaluate.formats import WANTED, Given, read_given
from evoprompt.harness.judging.asserts import defined_names
from evoprompt.judges import Rollout
from evoprompt.judges.code import judged
from evoprompt.lm.calls import Calls
from evoprompt.lm.extract import extract_code, scrub
from evoprompt.metric import CodeMetric
from evoprompt.rollout import Job, Runner
from evoprompt.runs import Journal
from evoprompt.tasks import Task
from evoprompt.wording import counted

_SHOWN: Final = 3
"""Lines of one kind that are shown."""
_FENCE: Final = "```"
_CODE: Final = re.compile(r"^[ \t]*(?:def|class|import|from|async def)[ \t]+\w", re.MULTILINE)


@dataclass(frozen=True)
class Sample:
    """One given solution: the `number`-th of its task, from 0; `taken` out of a fenced block or not."""

    task_id: str
    number: int
    solution: str
    taken: bool = False


def read_samples(path: Path, data: Dataset, *, extract: bool = False) -> tuple[list[Sample], list[str]]:
    """Read every sample that can be judged.

    Args:
        path: JSON lines or a JSON array of objects with `task_id` and `solution`, or `completion` (which goes after
            the task's prompt where it is no program by itself); a folder (`Mbpp_2/0.py`, `Mbpp_2.py`); or what other
            tools write, see `docs/reference/data.md`. All also compressed (`.gz`).
        data: The tasks.
        extract: Take the code out of each reply, as from a model that is asked. It is done anyway for a text that is
            no Python and holds a fenced block.

    Returns:
        The samples, and one line with its place for each thing that was skipped.

    Raises:
        DataError: The path can't be read, or holds no sample at all.
    """
    samples: list[Sample] = []
    skipped: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()
    ids = TaskIds(data)
    for given in read_given(path, [t.task_id for t in data]):
        task_id = ids.find(given.task_id)
        if given.text is None:
            skipped.setdefault(given.problem, []).append(f"{given.where}: {given.problem}")
        elif task_id is None:
            skipped.setdefault("", []).append(f"{given.where}: the data set has no task {given.task_id!r}")
        else:
            task = data.by_id(task_id)
            solution, taken = _solution(task, given, extract=extract), False
            if not extract and _FENCE in solution and not _parses(solution):
                solution, taken = _solution(task, given, extract=True), True
            samples.append(Sample(task_id, counts[task_id], solution, taken))
            counts[task_id] += 1
    if not samples:
        raise DataError(_nothing(path, data, skipped))
    return samples, [line for lines in skipped.values() for line in _first(lines)]


def _nothing(path: Path, data: Dataset, skipped: Mapping[str, Sequence[str]]) -> str:
    if not skipped:
        return f"{path}: holds no sample; {WANTED}"
    problem = max(skipped, key=lambda p: len(skipped[p]))
    if problem:
        return f"{path}: {problem}" if len(skipped[problem]) > 1 else skipped[problem][0]
    return f"{skipped[problem][0]}, nor any other of the file's; its ids are like {data[0].task_id!r}"


def _first(lines: Sequence[str]) -> list[str]:
    more = len(lines) - _SHOWN
    return [*lines[:_SHOWN], *([f"{lines[_SHOWN]}; and {more - 1} more like it"] if more > 1 else lines[_SHOWN:])]


class TaskIds:
    """Finds the task that a sample file means: `Mbpp/2`, `mbpp_2`, `2` and 2 are one.

    Args:
        data: The tasks.
    """

    def __init__(self, data: Dataset) -> None:
        self._exact = {t.task_id for t in data}
        self._name = _letters(data.name)
        self._known: dict[str, str | None] = {}
        for task in data:
            plain = _plain(task.task_id)
            for alias in {plain, plain.rpartition("/")[2]}:
                self._known[alias] = None if alias in self._known else task.task_id

    def find(self, given: str) -> str | None:
        """Return the id of the task; None if there is none, or more than one."""
        if given in self._exact:
            return given
        plain = _plain(given)
        prefix, _, number = plain.rpartition("/")
        # Of a bare number in the data nobody knows the set: a set of another name is not taken for it.
        bare = number in self._exact and (prefix == "mbpp" or (prefix and _letters(prefix) in self._name))
        return self._known.get(plain) or (number if bare else None)


def _plain(task_id: str) -> str:
    plain = re.sub(r"[/_ -]+", "/", task_id.casefold())
    named = re.match(r"(humaneval|mbpp)/(\d+)/[a-z]", plain)  # MultiPL-E: HumanEval_0_has_close_elements
    return f"{named[1]}/{named[2]}" if named else plain


def _letters(text: str) -> str:
    return re.sub(r"[^a-z]", "", text.casefold())


def _solution(task: Task, given: Given, *, extract: bool) -> str:
    """The program that a text stands for."""
    text = given.text or ""
    together = task.prompt + text
    prompt = task.prompt.strip()
    if not extract and (given.program or (prompt and text.lstrip().startswith(prompt))):
        return text
    if not extract or _FENCE not in text:
        # A prompt in English is no part of a program, though a word of it may parse. Such an import stands first.
        code_before = _CODE.search(task.prompt) is not None and "from __future__" not in text and not given.program
        after = (together, f"{task.prompt}\n{text}")
        for source in (*after, text) if code_before else (text, *after):
            if task.entry_point in defined_names(source):
                return source
    if extract:
        code = extract_code(text, task.entry_point)
        together = f"{task.prompt.rstrip()}\n{textwrap.indent(code, '    ')}"  # the body of the function alone
        if task.entry_point not in defined_names(code) and task.entry_point in defined_names(together):
            return together
        return code
    return together if _CODE.search(task.prompt) else text


def chatty(samples: Sequence[Sample], data: Dataset) -> str | None:
    """Return a line that tells of samples that are no code alone, and what was or can be done; None without any."""
    other = [(s.solution, data.by_id(s.task_id)) for s in samples if not _parses(s.solution)]
    amid = sum(task.entry_point in defined_names(extract_code(text, task.entry_point)) for text, task in other)
    bodies = sum(_is_body(text, task) for text, task in other)
    fenced = sum(s.taken for s in samples)
    told = [f"{fenced} held a fenced block: its code was taken, as out of a model's reply"] if fenced else []
    told += [f"{amid} held code amid text: give `--extract`"] if amid else []
    told += [f"{bodies} held the body of a function alone: name their field `completion`"] if bodies else []
    return f"of {counted(len(samples), 'sample')}, {'; '.join(told)}" if told else None


def _is_body(text: str, task: Task) -> bool:
    indented = text.lstrip("\n")[:1] in (" ", "\t")
    return indented and task.entry_point in defined_names(task.prompt + text)


def _parses(source: str) -> bool:
    try:
        parse(source)
    except ValueError:
        return False
    return True


class _GivenSolutions:
    """Judges solutions that exist: each stands for a candidate of a program that calls no model.

    Args:
        metric: Judges the code.
        solutions: Solutions by the keys of their candidates.
    """

    def __init__(self, metric: CodeMetric, solutions: Mapping[str, str]) -> None:
        self.metric, self.solutions = metric, solutions

    def tasks_of(self, examples: Iterable[Any]) -> list[Task]:
        """See `Judge`."""
        return list(examples)

    def rollout(self, program: dspy.Module, task: Task, identity: Mapping[str, Any]) -> Rollout:
        """See `Judge`."""
        found = judged(self.metric, task, self.solutions[identity["candidate"]], identity)
        return found.model_copy(update={"code": scrub(found.code)})

    def describe(self) -> dict[str, Any]:
        """See `Judge`."""
        return self.metric.describe()

    def through(self, calls: Calls) -> _GivenSolutions:
        """See `Judge`."""
        return self


def judge(
    samples: Sequence[Sample],
    data: Dataset,
    metric: CodeMetric,
    *,
    num_threads: int = 8,
    journal: Journal | None = None,
    on_done: Callable[[Rollout], None] | None = None,
) -> list[Rollout]:
    """Judge samples concurrently, those of the slowest tasks first, so that no straggler is left at the end.

    Args:
        samples: What to judge.
        data: Its tasks.
        metric: Judges the code.
        num_threads: Samples under way at once.
        journal: Keeps the rollouts; a solution that it knows is not run again.
        on_done: Called after each sample.

    Returns:
        The rollouts, in the order of the samples. Those of tasks whose tests are broken are not measured.

    Raises:
        DataError: The tests of some tasks pass a function that returns nonsense.
    """
    tasks = {s.task_id: data.by_id(s.task_id) for s in samples}
    lost = metric.vet(tasks.values(), num_threads=num_threads)
    slow = {task_id: 0.0 if task_id in lost else seconds_of(metric, task) for task_id, task in tasks.items()}
    jobs = [Job(Candidate(instructions=(("solution", s.solution),)), tasks[s.task_id], s.number) for s in samples]
    solutions = {job.candidate.key: s.solution for job, s in zip(jobs, samples, strict=True)}
    runner = Runner(dspy.Module(), _GivenSolutions(metric, solutions), journal=journal, num_threads=num_threads)
    order = sorted(range(len(jobs)), key=lambda i: -slow[samples[i].task_id])
    rollouts = run_jobs(runner, [jobs[i] for i in order], lost, on_done)
    found = dict(zip(order, rollouts, strict=True))
    return [found[i] for i in range(len(jobs))]


def seconds_of(metric: CodeMetric, task: Task) -> float:
    """CPU seconds of the canonical solution; known at once where the tests were checked."""
    try:
        return metric.prepare(task)
    except SandboxError:
        return 0.0
