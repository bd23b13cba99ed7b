"""The demo: a search that is killed in the middle and goes on, and what it leaves behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evoprompt.cli import run

LINES = ("result:", "cost:", "report:", "next:")


@pytest.mark.slow
def test_it_is_killed_and_goes_on_without_repeating_a_call(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", "--root_dir", str(tmp_path)]) == 0
    shown = capfd.readouterr()
    start, evolved = (float(n) for n in re.findall(r"prompt +([0-9.]+) %", shown.out))
    assert evolved > start
    first, second = shown.err.split("Part 2 of 2: the process is dead")
    assert "kill -9" in first and "SIMULATED batch 1" in first and "SIMULATED confirmation" not in first
    assert "are known: it goes on from there" in second and "SIMULATED batch 1:" not in second
    (kept,) = re.findall(r"(\d+) calls kept before the kill, \d+ after it, repeated: 0", shown.out)
    assert int(kept) > 100
    assert shown.out.count("confirmed against the start prompt: wins") == 1
    assert [line.split()[0] for line in shown.out.splitlines()[-4:]] == list(LINES)
    assert str(tmp_path / "demo/run_1/report.html") in shown.out and (tmp_path / "demo/run_1/report.html").is_file()
    assert "\x1b" not in shown.out + shown.err  # plain lines where there is no terminal


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize("part", ["Part 1 of 2", "batch 1", "goes on from there"])
def test_ctrl_c_leaves_no_process_behind(part: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "evoprompt", "demo", "--root_dir", str(tmp_path)]
    mark = f"DEMO_OF={tmp_path}"
    environment = os.environ | {"DEMO_OF": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True) as demo:
        assert demo.stderr is not None
        assert any(part in line for line in demo.stderr)
        os.killpg(demo.pid, signal.SIGINT)  # as a terminal does
        said = demo.stderr.read()
        assert demo.wait() == 130 and said.count("interrupted") == 1 and "Traceback" not in said
    until = time.monotonic() + 10
    while left := _marked(mark):
        assert time.monotonic() < until, left
        time.sleep(0.05)


def _marked(mark: str) -> list[str]:
    """Processes of that environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found
