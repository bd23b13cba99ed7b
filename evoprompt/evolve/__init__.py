"""The search for a better instruction."""

from evoprompt.evolve.estimate import Estimate
from evoprompt.evolve.options import Options
from evoprompt.evolve.own import OwnSearch
from evoprompt.evolve.records import BatchRecord, Diagnosed, EvolutionEntry, Results
from evoprompt.evolve.strategies import Strategy
from evoprompt.evolve.teleprompter import EvoPrompt

__all__ = [
    "BatchRecord",
    "Diagnosed",
    "Estimate",
    "EvoPrompt",
    "EvolutionEntry",
    "Options",
    "OwnSearch",
    "Results",
    "Strategy",
]
