"""What a run leaves on disk."""

from evoprompt.runs.tree import SCHEMA_VERSION, ResultsTree

__all__ = ["SCHEMA_VERSION", "ResultsTree"]
