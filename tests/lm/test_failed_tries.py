"""Failed tries: each is kept, with its kind, its time and its price, whatever becomes of the call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dspy.utils.exceptions import LMServerError, LMTimeoutError

from evoprompt.errors import BudgetSpent, DamagedError, StorageError
from evoprompt.lm import calls as module
from evoprompt.lm.budget import Budget, BudgetTracker
from evoprompt.lm.calls import EmptyReply
from evoprompt.lm.concurrency import ConcurrencyLimiter
from evoprompt.runs import Failures, Journal, Spent
from evoprompt.runs.failures import by_kind, failed_tries, spans_of
from tests.lm.test_calls import CODE, ask, asking, served
from tests.models import scripted
from tests.openai_server import Reply


def wait_for(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not true() and time.monotonic() < until:
        time.sleep(0.01)


@pytest.mark.usefixtures("quick")
def test_every_failed_try_is_kept_with_its_kind_also_those_of_a_call_that_is_lost() -> None:
    faults = [Reply(429, {"error": {"message": "slow down, key plain.Secret0123"}}), Reply(500, {}), ""]
    server, lm = served(lambda body, n: faults[min(n, 2)], num_retries=4)
    lm.kwargs["api_key"] = "plain.Secret0123"
    with server, Journal() as journal:
        with pytest.raises(EmptyReply):
            ask(asking(lm, journal))
        assert len(server.seen) == 5
        found = {f.kind: f for f in by_kind(failed_tries(journal.rows))}
        assert {kind: f.count for kind, f in found.items()} == {"empty_reply": 3, "rate_limit": 1, "server": 1}
        assert found["empty_reply"].said == "the reply is empty"
        assert "slow down" in found["rate_limit"].said and "Secret" not in found["rate_limit"].said
        assert found["rate_limit"].last <= found["server"].first <= found["empty_reply"].first
        spent = journal.spent()["generator"]
        assert (spent.calls, spent.retries) == (0, 5), "no answer, and every failed try"
        assert (spent.input_tokens, spent.output_tokens) == (3, 3)


def test_the_pause_after_a_failed_try_is_the_one_that_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(module.time, "time", lambda: 1000 + clock[0])
    monkeypatch.setattr(ConcurrencyLimiter, "sleep", lambda self, *_: clock.__setitem__(0, clock[0] + 40))

    def down(text: str) -> str:
        clock[0] += 2
        if len(engine.seen) == 1:
            raise LMServerError("down", model="m")
        return CODE

    lm, engine = scripted(down)
    lm.num_retries = 1
    with Journal() as journal:
        assert "def f" in ask(asking(lm, journal))
        assert spans_of(failed_tries(journal.rows)) == [(1000.0, 1042.0)]


def test_a_failure_that_cannot_be_kept_hides_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(Journal, "keep_failure", full)
    server, lm = served(lambda *_: Reply(500, {"error": {"message": "oh"}}), num_retries=0)
    with server, Journal() as journal, pytest.raises(LMServerError, match="oh"):
        ask(asking(lm, journal))


def test_an_empty_reply_after_its_time_out_is_one_failed_try_and_paid_for() -> None:
    late = threading.Event()

    def reply(body: Any, n: int) -> str:
        late.wait(10)
        return ""

    server, lm = served(reply, timeout=0.2, num_retries=0)
    with server, Journal() as journal:
        with pytest.raises(LMTimeoutError):
            ask(asking(lm, journal))
        assert journal.spent()["generator"].input_tokens == 0
        late.set()
        wait_for(lambda: journal.spent()["generator"].input_tokens > 0)
        spent = journal.spent()["generator"]
        assert (spent.calls, spent.retries, spent.input_tokens) == (0, 1, 1)
        assert [(f.kind, f.count) for f in by_kind(failed_tries(journal.rows))] == [("timeout", 1)]


def test_two_replies_to_one_request_are_one_answer_and_both_are_paid_for() -> None:
    late, waits = threading.Event(), iter((True, False))

    def reply(body: Any, n: int) -> str:
        if next(waits):
            late.wait(10)
        return CODE

    server, lm = served(reply, timeout=0.2, num_retries=1)
    with server, Journal() as journal:
        assert "def f" in ask(asking(lm, journal))
        late.set()
        wait_for(lambda: journal.spent()["generator"].input_tokens == 2)
        spent = journal.spent()["generator"]
        assert (spent.calls, spent.retries, spent.input_tokens) == (1, 1, 2)


@pytest.mark.usefixtures("quick")
def test_empty_replies_spend_the_tokens_of_a_budget_also_after_a_resume(tmp_path: Path) -> None:
    server, lm = served(lambda _, n: "" if n % 2 == 0 else CODE)
    with server:
        with Journal(tmp_path / "journal.sqlite") as journal:
            program = asking(lm, journal, budget=Budget(tokens=100_000))
            for text in ("a", "b"):
                ask(program, text)
        with Journal(tmp_path / "journal.sqlite") as journal:
            spent = journal.spent()["generator"]
            assert (spent.calls, spent.retries, spent.input_tokens + spent.output_tokens) == (2, 2, 8)
            resumed = BudgetTracker(journal, Budget(tokens=8, lm_calls=9))
            assert resumed.bill(()) == {"lm_calls": (2.0, 2.0), "tokens": (8.0, 8.0)} and resumed.calls_left == 7
            with pytest.raises(BudgetSpent, match="the 8 tokens of the budget"), resumed.open("generator", lambda: 0):
                raise AssertionError


def keep(journal: Journal, at: float, seconds: float, kind: str = "timeout", key: str = "k") -> None:
    journal.keep_failure(key, at, "generator", "m", (kind, f"said at {at:g}"), seconds)


def test_failed_tries_are_told_by_kind_and_overlapping_ones_wait_once() -> None:
    with Journal() as journal:
        assert (by_kind(failed_tries(journal.rows)), spans_of(failed_tries(journal.rows))) == ([], [])
        keep(journal, 100, 5)
        keep(journal, 102, 10, "rate_limit", "other")
        journal.keep_pause("k", 1.0)
        keep(journal, 103, 1)
        keep(journal, 200, 1)
        journal.keep_pause("k", 2.0)
        assert by_kind(failed_tries(journal.rows)) == [
            Failures("timeout", 3, 100.0, 200.0, "said at 200"), Failures("rate_limit", 1, 102.0, 102.0, "said at 102"),
        ]  # fmt: skip
        assert spans_of(failed_tries(journal.rows)) == [(100.0, 112.0), (200.0, 203.0)]


def test_a_fork_begins_without_the_failed_tries_of_the_other_run(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.sqlite") as journal:
        keep(journal, 100, 5)
        journal.keep_answer("k", "generator", "m", "{}", (1, 1, None), 1.0, 1)
        assert journal.spent() == {"generator": Spent(1, 1, 1, 1, 0.0, 1, 1.0)}
        (tmp_path / "fork").mkdir()
        journal.fork(tmp_path / "fork")
    with Journal(tmp_path / "fork/journal.sqlite") as journal:
        assert (journal.counts()["answers"], by_kind(failed_tries(journal.rows)), journal.spent()) == (1, [], {})


def test_a_run_that_never_got_an_answer_leaves_no_failed_try_to_the_next() -> None:
    with Journal() as journal:
        journal.keep_meta("identity", '{"seed": 1}')
        keep(journal, 100, 5)
        journal.begin({"seed": 2})
        assert (by_kind(failed_tries(journal.rows)), journal.spent()) == ([], {})


@pytest.mark.parametrize("column", ["at", "seconds"])
def test_damaged_rows_are_told(column: str) -> None:
    with Journal() as journal:
        keep(journal, 100, 5)
        list(journal.rows(f"UPDATE failures SET {column} = 'long'"))
        with pytest.raises(DamagedError, match="the failed tries"):
            spans_of(failed_tries(journal.rows))
