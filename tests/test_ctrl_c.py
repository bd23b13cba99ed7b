"""Ctrl-C at moments where Python, or a library, would lose it or tell it as a traceback."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from evoprompt import cli

IMPORTING = """
import os, signal, sys

class Stopped:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Stopped())
from evoprompt.__main__ import main
main()
"""

COLLECTED = """
import signal, time, weakref
from evoprompt import cli

class Gone:
    pass

def waits(**_):
    gone = Gone()
    known = weakref.ref(gone, lambda _: signal.raise_signal(signal.SIGINT))
    del gone
    time.sleep(60)

cli.app = waits
cli.main()
"""


def _ended(script: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # where the tests run in the background
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_amid_the_imports_there_is_nothing_to_tell() -> None:
    assert _ended(IMPORTING) == (-signal.SIGINT, "")


def test_amid_the_callback_of_a_weak_reference_it_is_heard_a_moment_later() -> None:
    assert _ended(COLLECTED) == (130, "evoprompt: interrupted; what was finished is on disk\n")


@pytest.mark.parametrize("seen", ["caused by", "amid"])
def test_an_error_that_comes_of_it_is_told_as_one(
    seen: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(**_: object) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as e:
            if seen == "amid":
                raise RuntimeError("release unlocked lock")  # noqa: B904 - as CPython's locks do
            raise RuntimeError("Error calling __set_name__") from e

    monkeypatch.setattr(cli, "app", stopped)
    assert cli.run([]) == 130
    assert capsys.readouterr().err == "evoprompt: interrupted; what was finished is on disk\n"
    assert cli.run(["train"]) == 130
    assert capsys.readouterr().err.endswith("\nevoprompt: stopped; the same command goes on\n")
