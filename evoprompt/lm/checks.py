"""Refuses replies that are no answers: empty, cut off, or taken away by a filter."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dspy.utils.exceptions import LMProviderError

from evoprompt.lm.dspy_internals import CallResult, value

ABOUT_THE_REQUEST = frozenset({"cut_off", "filtered", "empty_reply", "context_window_exceeded", "invalid_request"})
"""Error codes that the same request would meet again. All others say nothing about the model's abilities."""
ABOUT_THE_PROMPT = ABOUT_THE_REQUEST - {"empty_reply", "invalid_request"}
"""The codes among them that a prompt causes. If every prompt gets one of the others, the server is to blame."""
_INCOMPLETE = {"max_output_tokens": "length"}
"""Names in OpenAI's Responses API for finish reasons of its Chat API."""


class EmptyReply(LMProviderError):
    """The reply holds no text. Worth a retry."""

    default_code = "empty_reply"


class CutOffReply(LMProviderError):
    """The reply reached its maximum length before it held an answer. A retry would too."""

    default_code = "cut_off"


class FilteredReply(LMProviderError):
    """The provider's content filter removed the reply."""

    default_code = "filtered"


@dataclass(frozen=True)
class Reply:
    """The content of one reply, from either of DSPy's two paths.

    Attributes:
        text: Its text.
        finish_reason: `stop`, `length`, `content_filter`, …
        tools: True if it calls tools.
    """

    text: str
    finish_reason: str | None
    tools: bool

    @property
    def empty(self) -> bool:
        """True if it holds nothing, and neither its length nor a filter is the reason."""
        return not (self.text.strip() or self.tools or self.finish_reason in ("length", "content_filter"))

    @property
    def cut_off(self) -> bool:
        """True if it ended at its longest length before its answer did. A closed code block is an answer."""
        fences = re.findall(r"^[ \t]*(?:```|~~~)", self.text, re.MULTILINE)
        return self.finish_reason == "length" and (not fences or len(fences) % 2 == 1)


def reply_of(result: CallResult) -> Reply:
    """Return the one reply of a call."""
    if result.responses:
        response = result.responses[0]
        return Reply(response.text or "", response.finish_reason, bool(response.tool_calls))
    output = result.outputs[0] if result.outputs else ""
    fields = output if isinstance(output, dict) else {"text": output}
    reason = value(next(iter(value(result.raw, "choices", None) or ()), None), "finish_reason")
    if reason is None:
        reason = value(value(result.raw, "incomplete_details", None), "reason")
    return Reply(fields.get("text") or "", _INCOMPLETE.get(reason, reason), bool(fields.get("tool_calls")))


def check(reply: Reply, model: str, *, strict: bool) -> None:
    """Refuse a reply that can't be an answer.

    Args:
        reply: The reply.
        model: Name of its model.
        strict: True if the reply will be judged. Advice is useful even when its end is missing.

    Raises:
        FilteredReply: A content filter removed it.
        CutOffReply: It ends before its answer does.
    """
    if reply.finish_reason == "content_filter":
        raise FilteredReply("the provider's filter took the reply away", model=model)
    if strict and reply.cut_off:
        raise CutOffReply("the reply was cut off by its length: go on with a larger --max_tokens", model=model)
