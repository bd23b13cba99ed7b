"""How a factorial search ends: with the comparison, whatever cut it short, and whoever looks at it later."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.lm15 import Usage

from evoprompt import EvoPrompt, Options
from evoprompt.errors import UsageError
from evoprompt.evolve.factorial.sequential_test import sign_test
from evoprompt.evolve.records import Results
from evoprompt.evolve.results_tree import export
from evoprompt.evolve.state import remembered
from evoprompt.judges import ExampleJudge, Rollout
from evoprompt.lm.budget import Budget
from evoprompt.rollout import Job, Runner
from evoprompt.runs import Run
from tests import models
from tests.evolve.moods import RULE, exact, examples, reply
from tests.models import Reply, asked_for, scripted


def _compiled(
    folder: Path | None,
    train: int,
    dev: list[dspy.Example],
    say: Reply = reply,
    temperature: float = 0.0,
    student: dspy.Module | None = None,
    **options: Any,
) -> tuple[Results, list[str]]:
    lm, engine = scripted(say)
    lm.kwargs["temperature"] = temperature
    given = {"batch_size": 4, "num_threads": 2} | options
    with dspy.context(lm=lm):
        search = EvoPrompt(exact, run_dir=folder, **given)
        evolved = search.compile(student or dspy.Predict("text -> label"), trainset=examples(train), valset=dev)
    return evolved.detailed_results, engine.seen


def _harmful(text: str) -> str:
    """The rule helps on the training days, and harms on those from 101 on."""
    late = "day 1" in text and any(f"day {n} " in text.rpartition("It began")[2] for n in range(101, 109))
    told = reply(text)
    return told.replace("gloomy", "odd").replace("bright", "odd") if RULE in text and late else told


@pytest.mark.slow
@pytest.mark.parametrize("say", [reply, _harmful])
def test_a_larger_budget_that_changes_nothing_leaves_the_comparison_the_last_word(tmp_path: Path, say: Reply) -> None:
    for rollouts in (90, 100):
        results, _ = _compiled(tmp_path, 16, examples(8, 101), say, budget=Budget(rollouts=rollouts))
        assert results.confirmation is not None
        assert (results.best.key == results.seed.key) == (say is _harmful)
        shown = (tmp_path / "training/final_prompt.txt").read_bytes()
        with Run(tmp_path) as run:
            known = remembered(run.journal, results.seed)
            assert (known.best, known.confirmation) == (results.best, results.confirmation)
            export(run)
        assert (tmp_path / "training/final_prompt.txt").read_bytes() == shown
        assert (tmp_path / "training/confirmation.json").exists()
    assert results.batches[-1].sure, "without the comparison it would be taken"


@pytest.mark.parametrize("accept_when", ["probable", "confirmed"])
def test_what_is_in_hand_before_the_end_is_what_the_search_would_end_with(accept_when: str) -> None:
    options = {"accept_when": accept_when, "budget": Budget(rollouts=90)}
    results, _ = _compiled(None, 16, examples(16, 101), **options)
    assert results.confirmation is not None and results.confirmation.word == "confirmed"
    assert any(batch.sure for batch in results.batches) == (accept_when == "probable"), "nothing confirms it before"


def test_runs_from_before_there_was_a_choice_go_on_where_the_result_must_be_confirmed() -> None:
    assert "accept_when" not in Options(accept_when="confirmed").identity()
    assert Options().identity()["accept_when"] == "probable"
    assert Options(strategy="refine").identity() == Options(strategy="refine", accept_when="confirmed").identity()
    with pytest.raises(UsageError, match="accept_when must be one of probable, confirmed, not 'maybe'"):
        Options(accept_when="maybe")  # type: ignore[arg-type]


def test_a_larger_budget_goes_on_with_a_comparison_that_was_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    spent = Usage(input_tokens=700, output_tokens=100, total_tokens=800)
    monkeypatch.setattr(models, "Usage", lambda **_: spent)
    found = []
    for tokens in (28_000, 28_000, 2_000_000):
        budget = Budget(tokens=tokens)
        found.append(
            _compiled(tmp_path, 24, examples(24, 101), batch_size=8, num_threads=1, budget=budget)
        )  # fmt: skip
    first, again, more = (results for results, _ in found)
    assert first.confirmation is not None and "the budget was spent" in first.confirmation.reason
    assert first == again and not found[1][1], "the same budget comes to the same end"
    assert more.confirmation is not None and more.confirmation.accepted
    assert more.confirmation.pairs > first.confirmation.pairs


class Twice(dspy.Module):
    """Takes two calls for an answer."""

    def __init__(self) -> None:
        super().__init__()
        self.tell, self.explain = dspy.Predict("text -> label"), dspy.Predict("text, label -> reasoning")

    def forward(self, text: str) -> Any:
        told = self.tell(text=text)
        self.explain(text=text, label=told.label)
        return told


@pytest.mark.parametrize("calls", [40, 61, 89])
def test_which_of_several_calls_was_the_last_one_decides_nothing(calls: int) -> None:
    found = []
    for threads in (1, 8):
        options = {"batch_size": 6, "num_threads": threads, "budget": Budget(lm_calls=calls)}
        found.append(_compiled(None, 24, examples(12, 201), student=Twice(), **options)[0])
    assert found[0] == found[1]


def test_where_valset_and_trainset_are_one_the_prompt_solves_them_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Job, bool]] = []
    run = Runner.run

    def noted(self: Runner, jobs: Any, on_done: Any = None) -> list[Rollout]:
        asked.extend((job, self.known(job) is not None) for job in jobs)
        return run(self, jobs, on_done)

    monkeypatch.setattr(Runner, "run", noted)
    results, _ = _compiled(None, 24, examples(24), temperature=1.0, batch_size=8)
    confirmation = results.confirmation
    assert confirmation is not None and confirmation.pairs
    last = [known for job, known in asked[-2 * confirmation.pairs :] if job.candidate.key == confirmation.candidate.key]
    assert len(last) == confirmation.pairs and not any(last)


def test_what_it_solved_anew_is_what_the_results_tree_shows(tmp_path: Path) -> None:
    turn: Counter[str] = Counter()

    def moody(text: str) -> str:  # never twice the same
        turn[text] += 1
        return reply(text).replace("The sky", f"Turn {turn[text]}: the sky")

    lm, _ = scripted(moody)
    with dspy.context(lm=lm):
        search = EvoPrompt(exact, run_dir=tmp_path, batch_size=8, num_threads=2)
        student = dspy.ChainOfThought("text -> label")
        search.compile(student, trainset=examples(24), valset=examples(24))
    files = {p: p.read_bytes() for p in (tmp_path / "dev_evaluation").rglob("*.json")}
    assert any(b'"sample": 1' in content for content in files.values())
    with Run(tmp_path) as run:
        export(run)
    assert files == {p: p.read_bytes() for p in (tmp_path / "dev_evaluation").rglob("*.json")}


@pytest.mark.parametrize("train", [1, 3, 5])
def test_a_handful_of_tasks_is_enough_to_learn_from(train: int) -> None:
    results, seen = _compiled(None, train, examples(24, 101), batch_size=10)
    assert any(asked_for(text) == "new_instruction" for text in seen)
    assert RULE in results.best.instruction and results.confirmation is not None


def test_pairs_since_the_last_look_count_where_no_more_will_come() -> None:
    won = [0.0] * 3 + [1.0] * 5
    assert sign_test(won, 24).better is None
    assert sign_test(won, 24, over=True).better
    assert sign_test(won[1:-1], 24, over=True).better is False
    assert sign_test([], 24, over=True).better is False


def test_what_a_student_raises_is_told_with_its_task() -> None:
    class Odd(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tell = dspy.Predict("text -> label")

        def forward(self, text: str) -> dspy.Prediction:
            return dspy.Prediction(label={"bright": "bright", "gloomy": "gloomy"}[self.tell(text=text).label])

    def odd(text: str) -> str:
        return reply(text).replace("bright", "odd") if "day 6 " in text else reply(text)

    with pytest.raises(UsageError, match=r"task '0005-\w+': the student raised KeyError: 'odd'"):
        _compiled(None, 16, [], odd, student=Odd())


def test_examples_are_the_same_at_whatever_place(caplog: pytest.LogCaptureFixture) -> None:
    shuffled = examples(12)[::-1]
    results, _ = _compiled(None, 12, shuffled)
    assert results.confirmation is not None and results.confirmation.planned == 12
    assert "12 of 12 dev tasks are training tasks as well" in caplog.text
    judge = ExampleJudge(exact)
    twice = judge.tasks_of([*examples(3), *examples(3)])
    assert len({t.task_id for t in twice}) == 6 and judge.tasks_of([t.example for t in twice]) == twice


def test_calls_are_kept_for_the_comparison_of_a_student_that_takes_two() -> None:
    results, seen = _compiled(None, 24, examples(12, 201), student=Twice(), budget=Budget(lm_calls=160))
    assert len(seen) <= 160
    assert results.confirmation is not None and results.confirmation.pairs >= 12
