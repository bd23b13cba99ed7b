"""Searches as plug-ins: anybody's goes through the same door as ours, and keeps the same promises."""

from __future__ import annotations

import importlib
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils.exceptions import LMServerError

from evoprompt import Budget, EvoPrompt, Options
from evoprompt.cli import run
from evoprompt.errors import ModelError, UsageError
from evoprompt.evolve import OwnSearch, Strategy, strategies
from evoprompt.evolve.events import BatchDone, DevDone, Event, Finished, Interrupted, Started
from evoprompt.evolve.factorial.search import Factorial
from evoprompt.evolve.refine import Refine
from evoprompt.evolve.results_tree import export
from evoprompt.lm.concurrency import ConcurrencyLimiter
from evoprompt.runs import Run
from tests.evolve import moods, test_predictors
from tests.evolve.moods import RULE, Asked, exact, examples, reply
from tests.models import asked_for, scripted
from tests.test_rivals_any_metric import say

DOCS = (Path(__file__).parents[2] / "docs/how_to/own_search.md").read_text()
CLASS = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)[0]


@pytest.fixture
def climbing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a module with the search that the documentation shows."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "climbing.py").write_text(CLASS)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "climbing", raising=False)
    return folder


def compiled(
    strategy: Any, says: Callable[[str], str] = reply, metric: Any = exact, **options: Any
) -> tuple[Any, list[str], list[Event]]:
    lm, engine = scripted(says)
    lm.kwargs["temperature"] = 0.0
    events: list[Event] = []
    with dspy.context(lm=lm):
        search = EvoPrompt(metric, strategy=strategy, listener=events.append, **({"num_threads": 2} | options))
        student = dspy.Predict("text -> label")
        evolved = search.compile(student, trainset=examples(), valset=examples(4, 11))
    return evolved, engine.seen, events


def tree(folder: Path) -> dict[str, str]:
    """All files but those with times in them."""
    found = {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*.json")}
    return {name: text for name, text in found.items() if "seconds" not in text}


def test_the_documented_search(climbing: Path, tmp_path: Path) -> None:
    assert len([line for line in CLASS.splitlines() if line.strip()]) <= 20
    evolved, _, events = compiled(importlib.import_module("climbing").Climb, run_dir=tmp_path / "run")
    found = evolved.detailed_results
    assert RULE in evolved.signature.instructions and found.best_dev_score == 100
    assert found.dev[found.seed.key].score == 50
    (batch,) = found.batches
    assert (batch.accepted, batch.parent_score, batch.child_score) == (True, 50, 100)
    assert found.evolution[1].proposed_because[0].rule == RULE
    kinds = [type(e) for e in events if isinstance(e, Started | BatchDone | DevDone | Finished)]
    assert kinds == [Started, DevDone, BatchDone, DevDone, Finished]
    files = tree(tmp_path / "run")
    explained = [t for name, t in files.items() if "individual_tasks" in name and '"by": "debugger"' in t]
    assert len(explained) == 3, "the diagnoses are shown with the tasks"
    with Run(tmp_path / "run") as there:
        for name in files:
            (tmp_path / "run" / name).unlink()
        export(there)
    assert tree(tmp_path / "run") == files


@pytest.mark.slow
@pytest.mark.parametrize("at", [2, 7, 12, 14, 16])
def test_a_killed_process_goes_on_to_the_same_result(climbing: Path, tmp_path: Path, at: int) -> None:
    asked: list[str] = []
    seen: list[str] = []

    def noting(where: list[str]) -> Callable[[str], str]:
        return lambda text: where.append(text) or reply(text)  # type: ignore[func-returns-value]

    whole = moods.compiled(tmp_path / "whole", noting(asked), "climbing:Climb").detailed_results
    folder, root = tmp_path / "killed", str(Path(__file__).parents[2])
    command = [sys.executable, "-m", "tests.evolve.moods", str(folder), str(at), "climbing:Climb"]
    paths = {"PYTHONPATH": f"{root}:{climbing}", "PATH": ""}
    assert subprocess.run(command, cwd=root, env=paths).returncode == -9
    with Run(folder) as there:
        known = there.journal.counts()["answers"]
    assert moods.compiled(folder, noting(seen), "climbing:Climb").detailed_results == whole
    assert known >= at - 2 and len(seen) == len(asked) - known
    assert tree(folder) == tree(tmp_path / "whole")


def test_what_was_not_measured_stays_so(tmp_path: Path, climbing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that goes on decides as it did, though the model would answer now."""
    monkeypatch.setattr(ConcurrencyLimiter, "sleep", lambda self, *_: None)

    def told(text: str) -> str:
        if "day 1 " in text and asked_for(text) == "label":
            raise LMServerError("down")
        return reply(text)

    def refused(text: str) -> str:
        if RULE in text and asked_for(text) == "label" and "day 12 " in text:
            raise KeyboardInterrupt
        return told(text)

    whole = compiled("climbing:Climb", told, run_dir=tmp_path / "a")[0].detailed_results
    compiled("climbing:Climb", refused, run_dir=tmp_path / "b", num_threads=1)
    assert compiled("climbing:Climb", told, run_dir=tmp_path / "b")[0].detailed_results == whole
    again, seen, _ = compiled("climbing:Climb", run_dir=tmp_path / "b")
    assert again.detailed_results == whole and not seen


def test_it_rewrites_the_predictor_that_is_to_blame(climbing: Path) -> None:
    evolved, _ = test_predictors.compiled(strategy="climbing:Climb")
    assert RULE in test_predictors.texts(evolved)["judge"]
    assert test_predictors.texts(evolved)["note"] == test_predictors.NOTE


def test_its_code_is_part_of_what_a_run_is(climbing: Path, tmp_path: Path) -> None:
    compiled("climbing:Climb", run_dir=tmp_path / "run")
    (climbing / "climbing.py").write_text(CLASS.replace("if not better", "if better"))
    sys.modules.pop("climbing")
    importlib.invalidate_caches()
    with pytest.raises(UsageError, match=r"belongs to another run: options\.strategy\.code was"):
        compiled("climbing:Climb", run_dir=tmp_path / "run")
    with pytest.raises(UsageError, match=r"belongs to another run"):
        compiled("refine", run_dir=tmp_path / "run")


def test_a_budget_ends_it_with_the_best_so_far(climbing: Path, tmp_path: Path) -> None:
    whole, asked, _ = compiled("climbing:Climb", run_dir=tmp_path / "whole")
    part, seen, _ = compiled("climbing:Climb", run_dir=tmp_path / "run", budget=Budget(rollouts=13))
    assert "13" in part.detailed_results.stopped and part.detailed_results.best.key == whole.detailed_results.seed.key
    rest, more, _ = compiled("climbing:Climb", run_dir=tmp_path / "run", budget=Budget(rollouts=100))
    assert rest.detailed_results == whole.detailed_results and len(seen) + len(more) == len(asked)


def test_an_estimate_of_it(climbing: Path) -> None:
    climb = importlib.import_module("climbing").Climb
    student, sets = dspy.Predict("text -> label"), (examples(), examples(4, 11))
    told = EvoPrompt(exact, strategy=climb, auto="light").estimate(student, *sets)
    assert str(told).splitlines()[0] == "What Climb will cost is not known: its class has no `plan(case)`."
    assert "120 rollouts" in str(told) and told.total[1].calls == float("inf")
    planned = type("Planned", (climb,), {"plan": staticmethod(lambda case: {"generator": 3 * case.train})})
    told = EvoPrompt(exact, strategy=planned).estimate(student, *sets)
    assert told.total[1].calls == 18 and "Calls of the model that proposes for Planned come on top" in str(told)


def test_a_name_that_a_package_gives_it(climbing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offered = EntryPoints([EntryPoint("climb", "climbing:Climb", strategies.GROUP)])
    monkeypatch.setattr(strategies, "entry_points", lambda group: offered.select(group=group))
    assert RULE in compiled("climb")[0].signature.instructions
    with pytest.raises(UsageError, match="is 'climb' meant"):
        Options(strategy="clim")


def test_one_that_shares_nothing_with_ours() -> None:
    """All that is needed is the protocol."""

    class Bare:
        def __init__(self, seed: Any, roles: Any, runner: Any, options: Any, listener: Any) -> None:
            self.seed = seed

        def run(self, train: Any, dev: Any) -> Any:
            from evoprompt.evolve import Results

            better = self.seed.child(RULE)
            return Results(best=better, seed=self.seed, evolution=(), batches=(), dev={})

    kind: type[Strategy] = Bare
    evolved, seen, _ = compiled(kind)
    assert evolved.signature.instructions == RULE and not seen


def test_ours_by_class_are_ours_by_name(tmp_path: Path) -> None:
    compiled("refine", run_dir=tmp_path / "run", batch_size=3)
    assert not compiled(Refine, run_dir=tmp_path / "run", batch_size=3)[1]
    assert Options(strategy=Factorial).identity() == Options().identity()


class NoRun:
    pass


class Silent:
    def __init__(self, seed: Any, roles: Any, runner: Any, options: Any, listener: Any) -> None:
        pass

    def run(self, train: Any, dev: Any) -> None:
        """Forgets to return its results."""


def test_one_that_returns_nothing_is_one_line() -> None:
    with (
        dspy.context(lm=scripted(reply)[0]),
        pytest.raises(UsageError, match=r"Silent: run.* must return Results, not"),
    ):
        EvoPrompt(exact, strategy=Silent).compile(dspy.Predict("text -> label"), trainset=examples(), valset=[])


class NoSearch(OwnSearch):
    pass


class TakesNothing:
    def run(self, train: Any, dev: Any) -> None: ...


class Needy(Refine):
    needs = "no_such_package"


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        ("factoral", r"one of factorial, refine, gepa, .*, not 'factoral'; is 'factorial' meant\?"),
        (NoRun, r"strategy NoRun has no `run\(self, train, dev\)`: derive it from evoprompt.evolve.OwnSearch"),
        (NoSearch, r"strategy NoSearch does not define `search`"),
        (TakesNothing, r"can't be made as TakesNothing\(seed, roles, runner, options, listener\)"),
        (TakesNothing(), "give its class: strategy=TakesNothing"),
        (None, "strategy must be one of factorial, .* or a class, not None"),
        ("no_such_module:X", r"'no_such_module:X' can't be imported: ModuleNotFoundError: .* \(PYTHONPATH=\."),
        ("json:NoSuchClass", r"can't be imported: AttributeError"),
        ("json:dumps", "strategy must be one of"),
        (Needy, "Needy needs a package that is not installed: pip install no_such_package"),
    ],
)
def test_what_cannot_search_is_one_line(strategy: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        EvoPrompt(exact, strategy=strategy)
    assert "\n" not in str(caught.value)


class Numbered(OwnSearch):
    def search(self, train: Any, dev: Any) -> Any:
        return 3


class Broken(OwnSearch):
    def search(self, train: Any, dev: Any) -> str | None:
        raise LookupError("no such rule")


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        (Numbered, r"strategy Numbered: search\(train, dev\) must return why it ended, or None, not 3"),
        (Broken, "strategy Broken: LookupError: no such rule"),
    ],
)
def test_a_fault_of_a_users_search_names_it(strategy: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        compiled(strategy)


@pytest.mark.slow
def test_a_rival_through_the_same_door(tmp_path: Path) -> None:
    """By name, with a metric that asks a model itself, by the optimizer's model, from a kept run."""
    other, proposer = scripted(say, "scripted/other")
    other.kwargs["temperature"] = 0.0
    judge, judged = scripted(lambda text: "[[ ## same ## ]]\nTrue\n\n[[ ## completed ## ]]")
    options: dict[str, Any] = {"budget": Budget(rollouts=60), "optimizer_lm": other, "num_threads": 1}
    options |= {"run_dir": tmp_path / "run", "metric": Asked(judge)}
    evolved, seen, events = compiled("copro", **options)
    assert proposer.seen and judged.seen and {asked_for(text) for text in seen} == {"label"}
    assert evolved.detailed_results.best_dev_score == 100
    finished = [e for e in events if isinstance(e, Finished)]
    assert [e.spent for e in finished] == ["copro is done"] and not evolved.detailed_results.stopped
    counts = len(proposer.seen), len(judged.seen)
    again, seen, _ = compiled("copro", **options)
    assert not seen and (len(proposer.seen), len(judged.seen)) == counts
    assert again.detailed_results == evolved.detailed_results
    with pytest.raises(UsageError, match="begun for 60 rollouts, and can't become one for 90: give 60"):
        compiled("copro", **options | {"budget": Budget(rollouts=90)})


@pytest.mark.slow
def test_ctrl_c_amid_a_rival_gives_its_best_so_far(tmp_path: Path) -> None:
    left = iter(range(16))

    def says(text: str) -> str:
        if next(left, None) is None:
            signal.raise_signal(signal.SIGINT)
        return say(text)

    options: dict[str, Any] = {"budget": Budget(rollouts=60), "num_threads": 1, "seed": 0}
    part, _, events = compiled("copro", says, run_dir=tmp_path / "run", **options)
    assert part.detailed_results.stopped == "interrupted" and RULE in part.signature.instructions
    assert isinstance(events[-1], Interrupted)
    whole = compiled("copro", say, run_dir=tmp_path / "whole", **options)[0].detailed_results
    assert compiled("copro", say, run_dir=tmp_path / "run", **options)[0].detailed_results == whole


def test_an_outage_pauses_a_rival_through_the_same_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ConcurrencyLimiter, "sleep", lambda self, *_: None)

    def down(text: str) -> str:
        raise LMServerError("down")

    with pytest.raises(ModelError, match="no answer from the model"):
        compiled("gepa", down, budget=Budget(rollouts=60), run_dir=tmp_path)


@pytest.mark.slow
def test_on_the_command_line(climbing: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def words(strategy: str, name: str = "r") -> list[str]:
        return [
            "train", "--experiment_name", "e", "--run_name", name, "--root_dir", str(folder / "results"),
            "--dataset_path", str(folder), "--train_file", "train.json", "--model", "simulated", "--strategy", strategy,
        ]  # fmt: skip

    assert run(words("guess")) == 2
    said = capsys.readouterr().err
    assert "strategy must be one of factorial" in said and said.count("\n") == 1 and not (folder / "results").exists()
    assert run(words("climbing:Climb")) == 0
    assert "tasks with climbing:Climb" in capsys.readouterr().err
    assert run(["resume", str(folder / "results/e/r")]) == 2
    assert "give its `evoprompt train` again" in capsys.readouterr().err
    assert run(words("climbing:Climb")) == 0
    assert run([*words("climbing:Climb", "d"), "--dry_run"]) == 0
    assert "What climbing:Climb will cost is not known" in capsys.readouterr().out
