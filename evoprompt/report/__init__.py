"""A run as one offline page: the verdict, the prompt, every task, the cost, and how sure all that is."""

from evoprompt.report.page import render_report, write_report

__all__ = ["render_report", "write_report"]
