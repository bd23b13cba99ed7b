"""What a model's response must be to count as an answer, and the failures of those that are none."""

from __future__ import annotations

import re

from dspy.lm15 import Response
from dspy.utils.exceptions import LMProviderError

ABOUT_THE_REQUEST = frozenset({"cut_off", "filtered", "empty_reply", "context_window_exceeded", "invalid_request"})
"""Codes of failures that the same request would meet again. All others tell nothing about what the model can do."""


class EmptyReply(LMProviderError):
    """The reply holds no text. Worth another try."""

    default_code = "empty_reply"


class CutOffReply(LMProviderError):
    """The reply was cut off by its length before it held an answer. The next one would be too."""

    default_code = "cut_off"


class FilteredReply(LMProviderError):
    """The provider's filter took the reply away."""

    default_code = "filtered"


def empty(response: Response) -> bool:
    """Whether the response says nothing, and nobody took it away."""
    filtered = response.finish_reason == "content_filter"
    return not (filtered or response.tool_calls or (response.text or "").strip() or response.finish_reason == "length")


def usable(response: Response, *, strict: bool) -> Response:
    """The response, if it can be an answer.

    Args:
        response: What the model said.
        strict: Whether it will be judged. Advice is of use also where its end is missing.

    Raises:
        FilteredReply: A filter took it away.
        CutOffReply: It ends before its answer does. A block of code that is closed is an answer, whatever follows.
    """
    if response.finish_reason == "content_filter":
        raise FilteredReply("the provider's filter took the reply away", model=response.model)
    fences = re.findall(r"^[ \t]*(?:```|~~~)", response.text or "", re.MULTILINE)
    if strict and response.finish_reason == "length" and (not fences or len(fences) % 2):
        raise CutOffReply("the reply was cut off by its length: raise --max_tokens", model=response.model)
    return response
