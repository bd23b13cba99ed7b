"""`Advisor`: debugger and optimizer for students that write something else than code."""

from __future__ import annotations

import dspy

from evoprompt.lm.adapter import CodeAdapter
from evoprompt.program import Program, Proposing, scrubbed
from signatures import Blame, Diagnosis, ExplainFailure, ExplainSteps, OptimizeInstruction, Step


class Advisor(Proposing):
    """Explains what a metric did not like, and rewrites the instruction. A `Program` does it for code itself.

    Args:
        debugger_lm: Model that explains failures; None means `dspy.settings.lm`, also for the other.
        optimizer_lm: Model that rewrites the instruction.
        adapter: Turns fields into messages and replies into fields. Default `CodeAdapter`.
    """

    def __init__(
        self,
        *,
        debugger_lm: dspy.LM | None = None,
        optimizer_lm: dspy.LM | None = None,
        adapter: dspy.Adapter | None = None,
    ) -> None:
        super().__init__()
        self.debugger = dspy.Predict(ExplainFailure)
        self.optimizer = dspy.Predict(OptimizeInstruction)
        self.debugger.lm, self.optimizer.lm = debugger_lm, optimizer_lm
        self.adapter = adapter or CodeAdapter()

    @classmethod
    def of(cls, student: dspy.Module) -> Advisor:
        """With the models and the adapter that the student has for these roles, if it is a `Program`."""
        if not isinstance(student, Program):
            return cls()
        roles = {"debugger_lm": student.debugger.lm, "optimizer_lm": student.optimizer.lm}
        return cls(**roles, adapter=student.adapter)

    def explain(self, *, inputs: str, output: str, feedback: str) -> Diagnosis:
        """Ask the debugger why `output` was not judged right."""
        with dspy.context(adapter=self.adapter):
            diagnosis: Diagnosis = self.debugger(inputs=inputs, output=output, feedback=feedback).diagnosis
        return scrubbed(diagnosis)

    def blame(self, *, inputs: str, output: str, feedback: str, steps: list[Step]) -> Blame:
        """Ask the debugger which of these steps is why `output` was not judged right."""
        told = {"inputs": inputs, "output": output, "feedback": feedback, "steps": steps}
        with dspy.context(adapter=self.adapter):
            blame: Blame = self.debugger(signature=ExplainSteps, **told).diagnosis
        return scrubbed(blame)
