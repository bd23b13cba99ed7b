"""Small figures as inline SVG: no script, no plotting library; colours come from the page's style sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

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


def curve(
    points: Sequence[tuple[float, float, float, float]], marks: Sequence[tuple[float, float, float, float, str]],
    x_label: str, y_label: str, most: float = 0.0,
) -> Markup:  # fmt: skip
    """A line with its band, and marks with their intervals.

    Args:
        points: Place, value, lower and upper end of the band.
        marks: The same, and a label, of single measurements.
        x_label: Of the horizontal axis.
        y_label: Of the vertical axis.
        most: Place that the horizontal axis reaches at least.
    """
    everything = [*((x, y, lo, hi) for x, y, lo, hi in points), *((x, y, lo, hi) for x, y, lo, hi, _ in marks)]
    if not everything:
        return Markup("")
    width, height, left, bottom = 720, 260, 44, 34
    most = max(most, *(p[0] for p in everything)) or 1.0
    low, high = min(0.0, *(p[2] for p in everything)), max(1.0, *(p[3] for p in everything))

    def at(x: float, y: float) -> str:
        return (
            f"{left + (width - left - 12) * x / most:.1f} {8 + (height - bottom - 8) * (high - y) / (high - low):.1f}"
        )

    parts = []
    for value in _ticks(low, high):
        px, py = at(0, value).split()
        parts.append(f'<path class="grid" d="M{px} {py}H{width - 12}"/>')
        parts.append(_text("tick", left - 6, f"{float(py) + 4:.1f}", "end", f"{value:g}"))
    for value in _ticks(0, most):
        parts.append(_text("tick", at(value, low).split()[0], height - bottom + 16, "middle", f"{value:,.10g}"))
    if points:
        upper, lower = [at(x, hi) for x, _, _, hi in points], [at(x, lo) for x, _, lo, _ in reversed(points)]
        parts.append(f'<path class="band" d="M{"L".join([*upper, *lower])}Z"/>')
        parts.append(f'<path class="line" d="M{"L".join(at(x, y) for x, y, _, _ in points)}"/>')
    for x, y, lo, hi, label in marks:
        px, py = at(x, y).split()
        top, end = (at(x, v).split()[1] for v in (hi, lo))
        parts.append(f'<path class="whisker result" d="M{px} {top}V{end}"/>')
        parts.append(f'<circle class="dot result" cx="{px}" cy="{py}" r="4"><title>{escape(label)}</title></circle>')
    parts.append(_text("label", (left + width) // 2, height - 3, "middle", x_label))
    first, last = everything[0][1], points[-1][1] if points else marks[-1][1]
    return _figure("curve", width, height, f"{y_label} against {x_label}: from {first:.1f} to {last:.1f}", parts)


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


def strip(cells: Sequence[str]) -> Markup:
    """A row of the heat map: one cell a prompt, `p` passed, `f` failed, `y` both, `u` not measured, blank not tried."""
    size = 9
    drawn = ["f" if cell == "y" else cell for cell in cells]
    paths = []
    for kind in "pfu":
        runs, at = [], 0
        while at < len(drawn):
            end = at
            while end < len(drawn) and drawn[end] == kind:
                end += 1
            if end > at:
                runs.append(f"M{at * size} 0h{(end - at) * size - 1}v8H{at * size}z")
            at = max(end, at + 1)
        if runs:
            paths.append(f'<path class="{kind}" d="{"".join(runs)}"/>')
    head = f'<svg class="strip" data-cells="{"".join(cells)}" viewBox="0 0 {max(1, len(cells)) * size} 8" '
    head += 'preserveAspectRatio="none" aria-hidden="true">'
    return Markup(f"{head}{''.join(paths)}</svg>")


def _ticks(low: float, high: float) -> list[float]:
    span = (high - low) or 1.0
    step = 10.0 ** len(str(int(span))) / 10
    while span / step < 4:
        step /= 2 if str(step).lstrip("0.").startswith("1") else 2.5 if str(step).lstrip("0.").startswith("5") else 2
    first = int(low // step)
    return [round(n * step, 6) for n in range(first, int(high // step) + 1) if n * step >= low - 1e-9]
