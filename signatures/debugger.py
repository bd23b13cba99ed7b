"""The debugger: code and its failing tests in, a diagnosis with one general rule out.

`DebugCode` where one predictor writes the code, `DebugSteps` where several have a part in it.
"""

from __future__ import annotations

import dspy

from signatures.fields import Blame, Diagnosis, Failure, Step


class DebugCode(dspy.Signature):
    """Find out why this Python solution fails its tests.

    Work out what the problem demands for each failing call, compare it with what the code does, and name
    the mistake in the code. When a test is hidden, infer from its hint which demand of the problem the code
    overlooks. Then state the one rule that a programmer should have followed: general enough to help with
    problems you have not seen, concrete enough to act on ("return the documented default for empty
    input before indexing into it", not "be careful with edge cases").
    """

    prompt: str = dspy.InputField(desc="the problem that the code should solve")
    code: str = dspy.InputField(desc="the solution that failed")
    failures: list[Failure] = dspy.InputField(desc="tests that it did not pass, without their expected values")
    fix: bool = dspy.InputField(desc="true: also give the corrected program in `fixed_code`; false: leave it empty")
    diagnosis: Diagnosis = dspy.OutputField(desc="the mistake, and the general rule that prevents it")


class DebugSteps(dspy.Signature):
    """Find out which step of a program led to a Python solution that fails its tests, and why.

    Several predictors worked on the problem, one after the other. Work out what the problem demands for each
    failing call, compare it with what the code does, and follow the mistake back to the step that made it first:
    a later step that only builds on it is not to blame. When a test is hidden, infer from its hint which demand
    of the problem was overlooked. Then state the one rule that the predictor of that step should have followed:
    general enough to help with problems you have not seen, concrete enough to act on ("return the documented
    default for empty input before indexing into it", not "be careful with edge cases"). No corrected code is
    asked for.
    """

    prompt: str = dspy.InputField(desc="the problem that the code should solve")
    code: str = dspy.InputField(desc="the solution that failed")
    failures: list[Failure] = dspy.InputField(desc="tests that it did not pass, without their expected values")
    steps: list[Step] = dspy.InputField(desc="the calls of the predictors in their order")
    diagnosis: Blame = dspy.OutputField(desc="the predictor to blame, the mistake, and the rule that prevents it")
