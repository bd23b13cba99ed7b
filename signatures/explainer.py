"""The explainer: inputs, an output and what a metric said of it in, a diagnosis with one general rule out."""

from __future__ import annotations

import dspy

from signatures.fields import Diagnosis


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
