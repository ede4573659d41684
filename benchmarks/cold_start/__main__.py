"""`python -m benchmarks.cold_start [ROUNDS]`: write its section of the report, say which targets hold."""

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
    """Return the targets after writing the section; none where there is no Linux, which the runtime client is for."""
    if sys.platform != "linux":
        print("cold start: not measured, Lambda's runtime client is for Linux")
        return []
    isolate(os.environ)
    built = folders.prepared(_HOME)
    measured = measure(built, rounds=rounds, throttled_rounds=min(rounds, THROTTLED_ROUNDS), tell=_tell)
    poll, follow = (event_for(name, time.time()) for name in ("poll", "follow"))
    env = environment_at("")
    findings = Findings(
        measured,
        overhead=warm.overhead(built.ours["poll"], poll, env, invocations=_POLLS, home=_HOME),
        polls=warm.reuse(built.ours["poll"], poll, env, invocations=_POLLS, home=_HOME),
        follows=warm.reuse(built.ours["follow"], follow, env, invocations=_FOLLOWS, home=_HOME),
        layer_bytes=folders.size_bytes(built.layer),
    )
    found = list(targets(findings))
    document.put("cold_start", render(findings, found))
    return found


def _tell(doing: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{doing}")


if __name__ == "__main__":
    try:
        found = run(int(sys.argv[1]) if sys.argv[1:] else ROUNDS)
    except KeyboardInterrupt:
        sys.exit(EXIT_CODE)
    print("\n".join([*target.lines(found), "", str(document.REPORT), target.verdict(found)]))
