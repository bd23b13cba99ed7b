"""Reads a run for its report: straight from its journal, read-only, so that a run under way can be looked at."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from markupsafe import Markup
from pydantic import BaseModel

from evoprompt.candidate import Candidate, Demo
from evoprompt.errors import UsageError
from evoprompt.evolve.records import BatchRecord, Confirmation, DevRecord
from evoprompt.judges import Rollout
from evoprompt.report.timeline import Timeline, read_timeline
from evoprompt.runs import journal
from evoprompt.runs.damage import reading, refused
from evoprompt.simulation import is_simulated

Json = dict[str, Any]
NOT_MEASURED = {
    "lm_error": "no answer from the model", "sandbox_error": "the sandbox failed", "data_error": "the tests are broken",
}  # fmt: skip
"""Why a solution has no score, by its status."""


@dataclass(frozen=True)
class Solution:
    """One rollout as the report shows it.

    Attributes:
        prompt: Id of the prompt.
        task_id: The task.
        sample: Number of the sample, from 0.
        status: Of the solution, or why there is none.
        score: In [0, 1]; None where nothing was measured.
        code: The solution, or the fields of another answer.
        base: Whether the base tests passed; None where they were not run.
        plus: The same of the plus tests.
        failing: The first test that did not pass: its `suite`, `call`, `observed`, `status` and `stderr`; empty without
            one.
        said: Feedback of a metric, or what went wrong with the model or the sandbox.
        cpu_seconds: CPU time of the tests.
        tier: Sandbox tier that ran them.
    """

    prompt: str
    task_id: str
    sample: int
    status: str
    score: float | None
    code: str
    base: bool | None
    plus: bool | None
    failing: Json
    said: str
    cpu_seconds: float
    tier: str

    @property
    def both(self) -> bool | None:
        """Whether base and plus tests passed, as EvalPlus counts it; None where no base tests were run."""
        return None if self.base is None else self.base and self.plus is not False

    @property
    def told(self) -> str:
        """Its status, of each suite where one passed alone; in words where it was not measured."""
        if self.score is None:
            why = NOT_MEASURED.get(self.status)
            return f"not measured: {why}" if why else self.status
        if None in (self.base, self.plus) or self.base == self.plus:
            return self.status
        return ", ".join(f"{name} {'passed' if getattr(self, name) else self.status}" for name in ("base", "plus"))


@dataclass(frozen=True)
class Prompt:
    """One prompt.

    Attributes:
        id: Content hash, 12 hex digits.
        texts: Instruction of each predictor.
        demos: The few-shot demos that it shows.
        batch: Batch that made it; 0 for the start.
    """

    id: str
    texts: Mapping[str, str]
    demos: Sequence[Demo] = ()
    batch: int = 0

    @property
    def text(self) -> str:
        """The instruction; with several predictors each below its name."""
        if len(self.texts) == 1:
            return next(iter(self.texts.values()))
        return "\n\n".join(f"[{name}]\n{text}" for name, text in self.texts.items())


@dataclass(frozen=True)
class Split:
    """An evaluation of one prompt on a whole split.

    Attributes:
        name: `dev` or `test`.
        prompt: Id of the prompt.
        tasks: Ids of its tasks.
        after: Epoch and number of the batch after which it was evaluated; zeros for the start.
        evaluation: Its summary, as `Evaluation` writes it.
        scores: Score of each measured task.
    """

    name: str
    prompt: str
    tasks: tuple[str, ...]
    after: tuple[int, int]
    evaluation: Json
    scores: Mapping[str, float]


@dataclass(frozen=True)
class RunData:
    """A run.

    Attributes:
        root: Its directory.
        config: What it was begun with.
        ending: `status` and `error`; empty while it goes on.
        ended_by: Why it ended, in words.
        prompts: By id, in the order in which they came.
        start: Id of the start prompt.
        result: Id of the prompt that the run ends with so far.
        decision: The comparison of both; empty before it.
        batches: Records of the batches.
        diagnoses: What was found out about failures, with the batch.
        splits: Evaluations on dev and test.
        tasks: What is shown of each task: `prompt`, `interface`.
        solutions: All rollouts.
        spent: By role: calls, retries, tokens, dollars, seconds.
        timeline: What happened when.
        adapter: Name of the DSPy adapter that wrote the messages.
        rival: What one of DSPy's own optimizers came to; empty without one.
        budgets: Limits that it was begun with, and went on with: the fields of each `Budget` that were set.
        demos: Those that the student's generator showed before the search, as DSPy has them.
    """

    root: Path
    config: Json
    ending: Json
    ended_by: str
    prompts: Mapping[str, Prompt]
    start: str
    result: str
    decision: Json
    batches: Sequence[Json]
    diagnoses: Sequence[Json]
    splits: Sequence[Split]
    tasks: Mapping[str, Json]
    solutions: Sequence[Solution]
    spent: Mapping[str, Json]
    timeline: Timeline
    adapter: str = ""
    rival: Json = field(default_factory=dict)
    budgets: Sequence[Json] = ()
    demos: Sequence[Json] = ()

    @property
    def simulated(self) -> bool:
        """True if the model `simulated` took part."""
        models = (model for spent in self.spent.values() for model in spent["models"])
        return bool(self.config.get("simulated")) or is_simulated(models)

    @property
    def held_out(self) -> dict[str, Split]:
        """The evaluations on the test split: `start` and `evolved`."""
        return {("start" if s.prompt == self.start else "evolved"): s for s in self.splits if s.name == "test"}

    @cached_property
    def measured(self) -> dict[tuple[str, str], Solution]:
        """The first rollout of each prompt on each task, where it has a score."""
        return {(s.prompt, s.task_id): s for s in self.solutions if s.sample == 0 and s.score is not None}

    @cached_property
    def all_or_nothing(self) -> bool:
        """True if every score is 0 or 1: a task is solved or not."""
        return all(s.score in (0, 1) for s in self.measured.values())

    @property
    def judged_by(self) -> tuple[str, tuple[str, ...]]:
        """Name and tasks of the split that says most: `test`, else `dev`, else `training` with all tasks."""
        if "start" in self.held_out:
            return "test", self.held_out["start"].tasks
        dev = sorted({t for s in self.splits if s.name == "dev" for t in s.tasks})
        return ("dev", tuple(dev)) if dev else ("training", tuple(self.tasks))

    @cached_property
    def by_task(self) -> dict[str, list[Solution]]:
        """The rollouts of each task."""
        found: dict[str, list[Solution]] = {}
        for one in self.solutions:
            found.setdefault(one.task_id, []).append(one)
        return found

    @cached_property
    def split_of(self) -> dict[str, str]:
        """`dev` or `test` for each task that is known to be of such a split; all others are training tasks."""
        found = {task: split.name for split in self.splits for task in split.tasks}
        sizes = {name: split["tasks"] for name, split in (self.config.get("data") or {}).items()}
        whole = sum(sizes.values())
        if self.config.get("command") in ("train", "demo") and len(self.tasks) in (whole, whole - sizes.get("test", 0)):
            # These commands keep the tasks of their splits in order; those of the test come with the test.
            planned = zip(self.tasks, [name for name, size in sizes.items() for _ in range(size)], strict=False)
            found = {task: name for task, name in planned if name != "train"} | found
        return found


Rows = Callable[[str], Iterable[tuple[Any, ...]]]
_RECORDS: dict[str, type[BaseModel]] = {
    "batch": BatchRecord, "dev": DevRecord, "test": DevRecord, "confirm": Confirmation,
}  # fmt: skip


def read_run(root: str | Path, held: journal.Journal | None = None) -> RunData:
    """Read a run, finished or not.

    Args:
        root: The run's directory.
        held: Its journal, where this process has it open: nobody else can read it then.

    Raises:
        UsageError: There is no run, or it has not begun.
        DataError: Its journal is none.
        DamagedError: It is damaged.
    """
    path = Path(root) / journal.NAME
    if held is not None:
        with reading("the run", held.path):
            return _read(Path(root), held.rows)
    if not path.is_file():
        raise UsageError(f"{str(root)!r} holds no run: there is no {journal.NAME} in it")
    try:
        with reading("the run", path), tempfile.TemporaryDirectory() as folder:
            # A copy: a run under way holds its journal alone.
            for name in (path.name, f"{path.name}-wal"):
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(path.with_name(name), Path(folder) / name)
            with contextlib.closing(sqlite3.connect(Path(folder) / path.name)) as db:
                return _read(Path(root), lambda query: db.execute(query))
    except sqlite3.Error as e:
        raise refused(path, e) from e


def _read(root: Path, rows: Rows) -> RunData:
    meta: dict[str, str] = dict(rows("SELECT name, value FROM meta"))
    if "seed" not in meta:
        raise UsageError(f"{str(root)!r} was stopped before it began: there is nothing to report yet")
    steps = [(kind, _step(kind, body)) for kind, body in rows("SELECT kind, body FROM steps ORDER BY number")]
    return _run(root, meta, steps, list(_solutions(rows)), _spent(rows), read_timeline(root, rows))


def _step(kind: str, text: str) -> Json:
    """The body of a step, which `resume` would take."""
    body: Json = json.loads(text)
    if kind not in _RECORDS:
        return body
    return _RECORDS[kind].model_validate(body).model_dump(mode="json") | body  # with fields that are newer than the run


def _fact(meta: Mapping[str, str], name: str) -> Json:
    found = json.loads(meta.get(name, "{}"))
    if not isinstance(found, dict):
        raise TypeError(f"{name!r} is a {type(found).__name__} and no object")
    return found


def _run(
    root: Path, meta: dict[str, str], steps: list[tuple[str, Json]], solutions: list[Solution], spent: dict[str, Json],
    timeline: Timeline,
) -> RunData:  # fmt: skip
    prompts: dict[str, Prompt] = {}
    start = _prompt(json.loads(meta["seed"]), prompts, 0)
    batches: list[Json] = []
    for kind, body in steps:
        if kind == "batch":
            if body.get("tried"):  # a larger budget went on from here: a smaller one had cut the batch short
                batches = [batch for batch in batches if batch["batch"] < body["batch"]]
            batches.append(body)
            if body.get("child"):
                _prompt(body["child"], prompts, body["batch"])
    decision = next((body for kind, body in reversed(steps) if kind == "confirm"), {})
    student = _fact(meta, "identity").get("student") or {}
    splits = []
    for kind, body in steps:
        if kind in ("dev", "test"):
            scores = body.get("scores") or {r["task_id"]: r["score"] for r in body.get("rollouts", [])}
            known = {t: s for t, s in scores.items() if s is not None}
            after = body.get("epoch", 0), body.get("batch", 0)
            prompt = _prompt(body["candidate"], prompts, after[1])
            splits.append(Split(kind, prompt, tuple(body["tasks"]), after, body["evaluation"], known))
    return RunData(
        root=root, config=_fact(meta, "config"), ending=_fact(meta, "ending"),
        ended_by=meta.get("ended_by", ""), prompts=prompts, start=start,
        result=_result(start, decision, batches, splits, prompts), decision=decision, batches=batches,
        diagnoses=[body for kind, body in steps if kind == "diagnoses"], splits=splits,
        rival=next((body for kind, body in reversed(steps) if kind == "rival"), {}),
        tasks=_fact(meta, "tasks"), solutions=solutions, spent=spent, timeline=timeline,
        adapter=student.get("adapter", ""), demos=(student.get("generator") or {}).get("demos", ()),
        budgets=_fact(meta, "budgets").get("given", ()),
    )  # fmt: skip


def _result(
    start: str, decision: Json, batches: Sequence[Json], splits: Sequence[Split], prompts: Mapping[str, Prompt]
) -> str:
    """The prompt that the run has in hand: what was tested in the end, else decided, else the last one accepted."""
    tested = [s.prompt for s in splits if s.name == "test" and s.prompt != start]
    if tested:
        return tested[-1]
    if any(s.name == "test" for s in splits) and decision and not decision.get("accepted"):
        return start
    if decision:
        return _prompt(decision["candidate"], dict(prompts), 0) if decision.get("accepted") else start
    best = max((s for s in splits if s.name == "dev"), key=lambda s: s.evaluation["score"], default=None)
    if best is not None and not any("tried" in b and b["tried"] for b in batches):
        return best.prompt
    accepted = [b["child"] for b in batches if b.get("child") and b.get("accepted")]
    return _prompt(accepted[-1], dict(prompts), 0) if accepted else start


def _prompt(candidate: Json, prompts: dict[str, Prompt], batch: int) -> str:
    read = Candidate.model_validate(candidate)
    texts = dict(read.instructions)
    prompts.setdefault(read.key, Prompt(read.key, texts, [demo for _, shown in read.demos for demo in shown], batch))
    return read.key


def _solutions(rows: Rows) -> Iterator[Solution]:
    for (body,) in rows("SELECT body FROM rollouts ORDER BY candidate, task, sample"):
        found = json.loads(body)
        Rollout.model_validate(found)
        report = found.get("report") or {}
        suites = {name: report.get(name) for name in ("base", "plus")}
        cases = [c for suite in suites.values() if suite for c in suite["cases"] if c["status"] != "passed"]
        answer = "\n".join(f"{name}: {text}" for name, text in (found.get("output") or {}).items())
        yield Solution(
            prompt=found["candidate"], task_id=found["task_id"], sample=found.get("sample", 0),
            status=found["status"], score=found.get("score"), code=found.get("code") or answer,
            base=suites["base"]["status"] == "passed" if suites["base"] else None,
            plus=suites["plus"]["status"] == "passed" if suites["plus"] else None,
            failing=first_failure(cases),
            said=report.get("detail") or found.get("error") or found.get("feedback") or "",
            cpu_seconds=report.get("cpu_seconds", 0.0), tier=report.get("tier", ""),
        )  # fmt: skip


def first_failure(cases: Sequence[Json]) -> Json:
    """The shown fields of the first of these cases; empty without one."""
    return {k: cases[0].get(k) for k in ("suite", "call", "observed", "status", "stderr")} if cases else {}


_ISOLATES = re.compile("[\u2066-\u2069]")
"""Characters that begin or end an isolate: within one of ours, they would end it."""


def isolated(text: str) -> str:
    """A text of others inside a sentence of ours: it can't turn the direction of what follows it."""
    return text if text.isascii() else f"\u2068{_ISOLATES.sub('', text)}\u2069"


def bdi(text: str) -> Markup:
    """The same as HTML."""
    return Markup("<bdi>{}</bdi>").format(_ISOLATES.sub("", text))


def _spent(rows: Rows) -> dict[str, Json]:
    columns = ("calls", "retries", "input_tokens", "output_tokens", "cost", "unpriced", "seconds")
    models: dict[str, set[str]] = {}
    for role, model in rows("SELECT DISTINCT role, model FROM answers"):
        models.setdefault(role, set()).add(model)
    found = rows(f"SELECT role, {', '.join(columns)} FROM spent ORDER BY role")
    return {
        role: dict(zip(columns, values, strict=True)) | {"models": sorted(models.get(role, ()))}
        for role, *values in found
    }
