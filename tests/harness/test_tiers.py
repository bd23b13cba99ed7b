"""Which tier is taken, why not a better one, and what stands around a zygote from outside."""

import subprocess
import threading

import pytest

from evoprompt.cli import run
from evoprompt.errors import SandboxError
from evoprompt.harness import Harness, sandbox, starters
from evoprompt.harness.sandbox import TIERS

FOLLOWING = TIERS[TIERS.index("bwrap+seccomp") :]


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Makes a shell script that is found as `bwrap`."""

    def make(text):
        path = tmp_path / "bwrap"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return make


def chosen(tiers):
    with Harness(processes=1) as harness:
        harness.sandbox._tiers = tiers
        return harness.tier, harness.sandbox.refused


def test_the_best_comes_first():
    assert [t.split("+")[0] for t in TIERS] == ["landlock", "landlock", "bwrap", "seccomp"]


def test_without_bubblewrap_the_next_tier_is_taken(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert chosen(FOLLOWING) == ("seccomp", ["bwrap+seccomp: bubblewrap is not installed"])


def test_where_bubblewrap_does_not_work_its_own_words_are_the_reason(program):
    program("printf 'bwrap: ' >&2; echo 'No permissions to create new namespace' >&2; exit 1")
    assert chosen(FOLLOWING) == ("seccomp", ["bwrap+seccomp: bwrap: No permissions to create new namespace"])


def test_bubblewrap_shows_python_and_nothing_that_knows_answers(tmp_path):
    packages = tmp_path / "site-packages"
    for name in ("evoprompt", "helpful"):
        (packages / name).mkdir(parents=True)
    (packages / "evalplus.py").touch()
    words = starters.bubblewrap((str(packages),))
    line = " ".join(words)
    assert f"--ro-bind {packages} {packages}" in line
    assert f"--tmpfs {packages}/evoprompt --remount-ro {packages}/evoprompt" in line
    assert f"--ro-bind /dev/null {packages}/evalplus.py" in line and "helpful" not in line
    assert "--unshare-all" in words and "--bind" not in words and "--proc" not in words
    ours = [w for w in words if w.startswith(f"{starters.HERE}/")]
    assert sorted(w.rpartition("/")[2] for w in ours) == [
        "child.py", "codec.py", "lockdown.py", "seccomp.py", "zygote.py",
    ]  # fmt: skip
    assert words[-4:-2] == ["--remount-ro", "/"]


LAYERS = {"landlock": "Landlock", "bwrap": "bubblewrap", "seccomp": "seccomp", "ns": "namespaces"}


@pytest.mark.parametrize("tier", TIERS)
def test_the_doctor_names_every_layer(tier, monkeypatch, capsys):
    monkeypatch.setattr(sandbox, "TIERS", (tier,))
    try:
        with Harness() as harness:
            assert harness.tier == tier
    except SandboxError as e:
        pytest.skip(str(e))
    assert run(["doctor"]) == 0
    layers = [line for line in capsys.readouterr().out.splitlines() if line.startswith("ok   layer")]
    assert [line.split()[2].strip(":") for line in layers] == [LAYERS[word] for word in tier.split("+")]


@pytest.mark.parametrize("tier", TIERS)
def test_a_zygote_outlives_the_thread_that_started_it(tier):
    with Harness(processes=1) as harness:
        harness.sandbox._tiers = (tier,)
        started = threading.Thread(target=harness.probe)
        started.start()
        started.join()
        if not harness.sandbox._tier:
            pytest.skip(harness.probe())
        before = harness.sandbox._running[False][0].program
        with pytest.raises(subprocess.TimeoutExpired):
            before.wait(0.2)
        assert harness.probe() is None
