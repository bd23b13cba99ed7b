"""The factorial strategy keeps the promises: it resumes to the same result, overspends nothing, and ends honestly."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils.exceptions import LMServerError

from evoprompt import Budget, CodeMetric, EvoPrompt, Program
from evoprompt.candidate import Candidate
from evoprompt.errors import ModelError
from evoprompt.evolve.events import BatchDone, Confirmed, DevDone, Event, Finished, Restored
from evoprompt.evolve.records import BatchRecord
from evoprompt.evolve.results_tree import export
from evoprompt.harness import Harness
from evoprompt.lm import budget
from evoprompt.runs import Journal, Run, open_finished
from signatures import GenerateCode
from tests.models import Refusing, Reply, ScriptedEngine, asked_for, fenced, scripted
from tests.world import RULE, data, reply, solution

SEED = GenerateCode.instructions
USELESS = "Be calm."
WORSE = "Never look at the input."
TRAIN, DEV = 12, 8
TOKENS = 500
"""What a call is taken to cost."""


def talks(text: str) -> str:
    """As the world does; and the optimizer puts a rule that does nothing beside the one that helps."""
    if asked_for(text) != "new_instruction":
        return reply(text)
    return f"[[ ## new_instruction ## ]]\n{SEED}\n{RULE}\n{USELESS}\n\n[[ ## completed ## ]]"


def hopeless(text: str) -> str:
    """No advice helps: a third of the tasks is solved whatever the prompt says, and the advice breaks some more."""
    field = asked_for(text)
    if field == "new_instruction":
        return f"[[ ## new_instruction ## ]]\n{SEED}\n{USELESS}\n\n[[ ## completed ## ]]"
    if field != "code":
        return reply(text)
    number = int(text.rsplit("to add ", 1)[-1].split()[0])
    return fenced(solution(number, careful=number % 3 == 0))


def cold(say: Reply) -> tuple[dspy.LM, ScriptedEngine]:
    """At temperature 0 nothing is worth asking twice."""
    lm, engine = scripted(say)
    engine.tokens = TOKENS
    lm.kwargs["temperature"] = 0.0
    return lm, engine


def compiled(
    harness: Harness, say: Reply, run_dir: Path | None = None, **options: Any
) -> tuple[Any, list[str], list[Event]]:
    train, dev = data(TRAIN), data(DEV, first=31)
    lm, engine = cold(say)
    events: list[Event] = []
    given = {"batch_size": 4, "num_threads": 4} | options
    optimizer = EvoPrompt(CodeMetric([*train, *dev], harness=harness), run_dir=run_dir, listener=events.append, **given)
    with dspy.context(lm=lm):
        evolved = optimizer.compile(Program(), trainset=train, valset=dev)
    return evolved, engine.seen, events


def tree(root: Path) -> dict[str, bytes]:
    found = (p for p in root.rglob("*") if p.is_file() and p.suffix in (".json", ".txt"))
    return {str(p.relative_to(root)): p.read_bytes() for p in found}


def without_bills(files: dict[str, bytes]) -> dict[str, bytes]:
    """`summary.json` has times in it."""
    return {name: content for name, content in files.items() if name != "summary.json"}


def exported(root: Path) -> dict[str, bytes]:
    """The tree as it is made anew from the journal alone."""
    copy = root.parent / f"{root.name} anew"
    copy.mkdir()
    for path in root.glob("journal.sqlite*"):
        shutil.copy(path, copy)
    with open_finished(copy) as run:
        export(run)
    return tree(copy)


@pytest.mark.slow
def test_it_finds_the_rule_measures_it_and_confirms_it(harness: Harness, tmp_path: Path) -> None:
    evolved, seen, events = compiled(harness, talks, tmp_path / "run")
    results = evolved.detailed_results
    assert RULE in Candidate.of(evolved).instruction
    assert results.confirmation.accepted and results.confirmation.losses == 0
    rules = {rule.text: rule for rule in results.rules}
    assert rules[RULE].effect > 10 and rules[RULE].low > 0 and rules[RULE].trials > 5 and not rules[RULE].start
    assert all(rule.low <= rule.effect <= rule.high for rule in results.rules)
    assert len(seen) == len(set(seen)), "nothing is asked twice"
    told = json.loads((tmp_path / "run/training/confirmation.json").read_text())
    assert told["accepted"] and told["candidate_id"] == results.best.key and told["reason"]
    evolution = json.loads((tmp_path / "run/training/prompt_evolution.json").read_text())
    assert [rule["text"] for rule in evolution["rules"]] == [rule.text for rule in results.rules]
    (confirmed,) = [e for e in events if isinstance(e, Confirmed)]
    assert confirmed.record == results.confirmation and isinstance(events[-1], Finished)
    assert {e.record.candidate.key for e in events if isinstance(e, DevDone)} == {results.seed.key, results.best.key}


def test_where_nothing_helps_the_start_prompt_stays(harness: Harness, tmp_path: Path) -> None:
    evolved, _, _ = compiled(harness, hopeless, tmp_path / "run")
    results = evolved.detailed_results
    assert Candidate.of(evolved).instruction == SEED and results.rules == ()
    assert results.confirmation is None or not results.confirmation.accepted
    assert exported(tmp_path / "run") == tree(tmp_path / "run")


@pytest.mark.slow
def test_the_same_at_any_number_of_threads(harness: Harness, tmp_path: Path) -> None:
    for threads in (1, 8):
        compiled(harness, talks, tmp_path / str(threads), num_threads=threads, epochs=2)
    one, eight = (without_bills(tree(tmp_path / name)) for name in ("1", "8"))
    assert one == eight
    assert exported(tmp_path / "1") == tree(tmp_path / "1")


@pytest.mark.slow
@pytest.mark.parametrize("limits", [{}, {"rollouts": 60}, {"lm_calls": 70}, {"tokens": 70 * TOKENS}])
def test_stopped_anywhere_it_goes_on_to_the_same_result(
    harness: Harness, tmp_path: Path, limits: dict[str, int]
) -> None:
    says = Refusing(talks)
    options: dict[str, Any] = {"budget": Budget(**limits), "num_threads": 1}
    whole = compiled(harness, says, tmp_path / "whole", **options)[0].detailed_results
    asked, files = sorted(says.seen), without_bills(tree(tmp_path / "whole"))
    assert exported(tmp_path / "whole") == tree(tmp_path / "whole")
    for at in (0, 1, 4, 6, 9, 13, len(asked) // 2, len(asked) - 9, len(asked) - 1):
        folder = tmp_path / str(at)
        says.seen.clear()
        says.last = at
        with pytest.raises(ModelError):
            compiled(harness, says, folder, **options)
        assert json.loads((folder / "summary.json").read_text())["status"] == "paused"
        assert (folder / "training/final_prompt.txt").read_text().strip()
        says.last = math.inf
        resumed = compiled(harness, says, folder, **options)[0].detailed_results
        assert resumed == whole
        assert sorted(says.seen) == asked, "nothing is asked twice"
        assert without_bills(tree(folder)) == files
    for folder in (tmp_path / "13", tmp_path / str(len(asked) - 1)):
        assert exported(folder) == tree(folder)


@pytest.mark.slow
def test_stopped_by_the_user_after_every_event(harness: Harness, tmp_path: Path) -> None:
    whole, seen, events = compiled(harness, talks, tmp_path / "whole")
    files = without_bills(tree(tmp_path / "whole"))
    kinds = (BatchDone, DevDone, Confirmed)
    for number in range(sum(isinstance(e, kinds) for e in events)):
        folder = tmp_path / str(number)
        left = iter(range(number))

        def stop(event: Event, left: Any = left) -> None:
            if isinstance(event, kinds) and next(left, None) is None:
                raise KeyboardInterrupt

        train, dev = data(TRAIN), data(DEV, first=31)
        optimizer = EvoPrompt(
            CodeMetric([*train, *dev], harness=harness), run_dir=folder, listener=stop, batch_size=4, num_threads=4
        )
        with dspy.context(lm=cold(talks)[0]):
            stopped = optimizer.compile(Program(), trainset=train, valset=dev)
        assert stopped.detailed_results.stopped == "interrupted"
        assert Candidate.of(stopped).instruction == (folder / "training/final_prompt.txt").read_text().rstrip("\n")
        with Run(folder) as run:
            known = run.journal.counts()["answers"]
        resumed, more, again = compiled(harness, talks, folder)
        assert resumed.detailed_results == whole.detailed_results
        assert len(more) == len(seen) - known
        assert without_bills(tree(folder)) == files
        restored = [e.record for e in again if isinstance(e, Restored)]
        assert sum(isinstance(r, BatchRecord) for r in restored) == min(number + 1, len(whole.detailed_results.batches))


@pytest.mark.slow
def test_a_finished_run_costs_nothing(harness: Harness, tmp_path: Path) -> None:
    first = compiled(harness, talks, tmp_path)[0].detailed_results
    before = tree(tmp_path)
    second, seen, _ = compiled(harness, talks, tmp_path)
    assert second.detailed_results == first and not seen and tree(tmp_path) == before


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["rollouts", "lm_calls"])
@pytest.mark.parametrize("number", [1, 2, 7, 20, 33, 50, 90])
def test_never_more_than_the_budget(harness: Harness, tmp_path: Path, limit: str, number: int) -> None:
    results = []
    for threads in (1, 8):
        folder = tmp_path / str(threads)
        evolved, seen, _ = compiled(harness, talks, folder, budget=Budget(**{limit: number}), num_threads=threads)
        counted = [t for t in seen if limit == "lm_calls" or asked_for(t) == "code"]
        assert len(counted) <= number
        results.append(evolved.detailed_results)
        assert exported(folder) == tree(folder)
    assert results[0] == results[1]
    assert f"budget of {number} " in results[0].stopped
    assert without_bills(tree(tmp_path / "1")) == without_bills(tree(tmp_path / "8"))
    if results[0].best.key != results[0].seed.key:
        assert results[0].confirmation.accepted


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["rollouts", "lm_calls", "tokens"])
def test_a_larger_budget_goes_on(harness: Harness, tmp_path: Path, limit: str) -> None:
    total: list[str] = []
    for number in (24, 60, 90):
        budget = Budget(tokens=TOKENS * number) if limit == "tokens" else Budget(**{limit: number})
        evolved, seen, _ = compiled(harness, talks, tmp_path / "run", budget=budget)
        total += seen
        assert len(total) == len(set(total)), "no answer that was kept is asked for again"
        assert len([t for t in total if limit != "rollouts" or asked_for(t) == "code"]) <= number
        anew = exported(tmp_path / "run")
        assert anew == tree(tmp_path / "run")
        shutil.rmtree(tmp_path / "run anew")
    assert RULE in Candidate.of(evolved).instruction


@pytest.mark.slow
def test_what_ran_last_has_the_last_word(harness: Harness, tmp_path: Path) -> None:
    """Also where it made no step that another budget had not made before."""
    root, first = tmp_path / "run", {}
    for number in (90, 6, 90, 30, 6, 90):
        evolved, _, _ = compiled(harness, talks, root, budget=Budget(rollouts=number))
        found, anew = tree(root), exported(root)
        state = [name for name in anew if "epochs" not in name]  # of batches, files of another walk may still be there
        assert {name: found[name] for name in state} == {name: anew[name] for name in state}
        assert json.loads(anew["summary.json"])["best"] == evolved.detailed_results.best.key
        first = first or without_bills(anew)
        assert number < 90 or without_bills(anew) | first == without_bills(anew)
        shutil.rmtree(tmp_path / "run anew")


def test_few_tasks_in_one_large_batch_are_learnt_from(harness: Harness, tmp_path: Path) -> None:
    evolved, seen, _ = compiled(harness, talks, batch_size=1000)
    assert RULE in Candidate.of(evolved).instruction
    assert any(asked_for(t) == "new_instruction" for t in seen)


@pytest.mark.slow
@pytest.mark.parametrize("calls", [20, 30, 40, 50, 60])
def test_of_tokens_too_some_are_kept_for_the_comparison(harness: Harness, tmp_path: Path, calls: int) -> None:
    limits = Budget(tokens=calls * TOKENS)
    evolved, seen, _ = compiled(harness, talks, tmp_path / "run", budget=limits, num_threads=1)
    assert len(seen) <= calls
    results = evolved.detailed_results
    assert results.best == results.seed or results.confirmation.accepted
    if calls > 30:
        assert results.confirmation.pairs >= 8
        assert calls == 60 or "comparison" in results.stopped, "60 pay for all batches"
    if calls > 40:
        assert RULE in Candidate.of(evolved).instruction
    assert exported(tmp_path / "run") == tree(tmp_path / "run")


def test_time_is_kept_for_the_comparison(harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    time = 0.0

    def slow(text: str) -> str:
        nonlocal time
        time += 10
        return talks(text)

    monkeypatch.setattr(budget, "now", lambda: time)
    limits = Budget(seconds=600)
    results = compiled(harness, slow, tmp_path, budget=limits, num_threads=1)[0].detailed_results
    assert time <= 600 and results.confirmation.pairs >= 8 and results.confirmation.accepted


@pytest.mark.parametrize("role", ["code", "diagnosis", "new_instruction"])
def test_an_outage_is_no_wrong_answer(harness: Harness, tmp_path: Path, role: str) -> None:
    whole = compiled(harness, talks, tmp_path / "whole")[0].detailed_results
    count, down = 0, True

    def flaky(text: str) -> str:
        nonlocal count
        count += asked_for(text) == role
        if down and asked_for(text) == role and (count > 3 or role != "code"):
            raise LMServerError("down", model="m")
        return talks(text)

    with pytest.raises(ModelError, match="down"):
        compiled(harness, flaky, tmp_path / "run", num_threads=1)
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["status"] == "paused" and "down" in summary["error"]
    assert (tmp_path / "run/training/final_prompt.txt").read_text().strip()
    down = False
    assert compiled(harness, flaky, tmp_path / "run")[0].detailed_results == whole
    with Journal(tmp_path / "run/journal.sqlite") as journal:
        assert journal.counts()["answers"] == sum(s.calls for s in journal.spent().values())


def test_an_outage_is_no_evidence_against_the_new_prompt(harness: Harness, tmp_path: Path) -> None:
    whole = compiled(harness, talks, tmp_path / "whole")[0].detailed_results
    down = True

    def flaky(text: str) -> str:
        if down and asked_for(text) == "code" and any(f"to add {n} to" in text for n in range(31, 39)):
            raise LMServerError("down", model="m")  # the dev tasks: in the confirmation
        return talks(text)

    for number in range(2):
        with pytest.raises(ModelError, match="could not be measured"):
            compiled(harness, flaky, tmp_path / "run", max_unmeasured=0.1)
        assert not (tmp_path / "run/training/confirmation.json").exists(), number
    down = False
    found = compiled(harness, flaky, tmp_path / "run", max_unmeasured=0.1)[0].detailed_results
    assert found == whole and found.confirmation.accepted


def test_a_few_without_an_answer_are_left_out(harness: Harness, tmp_path: Path) -> None:
    def flaky(text: str) -> str:
        if asked_for(text) == "code" and any(f"to add {n} to" in text for n in (3, 33)):
            raise LMServerError("down", model="m")
        return talks(text)

    evolved, _, _ = compiled(harness, flaky, tmp_path / "run")
    results = evolved.detailed_results
    assert RULE in Candidate.of(evolved).instruction and results.best_dev_score == 100.0
    lost = [t for b in results.batches for t in b.tried if t.score is None]
    assert lost and {t.task_id for t in lost} == {"t3"}
    assert results.confirmation.losses == 0, "what was not measured is no loss"
    assert exported(tmp_path / "run") == tree(tmp_path / "run")


def test_patience_and_target_end_it(harness: Harness, tmp_path: Path) -> None:
    for name, options in (("patience", {"patience": 1}), ("target", {"target": 40.0})):
        folder = tmp_path / name
        evolved, _, _ = compiled(harness, talks, folder, epochs=5, **options)
        ended = json.loads((folder / "summary.json").read_text())["ended_by"]
        assert {"patience": "in a row changed nothing", "target": "reaches the target"}[name] in ended
        assert len(evolved.detailed_results.batches) < 30
        assert exported(folder) == tree(folder)


def test_any_metric(tmp_path: Path) -> None:
    from tests.evolve import moods
    from tests.evolve.searches import compiled as searched

    folder = tmp_path / "run"
    evolved, seen, _ = searched(strategy="factorial", run_dir=folder, epochs=3)
    results = evolved.detailed_results
    assert len(seen) == len(set(seen)) and any(rule.text == moods.RULE for rule in results.batches[-1].rules)
    again, none, _ = searched(strategy="factorial", run_dir=folder, epochs=3)
    assert again.detailed_results == results and not none
    assert exported(folder) == tree(folder)
