"""What a run leaves on disk."""

from evoprompt.runs.atomic import storage, write_json, write_text
from evoprompt.runs.tree import SCHEMA_VERSION, ResultsTree

__all__ = ["SCHEMA_VERSION", "ResultsTree", "storage", "write_json", "write_text"]
