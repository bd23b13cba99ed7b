"""Solutions that exist already: read for their tasks, and judged."""

from __future__ import annotations

import hashlib
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from evoprompt.datasets import Dataset
from evoprompt.errors import DataError, SandboxError
from evoprompt.evaluate.formats import WANTED, Given, read_given
from evoprompt.harness.judging.asserts import defined_names
from evoprompt.judges import Rollout
from evoprompt.judges.code import broken, judged
from evoprompt.lm.extract import extract_code, scrub
from evoprompt.metric import CodeMetric
from evoprompt.pool import map_concurrently
from evoprompt.runs import Journal
from evoprompt.runs.damage import as_written
from evoprompt.tasks import Task, parse_python

CANDIDATE = "samples"
_SHOWN: Final = 3
"""Lines of one kind that are shown."""
_FENCE: Final = "```"
_CODE: Final = re.compile(r"^[ \t]*(?:def|class|import|from|async def)[ \t]+\w", re.MULTILINE)


@dataclass(frozen=True)
class Sample:
    """One given solution: the `number`-th of its task, from 0."""

    task_id: str
    number: int
    solution: str


def read_samples(path: Path, data: Dataset, *, extract: bool = False) -> tuple[list[Sample], list[str]]:
    """Read every sample that can be judged.

    Args:
        path: JSON lines or a JSON array of objects with `task_id` and `solution`, or `completion` (which goes after
            the task's prompt where it is no program by itself); a folder (`Mbpp_2/0.py`, `Mbpp_2.py`); or what other
            tools write, see `docs/reference/data.md`. All also compressed (`.gz`).
        data: The tasks.
        extract: Whether to take the code out of each reply, as from a model that is asked.

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
            solution = _solution(data.by_id(task_id), given, extract=extract)
            samples.append(Sample(task_id, counts[task_id], solution))
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
        """The id of the task, or None where there is none, or more than one."""
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
    """A line where samples hold what only `extract` would take out of them; None where there are none."""
    fenced = [s for s in samples if _FENCE in s.solution and not _parses(s.solution)]
    prose = [s for s in samples if _FENCE not in s.solution and not _parses(s.solution) and _holds(s, data)]
    bodies = [s for s in samples if not _parses(s.solution) and _is_body(s, data)]
    told = [f"{len(fenced)} hold a fenced block"] if fenced else []
    told += [f"{len(prose)} hold code amid text"] if prose else []
    lines = [f"{' and '.join(told)}: give `--extract`"] if told else []
    lines += [f"{len(bodies)} hold the body of a function alone: name their field `completion`"] if bodies else []
    return f"of {len(samples)} samples, {'; '.join(lines)}" if lines else None


def _holds(sample: Sample, data: Dataset) -> bool:
    name = data.by_id(sample.task_id).entry_point
    return name in defined_names(extract_code(sample.solution, name))


def _is_body(sample: Sample, data: Dataset) -> bool:
    task = data.by_id(sample.task_id)
    indented = sample.solution.lstrip("\n")[:1] in (" ", "\t")
    return indented and task.entry_point in defined_names(task.prompt + sample.solution)


def _parses(source: str) -> bool:
    try:
        parse_python(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


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
    journal = journal or Journal()

    def one(sample: Sample) -> Rollout:
        task = data.by_id(sample.task_id)
        solution = hashlib.sha256(sample.solution.encode("utf-8", "surrogatepass")).hexdigest()[:24]
        known = journal.rollout(solution, task.key, sample.number)
        if known is not None:
            return as_written(Rollout, known, journal.path)
        identity = {"candidate": CANDIDATE, "task_id": sample.task_id, "sample": sample.number}
        if sample.task_id in lost:
            return broken(identity, lost[sample.task_id], scrub(sample.solution))
        rollout = judged(metric, task, sample.solution, identity)
        rollout = rollout.model_copy(update={"code": scrub(rollout.code)})
        journal.keep_rollout(solution, task.key, sample.number, rollout.model_dump_json(), measured=rollout.measured)
        return rollout

    tasks = {s.task_id: data.by_id(s.task_id) for s in samples}
    lost = metric.vet(tasks.values(), num_threads=num_threads)
    slow = {task_id: 0.0 if task_id in lost else _seconds(metric, task) for task_id, task in tasks.items()}
    order = sorted(range(len(samples)), key=lambda i: -slow[samples[i].task_id])
    rollouts = map_concurrently(one, [samples[i] for i in order], num_threads=num_threads, on_done=on_done)
    return [rollout for _, rollout in sorted(zip(order, rollouts, strict=True), key=lambda pair: pair[0])]


def _seconds(metric: CodeMetric, task: Task) -> float:
    """CPU seconds of the canonical solution, which are known by now."""
    try:
        return metric.prepare(task)
    except SandboxError:
        return 0.0
