"""Students of several predictors: all of them evolve, and the one that is to blame changes."""

from __future__ import annotations

import io
import json
import logging
import math
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import dspy
import pytest
from rich.console import Console

from evoprompt import CodeMetric, EvoPrompt, Harness, Program
from evoprompt.candidate import Candidate
from evoprompt.cli.display import rules_table
from evoprompt.errors import ModelError, UsageError
from evoprompt.evolve.advise import _named
from evoprompt.evolve.factorial.rules import Rule
from evoprompt.evolve.state import rival_results
from evoprompt.judges.steps import MAX_STEPS, MAX_VALUE, NAME, steps_of, told
from evoprompt.rivals.optimizers import RivalBest
from evoprompt.runs import Run
from tests import world
from tests.evolve.moods import RULE
from tests.evolve.test_factorial import exported, tree, without_bills
from tests.evolve.two import LABEL, NOTE, Two, compiled, reply, texts
from tests.models import Refusing, asked_for, scripted

STRATEGIES = ["factorial", "refine"]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_predictor_that_is_to_blame_changes(strategy: str, tmp_path: Path) -> None:
    evolved, seen = compiled(strategy=strategy, run_dir=tmp_path)
    results = evolved.detailed_results
    assert texts(evolved)["note"] == NOTE and RULE in texts(evolved)["judge"]
    assert results.best_dev_score == 100.0 and dict(results.best.instructions) == texts(evolved)
    told = next(text for text in seen if asked_for(text) == "diagnosis")
    assert '"predictor": "note"' in told and "note: a day" in told and "label: bright" in told
    asked = [text for text in seen if asked_for(text) == "new_instruction"]
    assert asked and all("Tell the mood" in text and NOTE not in text for text in asked), "for the judge's text alone"
    assert (tmp_path / "training/final_prompt.txt").read_text().startswith(f"[note]\n{NOTE}\n\n[judge]\n")
    rules = json.loads((tmp_path / "training/prompt_evolution.json").read_text())["rules"]
    assert strategy == "refine" or {(r["predictor"], r["start"]) for r in rules if r["text"] == RULE} == {
        ("judge", False)
    }
    saved = Two()
    saved.load(tmp_path / "program.json")
    assert texts(saved) == texts(evolved)


@pytest.mark.slow
def test_each_failure_is_explained_by_its_steps(tmp_path: Path) -> None:
    compiled(run_dir=tmp_path)
    rows = [json.loads(p.read_text()) for p in (tmp_path / "training/epochs").rglob("individual_tasks/*.json")]
    failed = [row for row in rows if row["score"] == 0.0 and row["diagnosis"]]
    assert failed and all(row["diagnosis"]["predictor"] == "judge" for row in failed)
    assert [step["predictor"] for step in failed[0]["steps"]] == ["note", "judge"]
    assert failed[0]["steps"][1]["outputs"] == {"label": "bright"}


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("plan", "plan"), (" `Plan` ", "plan"), ("'write.predict'", "write.predict"), ("write", "write.predict"),
        ("predict", "check.predict"), ("", "check.predict"), ("the optimizer", "check.predict"),
        ("step 1", "check.predict"),
    ],
)  # fmt: skip
def test_who_is_meant(said: str, meant: str) -> None:
    assert _named(said, ["plan", "write.predict", "check.predict"]) == meant


def test_where_the_debugger_names_nobody_the_last_one_is_to_blame() -> None:
    evolved, _ = compiled(say=lambda text: reply(text, blamed="the weather"))
    assert texts(evolved)["note"] == NOTE and RULE in texts(evolved)["judge"]


def test_several_may_be_to_blame() -> None:
    """Two failures have two causes; each predictor gets its own rule, and the one that does nothing goes again."""

    def says(text: str) -> str:
        first = "day 1" in text.rpartition("It began")[2] and asked_for(text) == "diagnosis"
        about_note = "Note what" in text.rpartition("current_instruction ## ]]")[2]
        if first or (asked_for(text) == "new_instruction" and about_note):
            return reply(text, blamed="note", rule="Be calm about it.")
        return reply(text)

    evolved, seen = compiled(say=says)
    assert RULE in texts(evolved)["judge"] and "calm" not in texts(evolved)["judge"]
    asked = [text for text in seen if asked_for(text) == "new_instruction"]
    assert any(NOTE in text for text in asked) and any(LABEL in text for text in asked)


def test_a_reply_that_cant_be_read_is_the_fault_of_who_gave_it() -> None:
    def says(text: str) -> str:
        lost = asked_for(text) == "label" and "form that is asked for" not in text
        return "Well." if lost else reply(text, rule="Answer in the form that is asked for.")

    evolved, seen = compiled(say=says)
    assert "form that" not in texts(evolved)["note"] and "form that" in texts(evolved)["judge"]
    assert not any(asked_for(text) == "diagnosis" and "Well." in text for text in seen), "that is certain"


class Nest(dspy.Module):
    """`ChainOfThought` then `Predict`, one of them in a list, one in another module, held twice; and an idle one."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = [dspy.ChainOfThought(dspy.Signature("text -> note", NOTE))]
        self.inner = Two()
        self.again = self.inner.judge
        self.idle = dspy.Predict(dspy.Signature("text -> mood", "Never asked. Not once."))

    def forward(self, text: str) -> dspy.Prediction:
        note = self.stages[0](text=text).note
        return self.again(text=text, note=note)


def test_a_nest_of_predictors(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "evoprompt"):
        evolved, _ = compiled(Nest(), lambda text: reply(text, blamed="inner.judge"))
    assert list(texts(evolved)) == ["stages[0].predict", "inner.note", "inner.judge", "idle"]
    assert RULE in texts(evolved)["inner.judge"] and evolved.again is evolved.inner.judge
    assert texts(evolved)["idle"] == "Never asked. Not once." and texts(evolved)["inner.note"] == NOTE
    told = [r.message for r in caplog.records if "not called so far" in r.message]
    assert told == ["not called so far, so that their instructions stay: 'inner.note', 'idle'"]


def test_a_predictor_without_an_instruction() -> None:
    student = Two()
    student.judge.signature = student.judge.signature.with_instructions(" ")
    lm, engine = scripted(reply)
    with dspy.context(lm=lm), pytest.raises(UsageError, match=r"of the predictor 'judge' .* has no words .* write one"):
        compiled(student, reply)
    assert not engine.seen


def test_a_predictor_that_is_held_twice_in_what_cant_be_copied() -> None:
    student = Nest()
    student.lock = (n for n in ())  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=r"holds a predictor more than once, also as 'again'"):
        compiled(student)


class Written(dspy.Module):
    """Plans, then writes code."""

    def __init__(self) -> None:
        super().__init__()
        self.plan = dspy.ChainOfThought(dspy.Signature("prompt -> note", "Plan the code."))
        self.write = Program()

    def forward(self, prompt: str, entry_point: str = "") -> dspy.Prediction:
        return self.write(prompt=f"{prompt}\n{self.plan(prompt=prompt).note}", entry_point=entry_point)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_code_by_several_predictors(strategy: Any, harness: Harness) -> None:
    def says(text: str) -> str:
        return reply(text, "write", world.RULE) if asked_for(text) not in ("code",) else world.reply(text)

    data, lm = world.data(18), scripted(says)[0]
    lm.kwargs["temperature"] = 0.0
    with dspy.context(lm=lm):
        search = EvoPrompt(CodeMetric(data, harness=harness), strategy=strategy, batch_size=6, epochs=4)
        evolved = search.compile(Written(), trainset=list(data)[:12], valset=list(data)[12:])
    assert texts(evolved)["plan.predict"] == "Plan the code." and world.RULE in texts(evolved)["write.generator"]


@pytest.mark.slow
def test_a_program_with_repairs_evolves_its_debugger_too(harness: Harness) -> None:
    """Its examples fail, and the debugger does not repair them until it is told how."""
    data = [t.model_copy(update={"prompt": f"{t.prompt}\nassert {t.entry_point}([]) == 0"}) for t in world.data(18)]
    told = "Give the whole program."

    def says(text: str) -> str:
        field = asked_for(text)
        number = int(text.rpartition("to add ")[2].split()[0]) if "to add " in text else 0
        if field == "code":
            return world.fenced(world.solution(number, careful=False))
        if (
            field == "diagnosis"
            and "`fixed_code`; false" in text
            and "true" in text.rpartition("## fix ## ]]")[2][:9].lower()
        ):
            fixed = world.solution(number, careful=True) if told in text else ""
            found = {"failure_class": "edge_case", "root_cause": "none", "rule": told, "fixed_code": fixed}
            return f"[[ ## diagnosis ## ]]\n{json.dumps(found)}\n\n[[ ## completed ## ]]"
        return reply(text, "debugger", told)

    lm = scripted(says)[0]
    lm.kwargs["temperature"] = 0.0
    student = Program(max_repairs=1, harness=harness)
    with dspy.context(lm=lm):
        metric = CodeMetric(data, harness=harness)
        evolved = EvoPrompt(metric, batch_size=6, epochs=4).compile(student, trainset=data[:12], valset=data[12:])
    assert told in texts(evolved)["debugger"] and told not in texts(evolved)["generator"]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_at_any_number_of_threads(strategy: str, tmp_path: Path) -> None:
    for threads in (1, 8):
        compiled(strategy=strategy, run_dir=tmp_path / str(threads), num_threads=threads)
    one, eight = (without_bills(tree(tmp_path / name)) for name in ("1", "8"))
    assert one == eight
    assert exported(tmp_path / "1") == tree(tmp_path / "1")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_stopped_anywhere_it_goes_on_to_the_same_result(strategy: str, tmp_path: Path) -> None:
    says = Refusing(reply)
    whole = compiled(say=says, run_dir=tmp_path / "whole", strategy=strategy)[0].detailed_results
    asked, files = sorted(says.seen), without_bills(tree(tmp_path / "whole"))
    for at in (0, 3, 20, 35, 47, len(asked) // 2, len(asked) - 1):
        folder = tmp_path / str(at)
        says.seen.clear()
        says.last = at
        with pytest.raises(ModelError):
            compiled(say=says, run_dir=folder, strategy=strategy)
        says.last = math.inf
        assert compiled(say=says, run_dir=folder, strategy=strategy)[0].detailed_results == whole
        assert sorted(says.seen) == asked, "nothing is asked twice"
        assert without_bills(tree(folder)) == files


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_process_that_was_killed(strategy: str, tmp_path: Path) -> None:
    whole, asked = compiled(run_dir=tmp_path / "whole", strategy=strategy)
    command = [
        sys.executable,
        "-m",
        "tests.evolve.two",
        str(tmp_path / "killed"),
        "40",
        json.dumps({"strategy": strategy}),
    ]
    assert subprocess.run(command, cwd=Path(__file__).parents[2]).returncode == -9
    with Run(tmp_path / "killed") as run:
        known = run.journal.counts()["answers"]
    resumed, seen = compiled(run_dir=tmp_path / "killed", strategy=strategy)
    assert resumed.detailed_results == whole.detailed_results and len(seen) == len(asked) - known
    assert without_bills(tree(tmp_path / "killed")) == without_bills(tree(tmp_path / "whole"))


@pytest.mark.slow
def test_a_run_of_which_the_first_predictor_evolved_alone_is_refused(tmp_path: Path) -> None:
    compiled(run_dir=tmp_path)
    with Run(tmp_path) as run:
        before = run.journal.fact("identity")
        del before["evolves"]
        run.journal.keep_meta("identity", json.dumps(before, sort_keys=True))
    with pytest.raises(UsageError, match=r"belongs to another run: .*evolves.* begin anew"):
        compiled(run_dir=tmp_path)


def test_what_is_kept_of_the_steps_is_bounded() -> None:
    def called(name: str, **fields: Any) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        predictor = dspy.Predict("text -> label")
        vars(predictor)[NAME] = name
        return predictor, {"text": "t"}, fields

    steps = steps_of([called("first", label="x"), *(called("next", label="y" * 10**6) for _ in range(50))])
    assert [s.predictor for s in steps] == ["first", *["next"] * (MAX_STEPS + 1)]
    assert steps[0].whole and not steps[1].whole and len(steps[1].outputs["label"]) <= MAX_VALUE
    shown = told(steps_of([called("a", label="y" * 9_000), called("b", label="short")]))
    assert [len(s.outputs) < MAX_VALUE + 50 for s in shown] == [True, True] and shown[1].outputs == "label: short"
    assert sum(len(s.outputs) for s in told([steps[1]] * 200)) < 50_000
    image = dspy.Image("data:image/png;base64," + "iVBORw0KGgo" * 1000)
    for value in (image, {1, 2}, object(), float("nan"), "\ud800", [image], 10**5000):
        (step,) = steps_of([called("a", label=value)])
        assert not step.whole and step.model_dump_json()
    for value in (1, None, [True, 0.5], {"a": ["b"]}, "text"):
        (step,) = steps_of([called("a", label=value)])
        assert step.whole and step.outputs["label"] == value
    assert steps_of([(dspy.Predict("a -> b"), {}, {})]) == (), "of a predictor that is nobody's"


def test_a_rival_that_was_stopped_keeps_all_texts() -> None:
    seed = Candidate(instructions=(("note", "Note it."), ("judge", "Judge it.")))
    best = RivalBest(3, 0.5, (("note", "Note all."), ("judge", "Judge well.")))
    found = {
        "rival": "gepa", "final": seed.changed({"judge": "Judge well."}).model_dump(), "calls": 5, "stopped": "",
        "trace": [asdict(best)],
    }  # fmt: skip
    entries = rival_results(seed, found, {}).evolution
    assert [dict(e.instructions) for e in entries] == [
        {"note": "Note it.", "judge": "Judge it."},
        {"note": "Note all.", "judge": "Judge well."},
        {"note": "Note it.", "judge": "Judge well."},
    ]


def test_the_table_of_rules_names_predictors_where_there_are_several() -> None:
    console = Console(file=io.StringIO())
    table = rules_table([Rule(text="Be brief.", predictor="judge"), Rule(text="Be calm.")], console)
    assert "[judge] Be brief." in table and "] Be calm." not in table.splitlines()[2].partition("0  ")[2]
