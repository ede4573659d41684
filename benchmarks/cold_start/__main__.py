"""`python -m benchmarks.cold_start [ROUNDS]`: measures cold starts, writes a section of the report, prints targets."""

import os
import sys
import time

from benchmarks import document, target
from benchmarks.cold_start import folders, warm
from benchmarks.cold_start.measure import ROUNDS, THROTTLED_ROUNDS, event_for, measure
from benchmarks.cold_start.report import Findings, render, targets
from benchmarks.environment import environment_at
from benchmarks.target import Target
from local.local_aws.environment import ROOT, isolate
from local.local_aws.interrupts import EXIT_CODE

_HOME = ROOT / ".local" / "bench"
_POLLS, _FOLLOWS = 300, 20


def run(rounds: int = ROUNDS) -> list[Target]:
    """Measure, write the section and return the targets. Without Linux, measure nothing and return no targets."""
    if sys.platform != "linux":
        print("Cold start: not measured, because the runtime client of Lambda needs Linux.")
        return []
    isolate(os.environ)
    built = folders.prepared(_HOME)
    measured = measure(
        built, rounds=rounds, throttled_rounds=min(rounds, THROTTLED_ROUNDS), report=_report_progress
    )
    poll, follow = (event_for(name, time.time()) for name in ("poll", "follow"))
    env = environment_at("")
    findings = Findings(
        measured,
        overhead=warm.overhead(built.ours["poll"], poll, env, invocations=_POLLS, home=_HOME),
        polls=warm.reuse(built.ours["poll"], poll, env, invocations=_POLLS, home=_HOME),
        follows=warm.reuse(built.ours["follow"], follow, env, invocations=_FOLLOWS, home=_HOME),
        layer_bytes=folders.size_bytes(built.layer),
    )
    results = list(targets(findings))
    document.put("cold_start", render(findings, results))
    return results


def _report_progress(activity: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{activity}")


if __name__ == "__main__":
    try:
        results = run(int(sys.argv[1]) if sys.argv[1:] else ROUNDS)
    except KeyboardInterrupt:
        sys.exit(EXIT_CODE)
    print("\n".join([*target.lines(results), "", f"Report: {document.REPORT}", target.summary(results)]))
