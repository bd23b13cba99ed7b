"""A call of DSPy as a key, and its answer as a text that can be kept."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import dspy
from dspy._vendor.lm15.serde import request_to_dict, response_from_dict, response_to_dict
from dspy.clients import execution
from dspy.clients.call_result import CallResult
from dspy.clients.execution import PreparedCall
from dspy.lm15 import LM15Error
from dspy.utils.exceptions import LMError

from evoprompt.lm.identity import plainly, settings_of


def content_of(call: PreparedCall) -> str:
    """All of a call that the model is told. Where it is asked, and with which key, is no part of that."""
    try:
        request = call.request or execution._canonical(call)
        return json.dumps(request_to_dict(request), sort_keys=True)
    except (LM15Error, LMError, TypeError, ValueError):  # options that only LiteLLM knows
        return json.dumps(plainly(settings_of(call.legacy)), sort_keys=True)


def key_of(content: str, sample: Any, again: int) -> str:
    """Under which an answer is kept."""
    return hashlib.sha256(json.dumps([content, sample, again]).encode()).hexdigest()[:32]


def with_seed(call: PreparedCall, key: str) -> PreparedCall:
    """The call with a seed that follows from its key, if chance has a part in the answer."""
    seed = int(key[:7], 16)
    if call.request is None:
        return replace(call, legacy={**call.legacy, "seed": seed}) if call.legacy.get("temperature") else call
    config = call.request.config
    if not config.temperature:
        return call
    return replace(call, request=replace(call.request, config=replace(config, seed=seed)))


def longest(call: PreparedCall) -> int:
    """Tokens that the answer may have, as far as the call says so; 0 otherwise."""
    if call.request is not None:
        return call.request.config.max_tokens or 0
    return call.legacy.get("max_tokens") or call.legacy.get("max_completion_tokens") or 0


def tokens_of(result: CallResult) -> tuple[int | None, int | None]:
    """Tokens of request and answer, as the provider counts them."""
    if result.responses:
        usage = result.responses[0].usage
        return (usage.input_tokens, usage.output_tokens) if usage else (None, None)
    told = result.usage
    return told.get("prompt_tokens", told.get("input_tokens")), told.get("completion_tokens", told.get("output_tokens"))


def text_of(result: CallResult) -> str:
    """The answer as text."""
    if len(result.responses) == 1:
        return json.dumps(response_to_dict(result.responses[0]))
    return json.dumps(result.dump(), default=str)


def from_text(text: str, lm: dspy.LM, call: PreparedCall) -> CallResult:
    """The answer from its text, with what it cost when it was given."""
    body = json.loads(text)
    if "outputs" not in body:
        told = bool(call.request.config.logprobs if call.request else call.legacy.get("logprobs"))
        return CallResult.native(response_from_dict(body), model_type=lm.model_type, logprobs=told)
    result = CallResult.load(body)
    result.usage, result.cache_hit = body["usage"], False
    return result
