"""From a model's name to a `dspy.LM`, and from an LM's failure to one line for people.

No network is used here: a missing key is found in the environment. The key itself is read by DSPy when it
calls; it is stored nowhere, so no repr, no saved program and no journal can leak it.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evoprompt.errors import EvoPromptError, ModelError, UsageError
from evoprompt.lm.providers import adapter_of, model_of, registered
from evoprompt.secrets import mask

if TYPE_CHECKING:
    import dspy

__all__ = ["LMSettings", "adapter_for", "explain_lm_error", "nobody_there", "one_line", "redact", "resolve_lm"]

logger = logging.getLogger(__name__)

MAX_TOKENS = 4096
REASONING_TOKENS = 16_000
"""The least that DSPy accepts for a reasoning model: its thoughts count as output."""
TIMEOUT = 300.0
NO_KEY = "no-key-needed"
"""Sent as key to a server of one's own (`api_base`) when the environment has none: it must not be empty."""

_ALIASES = {"gpt4-turbo": "openai/gpt-4-turbo", "gpt4": "openai/gpt-4", "gpt4o": "openai/gpt-4o"}
_FAMILIES = (
    (re.compile(r"(?:gpt-|chatgpt-|o\d(?:-|$))"), "openai"),
    (re.compile(r"claude-"), "anthropic"),
    (re.compile(r"gemini-"), "gemini"),
)
_EXAMPLES = ("openai/gpt-4o-mini", "anthropic/claude-haiku-4-5", "ollama_chat/llama3.2", "simulated", "local")
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
    """How to call a model.

    Attributes:
        temperature: Sampling temperature. Not sent to OpenAI's reasoning models: they refuse it.
        max_tokens: Length of a reply; None for what fits the model (4,096; for reasoning models no limit).
        api_base: URL of a server of one's own (vLLM, llama.cpp), with its `/v1`. It is sent the provider's key if
            the environment has one, else a stand-in. Name its model `hosted_vllm/…` rather than `openai/…` if
            it only knows the older `max_tokens`.
        num_retries: How often a call is repeated after a rate limit, a time-out, a failure of the server or the
            network, or a reply that is none. In between pass ¼, ½, 1, … up to 60 seconds (four times that after
            a rate limit; less by chance, so that calls do not come back all at once), and at least as long as the
            server says.
        seed: Of the simulated and the local model. Other models get none: with one fixed seed, all samples of a
            task would be the same. Give each call its own instead (`lm.copy(seed=…)`).
        timeout: Seconds that one whole reply may take; half a minute, or ten times what the slowest so far took,
            if that is less. One that comes later is kept all the same.
    """

    temperature: float | None = 0.0
    max_tokens: int | None = None
    api_base: str | None = None
    num_retries: int = 8
    seed: int = 0
    timeout: float = TIMEOUT


def resolve_lm(name: str, settings: LMSettings | None = None, *, keyless: bool = False) -> dspy.LM:
    """The model of this name, ready to be called.

    Args:
        name: Whatever `dspy.LM` takes (`provider/model`), a bare OpenAI, Anthropic or Gemini name, `simulated`,
            `simulated/<seed>`, or `local`.
        settings: How to call it.
        keyless: Nobody will call it, so that a missing key is a warning.

    Raises:
        UsageError: The name can't be a model, or the settings don't fit it.
        ModelError: The provider needs a key and the environment has none; the local model is not installed.
    """
    settings = settings or LMSettings()
    model = _canonical(name)
    return model_of(model, settings) or _remote(model, settings, keyless)


def adapter_for(name: str) -> dspy.Adapter:
    """The adapter that fits a model: what a registered one brings, DSPy's markers for all others."""
    from evoprompt.lm.adapter import CodeAdapter

    return (adapter_of(_canonical(name)) or CodeAdapter)()


def explain_lm_error(exc: BaseException) -> EvoPromptError | None:
    """A failure that would meet every later call too, as one line; None when it concerns one call only.

    Fatal: a refused key, no credit, an unknown model, a setting or feature that the model refuses, a server that
    is not there (it has been tried again by then), a disk that takes no answers. Of one call: context window,
    timeout, rate limit, failure of the server, refused content, a reply that can't be used.
    """
    from dspy.utils import exceptions as e

    for cause in _causes(exc):
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
    """The environment variables that may hold the key that a model of this name is asked with."""
    return _key_names(_canonical(name))


def redact(text: str) -> str:
    """The text without anything that looks like a key, or is the value of one in the environment or of a model."""
    return mask(text)


def _canonical(name: str) -> str:
    """The model string of a name.

    Raises:
        UsageError: It can't be a model.
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
    """Whether DSPy or LiteLLM has a provider of this name; LiteLLM's folder is read without importing it."""
    from importlib.util import find_spec

    from dspy.lm15 import registered_providers

    spec = find_spec("litellm")
    folders = [os.path.join(p, "llms", head) for p in (spec.submodule_search_locations or [])] if spec else []  # noqa: PTH118
    registered = {s for r in registered_providers() for s in r.definition.spellings}
    return head.replace("_", "-") in registered or any(map(os.path.isdir, folders))


def _remote(model: str, settings: LMSettings, keyless: bool) -> dspy.LM:
    import dspy

    # Where DSPy falls back to LiteLLM, that one would fetch a price list when imported: 10 s without a network.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    # DSPy's cache takes two servers for one: neither api_base nor key is in its key.
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
    missing = _missing_keys(lm)
    if missing and _own_server(model, settings):
        return dspy.LM(model, api_key=NO_KEY, **options)
    if missing:
        told = f"model {model!r} needs a key: set the environment variable {' or '.join(missing)}"
        if not keyless:
            raise ModelError(told)
        logger.warning("%s", told)
    return lm


def _reasons(model: str) -> bool:
    """Whether DSPy takes it for one of OpenAI's reasoning models: they alone refuse a temperature."""
    import dspy
    from dspy.utils.exceptions import LMConfigurationError

    try:
        dspy.LM(model, temperature=0.5)
    except LMConfigurationError:
        return True
    return False


def _own_server(model: str, settings: LMSettings) -> bool:
    prefix = model.partition("/")[0].upper()
    return bool(settings.api_base or os.environ.get(f"{prefix}_API_BASE") or os.environ.get(f"{prefix}_BASE_URL"))


def _missing_keys(lm: dspy.LM) -> tuple[str, ...]:
    """The variables of which one should hold the key, when none does and the provider needs one."""
    names = _key_names(lm.model, lm)
    return () if any(os.environ.get(n) for n in names) else names


def _key_names(model: str, lm: dspy.LM | None = None) -> tuple[str, ...]:
    """The environment variables that may hold the key of a model's provider; none if it needs no plain key."""
    head = model.partition("/")[0]
    if head in _LITELLM_KEYS:
        return _LITELLM_KEYS[head]
    from evoprompt.lm.dspy_internals import key_variables

    names = key_variables(model, lm)
    # Through LiteLLM, which takes keys in more ways than one.
    return names if names is not None else ("OPENAI_API_KEY",) if head == "openai" else ()


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    while exc is not None:
        yield exc
        exc = exc.__cause__


def nobody_there(exc: BaseException) -> bool:
    """Whether no server answers at that address."""
    text = " ".join(f"{type(c).__name__} {c}" for c in _causes(exc)).lower()
    signs = ("refused", "name or service", "name resolution", "getaddrinfo", "nodename", "no address", "no route")
    return any(s in text for s in (*signs, "unreachable", "unsupportedprotocol", "certificate"))


def _every_request_is_bad(exc: Any) -> bool:
    """A 4xx is about every request when the path is wrong or a setting is named; else about this content."""
    text = f"{exc.provider_code or ''} {exc.message}".lower()
    if re.search(r"content[_ ](?:filter|policy|management)|safety|moderation|context|too long", text):
        return False
    settings = r"temperature|max_(?:completion_)?tokens|top_p|seed|parameter|unsupported|unrecognized|\bmodel\b"
    return exc.status in (404, 405) or re.search(settings, text) is not None


def one_line(exc: BaseException) -> str:
    """The first line of an error's own message, short and without keys."""
    text = str(getattr(exc, "message", "") or exc).strip()
    first = redact(text.splitlines()[0] if text else type(exc).__name__)
    status = getattr(exc, "status", None)
    first = first if len(first) <= 200 else first[:199] + "…"
    return f"HTTP {status}: {first}" if status else first
