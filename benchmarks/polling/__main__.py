"""`python -m benchmarks.polling`: writes a section of the report and the plot. Fails if a target is missed."""

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
    """Run the simulation, write section and plot, and return the targets. Tables and plot show the first seed."""
    # The longest runs first, so that all processors finish at about the same time.
    runs = [(kind, FULL[kind], seed) for kind in (Kind.BATCH, Kind.FLOW, Kind.CHAT) for seed in SEEDS]
    with ProcessPoolExecutor(os.process_cpu_count()) as processes:
        compared = list(processes.map(compare, *zip(*runs, strict=True)))
    by_kind = [[each for each in compared if each.kind is kind] for kind in FULL]
    results = [target for comparisons in by_kind for target in targets(comparisons)]
    first = [comparisons[0] for comparisons in by_kind]
    document.put("polling", render(first, results))
    document.REPORT.with_name("frontier.svg").write_text(draw(first), encoding="utf-8")
    return results


if __name__ == "__main__":
    results = run()
    print("\n".join([*target.lines(results), "", f"Report: {document.REPORT}", target.summary(results)]))
    sys.exit(0 if all(each.held for each in results) else 1)
