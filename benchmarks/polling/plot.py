"""Draws the plot of the report: mean delay against cost on logarithmic axes, one panel per kind of job."""

from collections.abc import Sequence
from io import StringIO
from typing import Any

import matplotlib.pyplot as plt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.text import Annotation, Text
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
from matplotlib.transforms import Bbox

from benchmarks.polling.comparison import FOLLOW, FOLLOW_FEW, OFF, Comparison
from benchmarks.polling.measurements import EVENT_S, Summary
from benchmarks.polling.workloads import BATCH_S, MEDIAN_S, Kind

_TITLE = "Delay until the end of a job is detected, and the cost of waiting for it"
_JOBS = {
    Kind.CHAT: f"chat: median {MEDIAN_S[Kind.CHAT]:g} s",
    Kind.FLOW: f"flow: median {MEDIAN_S[Kind.FLOW]:g} s",
    Kind.BATCH: f"batch: {BATCH_S[0] / 60:g} min to {BATCH_S[1] / 3600:g} h",
}
# OFF before FOLLOW_FEW: their points are close, and the upper one gets the upper place.
_WATERHOOK = (FOLLOW, OFF, FOLLOW_FEW)
_WATERHOOK_COLOUR, _BASELINE_COLOUR, _FRONTIER_COLOUR, _LIMIT_COLOUR = (
    "#0b6bcb",
    "#6b717a",
    "#b5bbc4",
    "#c0392b",
)
_DELAYS_S = (0.03, 300.0)
# The axis extends from the lowest cost divided by this to the highest cost times this.
_COST_MARGIN = 2.5
# Where a name may be: its offset from the point in points (1/72 inch), and its alignment. Near places come first.
_PLACES = tuple(
    {"position": (x, y), "ha": ha, "va": va}
    for distance in (1, 2, 3)
    for x, y, ha, va in (
        (5, 4 * distance, "left", "bottom"),
        (5, -4 * distance, "left", "top"),
        (-5, 4 * distance, "right", "bottom"),
        (-5, -4 * distance, "right", "top"),
        (7 * distance, 0, "left", "center"),
        (-7 * distance, 0, "right", "center"),
        (0, 7 * distance, "center", "bottom"),
        (0, -7 * distance, "center", "top"),
    )
)
# A name outside of its panel is worse than any overlap.
_OUTSIDE = 100


def draw(comparisons: Sequence[Comparison]) -> str:
    """Return the plot as SVG: the same text for the same numbers."""
    svg = StringIO()
    with rc_context(
        {
            "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same layout on every machine
            "svg.fonttype": "none",  # text stays text: a quarter of the size, and it can be searched
            "svg.hashsalt": "waterhook",  # without a salt the ids in the file are random
        }
    ):
        plt.switch_backend("agg")  # needs no display
        plot, ((*panels,),) = plt.subplots(
            ncols=len(comparisons), sharey=True, squeeze=False, figsize=(15, 6), dpi=72, layout="constrained"
        )
        for panel, comparison in zip(panels, comparisons, strict=True):
            _draw_panel(panel, comparison)
        plot.suptitle(f"{_TITLE}. Lower left is better.", fontsize=14)
        panels[0].set_ylabel("mean delay, seconds (logarithmic)")
        panels[len(panels) // 2].set_xlabel("cost of waiting, US$ per 1,000 jobs (logarithmic)")
        handles, labels = panels[0].get_legend_handles_labels()
        plot.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        plot.draw_without_rendering()  # computes the layout that the places of the labels depend on
        plot.set_layout_engine("none")
        for panel, comparison in zip(panels, comparisons, strict=True):
            _label_points(panel, comparison)
        plot.savefig(svg, format="svg", metadata={"Title": _TITLE, "Creator": None, "Date": None})
        plt.close(plot)
    return svg.getvalue()


def _draw_panel(panel: Axes, comparison: Comparison) -> None:
    """Draw everything but the names of the points."""
    baselines, waterhook = comparison.baselines, [comparison.of(name) for name in _WATERHOOK]
    costs = [row.usd_per_1000 for row in (*baselines, *waterhook)]
    least_usd, most_usd = min(costs) / _COST_MARGIN, max(costs) * _COST_MARGIN
    panel.set_title(_JOBS[comparison.kind], loc="left", fontweight="bold")
    panel.set(xscale="log", yscale="log", xlim=(least_usd, most_usd), ylim=_DELAYS_S)
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_locator(NullLocator())
    panel.grid(color="#eceff3")
    _draw_points(panel, waterhook, color=_WATERHOOK_COLOUR, markersize=8, label="Waterhook")
    _draw_points(
        panel, baselines, color=_BASELINE_COLOUR, markersize=5, label="polling loops without Waterhook"
    )
    best = [row for row in baselines if not any(map(row.is_beaten_by, baselines))]
    best.sort(key=lambda row: row.usd_per_1000)
    panel.step(
        [*(row.usd_per_1000 for row in best), most_usd],
        [*(row.mean_s for row in best), best[-1].mean_s],
        where="post",
        color=_FRONTIER_COLOUR,
        label="best polling loops: no other is both faster and cheaper",
    )
    minimum = f"minimum delay: {EVENT_S:g} s until an event of the stream arrives"
    panel.axhline(EVENT_S, color=_LIMIT_COLOUR, linestyle="--", label=minimum)


def _draw_points(panel: Axes, rows: Sequence[Summary], **style: Any) -> None:
    costs, delays = [row.usd_per_1000 for row in rows], [row.mean_s for row in rows]
    panel.plot(costs, delays, linestyle="none", marker="o", zorder=3, **style)


def _label_points(panel: Axes, comparison: Comparison) -> None:
    """Write each strategy's name beside its point, where it overlaps the fewest points and other names."""
    rows = [(comparison.of(name), _WATERHOOK_COLOUR) for name in _WATERHOOK]
    rows += [(row, _BASELINE_COLOUR) for row in comparison.baselines]
    points = [(row.usd_per_1000, row.mean_s) for row, _ in rows]
    # A point is drawn within 4 pixels of its centre.
    occupied = [Bbox([xy - 4, xy + 4]) for xy in panel.transData.transform(points)]
    for point, (row, colour) in zip(points, rows, strict=True):
        # Two lines need less width. The white background covers grid and lines, but no point.
        name = row.name.replace(", ", ",\n")
        background = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0}
        label = panel.annotate(
            name,
            point,
            (0, 0),
            textcoords="offset points",
            color=colour,
            linespacing=1.0,
            bbox=background,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0},
            zorder=2.5,
        )

        def overlaps(place: dict[str, Any], label: Annotation = label) -> int:
            label.set(**place)
            box = _text_box(label)
            is_inside = panel.bbox.x0 <= box.x0 and box.x1 <= panel.bbox.x1
            return int(box.count_overlaps(occupied)) + (0 if is_inside else _OUTSIDE)

        label.set(**min(_PLACES, key=overlaps))
        occupied.append(_text_box(label))


def _text_box(label: Annotation) -> Bbox:
    """Return where the text of a label is, without the line to its point."""
    label.get_window_extent()  # updates the position
    return Text.get_window_extent(label)
