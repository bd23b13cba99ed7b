"""The three contracts that evoprompt composes: generate code, debug it, rewrite the instruction.

Plain `dspy.Signature` classes; they know nothing of evoprompt and can be used in any DSPy program.
"""

from signatures.debugger import DebugCode
from signatures.fields import Attempt, Diagnosis, Failure, FailureClass, FailureGroup
from signatures.generator import GenerateCode
from signatures.optimizer import OptimizePrompt

__all__ = [
    "Attempt",
    "DebugCode",
    "Diagnosis",
    "Failure",
    "FailureClass",
    "FailureGroup",
    "GenerateCode",
    "OptimizePrompt",
]
