"""The result of a search as a notebook shows it: verdict, rules with their effects, what changed."""

from __future__ import annotations

from markupsafe import Markup

from evoprompt.evolve.records import Results
from evoprompt.report import charts
from evoprompt.report.page import environment
from evoprompt.report.sentences import word_diff


def results_html(results: Results) -> str:
    """A fragment of HTML with its own few styles."""
    rules = [rule for rule in results.rules if rule.demo is None and not rule.fixed]
    numbers = [abs(n) for rule in rules for n in (rule.effect, rule.low, rule.high) if n is not None]
    reach = max([5.0, *(n for n in numbers if n < 60)])
    shown = []
    for rule in rules:
        if rule.effect is None or rule.low is None or rule.high is None:
            shown.append((rule.text, Markup(""), ""))
        else:
            effect = f"{rule.effect + 0.0:+.1f} [{rule.low:+.1f}, {rule.high:+.1f}]"
            shown.append((rule.text, charts.interval_bar(rule.effect, rule.low, rule.high, reach), effect))
    return environment().get_template("results.html.j2").render(
        results=results, rules=shown, diff=word_diff(results.seed.told, results.best.told),
        changed=results.seed.key != results.best.key,
    )  # fmt: skip
