"""The bench on the local model, without the model: what it calls well formed, and how its rows are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.lm15 import Message, Response, Usage

from benchmarks import optimizers_local as bench
from evoprompt import Dataset
from evoprompt.local.engine import LocalEngine
from signatures import GenerateCode

CODE = "def f(x):\n    return x\n"
BLOCK = f"```python\n{CODE}```\n"


@pytest.mark.parametrize(
    ("reply", "form"),
    [
        (BLOCK, "right"),
        (f"Here it is:\n\n```\n{CODE}```", "right"),
        (BLOCK + bench.CUT, "cut off"),
        (CODE, "no block"),
        (f"Use `f`.\n{CODE}", "no block"),
        (f"{CODE}```\nDone.", "open block"),
        (f"```python\n{CODE}", "open block"),
        (f"```json\n{CODE}```\n", "open block"),
        (BLOCK * 2, "several blocks"),
        ("```python\ndef f(x:\n```\n", "not Python"),
        ("```python\ndef g(x):\n    return f(x)\n```\n", "another name"),
    ],
)
def test_the_form_of_a_reply(reply: str, form: str) -> None:
    assert bench.form_of(reply, "f(x)") == form
    gold = dspy.Example(prompt="p", entry_point="f(x)").with_inputs("prompt", "entry_point")
    verdict = bench.well_formed(gold, dspy.Prediction(code=reply))
    assert (verdict.score, bool(verdict)) == (float(form == "right"), form == "right")
    assert verdict.feedback == bench.SAID[form]


def test_only_the_instruction_asks_for_a_block() -> None:
    inputs = {"prompt": "Return x.", "entry_point": "f(x)"}
    system, user = bench.Bare().format(GenerateCode.with_instructions("Say it."), [], inputs)
    assert (system["content"], user["content"]) == ("Say it.", "Return x.\n\nWrite the Python function f(x).")
    assert bench.Bare().parse(GenerateCode, f"Yes.\n{BLOCK}") == {"code": f"Yes.\n{BLOCK}"}


@pytest.mark.parametrize(("role", "ends"), [("generator", bench.CUT), ("optimizer", "x = ")])
def test_a_reply_that_was_cut_off_is_an_answer(role: str, ends: str, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = Usage(input_tokens=7, output_tokens=3)
    cut = Response(None, "m", Message.assistant("x = "), "length", usage)
    monkeypatch.setattr(LocalEngine, "complete", lambda self, request: cut)
    meter = bench.Meter(role, 0)
    request: Any = dspy.Example(system="Say it.")
    found = meter.complete(request)
    assert (found.text or "").endswith(ends) and (found.finish_reason == "stop") is (role == "generator")
    assert (meter.calls, meter.tokens, meter.prompts) == (1, [7, 3], {"Say it."})


def row(optimizer: str, seed: int, score: float, **more: Any) -> dict[str, Any]:
    return {
        "optimizer": optimizer, "seed": seed, "budget": 0 if optimizer == "start" else 60, "tasks": "t",
        "max_tokens": 9, "score": score, "passed": 5.0, "words": 12, "prompts": 3, "failure": "", "seconds": 8.0,
        "cpu": 4.0, "calls": {"generator": 60}, "tokens": {"generator": [100, 50]},
    } | more  # fmt: skip


def test_rows_outlive_a_kill_and_the_last_one_counts(tmp_path: Path) -> None:
    path, data = tmp_path / bench.RESULTS, Dataset([])
    here = {"tasks": data.hash, "max_tokens": bench.MAX_TOKENS, "most": 60 * bench.MOST}
    assert bench.read(path, data) == []
    bench.keep(path, row("gepa", 0, 99.0))
    bench.keep(path, row("gepa", 0, 10.0, **here))
    with path.open("a") as file:
        file.write('{"optimizer": "gepa", "se')
    bench.keep(path, row("refine", 0, 30.0, **here))
    bench.keep(path, row("gepa", 0, 20.0, **here))
    assert {r["optimizer"]: r["score"] for r in bench.read(path, data)} == {"gepa": 20.0, "refine": 30.0}
    assert len([line for line in path.read_text().splitlines() if line.endswith("}")]) == 4
    assert json.loads(path.read_text().splitlines()[-1])["score"] == 20.0


def test_the_table() -> None:
    rows = [row("start", s, 10.0, calls={}, tokens={}) for s in (1, 0)]
    rows += [row("gepa", 1, 40.0), row("gepa", 0, 30.0, calls={"generator": 62, "optimizer": 4}, failure="it broke")]
    table = bench.markdown(rows, bench.OPTIMIZERS)
    assert "| start | 10.0 | 10, 10 | +0.0 | 5.0 | 12 | 3.0 | - | - | 8 | 4 |  |" in table
    assert "| gepa | 35.0 | 30, 40 | +25.0 | 5.0 | 12 | 3.0 | generator 61, optimizer 2 | generator 150 |" in table
    assert "| 8 | 4 | 1 |" in table and "refine" not in table
