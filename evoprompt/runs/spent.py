"""The cost of a run, as its journal counts it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Spent:
    """The cost of one role: of its answers, and of failed tries that were paid for, such as empty replies.

    Attributes:
        calls: Number of answers.
        retries: Tries that failed, also those of calls that were never answered.
        input_tokens: Tokens of the requests, where the provider reports them.
        output_tokens: Tokens of the replies, likewise.
        cost: US dollars, where prices are known.
        unpriced: Answers without a known price.
        seconds: Sum of the answers' durations; concurrent calls count in full.
    """

    calls: int
    retries: int
    input_tokens: int
    output_tokens: int
    cost: float
    unpriced: int
    seconds: float
