"""The replies that count as answers, and the failures of those that are none."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dspy.clients.call_result import CallResult
from dspy.clients.legacy_outputs import value
from dspy.utils.exceptions import LMProviderError

ABOUT_THE_REQUEST = frozenset({"cut_off", "filtered", "empty_reply", "context_window_exceeded", "invalid_request"})
"""Codes of failures that the same request would meet again. All others tell nothing about what the model can do."""
ABOUT_THE_PROMPT = ABOUT_THE_REQUEST - {"empty_reply", "invalid_request"}
"""Those that a prompt brings about. Where none of many prompts gets anything else, the others are the server's."""
_INCOMPLETE = {"max_output_tokens": "length"}
"""What OpenAI's newer API calls an end that the older one calls otherwise."""


class EmptyReply(LMProviderError):
    """The reply holds no text. Worth another try."""

    default_code = "empty_reply"


class CutOffReply(LMProviderError):
    """The reply was cut off by its length before it held an answer. The next one would be too."""

    default_code = "cut_off"


class FilteredReply(LMProviderError):
    """The provider's filter took the reply away."""

    default_code = "filtered"


@dataclass(frozen=True)
class Said:
    """The contents of a reply, whichever way it came.

    Attributes:
        text: Its text.
        ended: Why it ends there: `stop`, `length`, `content_filter`, …
        tools: Whether it calls tools.
    """

    text: str
    ended: str | None
    tools: bool


def said(result: CallResult) -> Said:
    """The contents of the one reply of a call."""
    if result.responses:
        response = result.responses[0]
        return Said(response.text or "", response.finish_reason, bool(response.tool_calls))
    output = result.outputs[0] if result.outputs else ""
    fields = output if isinstance(output, dict) else {"text": output}
    reason = value(next(iter(value(result.raw, "choices", None) or ()), None), "finish_reason")
    if reason is None:
        reason = value(value(result.raw, "incomplete_details", None), "reason")
    return Said(fields.get("text") or "", _INCOMPLETE.get(reason, reason), bool(fields.get("tool_calls")))


def empty(reply: Said) -> bool:
    """True for a reply that says nothing, though nobody took it away."""
    return not (reply.text.strip() or reply.tools or reply.ended in ("length", "content_filter"))


def check(reply: Said, model: str, *, strict: bool) -> None:
    """Refuse a reply that can be no answer.

    Args:
        reply: What the model said.
        model: Its name.
        strict: Whether it will be judged. Advice is of use also where its end is missing.

    Raises:
        FilteredReply: A filter took it away.
        CutOffReply: It ends before its answer does. A block of code that is closed is an answer, whatever follows.
    """
    if reply.ended == "content_filter":
        raise FilteredReply("the provider's filter took the reply away", model=model)
    fences = re.findall(r"^[ \t]*(?:```|~~~)", reply.text, re.MULTILINE)
    if strict and reply.ended == "length" and (not fences or len(fences) % 2):
        raise CutOffReply("the reply was cut off by its length: raise --max_tokens", model=model)
