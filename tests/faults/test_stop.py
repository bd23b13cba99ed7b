"""Signals: the first waits for what was paid for, the second for nothing. And two processes for one run."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from typing import Any

import pytest

from tests.faults.conftest import THREADS, Study, server
from tests.faults.victim import kept, results

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SECOND = """
import sys
from evoprompt.cli import run
code = run(sys.argv[1:])
print(code, sorted({"dspy", "numpy"} & set(sys.modules)))
"""


def optimizing(body: dict[str, Any], *_: object) -> str | None:
    return "held" if "`[[ ## new_instruction ## ]]`" in str(body["messages"]) else None


def seventh(body: dict[str, Any], again: int, total: int) -> str | None:
    return "held" if total >= 6 else None


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("plan", [seventh, optimizing])
def test_the_first_signal_waits_for_what_is_under_way(
    study: Study, undisturbed: Any, same: Any, number: int, plan: Any
) -> None:
    with server(plan) as there:
        victim = study.begin(there.base)
        assert there.holding.wait(60)
        victim.send(number)
        victim.wait_for("waited for (Ctrl-C: stop at once)")
        there.release.set()
        assert victim.end() == 130
        assert "Traceback" not in victim.said and "task t" not in victim.said
        assert "evoprompt: stopped; `evoprompt resume results/e/r` goes on" in victim.said
        assert "best prompt" not in victim.said and not (study.run_dir / "test_evaluation").exists()
        assert kept(study.run_dir)["answers"] == there.served["ok"] + there.served["held"]
        assert study.train(there.base)[0] == 0
        assert sum(there.served.values()) == undisturbed.requests
    same(study)


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_the_second_signal_waits_for_nothing(study: Study, same: Any, number: int) -> None:
    with server(seventh) as there:
        victim = study.begin(there.base)
        assert there.holding.wait(60)
        victim.send(number)
        victim.wait_for("waited for (Ctrl-C: stop at once)")
        victim.send(number)
        assert victim.end(30) == 130
        assert "Traceback" not in victim.said
        assert kept(study.run_dir)["answers"] <= there.served["ok"]
        there.release.set()
        assert study.train(there.base)[0] == 0
    same(study)


@pytest.mark.slow
def test_who_comes_second_is_told_who_is_there_before_anything_is_loaded(
    study: Study, undisturbed: Any, same: Any
) -> None:
    with server(seventh) as there:
        first = study.begin(there.base)
        assert there.holding.wait(60)
        for words in (study.words(there.base), ["resume", "results/e/r"], ["export", "results/e/r"]):
            second = subprocess.run(
                [sys.executable, "-c", SECOND, *words], cwd=study.folder, capture_output=True, text=True,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            )  # fmt: skip
            assert second.stdout == "2 []\n"
            (line,) = second.stderr.splitlines()
            since = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"
            assert re.search(rf"in use by process {first.pid} on {socket.gethostname()} since {since}$", line), line
        first.send(signal.SIGKILL)
        assert first.end() == -signal.SIGKILL
        there.release.set()
        assert study.train(there.base)[0] == 0, "the lock of a dead process is free"
        assert sum(there.served.values()) <= undisturbed.requests + THREADS
    same(study)


@pytest.mark.slow
def test_two_that_start_at_once_do_no_harm(study: Study, undisturbed: Any, same: Any) -> None:
    with server() as there:
        both = [study.begin(there.base) for _ in range(2)]
        codes = sorted(victim.end() for victim in both)
        assert codes in ([0, 2], [0, 0]), [v.said for v in both]
        assert sum(there.served.values()) == undisturbed.requests, "the second one found all answers"
    same(study)
    assert results(study.run_dir) == undisturbed.results
