"""`python -m benchmarks.e2e`: deploy both, write its section of the report, say which targets hold."""

import argparse
import os
import sys

from benchmarks import document, target
from benchmarks.e2e.burst import burst
from benchmarks.e2e.compare import compare, warm_up
from benchmarks.e2e.jobs import chats, shorts
from benchmarks.e2e.poller import StatusPoller
from benchmarks.e2e.report import render, targets
from benchmarks.target import Target
from local.runner import environment, interrupts
from local.runner.client import StackClient
from local.runner.errors import RunnerError
from local.runner.screen import Screen
from local.runner.stack import HOME, LocalStack

JOBS, EXECUTIONS = 16, 500
# A place of its own: `make up`'s stack is left alone. The waits are the template's, not the demo's.
_HOME = HOME / "bench-stack"
_PARAMETERS = {"ShortestWaitSeconds": "2", "LongestWaitSeconds": "30"}


def run(jobs: int = JOBS, executions: int = EXECUTIONS) -> list[Target]:
    """Return the targets after writing the section. Raises RunnerError when a stack doesn't come up."""
    environment.isolate(os.environ)
    screen = Screen()
    with (
        LocalStack(_HOME, parameters=_PARAMETERS, screen=screen) as outputs,
        StackClient(outputs) as stack,
    ):
        with screen.step("Deploy the peer"):
            poller = StatusPoller(stack, _HOME)
        with screen.step(f"Run {jobs} jobs through both"):
            warm_up(stack, poller)
            pairs = compare(stack, poller, chats(jobs))
        with screen.step(f"Run {executions} executions at once"):
            storm = burst(stack, shorts(executions))
    found = list(targets(pairs, storm))
    document.put("e2e", render(pairs, storm, found))
    return found


def main(words: list[str]) -> int:
    """The exit code: 0 unless a stack did not come up."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.e2e", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--executions", type=int, default=EXECUTIONS)
    arguments = parser.parse_args(words)
    try:
        found = run(arguments.jobs, arguments.executions)
    except RunnerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    print("\n".join([*target.lines(found), "", str(document.REPORT), target.verdict(found)]))
    return 0


if __name__ == "__main__":
    interrupts.install()
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(interrupts.EXIT_CODE)
