"""All that decides about a program's answers, so that those of another one are not taken for them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import dspy

from evoprompt.lm.origin import digest, origin
from evoprompt.secrets import note, settings_without_secrets

_CLIENT = (
    "api_key", "api_base", "base_url", "headers", "extra_headers", "timeout", "api_version",
    "azure_ad_token_provider", "organization", "project", "extra_query", "custom_llm_provider",
)  # fmt: skip
"""Settings of a connection."""
_SHOWN = {
    "temperature", "max_tokens", "max_completion_tokens", "top_p", "top_k", "min_p", "seed", "stop", "n",
    "presence_penalty", "frequency_penalty", "repetition_penalty", "reasoning_effort", "response_format",
}  # fmt: skip
"""Settings that are written down as they are; of any other only a fingerprint is."""
_SECRET = re.compile(r"key|token(?!s)|secret|credential|password|headers|rollout_id")


def predictors_of(program: dspy.Module) -> list[tuple[str, Any]]:
    """All predictors with their names: those that an optimizer is shown, and those that a program keeps to itself."""
    own = {n: p for n, p in vars(program).items() if isinstance(p, dspy.Predict)}
    shown = dict(program.named_predictors())
    return [*own.items(), *((n, p) for n, p in shown.items() if all(p is not q for q in own.values()))]


def settings_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a model's or a call's options that decide about an answer: no connection, no credential."""
    return {k: v for k, v in options.items() if k not in _CLIENT and v is not None and not _SECRET.search(k)}


def describe(program: dspy.Module) -> dict[str, Any]:
    """All that decides about a program's answers, as plain data: no connection, no key."""
    code = origin_of(program)
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


def origin_of(found: Any, name: str = "program") -> dict[str, Any]:
    """The code of a program or a metric, its plain state, and what both refer to; nothing where only libraries do.

    Returns:
        `code`, which is another one where anything differs, and `parts`, by which a difference has a name.
    """
    apart = [p for _, p in predictors_of(found)] if isinstance(found, dspy.Module) else []
    roots = {name: found}
    if isinstance(found, dspy.Module) and not hasattr(found, "adapter"):
        roots["adapter"] = dspy.settings.adapter
    parts = origin(roots, _described, apart)
    return {"code": digest(parts), "parts": parts} if parts else {}


def describe_bare(program: dspy.Module) -> dict[str, Any]:
    """The same without the instructions that a candidate replaces."""
    found = describe(program)
    for name, _ in program.named_predictors():
        state_of(found, name)["signature"].pop("instructions")
    return found


def state_of(state: dict[str, Any], name: str) -> dict[str, Any]:
    """A predictor's part of a program's state. Where the program is the predictor, that is the whole."""
    found: dict[str, Any] = state.get(name, state)
    return found


def _described(lm: Any) -> dict[str, Any] | None:
    if lm is None:
        return None
    note(lm)
    settings = {k: v if k in _SHOWN else _fingerprint(v) for k, v in settings_of(lm.kwargs).items()}
    engine = getattr(lm, "engine", "auto")
    state = engine.dump_state() if hasattr(engine, "dump_state") else None
    kind = getattr(lm, "model_type", "chat")
    return {"model": lm.model, "model_type": kind, "engine": state, **plainly(settings)}


def _fingerprint(value: Any) -> str:
    """What tells a setting from another one without saying it: it may hold what is nobody's business."""
    plain = plainly(settings_without_secrets({"": value}))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def plainly(value: Any) -> Any:
    """As JSON; what is not plain data is told by its repr, without the place that it has in this process' memory."""
    return json.loads(json.dumps(value, default=lambda v: re.sub(r" at 0x[0-9a-f]+", "", repr(v))))
