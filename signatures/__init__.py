"""The contracts that evoprompt composes: generate code, debug it, rewrite the instruction.

`ExplainFailure` and `OptimizeInstruction` are the last two for models that write something else than code;
`DebugSteps` and `ExplainSteps` are for programs of several predictors.
Plain `dspy.Signature` classes; they know nothing of evoprompt and can be used in any DSPy program.
"""

from signatures.debugger import DebugCode, DebugSteps
from signatures.explainer import ExplainFailure, ExplainSteps
from signatures.fields import Attempt, Blame, Diagnosis, Failure, FailureClass, FailureGroup, Step
from signatures.generator import GenerateCode
from signatures.optimizer import OptimizeInstruction, OptimizePrompt, ShortenPrompt

__all__ = [
    "Attempt",
    "Blame",
    "DebugCode",
    "DebugSteps",
    "Diagnosis",
    "ExplainFailure",
    "ExplainSteps",
    "Failure",
    "FailureClass",
    "FailureGroup",
    "GenerateCode",
    "OptimizeInstruction",
    "OptimizePrompt",
    "ShortenPrompt",
    "Step",
]
