"""The messages that a report and an export show are those that a server gets."""

from __future__ import annotations

import html
import json
from pathlib import Path

import dspy
import pytest

from evoprompt import Program
from evoprompt.candidate import Demo
from evoprompt.cli import run as cli
from evoprompt.lm.adapter import CodeAdapter
from evoprompt.lm.identity import describe_bare
from evoprompt.local.adapter import PlainAdapter
from evoprompt.report import write_report
from tests.openai_server import OpenAIServer
from tests.report.synthetic import RESULT, candidate, rollout, write_run

OWN = {"prompt": "Halve a number.", "entry_point": "half(x)", "code": "def half(x):\n    return x / 2"}
FOUND = Demo(
    task_id="twice", source="0", inputs={"prompt": "Double a number.", "entry_point": "twice(x)"},
    outputs={"code": "def twice(x):\n    return 2 * x"},
)  # fmt: skip


@pytest.mark.parametrize("adapter", [CodeAdapter, PlainAdapter])
@pytest.mark.parametrize("own", [[], [OWN]], ids=["demos", "and demos of its own"])
def test_they_are_what_a_server_gets(
    adapter: type[dspy.Adapter], own: list[dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with OpenAIServer(lambda body, n: "```python\ndef f(x): return x\n```") as server:
        student = Program(adapter=adapter(), generator_lm=dspy.LM("openai/test", api_base=server.base, api_key="k"))
        student.generator.demos = [dspy.Example(**one) for one in own]
        best = candidate(RESULT).changed({}, {"generator": [FOUND]})
        best.apply(student)(prompt="Sum a list.", entry_point="f(x)")
        asked = server.seen[-1].body["messages"]
    tasks = {"twice": "Double a number.", "sum": "Sum a list."}
    rows = [rollout("twice", candidate(RESULT).key, True), rollout("sum", best.key, True)]
    identity = {"student": describe_bare(student)}
    run = write_run(tmp_path / "run", rows, tasks=tasks, demos=[FOUND], meta={"identity": identity})
    assert cli(["export", str(run), "--format", "messages"]) == 0
    shown = json.loads(capsys.readouterr().out)
    shown[-1]["content"] = shown[-1]["content"].replace("{problem}", "Sum a list.").replace("{entry_point}", "f(x)")
    assert shown == asked and len(asked) == 4 + 2 * len(own)
    page = html.unescape(write_report(run).read_text())
    assert "and 1 few-shot demo:" in page
    for message in asked:
        assert f'<pre tabindex="0">{message["content"]}</pre>' in page
