"""Small figures as inline SVG: no script, no plotting library; colours come from the page's style sheet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby, pairwise

from markupsafe import Markup


def _text(kind: str, x: float | str, y: float | str, anchor: str, text: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def _figure(kind: str, width: float, height: float, told: str, parts: Sequence[str]) -> Markup:
    head = f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(told)}">'
    return Markup(f"{head}{''.join(parts)}</svg>")


def interval_bar(value: float, low: float, high: float, reach: float, unit: str = "points") -> Markup:
    """An effect as a bar from zero, with its interval.

    Args:
        value: The effect.
        low: Lower end of its interval.
        high: Upper end.
        reach: The largest absolute value on the common scale.
        unit: Of all of them, for readers of the text.
    """
    width, middle = 220.0, 110.0

    def x(v: float) -> float:
        return round(middle + max(-1.0, min(1.0, v / reach)) * (middle - 4), 1)

    left, right = sorted((x(0), x(value)))
    kind = "good" if low > 0 else "bad" if high < 0 else "open"
    parts = [
        f'<path class="axis" d="M{middle:g} 1v16"/>',
        f'<rect class="fill" x="{left}" y="5" width="{max(right - left, 1):.1f}" height="8" rx="2"/>',
        f'<path class="whisker" d="M{x(low)} 9H{x(high)}M{x(low)} 6v6M{x(high)} 6v6"/>',
    ]
    return _figure(f"bar {kind}", width, 18, f"{value:+z.1f} {unit}, interval {low:+z.1f} to {high:+z.1f}", parts)


def score_dots(rows: Sequence[tuple[str, str, float, float, float]]) -> Markup:
    """Scores in percent on one axis from 0 to 100, each with its interval.

    Args:
        rows: Label, class (`start` or `result`), value, lower and upper end.
    """
    label_width = 20 + 9 * max([0, *(len(label) for label, *_ in rows)])  # 9: a letter on a phone
    height = 22 * len(rows) + 24

    def x(percent: float) -> float:
        return round(label_width + percent * (512 - label_width) / 100, 1)

    ticks = (0, 25, 50, 75, 100)
    parts = [f'<path class="grid" d="{"".join(f"M{x(v)} 2V{height - 20}" for v in ticks)}"/>']
    parts += [_text("tick", x(v), height - 6, "middle", str(v)) for v in ticks]
    for i, (label, kind, value, low, high) in enumerate(rows):
        y = 14 + 22 * i
        parts.append(_text("label", label_width - 10, y + 4, "end", label))
        parts.append(f'<path class="whisker {kind}" d="M{x(low)} {y}H{x(high)}"/>')
        parts.append(f'<circle class="dot {kind}" cx="{x(value)}" cy="{y}" r="5.5"/>')
    told = "; ".join(f"{label} {value:.1f} %, interval {low:.1f} to {high:.1f}" for label, _, value, low, high in rows)
    return _figure("dots", 530, height, told, parts)


def course(
    line: Sequence[tuple[float, float, float, float]], dots: Sequence[tuple[float, float, float, float]],
    level: float | None, ends: Mapping[str, tuple[float, float, float]], most: float, labels: tuple[str, str, str],
) -> Markup:  # fmt: skip
    """A score in percent that holds until the next one, with its band; what was measured beside it.

    Args:
        line: Place, value, lower and upper end of the band.
        dots: The same of single measurements.
        level: A line across, for reference.
        ends: By class (`start` or `result`), value, lower and upper end of what stands beside the figure.
        most: Place at the right end.
        labels: Of the horizontal axis, of the vertical axis, and of what stands beside.
    """
    width, height, left, top, bottom = 600, 270, 42, 24, 38
    right = width - (70 if ends else 12)
    known = [v for point in [*line, *dots] for v in point[1:]] + [v for one in ends.values() for v in one]
    known += [] if level is None else [level]
    low, high = max(0.0, min(known) - 3), min(100.0, max(known) + 3)

    def x(place: float) -> float:
        return round(left + (right - left) * place / most, 1)

    def y(percent: float) -> float:
        return round(top + (height - top - bottom) * (high - percent) / (high - low), 1)

    def dot(kind: str, at: float, score: Sequence[float]) -> str:
        title = f"<title>{score[0]:.1f} %, interval {score[1]:.1f} to {score[2]:.1f}</title>"
        return f'<circle class="dot {kind}" cx="{at}" cy="{y(score[0])}" r="4.5">{title}</circle>'

    def steps(value: int) -> list[str]:
        holds = pairwise([x(point[0]) for point in [*line, (most,)]])
        return [f"{begin} {y(point[value])}H{end}" for point, (begin, end) in zip(line, holds, strict=True)]

    upper, lower = "L".join(steps(3)), "".join(f"V{y(p[2])}H{x(p[0])}" for p in reversed(line))
    parts = [f'<path class="grid" d="{"".join(f"M{left} {y(v)}H{right}" for v in _ticks(low, high))}"/>']
    parts += [_text("tick", left - 6, y(v) + 4, "end", f"{v:g}") for v in _ticks(low, high)]
    parts += [_text("tick", x(v), height - bottom + 16, "middle", f"{v:,.10g}") for v in _ticks(0, most)]
    parts += [f'<path class="band" d="M{upper}{lower}Z"/>', f'<path class="line" d="M{"L".join(steps(1))}"/>']
    if level is not None:
        parts.append(f'<path class="level" d="M{left} {y(level)}H{right}"/>')
    parts += [dot("result", x(point[0]), point[1:]) for point in dots]
    for n, (kind, score) in enumerate(ends.items()):
        at = right + 18 + 22 * n
        parts += [f'<path class="whisker {kind}" d="M{at} {y(score[1])}V{y(score[2])}"/>', dot(kind, at, score)]
    if ends:
        parts.append(_text("label", right + 29, height - bottom + 16, "middle", labels[2]))
    parts.append(_text("label", (left + right) // 2, height - 4, "middle", labels[0]))
    parts.append(_text("label", left, 12, "start", labels[1]))
    told = f"{labels[1]} against {labels[0]}: from {line[0][1]:.1f} to {line[-1][1]:.1f}"
    told += "" if level is None else f"; start {level:.1f}"
    told += "".join(f"; {name} on {labels[2]} tasks {score[0]:.1f}" for name, score in ends.items())
    return _figure("curve", width, height, told, parts)


def layers(rows: Mapping[str, Sequence[float]], most: float, marks: Sequence[float]) -> Markup:
    """Counts over time, one on top of the other.

    Args:
        rows: Values of each name, in equal stretches of the time.
        most: Seconds at the right end.
        marks: Seconds that get a line.
    """
    width, height, left, top, bottom = 720, 150, 44, 20, 20
    bins = len(next(iter(rows.values())))
    high: float = max(1.0, *(sum(values) for values in zip(*rows.values(), strict=True)))

    def x(place: float) -> float:
        return round(left + (width - left - 12) * place, 1)

    def y(value: float) -> float:
        return round(top + (height - top - bottom) * (1 - value / high), 1)

    parts = [f'<path class="grid" d="{"".join(f"M{x(at / most)} {top}V{height - bottom}" for at in marks)}"/>']
    below = [0.0] * bins
    for n, (name, values) in enumerate(sorted(rows.items())):
        above = [b + v for b, v in zip(below, values, strict=True)]
        upper = "".join(f"V{y(v)}H{x((i + 1) / bins)}" for i, v in enumerate(above))
        lower = "".join(f"V{y(v)}H{x(i / bins)}" for i, v in reversed(list(enumerate(below))))
        parts.append(f'<path class="layer l{n % 4}" d="M{x(0)} {y(below[0])}{upper}{lower}Z"/>')
        parts.append(f'<rect class="layer l{n % 4}" x="{left + 130 * n}" y="2" width="10" height="10"/>')
        parts.append(_text("label", left + 130 * n + 16, 12, "start", name))
        below = above
    for value in {0, int(high)}:
        parts.append(_text("tick", left - 6, y(value) + 4, "end", str(value)))
    parts += [_text("tick", x(t / most), height - 4, "middle", f"{t:g}") for t in _ticks(0, most)]
    return _figure("curve", width, height, f"calls under way over {most:.0f} seconds, at most {high:.0f}", parts)


_HALVES: Mapping[str, Sequence[tuple[str, int]]] = {
    "p": [("p", 0)], "f": [("f", 4)], "y": [("p", 0), ("f", 4)], "u": [("u", 2)]
}  # fmt: skip
OUTCOMES = {"p": "passed", "f": "failed", "y": "flaky", "u": "not measured", " ": "not tried"}


def strip(cells: str) -> Markup:
    """A row of the heat map: one cell a prompt, told apart by place as by colour.

    Args:
        cells: `p` passed (above), `f` failed (below), `y` flaky (both), `u` not measured (between), blank not tried.
    """
    size, drawn = 9, dict[str, str]()
    at = 0
    for kind, alike in groupby(cells):
        count = len(list(alike))
        for tone, top in _HALVES.get(kind, ()):
            drawn[tone] = drawn.get(tone, "") + f"M{at * size} {top}h{count * size - 1}v4H{at * size}z"
        at += count
    counts = Counter(cells)
    told = ", ".join(f"{counts[kind]} {word}" for kind, word in OUTCOMES.items() if counts[kind])
    head = f'<svg class="strip" data-cells="{cells}" viewBox="0 0 {max(1, len(cells)) * size} 8" '
    head += f'preserveAspectRatio="none" role="img" aria-label="{told}">'
    return Markup(
        head + "".join(f'<path class="{tone}" d="{path}"/>' for tone, path in sorted(drawn.items())) + "</svg>"
    )


def _ticks(low: float, high: float) -> list[float]:
    span = (high - low) or 1.0
    step = 10.0 ** len(str(int(span))) / 10
    while span / step < 4:
        step /= 2 if str(step).lstrip("0.").startswith("1") else 2.5 if str(step).lstrip("0.").startswith("5") else 2
    first = int(low // step)
    return [round(n * step, 6) for n in range(first, int(high // step) + 1) if n * step >= low - 1e-9]
