"""One small run of `evoprompt train` over real HTTP, and how it ends when nothing happens to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.fault_server import FaultServer, Plan
from tests.faults.victim import Blow, Victim, kept, results, run
from tests.models import ScriptedEngine
from tests.world import data, reply

THREADS = 4


def server(plan: Plan = lambda *_: None, **how: Any) -> FaultServer:
    """Answers as `tests.world` says."""
    return FaultServer(plan, engine=ScriptedEngine(reply), **how)


@dataclass(frozen=True)
class Study:
    """A folder with task files, and the command that trains on them."""

    folder: Path

    @property
    def run_dir(self) -> Path:
        return self.folder / "results/e/r"

    def words(self, base: str, *more: str) -> list[str]:
        files = [w for role in ("train", "dev", "test") for w in (f"--{role}_file", f"{role}.json")]
        return [
            "train", "--experiment_name", "e", "--run_name", "r", "--root_dir", "results", "--dataset_path", ".",
            *files, "--model", "openai/x", "--api_base", base, "--batch_size", "3", "--eval_interval", "1",
            "--num_threads", str(THREADS), *more,
        ]  # fmt: skip

    def train(self, base: str, *more: str, blow: Blow | None = None, **environment: str) -> tuple[int, str]:
        """Run it to its end."""
        return run(self.words(base, *more), self.folder, blow, **environment)

    def begin(self, base: str, *more: str, **environment: str) -> Victim:
        """Start it."""
        return Victim(self.words(base, *more), self.folder, None, environment)


@dataclass(frozen=True)
class Undisturbed:
    """What comes of a study when nothing happens to it."""

    results: dict[str, bytes]
    requests: int
    rows: dict[str, int]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return write(tmp_path / "study")


def write(folder: Path, sizes: tuple[int, int, int] = (6, 4, 3)) -> Study:
    """A study with that many tasks to train, choose and test with."""
    folder.mkdir()
    for role, size, first in zip(("train", "dev", "test"), sizes, (1, 10_001, 20_001), strict=True):
        rows = [
            {"task_id": t.task_id, "prompt": t.prompt, "code": t.code, "test": list(t.base), "plus_test": list(t.plus)}
            for t in data(size, first)
        ]
        (folder / f"{role}.json").write_text(json.dumps(rows))
    return Study(folder)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return ended(write(tmp_path_factory.mktemp("undisturbed") / "study"))


def ended(study: Study) -> Undisturbed:
    """Runs it and looks at what came of it."""
    with server() as there:
        code, said = study.train(there.base)
        assert code == 0, said
        assert sum(there.asked.values()) == len(there.asked), "nothing is asked for twice"
        return Undisturbed(results(study.run_dir), sum(there.served.values()), kept(study.run_dir))


@pytest.fixture
def same(undisturbed: Undisturbed) -> Callable[[Study], None]:
    """Holds a study's results against those of the undisturbed one, byte by byte."""

    def check(study: Study) -> None:
        found = results(study.run_dir)
        assert {n for n, content in undisturbed.results.items() if found.get(n) != content} == set()
        assert found.keys() == undisturbed.results.keys()

    return check
