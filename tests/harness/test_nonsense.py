"""Tests that test nothing are found out, and weak ones are left alone."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import dspy
import pytest

from evoprompt import CodeMetric, EvoPrompt, Program, load_dataset
from evoprompt.cli import run
from evoprompt.datasets import Dataset
from evoprompt.errors import DataError
from evoprompt.evaluate import evaluate
from evoprompt.harness import Harness
from evoprompt.harness.judging.nonsense import find_untested
from evoprompt.harness.judging.report import Report
from evoprompt.tasks import Task
from tests.models import scripted
from tests.world import reply, task

NOTHING = {
    "a function of asserts": "def check(candidate):\n    assert candidate(2) == 4",
    "one that is named and not called": "def check(candidate):\n    assert candidate(2) == 4\ncheck",
    "tuple": "assert (f(2) == 4, 'msg')",
    "list": "assert [f(2) == 4]",
    "lambda": "assert lambda: f(2) == 4",
    "print": "print(f(2) == 4)",
    "print of a sum": "print(f(2) + 1 == 5)",
    "print of a length": "print(len(f('x')) == 3)",
    "loop": "for x in f([1]):\n    print(x)",
    "result is left": "result = f(2)",
    "true": "assert True",
    "or true": "assert f(2) == 4 or True",
    "compared with itself": "assert f(2) == f(2)",
    "caught": "try:\n    assert f(2) == 4\nexcept AssertionError:\n    print('no')",
    "caught bare": "try:\n    assert f(2) == 4\nexcept:\n    pass",
    "told": "r = f(2)\nif r != 4:\n    print('FAIL', r)",
    "any object": "assert isinstance(f(2), object)",
    "metadata": "METADATA = {}",
}
WEAK = {
    "equal": "assert f(2) == 4",
    "not None": "assert f(2) is not None",
    "true": "assert f(7)",
    "false": "assert not f(4)",
    "None": "assert f(3) is None",
    "some length": "assert len(f(3)) > 0",
    "type": "assert isinstance(f(2), int)",
    "order": "assert f(2) >= 0",
    "a name first": "x = f(2)\nassert x is not None",
    "close": "x = f(2)\nassert abs(x - 4) < 1e-6",
    "called": "def check(candidate):\n    assert candidate(2) == 4\ncheck(f)",
    "loop": "for a, b in [(2, 4)]:\n    assert f(a) == b",
    "raises": "if f(2) != 4:\n    raise ValueError('bad')",
    "raises unless true": "if not f(7):\n    raise ValueError('bad')",
    "exits": "import sys\nif f(2) != 4:\n    sys.exit(1)",
    "wants an exception": "try:\n    f('a')\n    assert False\nexcept TypeError:\n    pass",
}


def one(test: str, **changes: object) -> Task:
    values = {"task_id": "x", "prompt": "p", "code": "def f(x):\n    return x + 2", "entry_point": "f", "base": (test,)}
    return Task.model_validate(values | changes)


@pytest.mark.parametrize("test", NOTHING.values(), ids=NOTHING)
def test_a_test_that_tests_nothing(test: str, harness: Harness) -> None:
    (line,), broken = find_untested([one(test)], harness)
    assert line == (
        "task x: its tests pass a function that returns nonsense, so they test nothing; does something call `check`?"
    )
    assert not broken


@pytest.mark.parametrize("test", WEAK.values(), ids=WEAK)
def test_a_weak_test_is_left_alone(test: str, harness: Harness) -> None:
    assert find_untested([one(test)], harness) == ([], {})


def test_each_suite_counts_where_it_is_asked_for(harness: Harness) -> None:
    empty = one("assert f(2) == 4", plus=("assert True",))
    (line,), _ = find_untested([empty], harness)
    assert line.startswith("task x: its plus tests pass")
    assert find_untested([empty], harness, plus=False) == ([], {})


def test_classes_and_helpers_of_the_solution_are_nonsense_too(harness: Harness) -> None:
    code = "class Stack:\n    def __init__(self):\n        self.n = 0\n    def push(self, x):\n        return x"
    stack = {"code": code, "entry_point": "Stack"}
    (line,), _ = find_untested([one("s = Stack()\nprint(s.push(3) == 3)", **stack)], harness)
    assert "nonsense" in line
    assert find_untested([one("assert Stack().push(3) == 3", **stack)], harness) == ([], {})
    assert find_untested([one("s = Stack()\nassert s.is_empty()", **stack)], harness) == ([], {})
    pair = {"code": "def g(x):\n    return x\ndef f(x):\n    return g(x)"}
    assert len(find_untested([one("print(f(g(1)) == 1)", **pair)], harness)[0]) == 1


def test_broken_tests_are_told_apart(harness: Harness) -> None:
    lines, broken = find_untested([one("assert f(2) == 4", setup="import nothing_of_this_name")], harness)
    assert not lines and "nothing_of_this_name" in broken["x"]


def test_what_tests_something_is_remembered(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    good, empty = one("assert f(2) == 4"), one("assert True", task_id="y")
    assert len(find_untested([good, empty], harness)[0]) == 1
    asked: list[str] = []
    check = harness.check

    def counted(task: Task, *words: Any, **suites: Any) -> Report:
        asked.append(task.task_id)
        return check(task, *words, **suites)

    monkeypatch.setattr(harness, "check", counted)
    assert len(find_untested([good, empty], harness)[0]) == 1
    assert set(asked) == {"y"}


@pytest.mark.slow
def test_no_false_alarm_on_the_starter_set(harness: Harness) -> None:
    assert find_untested(load_dataset("starter"), harness) == ([], {})


def test_no_false_alarm_on_real_asserts(harness: Harness, shared: Path) -> None:
    with gzip.open(shared / "data" / "MbppPlus.jsonl.gz") as file:
        rows = [json.loads(line) for line in file][::6]
    tasks = [
        Task(
            task_id=r["task_id"], prompt="p", code=r["prompt"] + r["canonical_solution"], entry_point=r["entry_point"],
            base=tuple(line for line in r["assertion"].splitlines() if line.startswith("assert")),
        )
        for r in rows
    ]  # fmt: skip
    assert find_untested(tasks, harness) == ([], {})


def test_nothing_is_asked_of_a_model_before(harness: Harness) -> None:
    data = Dataset([task(1), task(2, base=("print(top_2([1]))",), plus=())], "mixed")
    metric = CodeMetric(data, harness=harness)
    lm, engine = scripted(reply)
    with dspy.context(lm=lm):
        for attempt in (
            lambda: evaluate(Program(), data, metric),
            lambda: EvoPrompt(metric).compile(Program(), trainset=data.examples()),
        ):
            with pytest.raises(DataError, match=r"^task t2: its tests pass a function that returns nonsense"):
                attempt()
    assert not engine.seen


def test_many_are_told_in_few_lines(harness: Harness) -> None:
    data = Dataset([one("assert True", task_id=str(i)) for i in range(30)])
    with pytest.raises(DataError) as caught:
        CodeMetric(data, harness=harness).vet(data)
    assert len(caught.value.problems) == 21 and caught.value.problems[-1] == "and 10 more of this kind"


def test_a_task_with_broken_tests_is_not_measured(harness: Harness) -> None:
    data = Dataset([task(1), task(2, setup="import nothing_of_this_name")], "mixed")
    metric = CodeMetric(data, harness=harness)
    lm, engine = scripted(reply)
    with dspy.context(lm=lm):
        found = evaluate(Program(), data, metric, samples=2)
        assert (found.measured, found.unmeasured, found.faults) == (2, 2, {"broken_tests": 2})
        assert len(engine.seen) == 2 and "nothing_of_this_name" in found.rollouts[2].error
        with pytest.raises(DataError, match="nothing_of_this_name"):
            EvoPrompt(metric).compile(Program(), trainset=data.examples())
        with pytest.raises(DataError, match="could not be measured"):
            evaluate(Program(), data[1:], metric)
    assert len(engine.seen) == 2


def test_a_task_that_its_own_solution_fails_is_not_measured(harness: Harness) -> None:
    data = Dataset([task(1), task(2, plus=("assert top_2([]) == 7",)), task(3, code="")], "mixed")
    why = CodeMetric(data, harness=harness).vet(data)
    assert why == {
        "t2": "task t2: assert top_2([]) == 7 returned 0, by its own canonical solution: mend the test or the solution"
    }
    assert CodeMetric(data, harness=harness, plus=False).vet(data) == {}


@pytest.mark.parametrize("command", ["train", "evaluate", "samples"])
def test_the_commands_refuse_it(command: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads((folder / "test.json").read_text())
    rows[1]["test"] = ["top_22([1])"]
    rows[1]["plus_test"] = []
    (folder / "test.json").write_text(json.dumps(rows))
    (folder / "s.jsonl").write_text(json.dumps({"task_id": "t22", "solution": "top_22 = max"}))
    words = {
        "train": ["train", "--experiment_name", "e", "--run_name", "r", "--root_dir", str(folder / "runs"),
                  "--dataset_path", str(folder), "--train_file", "train.json", "--test_file", "test.json",
                  "--model", "simulated"],
        "evaluate": ["evaluate", "--dataset", str(folder / "test.json"), "--model", "simulated",
                     "--output", str(folder / "out.json")],
        "samples": ["evaluate", "--dataset", str(folder / "test.json"), "--samples", str(folder / "s.jsonl")],
    }  # fmt: skip
    before = set(folder.iterdir())
    assert run(words[command]) == 2
    told = capsys.readouterr().err
    assert (
        told.startswith("evoprompt: task t22: its tests pass a function that returns nonsense")
        and told.count("\n") == 1
    )
    assert set(folder.iterdir()) - {folder / "home"} == before - {folder / "home"}
