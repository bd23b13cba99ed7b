"""resolve_lm and explain_lm_error: names without network, and real HTTP against a local server."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator

import dspy
import pytest
from dspy.lm15 import ContextLengthError
from dspy.utils import exceptions as lm_errors

from evoprompt.errors import ModelError, UsageError
from evoprompt.lm import CodeAdapter, LMSettings, adapter_for, explain_lm_error, resolve_lm
from evoprompt.lm.resolve import one_line
from evoprompt.local.adapter import PlainAdapter
from evoprompt.secrets import mask
from evoprompt.simulation.engine import SimulatedEngine
from signatures import DebugCode, Diagnosis, Failure, GenerateCode, OptimizePrompt
from tests.openai_server import OpenAIServer, Reply, Responder, engine_responder, error

KEY = "sk-test-1234567890abcdef"


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("MISTRAL_API_KEY", "OPENAI_BASE_URL", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    before = dspy.cache
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    yield
    dspy.cache = before


@pytest.fixture
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    for provider in ("OPENAI", "ANTHROPIC", "GEMINI"):
        monkeypatch.setenv(f"{provider}_API_KEY", KEY)


@pytest.mark.usefixtures("_key")
@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("openai/gpt-4o-mini", "openai/gpt-4o-mini"),
        ("gpt-4o-mini", "openai/gpt-4o-mini"),
        ("gpt-3.5-turbo", "openai/gpt-3.5-turbo"),
        (" gpt4-turbo ", "openai/gpt-4-turbo"),
        ("o3-mini", "openai/o3-mini"),
        ("o1", "openai/o1"),
        ("claude-3-5-haiku-latest", "anthropic/claude-3-5-haiku-latest"),
        ("gemini-2.5-flash", "gemini/gemini-2.5-flash"),
        ("ollama_chat/llama3.2:1b", "ollama_chat/llama3.2:1b"),
        ("someone/meta/llama", "someone/meta/llama"),
        ("azure_ai/some-model", "azure_ai/some-model"),
        ("simulated", "simulated/seed-3"),
        ("simulated/7", "simulated/seed-7"),
        ("simulated/seed-7", "simulated/seed-7"),
    ],
)
def test_names(name: str, model: str) -> None:
    assert resolve_lm(name, LMSettings(seed=3)).model == model


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "use provider/model, e.g. 'openai/gpt-4o-mini'"),
        ("a b", "is no model name"),
        ("openai/", "is no model name"),
        ("/gpt", "is no model name"),
        ("simulted", "did you mean 'simulated'?"),
        ("llama3", "names no provider: use provider/model"),
        ("opnai/gpt-4o", "did you mean 'openai/gpt-4o'?"),
        ("simulated/x", "'x' is no seed"),
    ],
)
def test_odd_names(name: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_lm(name)
    assert says in str(caught.value)
    assert repr(name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("gpt-4o-mini", "OPENAI_API_KEY"),
        ("gpt-5-mini", "OPENAI_API_KEY"),
        ("anthropic/claude-haiku-4-5", "ANTHROPIC_API_KEY"),
        ("gemini/gemini-2.5-flash", "GEMINI_API_KEY or GOOGLE_API_KEY"),
        ("openrouter/openai/gpt-4o", "OPENROUTER_API_KEY"),
        ("mistral/mistral-small", "MISTRAL_API_KEY"),
    ],
)
def test_a_missing_key_is_named_at_once(name: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", None)
    with pytest.raises(ModelError, match=f"set the environment variable {variable}"):
        resolve_lm(name)


@pytest.mark.parametrize("name", ["ollama_chat/llama3", "ollama/llama3", "hosted_vllm/x", "simulated"])
def test_no_key_needed(name: str) -> None:
    assert resolve_lm(name).model


@pytest.mark.usefixtures("_key")
@pytest.mark.parametrize("name", ["openai/o3", "gpt-5", "openai/gpt-5-mini", "azure/o1-mini"])
def test_reasoning_models_get_no_temperature(name: str, caplog: pytest.LogCaptureFixture) -> None:
    kwargs = resolve_lm(name).kwargs
    assert kwargs["temperature"] is None
    assert kwargs["max_completion_tokens"] is None
    assert not caplog.records
    assert resolve_lm(name, LMSettings(max_tokens=20_000, temperature=0.7)).kwargs["max_completion_tokens"] == 20_000
    assert "takes no temperature: 0.7 is not sent" in caplog.text
    with pytest.raises(UsageError, match="max_tokens 500 is too small"):
        resolve_lm(name, LMSettings(max_tokens=500))


@pytest.mark.usefixtures("_key")
def test_settings_reach_the_model_and_the_key_stays_outside() -> None:
    lm = resolve_lm("gpt-4o-mini", LMSettings(temperature=0.5, max_tokens=100, num_retries=2, timeout=7.0))
    assert (lm.num_retries, lm.kwargs) == (2, {"temperature": 0.5, "max_tokens": 100, "timeout": 7.0})
    assert resolve_lm("gpt-4o-mini").kwargs["max_tokens"] == 4096
    assert KEY not in repr(lm) + repr(lm.__dict__) + json.dumps(lm.dump_state())


def test_adapters() -> None:
    assert isinstance(adapter_for("local"), PlainAdapter)
    assert isinstance(adapter_for("simulated/3"), CodeAdapter)
    assert isinstance(adapter_for("gpt-4o-mini"), CodeAdapter)


def test_importing_the_package_does_not_import_dspy() -> None:
    code = "import sys, evoprompt.lm, evoprompt.lm.extract; print('dspy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
    with pytest.raises(AttributeError):
        import evoprompt.lm

        _ = evoprompt.lm.nothing


def serve(responder: Responder) -> OpenAIServer:
    return OpenAIServer(responder)


def connect(server: OpenAIServer, name: str = "openai/test", retries: int = 1) -> dspy.LM:
    return resolve_lm(name, LMSettings(api_base=server.base + "/", num_retries=retries))


def test_a_call_over_http_without_a_key() -> None:
    with serve(lambda body, n: "hello") as server:
        lm = connect(server)
        assert lm("hi") == ["hello"]
        assert lm.dump_state()["api_base"] == server.base
        assert "api_key" not in lm.dump_state()
    (seen,) = server.seen
    assert seen.headers["authorization"] == "Bearer no-key-needed"
    assert seen.body["messages"] == [{"role": "user", "content": "hi"}]
    assert seen.body["temperature"] == 0.0
    assert "seed" not in seen.body


@pytest.mark.usefixtures("_key")
def test_the_key_of_the_environment_is_read_when_calling(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(lambda body, n: "hello") as server:
        lm = connect(server)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-another-0987654321")
        lm("hi")
    assert server.seen[0].headers["authorization"] == "Bearer sk-another-0987654321"


def test_vllm_gets_the_older_name_of_max_tokens() -> None:
    with serve(lambda body, n: "hello") as server:
        connect(server, "hosted_vllm/test")("hi")
        connect(server)("hi")
    assert server.seen[0].body["max_tokens"] == 4096
    assert server.seen[1].body["max_completion_tokens"] == 4096


def test_a_rate_limit_is_waited_for() -> None:
    with serve(lambda body, n: error(429, "slow down", Retry_After="0") if n == 0 else "hello") as server:
        assert connect(server)("hi") == ["hello"]
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    ("reply", "kind", "requests", "fatal"),
    [
        (error(500, "oops", Retry_After="0"), lm_errors.LMServerError, 3, None),
        (error(429, "slow", Retry_After="0"), lm_errors.LMRateLimitError, 3, None),
        (
            error(401, f"Incorrect API key provided: {KEY}", "invalid_api_key"),
            lm_errors.LMAuthError,
            1,
            "refused the key (HTTP 401: Incorrect API key provided: [key]): check OPENAI_API_KEY",
        ),
        (error(429, "You exceeded your quota", "insufficient_quota"), lm_errors.LMBillingError, 1, "no credit left"),
        (error(404, "no such model", "model_not_found"), lm_errors.LMUnsupportedModelError, 1, "is unknown to"),
        (error(404, "nothing here"), lm_errors.LMInvalidRequestError, 1, "check --api_base"),
        (error(400, "Unsupported value: 'temperature'"), lm_errors.LMInvalidRequestError, 1, "refuses our requests"),
        (error(400, "Too long", "context_length_exceeded"), lm_errors.ContextWindowExceededError, 1, None),
        (error(400, "content management policy", "content_filter"), lm_errors.LMInvalidRequestError, 1, None),
        (error(400, "bad unicode in message 3"), lm_errors.LMInvalidRequestError, 1, None),
    ],
)
def test_failures_over_http(reply: Reply, kind: type[Exception], requests: int, fatal: str | None) -> None:
    with serve(lambda body, n: reply) as server, pytest.raises(kind) as caught:
        connect(server, retries=2)("hi")
    assert len(server.seen) == requests
    found = explain_lm_error(caught.value)
    assert (found is None) == (fatal is None)
    if fatal:
        line = str(found)
        assert fatal in line
        assert "'openai/test'" in line
        assert "\n" not in line
        assert KEY not in line


@pytest.mark.parametrize("base", ["http://127.0.0.1:9/v1", "http://nowhere.invalid/v1"])
def test_a_server_that_is_not_there(base: str) -> None:
    lm = resolve_lm("openai/test", LMSettings(api_base=base, num_retries=0))
    with pytest.raises(lm_errors.LMTransportError) as caught:
        lm("hi")
    assert "can't be reached" in str(explain_lm_error(caught.value))


def test_a_model_error_inside_an_engine_is_found_again() -> None:
    class Engine:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def complete(self, request: object) -> object:
            raise self.error

    missing = ModelError("model 'local' needs its weights")
    with pytest.raises(lm_errors.LMUnexpectedError) as caught:
        dspy.LM("x/y", engine=Engine(missing), cache=False)("hi")
    assert explain_lm_error(caught.value) is missing
    with pytest.raises(lm_errors.ContextWindowExceededError) as too_long:
        dspy.LM("x/y", engine=Engine(ContextLengthError("too long")), cache=False)("hi")
    assert explain_lm_error(too_long.value) is None
    assert explain_lm_error(ValueError("x")) is None
    assert "boto3" in str(explain_lm_error(ImportError("No module named 'boto3'")))


def test_keys_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "very:secret:value")
    text = f"a very:secret:value b {KEY} c Bearer abc.def d sk-proj-abc_DEF-123 e task-1 disk-usage"
    assert mask(text) == "a [MY_API_KEY] b [key] c Bearer [key] d [key] e task-1 disk-usage"
    assert mask("no answer from http://me:s3cret@host/v1?x=a@b") == "no answer from http://[key]@host/v1?x=a@b"


def test_the_simulated_model_over_real_http() -> None:
    prompt = "Write a function to reverse a string.\nassert rev('ab') == 'ba'"
    failure = Failure(status="failed", call="rev('ab')", observed="returned 'ab'")
    with serve(engine_responder(SimulatedEngine(seed=1))) as server:
        with dspy.context(lm=connect(server), adapter=CodeAdapter()):
            code = dspy.Predict(GenerateCode)(prompt=prompt, entry_point="rev(s)").code
            found = dspy.Predict(DebugCode)(prompt=prompt, code=code, failures=[failure], fix=False).diagnosis
            better = dspy.Predict(OptimizePrompt)(current_instruction="Write code.", failures=[], attempts=[])
        assert "def rev" in code
        assert isinstance(found, Diagnosis)
        assert better.new_instruction
    assert len(server.seen) == 3


def test_the_server_streams_and_lists_models() -> None:
    import urllib.request

    with serve(lambda body, n: "a long enough answer to be cut in pieces") as server:
        models = json.load(urllib.request.urlopen(f"{server.base}/models"))
        body = json.dumps({"model": "test", "messages": [], "stream": True}).encode()
        request = urllib.request.Request(f"{server.base}/chat/completions", body)
        lines = urllib.request.urlopen(request).read().decode().split("\n\n")
    assert models["data"][0]["id"] == "test"
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])
    assert text == "a long enough answer to be cut in pieces"
    assert lines[-2] == "data: [DONE]"


@pytest.mark.parametrize(
    ("kind", "body", "told"),
    [
        (
            "text/html; charset=utf-8",
            "<html><title>502 Bad Gateway</title>…",
            "web page (text/html, '502 Bad Gateway')",
        ),
        ("text/plain", "upstream timed out", "text (text/plain)"),
        ("application/json", '{"id": ', "broken reply (application/json)"),
    ],
)
def test_a_reply_that_is_no_json_is_one_plain_line(kind: str, body: str, told: str) -> None:
    parsed = f"the reply (HTTP 200, {kind}, 105 bytes) is not JSON: Expecting value: line 1 column 1 (char 0). "
    exc = lm_errors.LMProviderError(f"{parsed}Body starts: {body!r}. A gateway or proxy", model="openai/x", status=200)
    assert one_line(exc) == f"the server answered with a {told} instead of JSON; is the address right?"
