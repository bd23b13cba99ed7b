"""Few-shot demos are factors: passing rollouts of training tasks, shown to their predictor where that was measured."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import dspy
import numpy as np
import pytest

from evoprompt import CodeMetric, EvoPrompt, Harness, Program
from evoprompt.candidate import Candidate, Demo
from evoprompt.errors import ModelError, UsageError
from evoprompt.evolve.events import BatchDone, Event
from evoprompt.evolve.factorial.demos import Demos
from evoprompt.evolve.factorial.effects import Effects
from evoprompt.evolve.factorial.rules import Pool
from evoprompt.evolve.results_tree import evaluate_test
from evoprompt.judges import Rollout
from evoprompt.judges.steps import Step
from evoprompt.judges.students import Wordings, examples_of
from evoprompt.runs import Run
from tests import world
from tests.evolve.moods import exact
from tests.evolve.test_factorial import exported, tree, without_bills
from tests.evolve.two import Two, compiled, reply
from tests.models import Refusing, asked_for, fenced, scripted

pytestmark = pytest.mark.slow

TWO = Candidate(instructions=(("note", "Note it."), ("judge", "Judge it.")))


def learns(text: str) -> str:
    """Nothing that is said helps; who is shown how a label is told tells it right."""
    shown = text.count("label ## ]]\nbright") + text.count('"label": "bright"')
    ends = "badly." in text.rpartition("It began")[2]
    said = reply(text, rule="Be calm about it.")
    return said.replace("bright", "gloomy") if asked_for(text) == "label" and shown and ends else said


def demos_of(program: dspy.Module) -> dict[str, list[dict[str, Any]]]:
    return {name: [dict(demo.items()) for demo in p.demos] for name, p in program.named_predictors()}


@pytest.mark.parametrize("adapter", [None, dspy.JSONAdapter(), dspy.ChatAdapter()])
def test_the_demos_that_help_are_kept_and_saved(adapter: Any, tmp_path: Path) -> None:
    with dspy.context(adapter=adapter):
        evolved, _ = compiled(say=learns, max_demos=2, epochs=8, run_dir=tmp_path)
    results = evolved.detailed_results
    assert results.best_dev_score == 100.0
    shown = demos_of(evolved)
    assert 1 <= len(shown["judge"]) <= 2 and {d["label"] for d in shown["judge"]} == {"bright"}
    assert all(set(d) == {"augmented", "text", "note", "label"} and d["augmented"] for d in shown["judge"])
    kept = [rule for rule in results.rules if rule.demo]
    assert {(r.predictor, r.demo.outputs["label"]) for r in kept if r.predictor == "judge"} == {("judge", "bright")}
    assert max(rule.effect for rule in kept) > 5 and all(rule.trials >= 3 for rule in kept)
    assert dict(results.best.demos).keys() == {name for name, found in shown.items() if found}
    saved = Two()
    saved.load(tmp_path / "program.json")
    assert demos_of(saved) == shown and Candidate.of(saved) == Candidate.of(evolved)
    evolved.save(tmp_path / "again.json")
    again = Two()
    again.load(tmp_path / "again.json")
    assert demos_of(again) == shown
    told = (tmp_path / "training/final_prompt.txt").read_text()
    assert "[demo 1]\ntext: It began" in told and "label: bright" in told


def test_a_demo_is_of_a_training_task_and_never_shown_on_it() -> None:
    _, seen = compiled(say=learns, max_demos=2, epochs=8)
    asked = [text for text in seen if asked_for(text) == "label" and text.count("It began") > 1]
    assert asked
    for text in asked:
        *demos, task = (part.split("It began", 1)[1].split("\n")[0] for part in _parts(text))
        assert task not in demos
        assert all(int(demo.split("day ")[1].split()[0]) <= 18 for demo in demos), "the dev tasks are from 31 on"


def _parts(text: str) -> list[str]:
    return ["It began" + part for part in text.split("It began")[1:]]


def test_without_the_option_nothing_is_shown_and_keys_are_the_same(tmp_path: Path) -> None:
    plain, _ = compiled(say=learns, run_dir=tmp_path / "plain")
    none, _ = compiled(say=learns, run_dir=tmp_path / "none", max_demos=0)
    assert plain.detailed_results == none.detailed_results and not any(demos_of(plain).values())
    assert without_bills(tree(tmp_path / "plain")) == without_bills(tree(tmp_path / "none"))
    texts = b'[["note", "Note it."], ["judge", "Judge it."]]'
    assert TWO.key == hashlib.sha256(texts).hexdigest()[:12] and "demos" not in TWO.model_dump()


def demo(number: int, **fields: Any) -> Demo:
    return Demo(
        task_id=f"t{number}", source=f"s{number}", inputs={"text": f"a {number}"}, outputs={"note": "b"} | fields
    )


def test_the_key_covers_the_demos() -> None:
    one, two = (TWO.changed({}, {"note": [demo(n)]}) for n in (1, 2))
    assert len({TWO.key, one.key, two.key, TWO.changed({}, {"judge": [demo(1)]}).key}) == 4
    assert one.key == TWO.changed({}, {"note": [demo(1).model_copy(update={"task_id": "other"})]}).key
    assert Candidate.model_validate(one.model_dump(mode="json")) == one
    assert one.length > TWO.length and one.told.startswith(
        "[note]\nNote it.\n\n[demo 1]\ntext: a 1\nnote: b\n\n[judge]"
    )


def test_a_students_own_demos_stay() -> None:
    student = Two()
    student.note.demos = [dspy.Example(text="mine", note="own")]
    applied = Candidate.of(student).changed({}, {"note": [demo(1)]}).apply(student)
    assert [d.text for d in applied.note.demos] == ["mine", "a 1"] and len(student.note.demos) == 1


def rollout(task: Any, score: float = 1.0, whole: bool = True, name: str = "note") -> Rollout:
    step = Step(predictor=name, inputs={"text": task.prompt}, outputs={"note": "n"}, whole=whole)
    return Rollout(candidate="c", task_id=task.task_id, status="passed", score=score, steps=(step,))


def test_why_there_are_no_demos_where_all_training_tasks_are_dev_tasks(caplog: pytest.LogCaptureFixture) -> None:
    train = list(world.data(3))
    with caplog.at_level(logging.WARNING, "evoprompt"):
        Demos(Pool(TWO), 2, train, train).collect([rollout(t) for t in train], (), 1)
    assert "all training tasks are dev tasks as well" in caplog.text


def test_which_rollouts_become_demos(caplog: pytest.LogCaptureFixture) -> None:
    train, dev = list(world.data(6)), list(world.data(2, first=6))
    pool = Pool(TWO)
    demos = Demos(pool, 2, train, dev)
    with caplog.at_level(logging.WARNING, "evoprompt"):
        demos.collect([rollout(t, 0.5) for t in train], (), 1)
        demos.collect([rollout(t, whole=False) for t in train], (), 1)
        demos.collect([rollout(t, 0.5) for t in train], (), 2)
    assert ["has passed" in r.message for r in caplog.records] == [True, False], "once, and why"
    assert not pool.demos
    demos.collect([rollout(t) for t in train], {"t1", "t2", "t3"}, 2)
    assert [pool.rules[r].demo.task_id for r in sorted(pool.demos)] == ["t4", "t5", "t1", "t2"], "t6 is a dev task"
    demos.collect([rollout(t) for t in (*dev, *train)], {"t3"}, 3)
    assert len(pool.demos) == 4, "each once; t3 was easy"
    demos.collect([rollout(train[2])], (), 3)
    assert len(pool.demos) == 5


def test_another_wording_of_a_task_counts_as_the_task() -> None:
    (task,) = world.data(1)
    example = dspy.Example(prompt="Otherwise.", entry_point="f").with_inputs("prompt", "entry_point")
    wordings = Wordings()
    assert wordings.task(task, examples_of([task])[0], 0) is task
    again = wordings.task(task, example, 1)
    assert again.task_id != task.task_id
    pool = Pool(TWO)
    demos = Demos(pool, 1, [task], [])
    demos.collect([rollout(task)], (), 1)
    (rule,) = pool.demos
    assert demos.shown({rule}, again) and not demos.shown({rule}, world.task(2)) and not demos.shown({0, 1}, again)
    assert demos.fitting(frozenset({0, rule}), [1.0] * 3, again) == {0}
    assert demos.fitting(frozenset({0, rule}), [1.0] * 3, world.task(2)) == {0, rule}


def test_no_more_than_so_many_in_a_prompt_and_the_best() -> None:
    train = list(world.data(9))
    pool = Pool(TWO)
    demos = Demos(pool, 2, train, [])
    demos.collect([rollout(t) for t in train], (), 1)
    first, count = min(pool.demos), len(pool.demos)
    assert count == 8
    values = [0.0] * first + [float(n) for n in range(count)]
    other = world.task(99)
    assert demos.fitting(frozenset({0, *pool.demos}), values, other) == {0, first + 6, first + 7}
    effects = Effects(np.array(values), np.diag([0.01] * len(values)))
    assert demos.open(effects) == set(range(first + 4, first + 8))
    assert demos.chosen(effects, []) == set(), "none was measured"


def test_a_demo_is_no_sentence() -> None:
    pool = Pool(TWO)
    pool.rules.append(pool.rules[0].model_copy(update={"start": False, "text": "(demo: t1)", "demo": demo(1)}))
    assert pool.demos == {2} and pool.of("note", {0, 1, 2}) == {0} and pool.find("(demo: t1)", "note") is None
    assert pool.words({0, 1, 2}) == pool.words({0, 1}) and pool.rules[2].words > 0
    assert not pool.whole({1, 2})
    made = pool.candidate({0, 1, 2})
    assert made.instructions == TWO.instructions and made.demos == (("note", (demo(1),)),)


def test_where_nothing_has_passed_it_goes_on_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    def hopeless(text: str) -> str:
        return reply(text, rule="Be calm.").replace("bright", "none").replace("gloomy", "none")

    with caplog.at_level(logging.WARNING, "evoprompt"):
        evolved, _ = compiled(say=hopeless, max_demos=3)
    assert [r.message for r in caplog.records if "max_demos" in r.message] == [
        "max_demos: no rollout of a training task has passed so far: it goes on without demos"
    ]
    assert not any(demos_of(evolved).values())


@pytest.mark.parametrize("value", [-1, 1.5, True, "many"])
def test_a_number_of_demos_that_cant_be(value: Any) -> None:
    with pytest.raises(UsageError, match=f"max_demos must be a whole number of at least 0, not {value!r}"):
        EvoPrompt(exact, max_demos=value)


@pytest.mark.parametrize("strategy", ["refine", "gepa"])
def test_a_strategy_that_takes_no_demos(strategy: Any) -> None:
    with pytest.raises(UsageError, match=f"max_demos is for the search 'factorial'; '{strategy}' takes none"):
        EvoPrompt(exact, max_demos=2, strategy=strategy)


def writes(text: str) -> str:
    """A third of the solutions is right; all are, where one that is right is shown."""
    if asked_for(text) != "code":
        return reply(text, rule="Be calm about it.")
    number = int(text.rsplit("to add ", 1)[-1].split()[0])
    return fenced(world.solution(number, careful=number % 3 == 0 or "if not xs" in text))


def test_code_by_demos(harness: Harness, tmp_path: Path) -> None:
    data, test = world.data(36), world.data(6, first=61)
    lm = scripted(writes)[0]
    lm.kwargs["temperature"] = 0.0
    events: list[Event] = []
    with dspy.context(lm=lm):
        metric = CodeMetric([*data, *test], harness=harness)
        search = EvoPrompt(
            metric, batch_size=8, epochs=5, max_demos=1, run_dir=tmp_path / "run", listener=events.append
        )
        evolved = search.compile(Program(), trainset=list(data)[:24], valset=list(data)[24:])
        with Run(tmp_path / "run") as run:
            for task in (t for t in data if t.prompt == demos_of(evolved)["generator"][0]["prompt"]):
                assert run.journal.rollout(evolved.detailed_results.best.key, task.key, 0, measured=False) is None
            start = evaluate_test(run, "start", Program(), test, metric)
            after = evaluate_test(run, "evolved", evolved, test, metric)
    assert (start.score, after.score) == (pytest.approx(100 / 3), 100.0)
    (shown,) = demos_of(evolved)["generator"]
    assert shown.keys() == {"augmented", "prompt", "entry_point", "code"} and "if not xs" in shown["code"]
    everything = (tmp_path / "run/program.json").read_text() + json.dumps(shown)
    assert "assert" not in everything and not any(t.code and t.code in everything for t in data), "no test, no solution"
    batches = [e.record for e in events if isinstance(e, BatchDone)]
    assert any("demo" in b.reason for b in batches)
    assert evolved.detailed_results.confirmation.accepted


OPTIONS: dict[str, Any] = {"max_demos": 2, "epochs": 6}


def test_the_same_at_any_number_of_threads(tmp_path: Path) -> None:
    for threads in (1, 8):
        compiled(say=learns, run_dir=tmp_path / str(threads), num_threads=threads, **OPTIONS)
    one, eight = (without_bills(tree(tmp_path / name)) for name in ("1", "8"))
    assert one == eight
    assert exported(tmp_path / "1") == tree(tmp_path / "1")


def test_stopped_anywhere_it_goes_on_to_the_same_result(tmp_path: Path) -> None:
    says = Refusing(learns)
    whole = compiled(say=says, run_dir=tmp_path / "whole", **OPTIONS)[0].detailed_results
    assert whole.best.demos
    asked, files = sorted(says.seen), without_bills(tree(tmp_path / "whole"))
    for at in (3, 35, 47, len(asked) // 2, len(asked) - 1):
        folder = tmp_path / str(at)
        says.seen.clear()
        says.last = at
        with pytest.raises(ModelError):
            compiled(say=says, run_dir=folder, **OPTIONS)
        says.last = math.inf
        assert compiled(say=says, run_dir=folder, **OPTIONS)[0].detailed_results == whole
        assert sorted(says.seen) == asked, "nothing is asked twice"
        assert without_bills(tree(folder)) == files


@pytest.mark.slow
def test_a_process_that_was_killed(tmp_path: Path) -> None:
    whole, asked = compiled(run_dir=tmp_path / "whole", **OPTIONS)
    command = [sys.executable, "-m", "tests.evolve.two", str(tmp_path / "killed"), "90", json.dumps(OPTIONS)]
    assert subprocess.run(command, cwd=Path(__file__).parents[2]).returncode == -9
    with Run(tmp_path / "killed") as run:
        known = run.journal.counts()["answers"]
    resumed, seen = compiled(run_dir=tmp_path / "killed", **OPTIONS)
    assert resumed.detailed_results == whole.detailed_results and len(seen) == len(asked) - known
    assert without_bills(tree(tmp_path / "killed")) == without_bills(tree(tmp_path / "whole"))
