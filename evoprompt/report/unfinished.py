"""What a run has not measured, of its splits and in all: why it stopped, and how it goes on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from evoprompt.report.data import RunData
from evoprompt.runs import lock, resume_command
from evoprompt.wording import counted

KILLED = "its process ended without a word: it was killed, or its machine went down"


@dataclass(frozen=True)
class Stop:
    """Why a run stopped, and what is left.

    Attributes:
        state: `paused`, `interrupted` or `killed`.
        why: What the terminal said.
        missing: What was not measured yet, in words.
        command: What goes on with it; empty where that is no command.
        how: The same in words, where it is none.
    """

    state: str
    why: str
    missing: Sequence[str]
    command: str = ""
    how: str = ""


def state_of(run: RunData) -> str:
    """`finished`, `under way`, or how the run stopped: `paused`, `interrupted` or `killed`."""
    status = run.ending.get("status") or ""
    if status and not (status == "finished" and _untested(run)):
        return str(status)
    if not (run.root / lock.NAME).exists():  # a bare journal: nothing tells whether somebody works on it
        return status or "under way"
    return "under way" if lock.is_held(run.root) else "killed"


def stop_of(run: RunData) -> Stop | None:
    """Why the run stopped before its end; None where it did not."""
    state = state_of(run)
    if state in ("finished", "under way"):
        return None
    command, how = _goes_on(run)
    why = KILLED if state == "killed" else run.ending.get("error") or "no reason was kept"
    return Stop(state, str(why), _missing(run), command, how)


def _untested(run: RunData) -> list[str]:
    """The prompts that the held-out test has not come to: `start`, `evolved`."""
    planned = ["start", *(["evolved"] if run.result != run.start else [])]
    return [name for name in planned if name not in run.held_out] if size_of(run, "test") else []


def size_of(run: RunData, split: str) -> int:
    """How many tasks a split has; 0 where there is none, or that was not kept."""
    data = (run.config.get("data") or {}).get(split) or {}
    return int(data.get("tasks") or 0)


def share_of(run: RunData, split: str, tasks: Collection[str]) -> tuple[str, str]:
    """How many tasks of a split have a score, and why the others have none, in words.

    Args:
        run: The run.
        split: `dev` or `test`.
        tasks: Those that the score of the start prompt is of.

    Returns:
        Such as `6 of 12` and `3 had no answer, 3 were not asked`; without the others the number alone.
    """
    size, done = size_of(run, split), len(tasks)
    if done >= size:
        return str(done), ""
    both = {run.start, run.result}
    asked = {s.task_id for s in run.solutions if s.prompt in both and run.split_of.get(s.task_id) == split}
    lost = len(asked - set(tasks))
    told = [f"{lost} had no answer"] if lost else []
    told += [f"{rest} {'was' if rest == 1 else 'were'} not asked"] if (rest := size - done - lost) > 0 else []
    return f"{done} of {size}", ", ".join(told)


def _missing(run: RunData) -> list[str]:
    """What was not measured yet, in words."""
    told = []
    if not run.ended_by:
        done = len(run.batches)
        told.append(f"the rest of the search ({counted(done, 'batch')} done)" if done else "the search: no batch done")
    if not run.decision and size_of(run, "dev"):
        told.append("the comparison with the start prompt")
    elif dev := {t for split in run.splits if split.name == "dev" for t in split.tasks}:
        number, why = share_of(run, "dev", dev)
        told += [f"a part of the dev tasks: {number} measured ({why})"] if why else []
    for name in _untested(run):
        prompt, who = (run.start, "start prompt") if name == "start" else (run.result, "result")
        done = sum((prompt, t) in run.measured for t, split in run.split_of.items() if split == "test")
        size = counted(size_of(run, "test"), "task")
        told.append(f"the held-out test of the {who}: {done or 'none'} of {size} measured")
    return told


def _goes_on(run: RunData) -> tuple[str, str]:
    """The command that goes on, or words where there is none."""
    if command := resume_command(run.root, run.config):
        return command, ""
    if run.config.get("command") == "compile":
        return "", "The same call of compile, with the same run_dir, goes on."
    return "", "The command that began it, given again, goes on."
