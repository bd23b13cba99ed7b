"""Data sets by name or path."""

from evoprompt.datasets.base import Dataset, check_disjoint
from evoprompt.datasets.load import KNOWN, load_dataset, starter_splits

__all__ = ["KNOWN", "Dataset", "check_disjoint", "load_dataset", "starter_splits"]
