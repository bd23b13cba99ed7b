"""Measure a program, or solutions that exist already."""

from evoprompt.evaluate.evaluation import Evaluation, evaluate, evaluate_jobs, passes, summarize
from evoprompt.evaluate.results import evalplus_results
from evoprompt.evaluate.samples import Sample, chatty, judge, read_samples
from evoprompt.evaluate.statistics import Rate, estimate, pass_at_k, wilson

__all__ = [
    "Evaluation",
    "Rate",
    "Sample",
    "chatty",
    "estimate",
    "evalplus_results",
    "evaluate",
    "evaluate_jobs",
    "judge",
    "pass_at_k",
    "passes",
    "read_samples",
    "summarize",
    "wilson",
]
