"""`python -m benchmarks`: all of them, into one report. Fails when a target of the simulation is missed."""

import sys
from collections.abc import Callable

from benchmarks import document, target
from benchmarks.cold_start.__main__ import run as cold_start
from benchmarks.e2e.__main__ import run as e2e
from benchmarks.polling.__main__ import run as polling
from benchmarks.target import Target
from local.local_aws import interrupts
from local.local_aws.errors import ToolError


def main() -> int:
    """Return 1 when a target of the simulation is missed, else 0: what is timed varies with the machine."""
    simulated = _told("Waiting, simulated", polling)
    found = [*simulated, *_told("Cold start", cold_start), *_told("End to end", e2e)]
    print(f"\n{document.REPORT}\n{target.verdict(found)}")
    return 0 if all(each.held for each in simulated) else 1


def _told(title: str, benchmark: Callable[[], list[Target]]) -> list[Target]:
    print(f"\n{title}")
    found = benchmark()
    print("\n".join(target.lines(found)))
    return found


if __name__ == "__main__":
    interrupts.install()
    try:
        sys.exit(main())
    except ToolError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(interrupts.EXIT_CODE)
