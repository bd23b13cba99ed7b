"""Runs untrusted solutions against tests and tells what happened, without ever trusting what ran."""

from evoprompt.harness.harness import Harness
from evoprompt.harness.judging.inputs import InputLimits
from evoprompt.harness.judging.report import Case, Report, Status, SuiteResult
from evoprompt.harness.sandbox.process import Limits

__all__ = ["Case", "Harness", "InputLimits", "Limits", "Report", "Status", "SuiteResult"]
