"""The contracts that evoprompt composes: generate code, debug it, rewrite the instruction.

`ExplainFailure` and `OptimizeInstruction` are the last two for models that write something else than code.
Plain `dspy.Signature` classes; they know nothing of evoprompt and can be used in any DSPy program.
"""

from signatures.debugger import DebugCode
from signatures.explainer import ExplainFailure
from signatures.fields import Attempt, Diagnosis, Failure, FailureClass, FailureGroup
from signatures.generator import GenerateCode
from signatures.optimizer import OptimizeInstruction, OptimizePrompt, ShortenPrompt

__all__ = [
    "Attempt",
    "DebugCode",
    "Diagnosis",
    "ExplainFailure",
    "Failure",
    "FailureClass",
    "FailureGroup",
    "GenerateCode",
    "OptimizeInstruction",
    "OptimizePrompt",
    "ShortenPrompt",
]
