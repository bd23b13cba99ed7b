"""The explainer: inputs, an output and what a metric said of it in, a diagnosis with one general rule out.

`ExplainFailure` where one predictor gives the output, `ExplainSteps` where several have a part in it.
"""

from __future__ import annotations

import dspy

from signatures.fields import Blame, Diagnosis, Step


class ExplainFailure(dspy.Signature):
    """Find out why this output was not judged fully right.

    Work out from the inputs and the feedback what was wanted, compare it with the output, and name the mistake.
    Then state the one rule that the writer of the output should have followed: general enough to help with inputs
    you have not seen, concrete enough to act on ("weigh what the text says last more than what it says first",
    not "be careful"). As class choose `misread_problem` when the task was misunderstood, `wrong_type` when the
    form of the output is wrong, `edge_case` when the input is unusual, else `wrong_algorithm`. No code is asked
    for.
    """

    inputs: str = dspy.InputField(desc="what the model was given")
    output: str = dspy.InputField(desc="what it answered")
    feedback: str = dspy.InputField(desc="what the metric says about the answer")
    diagnosis: Diagnosis = dspy.OutputField(desc="the mistake, and the general rule that prevents it")


class ExplainSteps(dspy.Signature):
    """Find out which step of a program led to an output that was not judged fully right, and why.

    Several predictors worked on the inputs, one after the other. Work out from the inputs and the feedback what
    was wanted, compare it with the output, and follow the mistake back to the step that made it first: a later
    step that only builds on it is not to blame. Then state the one rule that the predictor of that step should
    have followed: general enough to help with inputs you have not seen, concrete enough to act on ("weigh what
    the text says last more than what it says first", not "be careful"). As class choose `misread_problem` when
    the task was misunderstood, `wrong_type` when the form of the output is wrong, `edge_case` when the input is
    unusual, else `wrong_algorithm`. No code is asked for.
    """

    inputs: str = dspy.InputField(desc="what the program was given")
    output: str = dspy.InputField(desc="what it answered in the end")
    feedback: str = dspy.InputField(desc="what the metric says about the answer")
    steps: list[Step] = dspy.InputField(desc="the calls of the predictors in their order")
    diagnosis: Blame = dspy.OutputField(desc="the predictor to blame, the mistake, and the rule that prevents it")
