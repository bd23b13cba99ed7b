"""The options that `dspy.LM` takes: a server sees the same with a journal as without."""

from __future__ import annotations

from typing import Any

import dspy
import pytest

from evoprompt.lm.calls import Calls
from evoprompt.lm.interception import attempt
from evoprompt.runs import Journal
from tests.openai_server import OpenAIServer

HEADERS = ("x-a", "authorization", "openai-organization", "api-key")
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"temperature": 0.3, "max_tokens": 33, "stop": ["x"], "seed": 3},
    {"engine": "litellm"},
    {"drop_params": True},
    {"allowed_openai_params": ["top_k"], "top_k": 3},
    {"input_cost_per_token": 0.5, "output_cost_per_token": 0.25},
    {"fallbacks": ["openai/y"]},
    {"ssl_verify": False},
    {"default_headers": {"X-A": "b"}},
    {"extra_headers": {"X-A": "b"}},
    {"extra_body": {"chat_template_kwargs": {"thinking": False}}},
    {"extra_query": {"a": "b"}},
    {"max_retries": 0},
    {"max_retries": 2},
    {"num_retries": 2},
    {"caching": True},
    {"timeout": 17},
    {"api_version": "v"},
    {"azure_ad_token": "t"},
    {"organization": "o"},
    {"custom_llm_provider": "openai"},
    {"mock_response": "[[ ## b ## ]]\nmocked"},
    {"metadata": {"a": "b"}, "tags": ["a"], "base_model": "gpt-4o", "rpm": 10},
    {"reasoning_effort": "low"},
    {"min_p": 0.1},
    {"logprobs": True},
    {"n": 2},
    {"response_format": {"type": "json_object"}},
    {"rollout_id": 4},
)


def asked(options: dict[str, Any], journal: Journal | None) -> tuple[list[Any], list[Any]]:
    """The answer, asked for twice with a journal, and all that the server saw."""
    with OpenAIServer(lambda *_: "[[ ## b ## ]]\nhey\n\n[[ ## completed ## ]]") as server:
        lm = dspy.LM("openai/x", api_base=server.base, api_key="k", cache=False, **options)
        program = dspy.Predict("a -> b")
        program.lm = lm
        found = []
        for _ in range(1 if journal is None else 2):
            with attempt():
                found.append((program if journal is None else Calls(journal).applied(program))(a=f"{options}").b)
        seen = [(s.path, s.body, [s.headers.get(name) for name in HEADERS]) for s in server.seen]
    return found, seen


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_server_sees_what_it_sees_of_bare_dspy(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    (bare,), expected = asked(options, None)
    with Journal() as journal:
        assert asked(options, journal) == ([bare] * 2, expected)
        assert journal.counts()["answers"] == options.get("n", 1)
        if "input_cost_per_token" in options:
            assert journal.spent()["self"].cost == 0.75
