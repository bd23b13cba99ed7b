"""`EvoPrompt(...)` as someone meets it who knows DSPy: its keywords, its budgets, its models, its split."""

from __future__ import annotations

import inspect
import json
import logging
import re
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evoprompt import Budget, CodeMetric, EvoPrompt, Options, Program
from evoprompt.cli import run
from evoprompt.errors import ModelError, UsageError
from evoprompt.evolve import progress
from evoprompt.evolve.events import Event, Started
from evoprompt.evolve.settings import Settings
from evoprompt.evolve.splitting import LEAST, MOST, split
from evoprompt.harness import Harness
from evoprompt.runs import Run
from evoprompt.tasks import Task
from tests.evolve.moods import exact, examples, reply
from tests.models import ScriptedEngine, asked_for, scripted
from tests.world import data
from tests.world import reply as coder

PARAMETERS = inspect.signature(EvoPrompt).parameters


def test_every_option_has_a_name_a_type_a_default_and_a_meaning() -> None:
    assert next(iter(PARAMETERS)) == "metric" and not [p for p in PARAMETERS.values() if p.kind is p.VAR_KEYWORD]
    assert {field.name for field in fields(Options)} < set(PARAMETERS)
    for name, parameter in PARAMETERS.items():
        assert parameter.annotation is not parameter.empty, name
        assert name == "metric" or parameter.default is not parameter.empty, name
        assert f"\n    {name}: " in (EvoPrompt.__doc__ or ""), f"help(EvoPrompt) has no line about {name}"
        assert name in Options.__annotations__ or name in dir(Settings) or name == "metric"
    assert PARAMETERS["batch_size"].default == Options().batch_size


@pytest.mark.slow
def test_an_editor_completes_every_option() -> None:
    """Jedi reads the source alone, as editors do."""
    jedi = pytest.importorskip("jedi")
    source = "from evoprompt import EvoPrompt\nEvoPrompt(None, "
    (found,) = jedi.Script(source).get_signatures()
    assert {p.name for p in found.params} == set(PARAMETERS)


@given(st.sampled_from(["batch_size", "epochs", "max_words"]), st.integers(1, 99), st.integers(1, 99))
def test_a_keyword_wins_over_the_options(name: str, one: int, two: int) -> None:
    """Also where it is the default: what counts is that it was given."""
    options = Options(**{name: one})  # type: ignore[arg-type]
    assert getattr(EvoPrompt(exact, options=options).options, name) == one
    assert getattr(EvoPrompt(exact, options=options, **{name: two}).options, name) == two
    default = getattr(Options(), name)
    assert EvoPrompt(exact, options=options, **{name: default}).options == Options()


OTHER = scripted("", "scripted/other")[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batchsize": 3}, r"no option 'batchsize': give batch_size"),
        ({"max_metric_calls": 3}, r"'max_metric_calls': give budget=Budget\(rollouts=...\)"),
        ({"tracker": print}, "no option 'tracker': give listener=MLflowTracker"),
        ({"lock": [3]}, r"lock must be a list of passages of the start prompt, not \[3\]"),
        ({"lock": "Be kind.", "strategy": "gepa"}, "lock is for 'factorial' and 'refine'; 'gepa' rewrites"),
        ({"zzz": 3}, r"no option 'zzz': it has metric, strategy, "),
        ({"auto": "tiny"}, "auto must be one of light, medium, heavy, not 'tiny'"),
        ({"auto": ["light"]}, "auto must be one of"),
        ({"auto": "light", "budget": Budget(rollouts=3)}, "auto='light' is a budget by itself"),
        ({"auto": "light", "options": Options(budget=Budget(usd=3))}, "auto='light' is a budget by itself"),
        ({"options": {"batch_size": 3}}, r"options must be Options, such as .*, not {'batch_size': 3}"),
        ({"strategy": "genetic"}, "strategy must be one of factorial, refine"),
        ({"num_threads": 0}, "num_threads must be a whole number of at least 1, or None, not 0"),
        ({"num_threads": True}, "num_threads must be a whole number"),
        ({"on_interrupt": "ask"}, "on_interrupt must be 'return' or 'raise', not 'ask'"),
        ({"reflection_lm": "openai/gpt-4o"}, r"reflection_lm must be a model, such as dspy.LM.*, not 'openai/gpt-4o'"),
        ({"reflection_lm": OTHER, "optimizer_lm": OTHER.copy()}, "reflection_lm is debugger_lm and optimizer_lm"),
        ({"run_dir": "a", "log_dir": "b"}, "log_dir is another name of run_dir: give one, not run_dir='a' and"),
    ],
)
def test_what_cannot_work_is_one_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        EvoPrompt(exact, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("locked", "said"),
    [
        ("Answer in on word", "prompt does not hold 'Answer in on word'; the nearest line is 'Answer in one word.'"),
        (" ", "lock must be a list of passages"),
    ],
)
def test_a_passage_to_lock_must_stand_in_the_start_prompt(locked: str, said: str) -> None:
    student = dspy.Predict(dspy.Signature("question -> answer", "Answer in one word."))
    with pytest.raises(UsageError, match=said):
        EvoPrompt(exact, lock=[locked]).compile(student, trainset=[dspy.Example(question="a").with_inputs("question")])


def test_an_error_is_told_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    student = dspy.Predict("text -> label")
    with dspy.context(lm=dspy.LM("openai/gpt-4o-mini")), pytest.raises(ModelError, match="no API key") as keyless:
        EvoPrompt(exact).compile(student, trainset=examples())

    def failing(example: dspy.Example, prediction: dspy.Prediction) -> float:
        raise ZeroDivisionError("by my own metric")

    with pytest.raises(UsageError, match="ZeroDivisionError: by my own metric") as failed:
        compiled(EvoPrompt(failing))
    for caught in (keyless.value, failed.value):
        assert len(traceback.format_exception(caught)) < 20
    assert "in failing" in "".join(traceback.format_exception(failed.value))


def test_the_same_twice_is_no_contradiction(tmp_path: Path) -> None:
    search = EvoPrompt(exact, run_dir=tmp_path / "a", log_dir=str(tmp_path / "b/../a"), reflection_lm=OTHER)
    assert search.debugger_lm is search.optimizer_lm is OTHER
    assert EvoPrompt(exact, log_dir="x").run_dir == "x"
    EvoPrompt(exact, reflection_lm=OTHER, debugger_lm=OTHER)


def compiled(search: EvoPrompt, student: dspy.Module | None = None, **given: Any) -> tuple[Any, ScriptedEngine]:
    lm, engine = scripted(reply)
    lm.kwargs["temperature"] = 0.0
    sets: dict[str, Any] = {"trainset": examples(), "valset": examples(4, 11)} | given
    with dspy.context(lm=lm):
        return search.compile(student or dspy.Predict("text -> label"), **sets), engine


def test_budgets_by_number_of_tasks() -> None:
    told = [Options(auto=auto).settled(48).budget.rollouts for auto in ("light", "medium", "heavy")]
    assert told == [196, 392, 784]
    assert Options(auto="light").settled(0).budget == Budget(rollouts=100)
    assert Options(budget=Budget(usd=1)).settled(48) == Options(budget=Budget(usd=1))
    events: list[Event] = []
    search = EvoPrompt(exact, auto="light", listener=events.append)
    results = compiled(search)[0].detailed_results
    (begun,) = (e for e in events if isinstance(e, Started))
    assert begun.options.budget == Budget(rollouts=120)
    assert "120 rollouts" in str(search.estimate(dspy.Predict("text -> label"), examples(), examples(4, 11)))
    assert sum(b.evaluation.tasks for b in results.batches) <= 120


def test_compile_shows_a_bar_where_somebody_looks_and_nothing_else_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    search = {"budget": Budget(rollouts=60), "run_dir": tmp_path}
    compiled(EvoPrompt(exact, **search))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "watched", lambda: True)
    compiled(EvoPrompt(exact, **search, listener=lambda event: None))
    assert capsys.readouterr().err == ""
    compiled(EvoPrompt(exact, **search))  # all of it from the journal
    assert re.search(r"done: 100%\|.*?(\d+)/\1 ", capsys.readouterr().err.splitlines()[-1])


def test_a_script_sees_warnings_with_a_run_dir_as_without(tmp_path: Path) -> None:
    script = """
import logging, sys
from evoprompt.runs import Run
with Run(sys.argv[1]) as run, run.tree.log():
    logging.getLogger("evoprompt").warning("none of 16 failures was explained")
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stderr == "none of 16 failures was explained\n"
    assert "none of 16" in (tmp_path / "logs" / "experiment.log").read_text(encoding="utf-8")


def test_threads_are_those_of_dspy() -> None:
    with dspy.context(num_threads=3):
        assert Options().threads == 3 and Options(num_threads=5).threads == 5
    with dspy.context(num_threads=None):
        assert Options().threads == 8


@pytest.mark.parametrize("roles", [("debugger_lm",), ("optimizer_lm",), ("reflection_lm",), ()])
def test_each_role_of_any_student_may_have_a_model(roles: tuple[str, ...]) -> None:
    other, advisor = scripted(reply, "scripted/other")
    _, engine = compiled(EvoPrompt(exact, strategy="refine", batch_size=3, **dict.fromkeys(roles, other)))
    wanted = {"debugger_lm": {"diagnosis"}, "optimizer_lm": {"new_instruction"}}
    wanted["reflection_lm"] = {"diagnosis", "new_instruction"}
    advised = wanted[roles[0]] if roles else set()
    assert {asked_for(text) for text in advisor.seen} == advised
    assert {asked_for(text) for text in engine.seen} == {"label", "diagnosis", "new_instruction"} - advised


def test_the_roles_of_a_program_stay_its_own_unless_others_are_given(harness: Harness) -> None:
    engines: dict[str, ScriptedEngine] = {}

    def model(name: str) -> dspy.LM:
        lm, engines[name] = scripted(coder, f"scripted/{name}")
        return lm

    student = Program(generator_lm=model("coder"), debugger_lm=model("own"), optimizer_lm=model("own2"))
    search = EvoPrompt(
        CodeMetric(data(6), harness=harness), strategy="refine", batch_size=3, optimizer_lm=model("given")
    )
    evolved = search.compile(student, trainset=list(data(6)), valset=[])
    asked = {name: {asked_for(text) for text in engine.seen} for name, engine in engines.items()}
    assert asked == {"coder": {"code"}, "own": {"diagnosis"}, "own2": set(), "given": {"new_instruction"}}
    assert (evolved.optimizer.lm.model, student.optimizer.lm.model) == ("scripted/own2", "scripted/own2")


def test_the_models_of_the_roles_are_part_of_what_a_run_is(tmp_path: Path) -> None:
    other = scripted(reply, "scripted/other")[0]

    def searched(**models: Any) -> ScriptedEngine:
        search = EvoPrompt(exact, run_dir=tmp_path, strategy="refine", batch_size=3, **models)
        return compiled(search)[1]

    assert searched(debugger_lm=other).seen
    assert not searched(debugger_lm=other.copy()).seen
    with pytest.raises(UsageError, match="belongs to another run"):
        searched(optimizer_lm=other)


def test_results_only_where_they_are_wanted(tmp_path: Path) -> None:
    evolved, _ = compiled(EvoPrompt(exact, batch_size=3, track_stats=False, log_dir=tmp_path / "run"))
    assert not hasattr(evolved, "detailed_results") and evolved._compiled
    assert (tmp_path / "run/training/prompt_evolution.json").is_file()
    evolved.detailed_results = "of another search"
    again, engine = compiled(EvoPrompt(exact, strategy="refine", track_stats=False), evolved)
    assert not hasattr(again, "detailed_results") and engine.seen


def _tasks(prompts: list[str]) -> list[Task]:
    return [Task(task_id=f"t{n}", prompt=prompt, entry_point="f", base=()) for n, prompt in enumerate(prompts)]


@given(st.lists(st.sampled_from([f"problem {n}" for n in range(60)]), max_size=150), st.integers())
def test_a_split_is_fair(prompts: list[str], seed: int) -> None:
    tasks = _tasks(prompts)
    train, dev = split(tasks, seed)
    assert sorted([*train, *dev], key=tasks.index) == tasks
    assert not {t.prompt for t in train} & {t.prompt for t in dev}, "the same problem on both sides"
    problems = len(set(prompts))
    assert len({t.prompt for t in dev}) == (problems // 2 if problems >= LEAST else 0)
    assert (train, dev) == split(tasks, seed)


def test_a_split_keeps_what_is_enough_and_depends_on_the_seed() -> None:
    tasks = _tasks([f"problem {n}" for n in range(1000)])
    assert [len(side) for side in split(tasks, 1)] == [1000 - MOST, MOST]
    assert split(tasks, 1) != split(tasks, 2)


@pytest.mark.slow
def test_without_a_valset_some_training_tasks_are_kept_to_choose_by(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "evoprompt")

    def searched(folder: str, say: Callable[[str], str] = reply, **given: Any) -> tuple[Any, ScriptedEngine]:
        events: list[Event] = []
        search = EvoPrompt(exact, batch_size=3, num_threads=2, run_dir=tmp_path / folder, listener=events.append)
        caplog.clear()
        evolved, engine = compiled(search, trainset=examples(24), **given)
        (begun,) = (e for e in events if isinstance(e, Started))
        return (evolved.detailed_results, begun.train_tasks, begun.dev_tasks), engine

    (whole, *sizes), _ = searched("a", valset=None)
    assert sizes == [12, 12]
    (said,) = (r.message for r in caplog.records if "no valset" in r.message)
    assert said == "no valset: 12 of 24 training tasks are kept to choose by (seed 42); valset=[] keeps none"
    assert said in (tmp_path / "a/logs/experiment.log").read_text()
    again, engine = searched("a", valset=None)
    assert again == (whole, 12, 12) and not engine.seen, "another split"
    assert searched("b", valset=[])[0][1:] == (24, 0) and "no valset" not in caplog.text
    with pytest.raises(UsageError, match="belongs to another run"):
        searched("a", valset=[])


def test_few_tasks_are_all_learnt_from(caplog: pytest.LogCaptureFixture) -> None:
    evolved, _ = compiled(EvoPrompt(exact, batch_size=3), valset=None)
    assert not evolved.detailed_results.dev and "fewer than 20 problems (6 training tasks)" in caplog.text
    compiled(EvoPrompt(exact, batch_size=3), valset=None, trainset=examples(2) * 10)
    assert "fewer than 20 problems (2 problems in 20 training tasks)" in caplog.text, "twenty are enough otherwise"


@pytest.mark.parametrize(
    ("name", "value"),
    [("run_dir", 5), ("run_dir", ""), ("log_dir", ["a"]), ("listener", 3), ("track_stats", "no")],
)
def test_a_value_of_another_type_is_refused_at_once(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"{name} must be .*, not ") as e:
        EvoPrompt(exact, **{name: value})
    assert repr(value) in str(e.value)


def test_a_run_of_an_earlier_factorial_search_is_refused_before_it_is_paid_for(tmp_path: Path) -> None:
    """That search drew other subsets: to go on would spend what is left, and overwrite what it had found."""
    compiled(EvoPrompt(exact, batch_size=3, run_dir=tmp_path))
    with Run(tmp_path) as run_before:
        about = run_before.journal.fact("identity")
        assert about.pop("factorial revision")
        run_before.journal.keep_meta("identity", json.dumps(about, sort_keys=True))
    found = (tmp_path / "summary.json").read_bytes()
    with pytest.raises(UsageError, match=r"factorial revision was None, is \d.*--fork"):
        compiled(EvoPrompt(exact, batch_size=3, run_dir=tmp_path))
    assert (tmp_path / "summary.json").read_bytes() == found
    compiled(EvoPrompt(exact, batch_size=3, run_dir=tmp_path / "refine", strategy="refine"))
    with Run(tmp_path / "refine") as run_before:
        assert not [name for name in run_before.journal.fact("identity") if "revision" in name], "that one is as it was"


@pytest.mark.slow
def test_auto_on_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "train", "--experiment_name", "e", "--run_name", "r", "--root_dir", str(folder / "results"),
        "--dataset_path", str(folder), "--train_file", "train.json", "--model", "simulated",
    ]  # fmt: skip
    assert run([*words, "--auto", "light", "--max_calls", "30"]) == 2
    said = capsys.readouterr().err
    assert "auto='light' is a budget by itself" in said and said.count("\n") == 1
    assert not (folder / "results").exists()
    assert run([*words, "--auto", "light", "--dry_run"]) == 0
    assert "The budget ends it at " in capsys.readouterr().out
    assert run([*words, "--auto", "light"]) == 0
    assert run(["resume", str(folder / "results/e/r"), "--max_rollouts", "200"]) == 0
    assert run(["resume", str(folder / "results/e/r"), "--auto", "medium"]) == 0
    with Run(folder / "results/e/r") as found:
        assert found.journal.fact("config")["options"]["auto"] == "light"
