"""`python -m benchmarks.polling`: write its section of the report and the plot; fail when a target is missed."""

import os
import sys
from concurrent.futures import ProcessPoolExecutor

from benchmarks import document, target
from benchmarks.polling.comparison import FULL, SEEDS, compare, targets
from benchmarks.polling.plot import draw
from benchmarks.polling.report import render
from benchmarks.polling.workloads import Kind
from benchmarks.target import Target


def run() -> list[Target]:
    """Return the targets, after writing section and plot. The tables and the plot show the first seed."""
    # The longest ones first, so that all processors end at about the same time.
    runs = [(kind, FULL[kind], seed) for kind in (Kind.BATCH, Kind.FLOW, Kind.CHAT) for seed in SEEDS]
    with ProcessPoolExecutor(os.process_cpu_count()) as processes:
        compared = list(processes.map(compare, *zip(*runs, strict=True)))
    by_kind = [[each for each in compared if each.kind is kind] for kind in FULL]
    found = [target for comparisons in by_kind for target in targets(comparisons)]
    first = [comparisons[0] for comparisons in by_kind]
    document.put("polling", render(first, found))
    document.REPORT.with_name("frontier.svg").write_text(draw(first), encoding="utf-8")
    return found


if __name__ == "__main__":
    found = run()
    print("\n".join([*target.lines(found), "", str(document.REPORT), target.verdict(found)]))
    sys.exit(0 if all(each.held for each in found) else 1)
