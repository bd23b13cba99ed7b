"""A run in the formats of other tools: the prompt, its messages, JSON, CSV, JUnit."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

from evoprompt.errors import UsageError
from evoprompt.report.data import RunData, Solution
from evoprompt.report.messages import messages_of
from evoprompt.runs import journal
from evoprompt.runs.damage import reading

_NOT_XML = re.compile("[^\t\n\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
COLUMNS = ("task_id", "split", "prompt", "role", "sample", "status", "score", "base", "plus", "cpu_seconds")


def exported(run: RunData, form: str) -> str:
    """The run in a format.

    Args:
        run: The run.
        form: `prompt`: the instruction alone. `messages`: what the model gets, as JSON; `{problem}` and
            `{entry_point}` stand for a task's. `json`: verdict, prompts and outcomes. `csv`: one row a rollout.
            `junit`: one test case a task, for CI.

    Raises:
        UsageError: The messages of this student are not known.
    """
    with reading("the run", run.root / journal.NAME):
        return _FORMS[form](run)


def _prompt(run: RunData) -> str:
    return run.prompts[run.result].text + "\n"


def _messages(run: RunData) -> str:
    found = messages_of(run, {"prompt": "{problem}", "interface": "{entry_point}"})
    if not found:
        raise UsageError(f"{str(run.root)!r}: what its student sends is not known here; `program.json` loads into it")
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def _rows(run: RunData) -> list[dict[str, Any]]:
    roles = {run.result: "result", run.start: "start"}  # where it was kept, it is both
    return [
        {
            "task_id": s.task_id, "split": run.split_of.get(s.task_id, "train"), "prompt": s.prompt,
            "role": roles.get(s.prompt, ""), "sample": s.sample, "status": s.status, "score": s.score, "base": s.base,
            "plus": s.plus, "cpu_seconds": s.cpu_seconds,
        }
        for s in run.solutions
    ]  # fmt: skip


def _json(run: RunData) -> str:
    prompts = {p.id: dict(p.texts) for p in run.prompts.values()}
    told = {
        "start": run.start, "result": run.result, "decision": run.decision or None, "ended_by": run.ended_by,
        "config": run.config, "spent": run.spent, "prompts": prompts, "rollouts": _rows(run),
    }  # fmt: skip
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def _csv(run: RunData) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rows(run))
    return out.getvalue()


def _junit(run: RunData) -> str:
    """One case a task: the result on the test tasks, or on all without these. One without a verdict is an error."""
    mine: dict[str, Solution] = {}
    for one in run.solutions:
        if one.prompt == run.result:
            mine.setdefault(one.task_id, one)
    tested = [t for s in run.splits if s.name == "test" for t in s.tasks if t in mine]
    cases = [mine[t] for t in dict.fromkeys(tested or sorted(mine))]
    failed, lost = (sum(map(test, cases)) for test in (_failed, _lost))
    name = "/".join(run.root.resolve().parts[-2:])
    suite = ElementTree.Element(
        "testsuite", name=_printable(name), tests=str(len(cases)), failures=str(failed), errors=str(lost)
    )
    for one in cases:
        case = ElementTree.SubElement(
            suite, "testcase", classname=_printable(name), name=_printable(one.task_id), time=f"{one.cpu_seconds:.3f}"
        )
        told = _printable(f"{one.failing.get('call') or ''} {one.failing.get('observed') or one.said}".strip())
        if _failed(one):
            ElementTree.SubElement(case, "failure", type=one.status, message=told)
            if written := one.failing.get("stderr"):
                ElementTree.SubElement(case, "system-err").text = _printable(written)
        elif _lost(one):
            ElementTree.SubElement(case, "error", type=one.status, message=told)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _lost(one: Solution) -> bool:
    return one.score is None


def _failed(one: Solution) -> bool:
    return one.score is not None and one.score < 1


def _printable(text: str) -> str:
    """The text without what XML can't hold."""
    return _NOT_XML.sub("\ufffd", text)


_FORMS: dict[str, Callable[[RunData], str]] = {
    "prompt": _prompt, "messages": _messages, "json": _json, "csv": _csv, "junit": _junit,
}  # fmt: skip
