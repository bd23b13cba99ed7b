"""What a run leaves on disk."""

from evoprompt.runs.atomic import write_json, write_text
from evoprompt.runs.tree import SCHEMA_VERSION, ResultsTree

__all__ = ["SCHEMA_VERSION", "ResultsTree", "write_json", "write_text"]
