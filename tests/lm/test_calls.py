"""Calls with care: kept before they are used, repeated, checked, paced."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import dspy
import pytest
from dspy.utils.exceptions import LMAuthError, LMError, LMRateLimitError, LMServerError, LMTimeoutError

from evoprompt import Program
from evoprompt.errors import ModelError, StorageError
from evoprompt.lm import LMSettings, dspy_internals
from evoprompt.lm import calls as module
from evoprompt.lm.calls import Calls, CutOffReply, EmptyReply, FilteredReply
from evoprompt.lm.concurrency import ConcurrencyLimiter, Traffic
from evoprompt.lm.identity import describe
from evoprompt.lm.interception import attempt
from evoprompt.lm.resolve import explain_lm_error
from evoprompt.runs import Journal
from evoprompt.runs.journal import LENGTHS
from tests.models import fenced, scripted
from tests.openai_server import OpenAIServer, Reply, completion

CODE = fenced("def f(x):\n    return x")


def asking(lm: dspy.LM, journal: Journal, **how: Any) -> Program:
    return Calls(journal, **how).applied(Program(generator_lm=lm))


def ask(program: Program, text: str = "p", sample: int = 0) -> str:
    with attempt(sample):
        return str(program(prompt=text, entry_point="f").code)


def served(reply: Any, **settings: Any) -> tuple[OpenAIServer, dspy.LM]:
    server = OpenAIServer(reply)
    how = {"num_retries": 8, "timeout": 20, "temperature": 0.0} | settings
    return server, dspy.LM("openai/x", api_base=server.base, api_key="k", **how)


def test_an_answer_is_kept_before_it_is_used_and_asked_for_once() -> None:
    lm, engine = scripted(CODE)
    with Journal() as journal:
        first = ask(asking(lm, journal))
        assert journal.spent()["generator"].calls == 1
        assert ask(asking(lm, journal)) == first
        assert len(engine.seen) == 1
        assert journal.spent()["generator"].input_tokens == 1


def test_what_cannot_be_kept_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, _ = scripted(CODE)
    with Journal() as journal:
        program = asking(lm, journal)
        monkeypatch.setattr(journal, "_write", lambda *_: (_ for _ in ()).throw(StorageError("the disk is full")))
        with pytest.raises(LMError) as failed:
            ask(program)
        assert isinstance(explain_lm_error(failed.value), StorageError)


def test_samples_have_answers_of_their_own_and_a_step_that_asks_twice_too() -> None:
    lm, engine = scripted(CODE)
    with Journal() as journal:
        program = asking(lm.copy(temperature=1.0), journal)
        for _ in range(2):
            for sample in range(3):
                ask(program, sample=sample)
        assert len(engine.seen) == 3
        with attempt():
            for _ in range(2):
                program(prompt="q", entry_point="f")
        assert len(engine.seen) == 5
        with attempt():
            for _ in range(2):
                program(prompt="q", entry_point="f")
        assert len(engine.seen) == 5


def test_the_same_request_at_the_same_time_is_made_once() -> None:
    go = threading.Event()

    def slow(text: str) -> str:
        go.wait(10)
        return CODE

    lm, engine = scripted(slow)
    with Journal() as journal:
        program = asking(lm, journal)
        threads = [threading.Thread(target=ask, args=(program,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        go.set()
        for thread in threads:
            thread.join()
        assert len(engine.seen) == 1


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "fault",
    [
        Reply(429, {"error": {"message": "slow down"}}, {"Retry-After": "0.01"}),
        Reply(500, {"error": {"message": "oh"}}),
        Reply(503, {"error": {"message": "oh"}}),
        "",
        Reply(200, completion("", {"model": "x"}) | {"choices": []}),
        Reply(200, "<html>Bad gateway</html>"),
    ],
)
def test_what_may_pass_is_repeated(fault: str | Reply) -> None:
    server, lm = served(lambda body, n: fault if n in (0, 1, 3) else CODE)
    with server, Journal() as journal:
        program = asking(lm, journal)
        assert "def f" in ask(program)
        assert "def f" in ask(program, "another")
        assert len(server.seen) == 5
        assert journal.spent()["generator"].retries == 3


def test_a_server_that_says_wait_a_second_for_longer_than_that_is_given_more(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(ConcurrencyLimiter, "sleep", lambda self, seconds, *_: slept.append(seconds))
    monkeypatch.setattr(module, "FIRST_WAIT", 1.0)
    again = Reply(429, {"error": {"message": "slow down"}}, {"Retry-After": "0.01"})
    server, lm = served(lambda body, n: again if n < 6 else CODE)
    with server, Journal() as journal:
        ask(asking(lm, journal))
    assert sum(slept) > 7


def test_a_pause_follows_all_failures_of_a_call_whatever_their_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(ConcurrencyLimiter, "sleep", lambda self, seconds, *_: slept.append(seconds))
    monkeypatch.setattr(module, "FIRST_WAIT", 1.0)
    monkeypatch.setattr(module._jitter, "uniform", lambda low, high: high)
    faults = [Reply(503, {}), Reply(200, "<html>"), "", Reply(429, {}), Reply(500, {}, {"Retry-After": "40"})]
    server, lm = served(lambda body, n: faults[n] if n < len(faults) else CODE)
    with server, Journal() as journal:
        ask(asking(lm, journal))
    assert slept == [1, 2, 4, 8, 40]


def test_the_retries_of_our_models_last_through_an_outage_of_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT", 1.0)
    for jitter, least, most in ((min, 150, 160), (max, 300, 310)):
        monkeypatch.setattr(module._jitter, "uniform", jitter)
        pauses = [module._backoff(LMServerError("oh"), before) for before in range(LMSettings().num_retries)]
        assert least < sum(pauses) < most and 0.5 <= pauses[0] <= 1.0, pauses


@pytest.mark.usefixtures("quick")
def test_a_provider_that_is_gone_is_not_waited_for_by_each_call_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GONE", -1.0)
    server, lm = served(lambda *_: Reply(503, {"error": {"message": "oh"}}))
    with server, Journal() as journal, pytest.raises(LMServerError):
        ask(asking(lm, journal))
    assert len(server.seen) == 3


def test_what_a_call_waited_to_be_repeated_is_kept_apart_from_its_own_seconds() -> None:
    again = Reply(429, {"error": {"message": "slow down"}}, {"Retry-After": "0.2"})
    server, lm = served(lambda body, n: again if n == 0 else CODE)
    with server, Journal() as journal:
        began = time.monotonic()
        ask(asking(lm, journal))
        ((waited, seconds),) = journal.rows("SELECT waited, seconds FROM answers")
    assert waited >= 0.2 and seconds > 0 and waited + seconds <= time.monotonic() - began


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        ("", EmptyReply, "empty_reply"),
        (Reply(429, {"error": {"message": "m"}}), LMRateLimitError, "rate_limit"),
        (Reply(500, {"error": {"message": "m"}}), LMServerError, "server"),
    ],
)
def test_in_the_end_a_failure_is_told_by_its_kind(fault: str | Reply, kind: type[LMError], code: str) -> None:
    server, lm = served(lambda *_: fault, num_retries=2)
    with server, Journal() as journal:
        with pytest.raises(kind) as failed:
            ask(asking(lm, journal))
        assert (failed.value.code, len(server.seen)) == (code, 3)
        assert journal.counts()["answers"] == 0


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("status", "kind"), [(401, LMAuthError), (404, LMError), (400, LMError)])
def test_what_will_not_pass_is_not_repeated(status: int, kind: type[LMError]) -> None:
    server, lm = served(lambda *_: Reply(status, {"error": {"message": "no"}}))
    with server, Journal() as journal, pytest.raises(kind):
        ask(asking(lm, journal))
    assert len(server.seen) == 1


def ending(text: str, reason: str) -> Reply:
    body = completion(text, {"model": "x"})
    body["choices"][0]["finish_reason"] = reason
    return Reply(200, body)


def test_a_reply_that_was_cut_off_is_no_answer_unless_its_code_is_whole() -> None:
    replies = ["I will first consider", "```python\ndef f(x):\n    ret", "```python\ndef f(x):\n    return x\n```\nIt"]
    server, lm = served(lambda body, n: ending(replies[n], "length"))
    with server, Journal() as journal:
        program = asking(lm, journal)
        for text in ("a", "b"):
            for _ in range(2):  # the second time from the journal: it was paid for
                with pytest.raises(CutOffReply, match="max_tokens"):
                    ask(program, text)
        assert ask(program, "c") == "def f(x):\n    return x"
        assert len(server.seen) == journal.counts()["answers"] == 3


def test_a_larger_limit_asks_again_for_what_was_cut_off_and_nothing_else() -> None:
    def limit_of(body: Any) -> float:
        return next((body[name] for name in LENGTHS if name in body), float("inf"))

    def limited(body: Any, n: int) -> Any:
        return ending("Let me think", "length") if "too much" in str(body) and limit_of(body) < 300 else CODE

    server, lm = served(limited)
    with server, Journal() as journal:
        for limit, cut in ((100, True), (200, True), (300, False), (400, False), (100, False), (None, False)):
            program = asking(lm.copy(max_tokens=limit), journal)
            ask(program, "little")
            with pytest.raises(CutOffReply, match="larger --max_tokens") if cut else contextlib.nullcontext():
                ask(program, "too much")
    asked = [("too much" in str(s.body), limit_of(s.body)) for s in server.seen]
    assert asked == [(False, 100), (True, 100), (True, 200), (True, 300)]


def test_answers_of_runs_from_before_are_found_by_their_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    server, lm = served(lambda *_: CODE, max_tokens=100)
    with server, Journal() as journal:
        with monkeypatch.context() as before:
            before.setattr(dspy_internals, "of_any_length", lambda content: content)
            ask(asking(lm, journal))
        ask(asking(lm, journal))
        assert len(server.seen) == 1


def test_advice_that_was_cut_off_is_taken() -> None:
    server, lm = served(lambda *_: ending("[[ ## new_instruction ## ]]\nBe kind", "length"))
    with server, Journal() as journal:
        program = Calls(journal).applied(Program(generator_lm=lm, optimizer_lm=lm))
        assert program.propose(current_instruction="x", failures=[], attempts=[]) == "Be kind"


def test_dspy_writes_no_line_of_its_own_while_we_ask(capsys: pytest.CaptureFixture[str]) -> None:
    server, lm = served(lambda *_: ending(CODE, "length"))
    with server, Journal() as journal:
        assert ask(asking(lm, journal)) == "def f(x):\n    return x"
        assert capsys.readouterr().err == ""
        lm("as anybody asks")
        assert "LM response was truncated" in capsys.readouterr().err


def test_a_reply_that_a_filter_took_is_a_kind_of_its_own() -> None:
    server, lm = served(lambda *_: ending("", "content_filter"))
    with server, Journal() as journal, pytest.raises(FilteredReply):
        ask(asking(lm, journal))
    assert len(server.seen) == 1


def test_a_late_reply_is_repeated_and_kept_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    late = threading.Event()

    def reply(body: Any, n: int) -> str:
        if n == 0:
            late.wait(10)
        return CODE

    server, lm = served(reply, timeout=0.2, num_retries=0)
    with server, Journal() as journal:
        program = asking(lm, journal)
        with pytest.raises(LMTimeoutError, match=r"no whole answer within 0\.2 s"):
            ask(program)
        late.set()
        until = time.monotonic() + 10
        while not journal.counts()["answers"] and time.monotonic() < until:
            time.sleep(0.01)
        assert "def f" in ask(program)
        assert len(server.seen) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_model_that_suddenly_takes_longer_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.2)

    def reply(body: Any, n: int) -> str:
        time.sleep(0.5 if "hard" in body["messages"][-1]["content"] else 0)
        return CODE

    server, lm = served(reply)
    with server, Journal() as journal:
        program = asking(lm, journal)
        ask(program, "easy")
        assert "def f" in ask(program, "hard")
        assert len(server.seen) <= 5
        ask(program, "hard too")  # now it is known what it may take
        assert len(server.seen) <= 6


def test_a_seed_of_its_own_makes_the_samples_of_a_simulated_model_the_same_in_another_process() -> None:
    from evoprompt import load_dataset, resolve_lm
    from evoprompt.lm import LMSettings

    task = load_dataset("starter")[0]

    def codes(samples: list[int]) -> list[str]:
        lm = resolve_lm("simulated", LMSettings(temperature=1.0))
        with Journal() as journal:
            program = asking(lm, journal)
            return [ask(program, task.prompt, sample) for sample in samples]

    forwards, backwards = codes([0, 1, 2, 3]), codes([3, 2, 1, 0])
    assert forwards == backwards[::-1]


def test_a_wrong_key_costs_one_request_however_many_are_waiting() -> None:
    server, lm = served(lambda *_: Reply(401, {"error": {"message": "no"}}))
    with server, Journal() as journal:
        calls = Calls(journal, most=8)
        program = calls.applied(Program(generator_lm=lm))
        failed: list[BaseException] = []

        def one(number: int) -> None:
            try:
                ask(program, str(number))
            except LMAuthError as e:
                failed.append(e)

        threads = [threading.Thread(target=one, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(failed) == 8 and len(server.seen) == 1


def test_the_pace_opens_with_the_first_answer_and_halves_under_load() -> None:
    limiter = ConcurrencyLimiter(8)
    assert limiter.limit == 1
    limiter.leave(limiter.enter(), answered=True, overloaded=False)
    assert limiter.limit == 8 and limiter.proven
    began = [limiter.enter() for _ in range(8)]
    for when in began:  # one overload, however many it met
        limiter.leave(when, answered=False, overloaded=True)
    assert limiter.limit == 4
    rounds = 0
    while limiter.limit < 8:
        for when in [limiter.enter() for _ in range(limiter.limit)]:
            limiter.leave(when, answered=True, overloaded=False)
        rounds += 1
    assert rounds <= 5


def test_a_server_that_wants_to_be_left_alone_is(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("evoprompt.lm.concurrency.time.monotonic", lambda: now[0])
    limiter = ConcurrencyLimiter(2)
    waited: list[float | None] = []

    def wait(self: threading.Condition, seconds: float | None = None) -> None:
        waited.append(seconds)
        now[0] = 2000.0

    monkeypatch.setattr(threading.Condition, "wait", wait)
    limiter.leave(limiter.enter(), answered=False, overloaded=True, retry_after=30.0)
    limiter.enter()
    assert waited == [30.0]


class Clock:
    """A time for limiters, which goes on while somebody waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, waits: bool = True) -> None:
        self.now = 1000.0
        monkeypatch.setattr("evoprompt.lm.concurrency.time.monotonic", lambda: self.now)
        if waits:
            monkeypatch.setattr(threading.Condition, "wait", self._wait)

    def _wait(self, seconds: float) -> None:
        self.now += seconds


def fail(limiter: ConcurrencyLimiter, failure: str = "server error (503)", retry_after: float = 0.0) -> None:
    began = limiter.enter()
    limiter.leave(began, answered=False, overloaded=False, retry_after=retry_after, failure=failure)


def test_it_is_known_what_is_waited_for_until_the_next_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, waits=False)
    limiter, traffic = ConcurrencyLimiter(2), Traffic()
    with pytest.raises(LMRateLimitError), traffic.one(limiter):
        began = limiter.enter()
        clock.now += 5
        limiter.leave(began, answered=False, overloaded=True, retry_after=40.0, failure="rate limit (429)")
        raise LMRateLimitError("slow down")
    assert traffic.waiting() is None  # nobody asks again
    sleeper = threading.Thread(target=limiter.sleep, args=(40.0, 40.0))
    sleeper.start()
    while (found := traffic.waiting()) is None:
        pass
    assert (found.kind, found.seconds, found.next_try) == ("rate limit (429)", 5.0, 40.0)
    clock.now += 41
    found = traffic.waiting()
    assert found is not None and (found.seconds, found.then) == (46.0, "trying again now")
    limiter.took(0.1)
    assert traffic.waiting() is None
    limiter.stop()
    sleeper.join()


def test_a_log_tells_now_and_then_that_a_provider_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Clock(monkeypatch)
    limiter = ConcurrencyLimiter(1)
    for _ in range(2):
        fail(limiter, "rate limit (429)", 60.0)
        limiter.sleep(60.0, 60.0)
    fail(limiter)
    limiter.sleep(600.0)
    limiter.took(0.1)
    limiter.sleep(600.0)
    assert [record.getMessage() for record in caplog.records] == [
        "waiting for the provider for 10 s: rate limit (429); next try in 50 s",
        "waiting for the provider for 30 s: rate limit (429); next try in 30 s",
        "waiting for the provider for 2 min 0 s: rate limit (429); trying again now",
        "waiting for the provider for 5 min 0 s: server error (503); next try in 7 min 0 s",
        "waiting for the provider for 10 min 0 s: server error (503); next try in 2 min 0 s",
        "the provider answers again after 12 min 0 s",
    ]


def test_who_waits_for_a_slot_tells_it_too(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    Clock(monkeypatch)
    limiter = ConcurrencyLimiter(1)
    fail(limiter, "rate limit (429)", 15.0)
    limiter.enter()
    assert caplog.messages == ["waiting for the provider for 10 s: rate limit (429); next try in 5 s"]


def test_the_answer_that_ends_an_outage_wakes_those_that_pause_but_for_what_the_server_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch, waits=False)
    limiter = ConcurrencyLimiter(8)
    fail(limiter)
    free, bound = (threading.Thread(target=limiter.sleep, args=(3600.0, least)) for least in (0.0, 3000.0))
    for thread in (free, bound):
        thread.start()
    while len(limiter._due) < 2:
        pass
    clock.now += 5
    limiter.took(0.1)  # that was no outage: whoever is refused now and then keeps its pace
    assert free.is_alive()
    fail(limiter)
    clock.now += 20
    limiter.took(0.1)
    free.join(10)
    assert not free.is_alive() and bound.is_alive()
    limiter.stop()
    bound.join(10)


def test_a_quota_that_is_used_up_for_hours_is_told_at_once() -> None:
    server, lm = served(lambda *_: Reply(429, {"error": {"message": "daily quota"}}, {"Retry-After": "7200"}))
    with server, Journal() as journal:
        program = asking(lm, journal)
        for text in ("a", "b"):
            with pytest.raises(LMError) as failed:
                ask(program, text)
            assert "no call for the next 120 minutes" in str(explain_lm_error(failed.value))
        assert len(server.seen) == 1


def test_a_stopped_run_begins_no_call_and_waits_for_nothing() -> None:
    limiter = ConcurrencyLimiter(1)
    limiter.stop()
    limiter.sleep(3600)
    with pytest.raises(ModelError, match="is being stopped"):
        limiter.enter()


def test_a_server_that_is_not_there_is_not_looked_for_long() -> None:
    lm = dspy.LM("openai/x", api_base="http://127.0.0.1:9/v1", api_key="k", num_retries=8)
    with Journal() as journal, pytest.raises(LMError) as failed:
        ask(asking(lm, journal))
    assert "can't be reached" in str(explain_lm_error(failed.value))


def test_programs_keep_their_models_and_settings() -> None:
    lm, _ = scripted(CODE)
    program = Program(generator_lm=lm)
    with Journal() as journal:
        careful = Calls(journal).applied(program)
        assert program.generator.lm is lm
        assert careful.generator.lm.model == lm.model
        assert Calls(journal).applied(careful).generator.lm.engine is careful.generator.lm.engine
        described = describe(Program(generator_lm=dspy.LM("openai/x", api_key="sk-secret", api_base="http://h")))
        assert "secret" not in repr(described) and "http" not in repr(described)
        assert described["models"]["generator"]["model"] == "openai/x"


def test_a_bug_is_no_failure_of_the_model() -> None:
    def broken(text: str) -> str:
        return undefined_name  # type: ignore[name-defined]  # noqa: F821

    lm, _ = scripted(broken)
    with Journal() as journal, pytest.raises(LMError) as failed:
        ask(asking(lm, journal))
    explained = explain_lm_error(failed.value)
    assert explained is not None and explained.exit_code == 1
    assert "unexpected NameError" in str(explained)
