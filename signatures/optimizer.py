"""The optimizer: an instruction and what went wrong under it in, a better instruction out.

`OptimizePrompt` for a model that writes code, `OptimizeInstruction` for any other.
"""

from __future__ import annotations

import dspy

from signatures.fields import Attempt, FailureGroup


class OptimizePrompt(dspy.Signature):
    """Improve the instruction given to a model that writes Python functions.

    Keep what works in the current instruction and add what would have prevented the most frequent failures,
    as short imperative rules that hold for any programming problem. Merge rules that say the same. Drop
    sentences that earn nothing: every word costs attention. Learn from the attempts: do not repeat one that
    made things worse. Never mention function names, values or subjects of particular problems, and never
    describe the tests. Answer with the complete new instruction, ready to use.
    """

    current_instruction: str = dspy.InputField(desc="the instruction to improve")
    failures: list[FailureGroup] = dspy.InputField(desc="what went wrong under it, most frequent first")
    attempts: list[Attempt] = dspy.InputField(desc="earlier attempts and their effect, newest last")
    new_instruction: str = dspy.OutputField(desc="the complete improved instruction, and nothing else")


class ShortenPrompt(dspy.Signature):
    """Say the same in fewer words, within the length limit.

    The instruction is read by a model, and every word costs attention. Merge rules that belong together into one
    sentence that names them all. Leave out what the measured effects show to be useless or harmful, and what any
    capable reader does anyway. Keep the meaning of every rule that helps. Answer with the complete instruction.
    """

    current_instruction: str = dspy.InputField(desc="the instruction to shorten")
    attempts: list[Attempt] = dspy.InputField(desc="its rules with their measured effects, as far as they are known")
    length_limit: str = dspy.InputField(desc="how long it may be")
    shortened_instruction: str = dspy.OutputField(desc="the complete shortened instruction, and nothing else")


class OptimizeInstruction(OptimizePrompt):
    """Improve the instruction given to a model.

    Keep what works in the current instruction, above all what it says about the task itself, and add what would
    have prevented the most frequent failures, as short imperative rules that hold for any input. Merge rules
    that say the same. Drop sentences that earn nothing: every word costs attention. Learn from the attempts: do
    not repeat one that made things worse. Never mention names, values or subjects of particular inputs, and
    never describe how answers are judged. Answer with the complete new instruction, ready to use.
    """
