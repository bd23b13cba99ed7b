"""The generator: a problem in, code out. Its instruction is what evoprompt evolves."""

from __future__ import annotations

import dspy


class GenerateCode(dspy.Signature):
    """Write a correct, self-contained Python 3 solution of the problem.

    Define the entry point at top level with exactly the given name and parameters, with every import
    and helper it needs. It returns its result.
    """

    prompt: str = dspy.InputField(desc="the problem to solve")
    entry_point: str = dspy.InputField(
        desc="the function to define, as `name(parameters)`; empty when the problem itself names it"
    )
    code: str = dspy.OutputField(desc="the complete Python program in one ```python fenced block, and nothing else")
