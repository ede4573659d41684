"""`python -m benchmarks.polling`: write its section of the report and the plot; fail when a target is missed."""

import sys

from benchmarks import document, target
from benchmarks.polling.comparison import FULL, compare, targets
from benchmarks.polling.plot import draw
from benchmarks.polling.report import render
from benchmarks.target import Target


def run() -> list[Target]:
    """Return the targets, after writing section and plot."""
    comparisons = [compare(kind, count) for kind, count in FULL.items()]
    found = [target for comparison in comparisons for target in targets(comparison)]
    document.put("polling", render(comparisons, found))
    document.REPORT.with_name("frontier.svg").write_text(draw(comparisons), encoding="utf-8")
    return found


if __name__ == "__main__":
    found = run()
    print("\n".join([*target.lines(found), "", str(document.REPORT), target.verdict(found)]))
    sys.exit(0 if all(each.held for each in found) else 1)
