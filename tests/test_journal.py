"""What a run keeps: what an outage, a kill or a stop leaves, and that a resume makes the rest of it."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import dspy
import pytest

from evoprompt import CodeMetric, EvoPrompt, Program
from evoprompt.errors import ModelError
from evoprompt.harness import Harness
from evoprompt.runs import Journal
from tests.models import asked_for, scripted
from tests.openai_server import OpenAIServer
from tests.world import RULE, data, reply


def compiled(harness: Harness, lm: dspy.LM, run_dir: Path | None, listener: Any = None, **options: Any) -> Any:
    train, dev = data(9), data(2, first=11)
    optimizer = EvoPrompt(
        CodeMetric([*train, *dev], harness=harness), run_dir=run_dir, listener=listener, batch_size=3, **options
    )
    with dspy.context(lm=lm):
        return optimizer.compile(Program(), trainset=train.examples(), valset=dev.examples())


@pytest.mark.parametrize(
    ("role", "message"),
    [
        ("diagnosis", "the debugger could not be asked about 3 of 3 failures; the last: down"),
        ("new_instruction", "the optimizer could not be asked: down"),
        ("child", "3 of 3 rollouts could not be measured; the last: down"),
    ],
)
def test_no_batch_is_decided_by_an_outage(harness: Harness, tmp_path: Path, role: str, message: str) -> None:
    down = True

    def flaky(text: str) -> str:
        asked = "child" if asked_for(text) == "code" and RULE in text else asked_for(text)
        if down and asked == role:
            raise TimeoutError("down")
        return reply(text)

    lm, engine = scripted(flaky)
    with pytest.raises(ModelError, match=message):
        compiled(harness, lm, tmp_path / "run")
    down = False
    resumed = compiled(harness, lm, tmp_path / "run").detailed_results
    assert resumed == compiled(harness, scripted(reply)[0], None).detailed_results
    failures = 1 if role == "new_instruction" else 3
    with Journal(tmp_path / "run/journal.sqlite") as journal:
        assert len(engine.seen) == journal.counts()["answers"] + failures


def test_an_interrupt_while_the_optimizer_answers_loses_no_answer(harness: Harness, tmp_path: Path) -> None:
    def answer(body: dict[str, Any], n: int) -> str:
        text = "\n".join(m["content"] for m in body["messages"])
        if asked_for(text) == "new_instruction":
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            time.sleep(0.5)
        return reply(text)

    with OpenAIServer(answer) as server:
        lm = dspy.LM("openai/x", api_base=server.base, api_key="k", temperature=0.0)
        with pytest.raises(KeyboardInterrupt):
            compiled(harness, lm, tmp_path / "run")
        with Journal(tmp_path / "run/journal.sqlite") as journal:
            assert journal.spent()["optimizer"].calls == 1
            assert journal.counts()["answers"] == len(server.seen)
