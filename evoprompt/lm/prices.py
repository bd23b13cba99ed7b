"""What a model's answers would cost, by the price lists that DSPy bills them with."""

from __future__ import annotations

import logging
import os
from typing import Any

import dspy
from dspy.lm15 import Message, Response, Usage

logger = logging.getLogger("evoprompt")


def price(lm: dspy.LM | None, input_tokens: int, output_tokens: int) -> float | None:
    """US dollars of one call that reads and writes so many tokens; None where that is not known.

    Nothing is asked of the model's provider. A model that DSPy reaches through LiteLLM has no price here: importing
    that takes seconds.

    Args:
        lm: The model.
        input_tokens: What it reads.
        output_tokens: What it writes.
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
    except Exception as e:  # these are no public names of DSPy; an estimate without a price is still one
        logger.debug("no price for %s: %s", lm.model, e)
        return None
    return cost
