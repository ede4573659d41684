"""The plot of the report: mean delay against cost on logarithmic axes, one panel per kind of job."""

from collections.abc import Sequence
from io import StringIO
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
from matplotlib.transforms import Bbox

from benchmarks.polling.comparison import FOLLOW, FOLLOW_FEW, OFF, Comparison
from benchmarks.polling.waited import EVENT_S, Summary
from benchmarks.polling.workloads import BATCH_S, MEDIAN_S, Kind

_TITLE = "Delay from the end of a job to its detection, against the cost of waiting for it"
_JOBS = {
    Kind.CHAT: f"chat: median {MEDIAN_S[Kind.CHAT]:g} s",
    Kind.FLOW: f"flow: median {MEDIAN_S[Kind.FLOW]:g} s",
    Kind.BATCH: f"batch: {BATCH_S[0] / 60:g} min to {BATCH_S[1] / 3600:g} h",
}
_OURS = {FOLLOW: "follow all jobs", FOLLOW_FEW: "follow 10 of 100 jobs", OFF: "follow none"}
_OURS_COLOUR, _BASELINE_COLOUR, _FRONTIER_COLOUR, _LIMIT_COLOUR = "#0b6bcb", "#6b717a", "#b5bbc4", "#c0392b"
_DELAYS_S = (0.03, 300.0)
# The axis extends from the lowest cost divided by this to the highest cost times this.
_COST_MARGIN = 2
# Where a name may be: its offset from the point in points (1/72 inch), and its alignment.
_PLACES = tuple(
    {"position": (x, y), "ha": ha, "va": va}
    for x, y, ha, va in (
        (5, 4, "left", "bottom"),
        (5, -4, "left", "top"),
        (-5, 4, "right", "bottom"),
        (-5, -4, "right", "top"),
        (7, 0, "left", "center"),
        (-7, 0, "right", "center"),
        (0, 7, "center", "bottom"),
        (0, -7, "center", "top"),
    )
)


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
        figure = Figure(figsize=(15, 6), dpi=72, layout="constrained")
        panels = figure.subplots(ncols=len(comparisons), sharey=True, squeeze=False)[0]
        for panel, comparison in zip(panels, comparisons, strict=True):
            _draw_panel(panel, comparison)
        figure.suptitle(f"{_TITLE}. Lower left is better.", fontsize=14)
        panels[0].set_ylabel("mean delay, seconds (logarithmic)")
        panels[len(panels) // 2].set_xlabel("cost of waiting, US$ per 1,000 jobs (logarithmic)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        figure.draw_without_rendering()  # computes the layout that the places of the labels depend on
        for panel, comparison in zip(panels, comparisons, strict=True):
            _label_points(panel, comparison)
        figure.savefig(svg, format="svg", metadata={"Title": _TITLE, "Creator": None, "Date": None})
    return svg.getvalue()


def _draw_panel(panel: Axes, comparison: Comparison) -> None:
    """Draw everything but the names of the points."""
    baselines, ours = comparison.baselines, [comparison.of(name) for name in _OURS]
    costs = [row.usd_per_1000 for row in (*baselines, *ours)]
    least_usd, most_usd = min(costs) / _COST_MARGIN, max(costs) * _COST_MARGIN
    panel.set_title(_JOBS[comparison.kind], loc="left", fontweight="bold")
    panel.set(xscale="log", yscale="log", xlim=(least_usd, most_usd), ylim=_DELAYS_S)
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_locator(NullLocator())
    panel.grid(color="#eceff3")
    _draw_points(panel, ours, color=_OURS_COLOUR, markersize=8, label="Waterhook")
    _draw_points(
        panel, baselines, color=_BASELINE_COLOUR, markersize=5, label="polling loop without Waterhook"
    )
    best = [row for row in baselines if not any(map(row.is_beaten_by, baselines))]
    best.sort(key=lambda row: row.usd_per_1000)
    panel.step(
        [*(row.usd_per_1000 for row in best), most_usd],
        [*(row.mean_s for row in best), best[-1].mean_s],
        where="post",
        color=_FRONTIER_COLOUR,
        label="best of the polling loops",
    )
    soonest = f"soonest possible: an event of the stream arrives after {EVENT_S:g} s"
    panel.axhline(EVENT_S, color=_LIMIT_COLOUR, linestyle="--", label=soonest)


def _draw_points(panel: Axes, rows: Sequence[Summary], **style: Any) -> None:
    costs, delays = [row.usd_per_1000 for row in rows], [row.mean_s for row in rows]
    panel.plot(costs, delays, linestyle="none", marker="o", zorder=3, **style)


def _label_points(panel: Axes, comparison: Comparison) -> None:
    """Write each strategy's name beside its point, where it covers the fewest points and other names."""
    rows = [(comparison.of(name), label, _OURS_COLOUR) for name, label in _OURS.items()]
    rows += [(row, row.name, _BASELINE_COLOUR) for row in comparison.baselines]
    points = [(row.usd_per_1000, row.mean_s) for row, _, _ in rows]
    # A point is drawn within 4 pixels of its centre.
    taken = [Bbox([xy - 4, xy + 4]) for xy in panel.transData.transform(points)]
    for point, (_, name, colour) in zip(points, rows, strict=True):
        label = panel.annotate(name, point, (0, 0), textcoords="offset points", color=colour)

        def covers(place: dict[str, Any], label: Annotation = label) -> int:
            label.set(**place)
            box = label.get_window_extent()
            is_inside = panel.bbox.x0 <= box.x0 and box.x1 <= panel.bbox.x1
            return int(box.count_overlaps(taken)) + (not is_inside)

        label.set(**min(_PLACES, key=covers))
        taken.append(label.get_window_extent())
