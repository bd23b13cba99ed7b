"""Resolves a model's name to a `dspy.LM`, and explains an LM's failure in one line.

No network is used: a missing key shows in the environment. DSPy reads the key when it calls. It is stored nowhere, so
no repr, saved program or journal can leak it.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from evoprompt.errors import EvoPromptError, ModelError, UsageError
from evoprompt.lm.providers import adapter_of, model_of, registered
from evoprompt.secrets import mask

if TYPE_CHECKING:
    import dspy

__all__ = ["LMSettings", "adapter_for", "explain_lm_error", "nobody_there", "one_line", "resolve_lm"]

logger = logging.getLogger(__name__)

MAX_TOKENS = 4096
REASONING_TOKENS = 16_000
"""The smallest limit that DSPy accepts for a reasoning model, whose thoughts count as output."""
TIMEOUT = 300.0
NO_KEY = "no-key-needed"
"""Key sent to an own server (`api_base`) if the environment has none: it must not be empty."""

_ALIASES = {"gpt4-turbo": "openai/gpt-4-turbo", "gpt4": "openai/gpt-4", "gpt4o": "openai/gpt-4o"}
_FAMILIES = (
    (re.compile(r"(?:gpt-|chatgpt-|o\d(?:-|$))"), "openai"),
    (re.compile(r"claude-"), "anthropic"),
    (re.compile(r"gemini-"), "gemini"),
)
_EXAMPLES = ("openai/gpt-4o-mini", "anthropic/claude-haiku-4-5", "ollama_chat/llama3.2", "simulated", "local")
_NO_JSON = re.compile(r"the reply \(HTTP \d+, (?P<type>[^;,]*)[^)]*\) is not JSON")
"""What DSPy says of a reply that is something else, before what its parser thinks of that."""
# Environment variables of providers that DSPy reaches through LiteLLM. Importing LiteLLM to ask it takes seconds.
_LITELLM_KEYS = {
    "cerebras": ("CEREBRAS_API_KEY",),
    "cohere": ("COHERE_API_KEY", "CO_API_KEY"),
    "deepinfra": ("DEEPINFRA_API_KEY",),
    "fireworks_ai": ("FIREWORKS_AI_API_KEY", "FIREWORKS_API_KEY", "FIREWORKSAI_API_KEY"),
    "mistral": ("MISTRAL_API_KEY",),
    "nvidia_nim": ("NVIDIA_NIM_API_KEY",),
    "perplexity": ("PERPLEXITYAI_API_KEY", "PERPLEXITY_API_KEY"),
    "sambanova": ("SAMBANOVA_API_KEY",),
    "together_ai": ("TOGETHERAI_API_KEY", "TOGETHER_API_KEY", "TOGETHER_AI_TOKEN", "TOGETHER_AI_API_KEY"),
}
_NAMES = "openai anthropic gemini ollama ollama_chat openrouter groq deepseek xai azure bedrock vertex_ai hosted_vllm"
_PROVIDERS = (*_NAMES.split(), "lm_studio", "huggingface", *_LITELLM_KEYS)


@dataclass(frozen=True)
class LMSettings:
    """Settings of a model.

    Attributes:
        temperature: Sampling temperature. Not sent to OpenAI's reasoning models: they refuse it.
        max_tokens: Longest reply; None for 4,096, or no limit for reasoning models.
        api_base: URL of your own server (vLLM, llama.cpp), with its `/v1`. It gets the provider's key if the
            environment has one, else a placeholder. Name its model `hosted_vllm/…` instead of `openai/…` if it only
            knows the older `max_tokens`.
        num_retries: Retries after a rate limit, a time-out, a failure of the server or network, or an empty reply.
            The backoff is 1, 2, 4, … up to 60 seconds, less jitter of up to half, and at least as long as the server
            asks for. So 10 retries span an outage of 2½ to 5 minutes.
        seed: Seed of the simulated and the local model. Other models get none, because all samples of a task would
            be equal; use `lm.copy(seed=…)` per call instead.
        timeout: Seconds for one whole reply; once the model has answered, at most the larger of half a minute and ten
            times the slowest reply so far. A later reply is journaled all the same.
    """

    temperature: float | None = 0.0
    max_tokens: int | None = None
    api_base: str | None = None
    num_retries: int = 10
    seed: int = 0
    timeout: float = TIMEOUT


def resolve_lm(name: str, settings: LMSettings | None = None, *, keyless: bool = False) -> dspy.LM:
    """Return the model of this name.

    Args:
        name: Whatever `dspy.LM` takes (`provider/model`), a bare OpenAI, Anthropic or Gemini name, `simulated`,
            `simulated/<seed>`, or `local`.
        settings: Its settings.
        keyless: True if nobody will call it: a missing key is a warning then.

    Raises:
        UsageError: The name can't be a model, or the settings don't fit it.
        ModelError: The provider needs a key and the environment has none; the local model is not installed.
    """
    settings = settings or LMSettings()
    model = _canonical(name)
    return model_of(model, settings) or _remote(model, settings, keyless)


def adapter_for(name: str) -> dspy.Adapter:
    """Return the adapter for a model: its own if it registered one, else a `CodeAdapter`."""
    from evoprompt.lm.adapter import CodeAdapter

    return (adapter_of(_canonical(name)) or CodeAdapter)()


def explain_lm_error(exc: BaseException) -> EvoPromptError | None:
    """Return a one-line error for a failure that every later call would meet too; None if it concerns one call.

    Fatal: a refused key, no credit, an unknown model, a setting or feature that the model refuses, a server that can't
    be reached (after retries), a full disk. One call: context window, time-out, rate limit, failure of the server,
    refused content, an unusable reply.
    """
    from dspy.utils import exceptions as e

    for cause in causes(exc):
        if isinstance(cause, EvoPromptError):
            return cause
        if isinstance(cause, NameError | AttributeError | AssertionError):  # whatever it is, no model said it
            return EvoPromptError(f"unexpected {type(cause).__name__} while a model was asked: {one_line(cause)}")
    if isinstance(exc, ImportError):
        return ModelError(f"a package that the model's provider needs is missing: {one_line(exc)}")
    if not isinstance(exc, e.LMError) or isinstance(exc, e.ContextWindowExceededError):
        return None
    model = f"model {exc.model or 'of this run'!r}"
    if isinstance(exc, e.LMAuthError):
        keys = " or ".join(getattr(exc, "env_keys", ()) or _key_names(exc.model or "") or ("the provider's key",))
        return ModelError(f"{model}: the provider refused the key ({one_line(exc)}): check {keys}")
    if isinstance(exc, e.LMBillingError):
        return ModelError(f"{model}: no credit left ({one_line(exc)}): check the account's quota and billing")
    if isinstance(exc, e.LMUnsupportedModelError):
        return ModelError(f"{model} is unknown to its provider ({one_line(exc)}): check --model")
    if isinstance(exc, e.LMConfigurationError | e.LMUnsupportedFeatureError):
        return ModelError(f"{model} can't be called like this: {one_line(exc)}")
    if isinstance(exc, e.LMTransportError) and nobody_there(exc):
        return ModelError(f"{model} can't be reached ({one_line(exc)}): check --api_base, the network and the server")
    if isinstance(exc, e.LMInvalidRequestError) and _every_request_is_bad(exc):
        return ModelError(f"{model} refuses our requests ({one_line(exc)}): check --api_base and the model's settings")
    return None


def keys_for(name: str) -> tuple[str, ...]:
    """Return the environment variables that may hold the key for this model."""
    return _key_names(_canonical(name))


def _canonical(name: str) -> str:
    """Return the full model string, `provider/model`.

    Raises:
        UsageError: The name can't be a model.
    """
    model = name.strip() if isinstance(name, str) else ""
    model = _ALIASES.get(model, model)
    head, slash, rest = model.partition("/")
    hint = f"use provider/model, e.g. {', '.join(map(repr, _EXAMPLES))}"
    if not model or re.search(r"\s", model) or not head or (slash and not rest):
        raise UsageError(f"model {name!r} is no model name: {hint}")
    if head in registered():
        return model
    if not slash:
        for pattern, provider in _FAMILIES:
            if pattern.match(model):
                return f"{provider}/{model}"
        close = difflib.get_close_matches(model, registered(), 1, 0.75)
        hint = f"did you mean {close[0]!r}?" if close else hint
        raise UsageError(f"model {name!r} names no provider: {hint}")
    close = difflib.get_close_matches(head, _PROVIDERS, 1, 0.8)
    if close and head not in _PROVIDERS and not _known_provider(head):
        raise UsageError(f"model {name!r}: the provider {head!r} is unknown, did you mean {close[0] + '/' + rest!r}?")
    return model


def _known_provider(head: str) -> bool:
    """Return True if DSPy or LiteLLM has this provider. LiteLLM is looked at without importing it."""
    from importlib.util import find_spec

    from dspy.lm15 import registered_providers

    spec = find_spec("litellm")
    folders = [os.path.join(p, "llms", head) for p in (spec.submodule_search_locations or [])] if spec else []  # noqa: PTH118
    registered = {s for r in registered_providers() for s in r.definition.spellings}
    return head.replace("_", "-") in registered or any(map(os.path.isdir, folders))


def _remote(model: str, settings: LMSettings, keyless: bool) -> dspy.LM:
    import dspy

    # No DSPy cache: its key holds no api_base, so it confuses two servers.
    options: dict[str, Any] = {"num_retries": settings.num_retries, "timeout": settings.timeout, "cache": False}
    if settings.api_base:
        if not settings.api_base.startswith(("http://", "https://")):
            raise UsageError(f"--api_base {settings.api_base!r} is no URL: it begins with http:// or https://")
        options["api_base"] = settings.api_base.rstrip("/")
    if _reasons(model):
        if settings.max_tokens is not None and settings.max_tokens < REASONING_TOKENS:
            raise UsageError(
                f"max_tokens {settings.max_tokens!r} is too small for the reasoning model {model!r}: its thoughts "
                f"count too, use {REASONING_TOKENS} or more, or none"
            )
        if settings.temperature not in (None, 0.0, 1.0):
            logger.warning("%s takes no temperature: %s is not sent", model, settings.temperature)
        options |= {"temperature": None, "max_tokens": settings.max_tokens}
    else:
        options |= {"temperature": settings.temperature, "max_tokens": settings.max_tokens or MAX_TOKENS}
    lm = dspy.LM(model, **options)
    if missing := complete_key(lm):
        told = f"model {model!r} needs a key: set the environment variable {' or '.join(missing)}"
        if not keyless:
            raise ModelError(told)
        logger.warning("%s", told)
    return lm


def _reasons(model: str) -> bool:
    """Return True if DSPy takes the model for an OpenAI reasoning model: only those refuse a temperature."""
    import dspy
    from dspy.utils.exceptions import LMConfigurationError

    try:
        dspy.LM(model, temperature=0.5)
    except LMConfigurationError:
        return True
    return False


def complete_key(lm: dspy.LM) -> tuple[str, ...]:
    """Return the variables of which one should hold the key; empty if one does, or none is needed.

    A server of one's own gets a placeholder where none does.
    """
    # LiteLLM, DSPy's fallback, fetches a price list at import: 10 s without a network.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    names = _key_names(lm.model, lm)
    if any(os.environ.get(n) for n in names):
        return ()
    prefix = lm.model.partition("/")[0].upper()
    own = lm.kwargs.get("api_base") or lm.kwargs.get("base_url")
    if names and (own or os.environ.get(f"{prefix}_API_BASE") or os.environ.get(f"{prefix}_BASE_URL")):
        lm.kwargs["api_key"] = NO_KEY
        return ()
    return names


def _key_names(model: str, lm: dspy.LM | None = None) -> tuple[str, ...]:
    """Return the environment variables that may hold the key of a model's provider; empty if it needs none."""
    head = model.partition("/")[0]
    if head in _LITELLM_KEYS:
        return _LITELLM_KEYS[head]
    from evoprompt.lm.dspy_internals import key_variables

    names = key_variables(model, lm)
    # None means LiteLLM, which accepts keys in several ways.
    return names if names is not None else ("OPENAI_API_KEY",) if head == "openai" else ()


def causes(exc: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, its cause, and so on."""
    while exc is not None:
        yield exc
        exc = exc.__cause__


def nobody_there(exc: BaseException) -> bool:
    """Return True if no server answers at the address."""
    text = " ".join(f"{type(c).__name__} {c}" for c in causes(exc)).lower()
    signs = ("refused", "name or service", "name resolution", "getaddrinfo", "nodename", "no address", "no route")
    return any(s in text for s in (*signs, "unreachable", "unsupportedprotocol", "certificate"))


def _every_request_is_bad(exc: Any) -> bool:
    """Return True for a 4xx about the path or a setting; others are about the content of one request."""
    text = f"{exc.provider_code or ''} {exc.message}".lower()
    if re.search(r"content[_ ](?:filter|policy|management)|safety|moderation|context|too long", text):
        return False
    settings = r"temperature|max_(?:completion_)?tokens|top_p|seed|parameter|unsupported|unrecognized|\bmodel\b"
    return exc.status in (404, 405) or re.search(settings, text) is not None


def one_line(exc: BaseException) -> str:
    """Return the first line of an error's message, short and without keys."""
    status = getattr(exc, "status", None)
    text = str(getattr(exc, "message", "") or exc).strip()
    if text == f"[{getattr(exc, 'model', None)}]" and status in set(HTTPStatus):  # it has no message
        text = HTTPStatus(status).phrase
    if other := _NO_JSON.match(text):
        told = "web page" if "html" in other["type"] else "text" if "text" in other["type"] else "broken reply"
        title = re.search(r"<title>\s*([^<]{1,60}?)\s*</title>", text, re.IGNORECASE)
        what = f"{other['type']}, {title[1]!r}" if title else other["type"]
        return mask(f"the server answered with a {told} ({what}) instead of JSON; is the address right?")
    first = mask(text.splitlines()[0] if text else type(exc).__name__)
    first = first if len(first) <= 200 else first[:199] + "…"
    return f"HTTP {status}: {first}" if status else first
