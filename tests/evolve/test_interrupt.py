"""Ctrl-C in Python: the first one returns the best so far, the second one raises, and a search goes on all the same."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from itertools import count
from pathlib import Path
from typing import Any

import dspy
import pytest

from evoprompt import Budget, CodeMetric, EvoPrompt, Program, UsageError
from evoprompt.candidate import Candidate
from evoprompt.evolve.events import (
    BatchDone,
    CaughtUp,
    Confirmed,
    DevDone,
    Event,
    Interrupted,
    Restored,
    Started,
    Working,
)
from evoprompt.harness import Harness
from evoprompt.runs import Journal, ResultsTree
from signatures import GenerateCode
from tests.evolve.test_factorial import cold, exported, hopeless, talks, tree
from tests.world import data

SEED = GenerateCode.instructions


def compiled(harness: Harness, say: Any, run_dir: Path | None, listener: Any = None, **options: Any) -> Any:
    train, dev = data(12), data(8, first=31)
    optimizer = EvoPrompt(
        CodeMetric([*train, *dev], harness=harness), run_dir=run_dir, listener=listener,
        **{"batch_size": 4, "num_threads": 4, **options},
    )  # fmt: skip
    lm, _ = cold(say)
    with dspy.context(lm=lm):
        return optimizer.compile(Program(), trainset=train, valset=dev)


def final_prompt(folder: Path) -> str:
    return (folder / "training/final_prompt.txt").read_text().rstrip("\n")


def stops(kind: type, number: int = 1) -> Any:
    """A listener in whose time the user presses Ctrl-C: at the event of this kind and number."""
    seen = iter(range(number - 1))

    def listen(event: Event) -> None:
        if isinstance(event, kind) and next(seen, None) is None:
            raise KeyboardInterrupt

    return listen


class Pressing(logging.Handler):
    """Presses Ctrl-C again as soon as it is told that the first is being served."""

    def emit(self, record: logging.LogRecord) -> None:
        if "waited for (Ctrl-C: stop at once)" in record.getMessage():
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("strategy", ["factorial", "refine"])
def test_the_first_one_finishes_what_is_under_way_and_returns_the_best(
    harness: Harness, tmp_path: Path, caplog: pytest.LogCaptureFixture, strategy: str
) -> None:
    caplog.set_level(logging.WARNING, "evoprompt")  # another test may have silenced it
    asked: list[str] = []
    places = count(1)

    def says(text: str) -> str:
        asked.append(text)
        if next(places) == 30:
            os.kill(os.getpid(), signal.SIGINT)
        return talks(text)

    events: list[Event] = []
    folder = tmp_path / "run"
    stopped = compiled(harness, says, folder, events.append, strategy=strategy)
    results = stopped.detailed_results
    assert results.stopped == "interrupted" and isinstance(events[-1], Interrupted)
    assert Candidate.of(stopped).key == results.best.key and final_prompt(folder) == results.best.instruction
    assert f"run_dir={str(folder)!r} goes on" in caplog.text
    with Journal(folder / "journal.sqlite") as journal:
        assert journal.counts()["answers"] == len(asked), "what was under way was kept"
        assert journal.meta("ended_by") is None, "that is no way to end"
        assert len(results.batches) == sum(kind == "batch" for kind, _ in journal.steps())
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["status"], summary["best"], summary.get("ended_by")) == ("interrupted", results.best.key, None)
    whole = compiled(harness, talks, None, strategy=strategy).detailed_results
    assert compiled(harness, talks, folder, strategy=strategy).detailed_results == whole
    assert json.loads((folder / "summary.json").read_text())["status"] == "finished"


def test_the_second_one_raises_at_once(harness: Harness, tmp_path: Path) -> None:
    release, places = threading.Event(), count(1)

    def says(text: str) -> str:
        place = next(places)
        if place == 6:
            os.kill(os.getpid(), signal.SIGINT)
        if place >= 6:
            release.wait(60)
        return talks(text)

    logger, pressing = logging.getLogger("evoprompt"), Pressing()
    logger.addHandler(pressing)
    try:
        with pytest.raises(KeyboardInterrupt):
            compiled(harness, says, tmp_path / "run")
        assert not release.is_set()
    finally:
        logger.removeHandler(pressing)
        release.set()
    assert json.loads((tmp_path / "run/summary.json").read_text())["status"] == "interrupted"
    whole = compiled(harness, talks, None).detailed_results
    assert compiled(harness, talks, tmp_path / "run").detailed_results == whole


def test_before_the_first_call_the_best_is_the_start(
    harness: Harness, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "evoprompt")

    def never(text: str) -> str:
        raise AssertionError(text)

    for folder in (tmp_path / "run", None):
        stopped = compiled(harness, never, folder, stops(Started))
        results = stopped.detailed_results
        assert results.stopped == "interrupted" and Candidate.of(stopped).instruction == SEED
        assert results.batches == () and results.best == results.seed
    assert "without a run_dir can't go on" in caplog.text
    assert final_prompt(tmp_path / "run") == SEED


def test_amid_the_confirmation_it_goes_on_there(harness: Harness, tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, Working) and event.what.startswith("confirmation"):
            raise KeyboardInterrupt

    stopped = compiled(harness, talks, tmp_path / "run", stop).detailed_results
    assert stopped.stopped == "interrupted" and stopped.confirmation is None
    assert final_prompt(tmp_path / "run") == stopped.best.instruction
    whole = compiled(harness, talks, None).detailed_results
    assert compiled(harness, talks, tmp_path / "run").detailed_results == whole


def test_who_interrupts_a_resume_gets_what_the_journal_knows(harness: Harness, tmp_path: Path) -> None:
    first = compiled(harness, talks, tmp_path / "run", stops(BatchDone, 3)).detailed_results
    again = compiled(harness, talks, tmp_path / "run", stops(Restored)).detailed_results
    assert again == first and len(again.batches) == 3
    whole = compiled(harness, talks, tmp_path / "run").detailed_results
    last = compiled(harness, talks, tmp_path / "run", stops(Confirmed)).detailed_results
    assert last.best == whole.best and last.confirmation == whole.confirmation


def test_who_wants_the_exception_gets_it(harness: Harness, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        compiled(harness, talks, tmp_path / "run", stops(BatchDone, 2), on_interrupt="raise")
    assert json.loads((tmp_path / "run/summary.json").read_text())["status"] == "interrupted"
    with pytest.raises(UsageError, match="'return' or 'raise', not 'ignore'"):
        compiled(harness, talks, None, on_interrupt="ignore")


def test_where_no_signal_comes_nothing_is_done_about_signals(harness: Harness) -> None:
    found: list[Any] = []
    handler = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=lambda: found.append(compiled(harness, talks, None)))
    thread.start()
    thread.join()
    assert found[0].detailed_results.stopped == "" and signal.getsignal(signal.SIGINT) is handler


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "number"), [(BatchDone, 1), (BatchDone, 4), (DevDone, 1), (DevDone, 2)])
def test_a_prompt_whose_gain_is_not_sure_is_not_left_behind(
    harness: Harness, tmp_path: Path, kind: type, number: int
) -> None:
    results = compiled(harness, hopeless, tmp_path / "run", stops(kind, number)).detailed_results
    assert results.stopped == "interrupted" and results.confirmation is None
    assert any(b.accepted for b in results.batches) and not any(b.sure for b in results.batches)
    assert final_prompt(tmp_path / "run") == results.best.instruction == SEED and results.rules == ()
    assert exported(tmp_path / "run") == tree(tmp_path / "run")


@pytest.mark.slow
def test_one_whose_gain_is_sure_is(harness: Harness, tmp_path: Path) -> None:
    whole = compiled(harness, talks, None).detailed_results
    current = whole.seed
    found = []
    for batch in whole.batches:
        current = batch.child if batch.accepted and batch.child is not None else current
        folder = tmp_path / str(batch.batch)
        results = compiled(harness, talks, folder, stops(BatchDone, batch.batch)).detailed_results
        assert results.best == (current if batch.sure else whole.seed) and results.batches[-1] == batch
        assert final_prompt(folder) == results.best.instruction
        assert exported(folder) == tree(folder)
        found.append(batch.sure)
    assert set(found) == {False, True}, "both were seen"


def test_what_a_larger_budget_has_gone_past_is_no_confirmation_any_more(harness: Harness, tmp_path: Path) -> None:
    folder, more = tmp_path / "run", {"budget": Budget(rollouts=60)}
    told = folder / "training/confirmation.json"
    first = compiled(harness, talks, folder, budget=Budget(rollouts=24)).detailed_results
    before = told.read_bytes()
    for kind in (Restored, CaughtUp):
        assert compiled(harness, talks, folder, stops(kind), **more).detailed_results.best == first.best
        assert told.read_bytes() == before, "nothing has gone on yet"
    results = compiled(harness, talks, folder, stops(BatchDone), **more).detailed_results
    assert results.confirmation is None and not told.exists()
    assert exported(folder) == tree(folder)
    compiled(harness, talks, folder, **more)
    assert json.loads(told.read_text())["candidate_id"] and told.read_bytes() != before


def test_between_two_files_both_are_written_after_all(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = ResultsTree.text, count()

    def interrupted(tree: ResultsTree, name: str, text: str) -> Path:
        if name.endswith("final_prompt.txt") and next(written) == 1:  # after that of the start prompt
            raise KeyboardInterrupt
        return write(tree, name, text)

    monkeypatch.setattr(ResultsTree, "text", interrupted)
    results = compiled(harness, talks, tmp_path / "run").detailed_results
    assert results.stopped == "interrupted" and results.best != results.seed
    assert final_prompt(tmp_path / "run") == results.best.instruction


@pytest.mark.parametrize("where", ["_open", "close"])
def test_while_files_are_opened_or_closed_it_locks_nobody_out(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def interrupted(journal: Journal) -> None:
        if where == "close":
            close(journal)
        raise KeyboardInterrupt

    close = Journal.close
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt) as kept:
        patch.setattr(Journal, where, interrupted)
        compiled(harness, talks, tmp_path / "run")
    compiled(harness, talks, tmp_path / "run")
    assert kept.tb is not None, "somebody has kept the traceback, as a notebook does"
