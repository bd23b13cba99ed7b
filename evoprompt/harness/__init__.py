"""Runs untrusted solutions against tests and tells what happened, without ever trusting what ran."""

from evoprompt.harness.harness import Harness
from evoprompt.harness.inputs import InputLimits
from evoprompt.harness.process import Limits
from evoprompt.harness.report import Case, Report, Status, SuiteResult

__all__ = ["Case", "Harness", "InputLimits", "Limits", "Report", "Status", "SuiteResult"]
