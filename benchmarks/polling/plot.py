"""The frontier as SVG: delay against cost, both logarithmic, a panel for each kind of job."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.polling.comparison import FOLLOW, FOLLOW_FEW, OFF, Comparison
from benchmarks.polling.waited import EVENT_S, Summary

_WIDTH, _HEIGHT, _LEFT, _TOP, _INNER_HEIGHT, _INNER_WIDTH = 1080, 420, 60, 44, 310, 300
_GAP = 40
_LETTER_WIDTH, _LINE_HEIGHT = 6.0, 12.0
_LEAST_S, _MOST_S = 0.03, 300.0
_DRAWN = {FOLLOW: "follow", FOLLOW_FEW: "follow, 10 units for 100 jobs", OFF: OFF}


@dataclass(frozen=True, slots=True)
class _Panel:
    left: float
    least_usd: float
    most_usd: float

    def x(self, usd: float) -> float:
        part = math.log(usd / self.least_usd) / math.log(self.most_usd / self.least_usd)
        return self.left + part * _INNER_WIDTH

    def y(self, seconds: float) -> float:
        part = math.log(seconds / _LEAST_S) / math.log(_MOST_S / _LEAST_S)
        return _TOP + (1 - part) * _INNER_HEIGHT


def draw(comparisons: Sequence[Comparison]) -> str:
    """Return the picture."""
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
            'aria-label="Mean delay against the cost of waiting, per kind of job" '
            'font-family="system-ui, sans-serif" font-size="11">'
        ),
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
    ]
    for number, comparison in enumerate(comparisons):
        costs = [each.usd_per_1000 for each in (*comparison.baselines, *comparison.ours)]
        panel = _Panel(_LEFT + number * (_INNER_WIDTH + _GAP), min(costs) / 1.6, max(costs) * 1.6)
        lines += _axes(panel, comparison, first=number == 0)
        lines += _frontier(panel, comparison.baselines)
        drawn = [(row, row.name, False) for row in comparison.baselines]
        drawn += [(row, _DRAWN[row.name], True) for row in comparison.ours if row.name in _DRAWN]
        lines += _points(panel, drawn)
    middle = _TOP + _INNER_HEIGHT / 2
    lines += [
        f'<text x="16" y="{middle}" transform="rotate(-90 16 {middle})" text-anchor="middle">mean delay, s</text>',
        (
            f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 12}" text-anchor="middle">cost of waiting, $ per 1,000 jobs · '
            "dashed: no news arrives sooner · grey line: the best that polling loops do</text>"
        ),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _axes(panel: _Panel, comparison: Comparison, *, first: bool) -> Iterable[str]:
    right, bottom = panel.left + _INNER_WIDTH, _TOP + _INNER_HEIGHT
    yield (
        f'<text x="{panel.left}" y="{_TOP - 16}" font-size="14" font-weight="600">{comparison.kind}</text>'
        f'<rect x="{panel.left}" y="{_TOP}" width="{_INNER_WIDTH}" height="{_INNER_HEIGHT}" '
        'fill="none" stroke="#c9ced6"/>'
    )
    for seconds in (0.1, 1, 10, 100):
        y = panel.y(seconds)
        yield f'<path d="M{panel.left} {y:.1f}H{right}" stroke="#eceff3"/>'
        if first:
            yield f'<text x="{panel.left - 6}" y="{y + 4:.1f}" text-anchor="end">{seconds:g}</text>'
    for power in range(-2, 3):
        for usd in (10.0**power, 3 * 10.0**power):
            if panel.least_usd < usd < panel.most_usd:
                x = panel.x(usd)
                yield f'<path d="M{x:.1f} {bottom}v4" stroke="#c9ced6"/>'
                yield f'<text x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{usd:g}</text>'
    y = panel.y(EVENT_S)
    yield f'<path d="M{panel.left} {y:.1f}H{right}" stroke="#c0392b" stroke-dasharray="5 4"/>'


def _frontier(panel: _Panel, rows: Sequence[Summary]) -> Iterable[str]:
    """Yield the staircase under which no baseline is."""
    best = [row for row in rows if not any(row.is_beaten_by(other) for other in rows)]
    best.sort(key=lambda row: row.usd_per_1000)
    path = f"M{panel.x(best[0].usd_per_1000):.1f} {_TOP}"
    for row in best:
        path += f"H{panel.x(row.usd_per_1000):.1f}V{panel.y(row.mean_s):.1f}"
    yield f'<path d="{path}H{panel.left + _INNER_WIDTH}" fill="none" stroke="#c9ced6" stroke-width="1.5"/>'


def _points(panel: _Panel, rows: Sequence[tuple[Summary, str, bool]]) -> Iterable[str]:
    """Yield dots with their labels; a label that would cover another one moves down."""
    taken: list[tuple[float, float, float]] = []
    for row, label, is_ours in sorted(rows, key=lambda each: -each[0].mean_s):
        x, y = panel.x(row.usd_per_1000), panel.y(row.mean_s)
        colour, width = "#0b6bcb" if is_ours else "#6b717a", len(label) * _LETTER_WIDTH
        to_the_right = x + width + 8 < panel.left + _INNER_WIDTH
        left = x + 8 if to_the_right else x - 8 - width
        text_y = y + 4
        while any(
            abs(text_y - other) < _LINE_HEIGHT and left < end and left + width > start
            for start, end, other in taken
        ):
            text_y += 1
        taken.append((left, left + width, text_y))
        anchor, text_x = ("start", left) if to_the_right else ("end", x - 8)
        weight = ' font-weight="600"' if is_ours else ""
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{5 if is_ours else 3.5}" fill="{colour}"/>'
        yield (
            f'<text x="{text_x:.1f}" y="{text_y:.1f}" text-anchor="{anchor}" fill="{colour}"{weight}>'
            f"{escape(label)}</text>"
        )
