"""No credential of a model stands in any file, whichever way it was given and wherever a server repeats it."""

from __future__ import annotations

import base64
import json
import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dspy
import pytest
from dspy.utils.exceptions import LMInvalidRequestError

from evoprompt import CodeMetric, EvoPrompt, Harness, Program
from evoprompt.errors import EvoPromptError
from evoprompt.lm.identity import describe, predictors_of
from evoprompt.secrets import address, mask, note, save_without_secrets, secret_name
from tests.world import data

NEEDLE = "Nd1e-{}-Zx9qW7"
CHANNELS: dict[str, Any] = {
    "api_key": {"api_key": NEEDLE},
    "azure_ad_token": {"azure_ad_token": NEEDLE},
    "aws_session_token": {"aws_session_token": NEEDLE},
    "aws_secret_access_key": {"aws_secret_access_key": NEEDLE},
    "vertex_credentials": {"vertex_credentials": json.dumps({"private_key": f"-----BEGIN\n{NEEDLE}\n-----END"})},
    "vertex_dict": {"vertex_credentials": {"private_key": NEEDLE, "type": "service_account"}},
    "headers": {"headers": {"Authorization": f"Bearer {NEEDLE}"}},
    "extra_headers": {"extra_headers": {"X-Own": NEEDLE}},
    "default_headers": {"default_headers": {"x-own": NEEDLE}},
    "extra_body": {"extra_body": {"provider": {"api_key": NEEDLE}, "top_k": 3}},
    "extra_query": {"extra_query": {"token": NEEDLE}},
    "password": {"client_secret": NEEDLE, "user_password": NEEDLE},
    "organization": {"organization": "org", "webhook_secret": NEEDLE},
    "user_of_url": {"api_base": f"http://me:{NEEDLE}@127.0.0.1:9/v1"},
    "query_of_url": {"api_base": f"http://127.0.0.1:9/v1?api_key={NEEDLE}"},
    "proxy": {"http_proxy": f"http://me:{NEEDLE}@127.0.0.1:9"},
    "nested": {"client_args": [{"auth": {"value": NEEDLE}}]},
}


def filled(value: Any, needle: str) -> Any:
    return json.loads(json.dumps(value).replace(NEEDLE, needle))


def model(options: dict[str, Any], said: str) -> dspy.LM:
    from tests.models import scripted

    asked = []

    def reply(text: str) -> str:
        asked.append(text)
        if len(asked) % 3 == 0:
            raise LMInvalidRequestError(f"bad request, you sent {said}")
        return f"[[ ## code ## ]]\n# {said}\n[[ ## new_instruction ## ]]\nUse {said}.\n[[ ## completed ## ]]"

    lm, _ = scripted(reply)
    lm.kwargs |= options
    return lm


@pytest.mark.slow
@pytest.mark.parametrize("channel", CHANNELS)
def test_no_file_of_a_run_holds_a_credential(
    channel: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO)
    needle = NEEDLE.format(channel)
    options = filled(CHANNELS[channel], needle)
    lm = model(options, f"{needle} and http://u:{needle}@host")
    program = Program(generator_lm=lm, debugger_lm=lm, optimizer_lm=lm)
    tasks = data(3)
    with Harness(processes=1) as harness:
        metric = CodeMetric(tasks, harness=harness)
        search = EvoPrompt(metric, run_dir=tmp_path / "run", strategy="refine", batch_size=2, max_unmeasured=1.0)
        try:
            search.compile(program, trainset=list(tasks), valset=list(tasks)[:1])
        except EvoPromptError as e:
            (tmp_path / "told.txt").write_text(str(e), encoding="utf-8")
    found = [p for p in tmp_path.rglob("*") if p.is_file() and needle.encode() in p.read_bytes()]
    assert found == []
    assert any(p.name == "journal.sqlite" for p in tmp_path.rglob("*"))


@pytest.mark.parametrize("channel", CHANNELS)
def test_the_identity_of_a_program_holds_no_credential_and_does_not_change_with_one(channel: str) -> None:
    told = []
    for number in "12":
        lm = dspy.LM("openai/m", **{"api_base": "http://h/v1", **filled(CHANNELS[channel], NEEDLE.format(number))})
        program = Program(generator_lm=lm, debugger_lm=lm, optimizer_lm=lm)
        told.append(json.dumps(describe(program)))
        assert NEEDLE.format(number) not in told[-1]
    assert told[0] == told[1]


def test_settings_that_are_no_credentials_are_told() -> None:
    lm = dspy.LM("openai/m", temperature=0.3, max_tokens=77, top_p=0.9, seed=5, stop=["x"], own_setting="blue")
    told = describe(Program(generator_lm=lm, debugger_lm=lm, optimizer_lm=lm))["models"]["generator"]
    assert {"temperature": 0.3, "max_tokens": 77, "top_p": 0.9, "seed": 5, "stop": ["x"]}.items() <= told.items()
    assert told["own_setting"] != "blue"
    other = dspy.LM("openai/m", temperature=0.3, max_tokens=77, top_p=0.9, seed=5, stop=["x"], own_setting="red")
    assert describe(Program(generator_lm=other, debugger_lm=lm, optimizer_lm=lm))["models"]["generator"] != told


@pytest.mark.parametrize("channel", CHANNELS)
def test_an_evolved_program_is_saved_without_credentials(channel: str, tmp_path: Path) -> None:
    lm = dspy.LM("openai/m", **filled(CHANNELS[channel], NEEDLE))
    program = Program(generator_lm=lm, debugger_lm=lm, optimizer_lm=lm)
    save_without_secrets(predictor for _, predictor in predictors_of(program))
    program.save(tmp_path / "a.json")
    assert NEEDLE not in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_a_program_that_was_saved_without_credentials_can_be_loaded(tmp_path: Path) -> None:
    lm = dspy.LM("openai/m", azure_ad_token=NEEDLE, temperature=0.5)
    predictor = dspy.Predict("a -> b")
    predictor.lm = lm
    save_without_secrets([predictor])
    predictor.save(tmp_path / "a.json")
    assert NEEDLE not in (tmp_path / "a.json").read_text(encoding="utf-8")
    loaded = dspy.Predict("a -> b")
    loaded.load(tmp_path / "a.json")
    assert loaded.lm.kwargs["temperature"] == 0.5
    assert predictor.lm.kwargs["azure_ad_token"] == NEEDLE and predictor.deepcopy().lm.model == "openai/m"


def test_secrets_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SERVICE_TOKEN", "plainword-and-more")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "abcdEFGH1234")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:proxypass99@proxy:3128")
    monkeypatch.setenv("MAX_TOKENS", "12345678")
    told = mask("a plainword-and-more b abcdEFGH1234 c proxypass99 d 12345678")
    assert told == "a [SOME_SERVICE_TOKEN] b [AWS_SECRET_ACCESS_KEY] c [HTTPS_PROXY] d 12345678"


def test_plain_words_are_no_credentials() -> None:
    lm = dspy.LM("openai/m", api_key="ollama")
    note(lm)
    assert mask("ollama_chat/llama") == "ollama_chat/llama"


SURE: dict[str, tuple[dict[str, Any], str]] = {
    "a short password": ({"password": "moon"}, "moon"),
    "a word as password": ({"extra_body": {"db_password": "plainword"}}, "plainword"),
    "a longer word as key": ({"api_key": "hunterkey"}, "hunterkey"),
    "a password in a URL": ({"api_base": "http://me:tulip@h/v1"}, "tulip"),
    "a quoted password in a URL": ({"api_base": "http://me:tu%2Flip@h/v1"}, "tu/lip"),
    "a token in a URL": ({"api_base": "http://h/v1?key=rosebush"}, "rosebush"),
}


@pytest.mark.parametrize("what", SURE)
def test_a_plain_word_that_is_a_credential_for_sure_is_masked_in_every_form(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evoprompt.secrets._SEEN", set())
    options, secret = SURE[what]
    note(dspy.LM("openai/m", **options))
    encoded = base64.b64encode(secret.encode()).decode()
    for form in (secret, encoded, encoded.rstrip("="), quote(secret, safe=""), quote(encoded, safe="")):
        assert mask(f"wrong: '{form}', it is said") == "wrong: '[secret]', it is said"
    if secret.isalpha():
        assert mask(f"a{secret}s") == f"a{secret}s"


def test_a_user_and_a_password_are_masked_as_they_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evoprompt.secrets._SEEN", set())
    sent = base64.b64encode(b"me:tulip").decode()
    note(dspy.LM("openai/m", api_base="http://me:tulip@h/v1"))
    assert mask(f"Authorization: Basic {sent}") == "Authorization: Basic [secret]"
    monkeypatch.setattr("evoprompt.secrets._SEEN", set())
    monkeypatch.setenv("HTTPS_PROXY", "http://me:tulip@proxy:3128")
    assert mask(f"Basic {sent}, a tulip") == "Basic [HTTPS_PROXY], a [HTTPS_PROXY]"


def test_passwords_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "moon")
    assert mask("the moon, moonlight, bW9vbg==") == "the [DB_PASSWORD], moonlight, [DB_PASSWORD]"


@pytest.mark.parametrize("key", ["ollama", "none", "test", "EMPTY", "sk-", "dummy", "local", "no-key-needed", "word"])
def test_a_key_that_is_none_garbles_no_text(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evoprompt.secrets._SEEN", set())
    note(dspy.LM("openai/m", api_key=key))
    assert mask(f"def {key}(x): return '{key}' # {key}") == f"def {key}(x): return '{key}' # {key}"


@pytest.mark.parametrize(
    "name", ["max_tokens", "max_completion_tokens", "budget_tokens", "keyword", "tokenizer", "monkey"]
)
def test_names_of_no_credentials(name: str) -> None:
    assert not secret_name(name)


def test_an_address_is_told_without_what_opens_it() -> None:
    assert address("https://me:pw@host:8000/v1?key=x#y") == "https://host:8000/v1"
