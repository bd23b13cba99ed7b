"""A run as one offline page: the verdict, the prompt, every task, the cost, and how sure all that is."""

from evoprompt.report.page import render_report, write_report
from evoprompt.report.writer import ReportWriter, keep_report

__all__ = ["ReportWriter", "keep_report", "render_report", "write_report"]
