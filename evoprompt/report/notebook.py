"""The result of a search as a notebook shows it: verdict, rules with their effects, what changed."""

from __future__ import annotations

from evoprompt.evolve.records import Results
from evoprompt.report.page import environment
from evoprompt.report.rules import prompt_diff, reach_of, shown_effect


def results_html(results: Results) -> str:
    """A fragment of HTML with its own few styles."""
    rules = [rule for rule in results.rules if rule.demo is None and not rule.fixed]
    reach = reach_of(n for rule in rules for n in (rule.effect, rule.low, rule.high))
    shown = [(rule.text, *shown_effect(rule.effect, rule.low, rule.high, reach)) for rule in rules]
    return environment().get_template("results.html.j2").render(
        results=results, rules=shown, diff=prompt_diff(results.seed.told, results.best.told),
        changed=results.seed.key != results.best.key,
    )  # fmt: skip
