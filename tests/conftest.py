"""Every test runs with an empty home, without keys and DSPy's caches, and repeats failed calls soon."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples every time, and no clock: a loaded machine is no failure.
settings.register_profile("evoprompt", derandomize=True, deadline=None)
settings.load_profile("evoprompt")

KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY", "OPENAI_API_BASE")


@pytest.fixture(autouse=True)
def _clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("DSPY_CACHEDIR", str(home / "dspy"))
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    for key in KEYS:
        monkeypatch.delenv(key, raising=False)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evoprompt.lm.calls.FIRST_WAIT", 0.1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data that is not part of the repository."""
    path = os.environ.get("EVOPROMPT_SHARED")
    if not path:
        pytest.skip("EVOPROMPT_SHARED is not set")
    return Path(path)


@pytest.fixture(scope="session")
def harness() -> Iterator[object]:
    """One harness for the session: its verdicts are memoised. A loop that never ends is given up soon."""
    from evoprompt.harness import Harness, Limits

    with Harness(limits=Limits(cpu_seconds=1.0)) as built:
        yield built


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three small files in the user's format."""
    from tests.world import data

    for name, first in (("train.json", 1), ("dev.json", 11), ("test.json", 21)):
        rows = [
            {"task_id": t.task_id, "prompt": t.prompt, "code": t.code, "test": list(t.base), "plus_test": list(t.plus)}
            for t in data(4, first)
        ]
        (tmp_path / name).write_text(json.dumps(rows))
    return tmp_path
