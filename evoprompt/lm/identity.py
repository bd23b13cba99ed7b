"""The identity of a program: a fingerprint that keeps answers from being reused for another program."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import dspy

from evoprompt.lm.fingerprint import digest, fingerprint
from evoprompt.runs.journal import LENGTHS
from evoprompt.secrets import note, settings_without_secrets

_CLIENT = (
    "api_key", "api_base", "base_url", "headers", "extra_headers", "timeout", "api_version",
    "azure_ad_token_provider", "organization", "project", "extra_query", "custom_llm_provider",
)  # fmt: skip
"""Settings of the connection, which do not change an answer."""
_SHOWN = {
    "temperature", *LENGTHS, "top_p", "top_k", "min_p", "seed", "stop", "n",
    "presence_penalty", "frequency_penalty", "repetition_penalty", "reasoning_effort", "response_format",
}  # fmt: skip
"""Settings that are shown; others are hashed."""
_SECRET = re.compile(r"key|token(?!s)|secret|credential|password|headers|rollout_id")


def predictors_of(program: dspy.Module) -> list[tuple[str, Any]]:
    """Return all predictors by name, also those that `named_predictors` of the program leaves out."""
    own = {n: p for n, p in vars(program).items() if isinstance(p, dspy.Predict)}
    shown = dict(program.named_predictors())
    return [*own.items(), *((n, p) for n, p in shown.items() if all(p is not q for q in own.values()))]


def settings_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a model or call that influence an answer: no connection, no credential."""
    return {k: v for k, v in options.items() if k not in _CLIENT and v is not None and not _SECRET.search(k)}


def describe(program: dspy.Module) -> dict[str, Any]:
    """Return what decides about a program's answers as plain data: models, prompts, adapter, code."""
    code = fingerprint_of(program)
    bare = program.deepcopy()
    adapter = getattr(program, "adapter", None) or dspy.settings.adapter
    models = {name: _described(p.lm or dspy.settings.lm) for name, p in predictors_of(bare)}
    models |= {name: _described(value) for name, value in vars(bare).items() if isinstance(value, dspy.BaseLM)}
    bare.set_lm(None)
    for _, predictor in predictors_of(bare):
        predictor.lm = None
    return {
        "program": type(program).__qualname__,
        "models": models,
        "adapter": type(adapter).__name__ if adapter else None,
        **plainly(bare.dump_state()),
        "max_repairs": getattr(program, "max_repairs", 0),
        **code,
    }


def fingerprint_of(found: Any, name: str = "program") -> dict[str, Any]:
    """Return the fingerprint of a program's or metric's own code and state; empty if all of it comes from libraries.

    Returns:
        `code`, a hash of everything, and `parts`, a hash per function, class or value, which names a difference.
    """
    apart = [p for _, p in predictors_of(found)] if isinstance(found, dspy.Module) else []
    roots = {name: found}
    if isinstance(found, dspy.Module) and not hasattr(found, "adapter"):
        roots["adapter"] = dspy.settings.adapter
    parts = fingerprint(roots, _described, apart)
    return {"code": digest(parts), "parts": parts} if parts else {}


def describe_bare(program: dspy.Module) -> dict[str, Any]:
    """Return `describe` without the instructions, which candidates replace."""
    found = describe(program)
    for name, _ in program.named_predictors():
        state_of(found, name)["signature"].pop("instructions")
    return found


def state_of(state: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a predictor's part of a program's state; all of it if the program is the predictor."""
    found: dict[str, Any] = state.get(name, state)
    return found


def _described(lm: Any) -> dict[str, Any] | None:
    if lm is None:
        return None
    note(lm)
    settings = {k: v if k in _SHOWN else _hashed(v) for k, v in settings_of(lm.kwargs).items()}
    engine = getattr(lm, "engine", "auto")
    state = engine.dump_state() if hasattr(engine, "dump_state") else None
    kind = getattr(lm, "model_type", "chat")
    return {"model": lm.model, "model_type": kind, "engine": state, **plainly(settings)}


def _hashed(value: Any) -> str:
    """Return a hash of a setting, which may be confidential."""
    plain = plainly(settings_without_secrets({"": value}))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def plainly(value: Any) -> Any:
    """Return a value as JSON data; other objects as their repr without memory addresses."""
    return json.loads(json.dumps(value, default=lambda v: re.sub(r" at 0x[0-9a-f]+", "", repr(v))))
