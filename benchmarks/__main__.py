"""`python -m benchmarks`: run all benchmarks and write one report. Fails if a target of the simulation is missed."""

import sys
from collections.abc import Callable

from benchmarks import document, target
from benchmarks.cold_start.__main__ import run as cold_start
from benchmarks.e2e.__main__ import run as e2e
from benchmarks.polling.__main__ import run as polling
from benchmarks.prefer_wait.__main__ import run as prefer_wait
from benchmarks.target import Target
from benchmarks.webhooks.__main__ import run as webhooks
from local.local_aws import interrupts
from local.local_aws.errors import ToolError


def main() -> int:
    """Return 1 if a target of the simulation is missed, else 0. Targets of timed benchmarks depend on the machine."""
    simulated = _run("Waiting, simulated", polling)
    timed = [
        *_run("Cold start", cold_start),
        *_run("End to end", e2e),
        *_run("Webhooks", webhooks),
        *_run("Callers that wait", prefer_wait),
    ]
    results = [*simulated, *timed]
    print(f"\nReport: {document.REPORT}\n{target.summary(results)}")
    return 0 if all(each.held for each in simulated) else 1


def _run(title: str, benchmark: Callable[[], list[Target]]) -> list[Target]:
    print(f"\n{title}")
    results = benchmark()
    print("\n".join(target.lines(results)))
    return results


if __name__ == "__main__":
    interrupts.install()
    try:
        sys.exit(main())
    except ToolError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(interrupts.EXIT_CODE)
