"""Everything private that evoprompt uses of DSPy, in one place: look here first when a new DSPy breaks something.

clients.execution           the functions that every call to a model passes; `interception` replaces them
clients.execution.PreparedCall, clients.call_result   a call and its answer on that path
clients.errors              turns any failure of a provider into an `LMError`
clients.legacy_outputs      reads a field of an answer that came through LiteLLM
_vendor.lm15.serde          a request and a response as JSON
clients.capabilities, clients.costs   price lists
clients.backend_selection   names of the environment variables that hold a provider's key
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import replace
from typing import Any

import dspy
from dspy._vendor.lm15.serde import request_to_dict, response_from_dict, response_to_dict
from dspy.clients import execution
from dspy.clients.call_result import CallResult, combine
from dspy.clients.errors import error_boundary, wrap_error
from dspy.clients.execution import PreparedCall
from dspy.clients.legacy_outputs import value
from dspy.lm15 import LM15Error, Message, Response, Usage
from dspy.utils.exceptions import LMError

from evoprompt.lm.identity import plainly, settings_of
from evoprompt.runs.journal import LENGTHS

__all__ = [
    "CallResult", "LM15Error", "PreparedCall", "answer_from_json", "answer_to_json", "combine", "content_of",
    "error_boundary", "execution", "key_of", "max_tokens_of", "never_priced", "of_any_length", "price", "tokens_of",
    "value", "with_seed", "wrap_error",
]  # fmt: skip

logger = logging.getLogger("evoprompt")


def content_of(call: PreparedCall) -> str:
    """Return what a call tells the model, as JSON. The address and the key are no part of it."""
    try:
        return json.dumps(request_to_dict(call.request or execution._canonical(call)), sort_keys=True)
    except (LM15Error, LMError, TypeError, ValueError):  # options that only LiteLLM knows
        return json.dumps(plainly(settings_of(call.legacy)), sort_keys=True)


def of_any_length(content: str) -> str:
    """Return the content without its limit of tokens: what a whole answer depends on."""
    told = json.loads(content)
    for part in (told, told.get("config")):
        for name in LENGTHS if isinstance(part, dict) else ():
            part.pop(name, None)
    return f"any length {json.dumps(told, sort_keys=True)}"


def key_of(content: str, sample: Any, again: int) -> str:
    """Return the journal's key of an answer: a hash of content, sample and repetition."""
    return hashlib.sha256(json.dumps([content, sample, again]).encode()).hexdigest()[:32]


def with_seed(call: PreparedCall, key: str) -> PreparedCall:
    """Give a call with a temperature a seed that follows from its key."""
    seed = int(key[:7], 16)
    if call.request is None:
        return replace(call, legacy={**call.legacy, "seed": seed}) if call.legacy.get("temperature") else call
    config = call.request.config
    if not config.temperature:
        return call
    return replace(call, request=replace(call.request, config=replace(config, seed=seed)))


def max_tokens_of(call: PreparedCall) -> int:
    """Return the largest number of tokens that the answer may have; 0 if the call sets none."""
    if call.request is not None:
        return call.request.config.max_tokens or 0
    return call.legacy.get("max_tokens") or call.legacy.get("max_completion_tokens") or 0


def tokens_of(result: CallResult) -> tuple[int | None, int | None]:
    """Return the tokens of request and answer, as the provider counts them."""
    if result.responses:
        usage = result.responses[0].usage
        return (usage.input_tokens, usage.output_tokens) if usage else (None, None)
    told = result.usage
    return told.get("prompt_tokens", told.get("input_tokens")), told.get("completion_tokens", told.get("output_tokens"))


def answer_to_json(result: CallResult) -> str:
    """Return the answer as JSON; `answer_from_json` reads it."""
    if len(result.responses) == 1:
        return json.dumps(response_to_dict(result.responses[0]))
    return json.dumps(result.dump(), default=str)


def answer_from_json(text: str, lm: dspy.LM, call: PreparedCall) -> CallResult:
    """Return the answer from its JSON, with its cost at the time."""
    body = json.loads(text)
    if "outputs" not in body:
        told = bool(call.request.config.logprobs if call.request else call.legacy.get("logprobs"))
        return CallResult.native(response_from_dict(body), model_type=lm.model_type, logprobs=told)
    result = CallResult.load(body)
    result.usage, result.cache_hit = body["usage"], False
    return result


def price(lm: dspy.LM | None, input_tokens: int, output_tokens: int) -> float | None:
    """Return the US dollars of one call with so many tokens, or None where the price is unknown. No request is made.

    A model that DSPy reaches through LiteLLM has no price here: importing LiteLLM takes seconds.
    """
    if lm is None or not isinstance(getattr(lm, "engine", None), str):
        return None
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # the list that is shipped: no download
    try:
        from dspy.clients.capabilities import resolve
        from dspy.clients.costs import estimate_cost

        route: Any = resolve(lm)
        usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens, total_tokens=input_tokens + output_tokens)
        answer = Message.assistant("answer")
        bill = Response(id="estimate", model=route.model, message=answer, finish_reason="stop", usage=usage)
        cost: float | None = estimate_cost(bill, provider=route.provider, requested_model=route.model)[0]
    except Exception as e:  # an estimate without a price is still one
        logger.debug("no price for %s: %s", lm.model, e)
        return None
    return cost


def never_priced(lm: dspy.LM | None) -> bool:
    """Return True if it is certain before the first call that no call of the model has a known price.

    Not certain: what LiteLLM reaches, and a deployment on Azure, whose answers name the model behind it.
    """
    if not isinstance(lm, dspy.LM) or price(lm, 1, 1) is not None:
        return False
    if not isinstance(lm.engine, str):
        return True  # DSPy has no prices for an engine of one's own
    try:
        from dspy.clients.backend_selection import select_backend

        chosen = select_backend(lm)
    except Exception as e:  # the call itself will tell
        logger.debug("no route for %s: %s", lm.model, e)
        return False
    return chosen.native and not chosen.resolution.provider.startswith("azure")


def key_variables(model: str, lm: dspy.LM | None = None) -> tuple[str, ...] | None:
    """Return the environment variables that may hold the key of a model's provider; empty if it needs no plain key.

    None means that DSPy has no route of its own: it asks through LiteLLM, or the private name is gone.
    """
    try:
        from dspy.clients.backend_selection import select_backend

        route = select_backend(lm or dspy.LM(model)).resolution if model else None
    except (ImportError, AttributeError, TypeError, ValueError):
        return ()
    if route is None or route.credential_policy != "key" or not route.env_key:
        return None
    return ("GEMINI_API_KEY", "GOOGLE_API_KEY") if route.provider == "gemini" else (route.env_key,)
