"""A run's directory: the journal, the lock, the results tree."""

from evoprompt.runs.failures import Failures
from evoprompt.runs.journal import Journal
from evoprompt.runs.run import Run, open_finished, resume_command
from evoprompt.runs.spent import Spent
from evoprompt.runs.tree import SCHEMA_VERSION, ResultsTree

__all__ = ["SCHEMA_VERSION", "Failures", "Journal", "ResultsTree", "Run", "Spent", "open_finished", "resume_command"]
