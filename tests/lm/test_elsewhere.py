"""Calls that workers make: the same answers, rows and errors, and no key on the way."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.lm15 import Config, Message, Request
from dspy.utils.exceptions import (
    ContextWindowExceededError,
    LMAuthError,
    LMError,
    LMInvalidRequestError,
    LMRateLimitError,
    LMServerError,
    LMTransportError,
)

from evoprompt import Program
from evoprompt.errors import ClusterError, ModelError, UsageError
from evoprompt.lm import resolve_lm
from evoprompt.lm.calls import Calls
from evoprompt.lm.interception import attempt, listening
from evoprompt.lm.resolve import explain_lm_error
from evoprompt.runs import Journal
from tests.models import fenced
from tests.openai_server import OpenAIServer, Reply, error

CODE = fenced("def f(x):\n    return x")
KEY = "sk-test-0123456789abcdef"


class Workers(Executor):
    """Calls functions here, with what a pickle of the call holds; some calls are lost."""

    def __init__(self, lost: Callable[[int], BaseException | None] = lambda number: None) -> None:
        self.sent: list[bytes] = []
        self.lost = lost

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.sent.append(pickle.dumps((fn, args, kwargs)))
        future: Future[Any] = Future()
        if (why := self.lost(len(self.sent))) is not None:
            future.set_exception(why)
            return future
        fn, args, kwargs = pickle.loads(self.sent[-1])
        future.set_result(pickle.loads(pickle.dumps(fn(*args, **kwargs))))
        return future


@pytest.fixture(autouse=True)
def ours(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(lambda body, n: CODE) as there:
        yield there


def model(there: OpenAIServer, **settings: Any) -> dspy.LM:
    return dspy.LM(
        "openai/x", **{"api_base": there.base, "api_key": KEY, "temperature": 0.0, "num_retries": 2} | settings
    )


def ask(lm: dspy.LM, journal: Journal, workers: Executor | None, sample: int = 0) -> str:
    program = Calls(journal, workers=workers).applied(Program(generator_lm=lm))
    with attempt(sample):
        return str(program(prompt="p", entry_point="f").code)


def rows(journal: Journal) -> list[Any]:
    """Answers without their times."""
    return list(journal.rows("SELECT key, role, model, response, input_tokens, output_tokens, cost FROM answers"))


def test_an_answer_is_kept_as_if_it_was_asked_for_here_and_known_either_way(
    server: OpenAIServer, tmp_path: Path
) -> None:
    found = []
    for name, first, then in (("here", None, Workers()), ("there", Workers(), None)):
        for workers in (first, then):
            with Journal(tmp_path / name) as journal:
                assert "def f" in ask(model(server), journal, workers)
                found.append(rows(journal))
    assert all(one == found[0] for one in found) and len(server.seen) == 2


REQUEST = Request(model="openai/x", messages=(Message.user("hi"),), config=Config(max_tokens=50))


@pytest.mark.parametrize(
    ("settings", "given"),
    [
        ({}, {"prompt": REQUEST}),
        ({"temperature": 1.0}, {"prompt": "hi", "n": 2}),
        ({"logprobs": True}, {"prompt": "hi"}),
        pytest.param({"engine": "litellm"}, {"prompt": "hi"}, marks=pytest.mark.slow),
    ],
)
def test_every_kind_of_call_gives_the_same_answer_and_row(
    server: OpenAIServer, settings: dict[str, Any], given: dict[str, Any]
) -> None:
    found = []
    for workers in (None, Workers()):
        with Journal() as journal, listening(Calls(journal, workers=workers)):
            found.append((repr(model(server, **settings)(**given)), rows(journal)))
        assert workers is None or not any(KEY.encode() in sent for sent in workers.sent)
    assert found[0] == found[1]


def test_no_key_is_sent_and_a_worker_uses_its_own(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers()
    lm = model(server, extra_headers={"Authorization": "Bearer abcdefghijkl"})
    with Journal() as journal:
        ask(lm, journal, workers)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-worker-0123456789")
        ask(model(server, temperature=0.5), journal, workers)
    assert len(workers.sent) == 2
    assert not any(secret in sent for secret in (KEY.encode(), b"abcdefghijkl") for sent in workers.sent)
    assert [s.headers["authorization"] for s in server.seen] == [
        "Bearer no-key-needed", "Bearer sk-of-the-worker-0123456789"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reply", "kind", "told"),
    [
        (error(429, "slow down", Retry_After="0.5"), LMRateLimitError, None),
        (error(500, "oh"), LMServerError, None),
        (error(400, "too long", "context_length_exceeded"), ContextWindowExceededError, None),
        (error(400, "unsupported parameter: 'top_k'"), LMInvalidRequestError, "refuses our requests"),
        (error(401, "wrong key"), LMAuthError, r"refused the key \(HTTP 401: on .+, with its own keys: .*wrong key"),
    ],
)
def test_an_error_is_the_same(server: OpenAIServer, reply: Reply, kind: type[LMError], told: str | None) -> None:
    server.responder = lambda body, n: reply
    failed = []
    for workers in (None, Workers()):
        with Journal() as journal, pytest.raises(LMError) as caught:
            ask(model(server), journal, workers)
        failed.append(caught.value)
    here, there = failed
    assert type(here) is type(there) is kind
    for name in ("code", "status", "provider", "model", "retry_after"):
        assert getattr(here, name) == getattr(there, name)
    fatal = explain_lm_error(there)
    assert type(fatal) is type(explain_lm_error(here))
    if told:
        with pytest.raises(ModelError, match=told):
            raise fatal or AssertionError


def test_a_server_that_is_not_there_is_told_with_its_worker() -> None:
    lm = dspy.LM("openai/x", api_base="http://127.0.0.1:9/v1", num_retries=8)
    workers = Workers()
    with Journal() as journal, pytest.raises(LMTransportError) as caught:
        ask(lm, journal, workers)
    assert len(workers.sent) == 3, "an address where nobody ever answered is not asked long"
    assert "can't be reached (on " in str(explain_lm_error(caught.value))


def test_a_lost_worker_is_a_lost_connection(server: OpenAIServer, caplog: pytest.LogCaptureFixture) -> None:
    workers = Workers(lambda number: OSError("connection refused") if number < 3 else None)
    with Journal() as journal:
        assert "def f" in ask(model(server), journal, workers)
        assert journal.spent()["generator"].retries == 2
    assert "model openai/x: the worker that asked it was lost (OSError): it is asked again" in caplog.messages
    with Journal() as journal, pytest.raises(LMTransportError) as caught:
        ask(model(server), journal, Workers(lambda number: OSError("connection refused")))
    assert explain_lm_error(caught.value) is None, "it says nothing about the model"
    with Journal() as journal, pytest.raises(LMError) as caught:
        ask(model(server), journal, Workers(lambda number: BrokenExecutor("all gone")))
    assert isinstance(explain_lm_error(caught.value), ClusterError)


class Forwards(dspy.LM):
    """Bypasses the engine."""

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        raise AssertionError


@pytest.mark.parametrize(
    ("lm", "told"),
    [
        (resolve_lm("simulated"), "model 'simulated/seed-0' answers in this process, not on a server"),
        (Forwards("openai/x"), "Forwards has a `forward` of its own: workers can't ask it"),
        (dspy.LM("bedrock/x", aws_secret_access_key="abc123"), "its option 'aws_secret_access_key' holds a credential"),
        (dspy.LM("openai/x", api_base="http://me:secret12@lab1/v1"), "its option 'api_base' holds a credential"),
        (dspy.LM("openai/x", stop=lambda text: False), "can't be sent to a worker"),
    ],
)
def test_a_model_that_workers_can_not_ask_is_refused_before_a_call(lm: dspy.LM, told: str) -> None:
    with pytest.raises((UsageError, LMError)) as caught:
        ask(lm, Journal(), Workers())
    refused = explain_lm_error(caught.value)
    assert isinstance(refused, UsageError) and told in str(refused) and "leave lm_on_workers out" in str(refused)


@pytest.mark.slow
def test_a_process_pool_asks_as_well(server: OpenAIServer) -> None:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool, Journal() as journal:
        assert "def f" in ask(model(server), journal, pool)
        server.responder = lambda body, n: error(401, "wrong key")
        with pytest.raises(LMAuthError):
            ask(model(server), journal, pool, sample=1)
    assert len(server.seen) == 2
