"""Calls that workers make, for models that their nodes serve.

One exchange with the server happens there. All else stays here: the journal, the budget, retries, the limit of calls at
once, and every credential. A worker uses the keys of its own environment.
"""

from __future__ import annotations

import builtins
import functools
import json
import logging
import pickle
import socket
from collections.abc import Mapping
from concurrent.futures import BrokenExecutor, CancelledError, Executor
from dataclasses import replace
from typing import Any, TypeAlias

import dspy
from dspy.utils import exceptions
from dspy.utils.exceptions import LMAuthError, LMError, LMTransportError

from evoprompt.errors import ClusterError, UsageError
from evoprompt.lm import dspy_internals as internals
from evoprompt.lm import interception
from evoprompt.lm.dspy_internals import CallResult, PreparedCall
from evoprompt.lm.identity import plainly
from evoprompt.lm.resolve import causes, complete_key, nobody_there, one_line
from evoprompt.secrets import holds_secret, mask

logger = logging.getLogger("evoprompt")

Answer: TypeAlias = tuple[str, str, float | None]
"""`done`, the answer as JSON, its cost; `failed`, the errors as JSON; `unreached`, the same: nobody answers there."""
_STAYS = {"api_key", "headers", "extra_headers", "azure_ad_token_provider"}
"""Options of a model that are not sent to workers."""
_CONTENT = {"messages", "prompt", "tools", "response_format"}
"""Options that are what the model is told, whatever stands there."""


def require_served(lm: Any) -> None:
    """Refuse a model that workers can't ask.

    Raises:
        UsageError: It answers in this process, or an option holds a credential.
    """
    if not isinstance(lm, dspy.LM) or not isinstance(lm.engine, str) or vars(lm).get("_providers"):
        name = getattr(lm, "model", type(lm).__name__)
        raise UsageError(f"model {name!r} answers in this process, not on a server: leave lm_on_workers out")
    _sent(lm.model, lm.kwargs)


def ask(executor: Executor, lm: dspy.LM, call: PreparedCall) -> CallResult:
    """Have a worker ask a model once.

    Executors of ours have more than the standard library's: `ask`, which takes no thread from those that judge.

    Raises:
        LMError: As if it was asked from here; `LMTransportError` if the worker was lost.
        UsageError: The call can't be sent.
        ClusterError: There are no workers any more.
    """
    options, legacy, own = (_sent(lm.model, given) for given in (lm.kwargs, call.legacy, call.kwargs))
    try:
        model = pickle.dumps((lm.model, lm.model_type, lm.engine, options))
        sent = pickle.dumps(replace(call, legacy=legacy, kwargs=own))
    except Exception as e:
        told = f"a call of model {lm.model!r} can't be sent to a worker ({one_line(e)})"
        raise UsageError(f"{told}: leave lm_on_workers out") from e
    try:
        kind, text, cost = getattr(executor, "ask", executor.submit)(exchange, model, sent).result()
    except ClusterError:
        raise
    except BrokenExecutor as e:
        raise ClusterError(f"the executor takes no more work: {one_line(e)}") from e
    except (Exception, CancelledError) as e:
        # Without the address, so that a display shows many of them once.
        logger.warning(
            "model %s: the worker that asked it was lost (%s): it is asked again", lm.model, type(e).__name__
        )
        raise LMTransportError("the worker that asked was lost", model=lm.model) from None
    if kind != "done":
        raise _error(json.loads(text))
    result = internals.answer_from_json(text, lm, call)
    result.cost = cost
    return result


def exchange(model: bytes, call: bytes) -> Answer:
    """Ask a model, on a worker. The driver is to be believed: it has its code run there anyway."""
    try:
        lm, sent = _lm(model), pickle.loads(call)
        sent.legacy.update({name: lm.kwargs[name] for name in lm.kwargs.keys() & _STAYS})  # a placeholder, for LiteLLM
        result = interception.ask(lm, sent)
    except Exception as e:
        if isinstance(e, LMAuthError | LMTransportError):
            e.message = f"on {socket.gethostname()}, with its own keys: {e.message}"
        # Here, because nobody else knows the keys of this environment.
        return "unreached" if nobody_there(e) else "failed", mask(json.dumps(_plain(e))), None
    return "done", internals.answer_to_json(result), result.cost


@functools.lru_cache(maxsize=16)
def _lm(model: bytes) -> dspy.LM:
    """The model on this worker, whose connections are used again."""
    name, model_type, engine, options = pickle.loads(model)
    lm = dspy.LM(name, model_type, engine=engine, cache=False, num_retries=0)
    lm.kwargs = options
    complete_key(lm)
    return lm


def _sent(model: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are sent to workers.

    Raises:
        UsageError: One holds a credential and is no plain key, so that the model could not be called without it.
    """
    sent = {k: v for k, v in options.items() if k not in _STAYS}
    for name in sent.keys() - _CONTENT:
        if holds_secret({name: sent[name]}):
            raise UsageError(
                f"model {model!r}: its option {name!r} holds a credential, and none is sent to workers: set it in "
                "their environment, or leave lm_on_workers out"
            )
    return sent


def _plain(error: BaseException) -> list[dict[str, Any]]:
    """An error and its causes as plain data: not every exception of DSPy can be pickled, and none with its cause."""
    return [
        {"kind": type(e).__name__, "text": str(e), "facts": plainly(vars(e)) if isinstance(e, LMError) else {}}
        for e in causes(error)
    ]


def _error(told: list[dict[str, Any]]) -> Exception:
    found = Exception()
    cause = None
    for one in reversed(told):
        kind = getattr(exceptions, one["kind"], None) or getattr(builtins, one["kind"], None)
        found = kind.__new__(kind, one["text"]) if kind else RuntimeError(f"{one['kind']}: {one['text']}")
        vars(found).update(one["facts"])
        found.__cause__, cause = cause, found
    return found
