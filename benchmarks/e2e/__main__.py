"""`python -m benchmarks.e2e`: deploys stack and poller, runs jobs, writes a section of the report, prints targets."""

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
from local.local_aws import environment, interrupts
from local.local_aws.deployment import STATE_DIR, LocalDeployment
from local.local_aws.errors import ToolError
from local.local_aws.stack_client import StackClient
from local.terminal import Terminal

JOBS, EXECUTIONS = 16, 500
# A separate deployment, so the stack of `make up` is not affected. The intervals are the template's defaults.
_HOME = STATE_DIR / "bench-stack"
_PARAMETERS = {"ShortestWaitSeconds": "2", "LongestWaitSeconds": "30"}


def run(jobs: int = JOBS, executions: int = EXECUTIONS) -> list[Target]:
    """Run the benchmark, write its section and return the targets. Raises ToolError if a deployment fails."""
    environment.isolate(os.environ)
    terminal = Terminal()
    with (
        LocalDeployment(_HOME, parameters=_PARAMETERS, terminal=terminal) as outputs,
        StackClient(outputs) as stack,
    ):
        with terminal.step("Deploy the job poller to compare with"):
            poller = StatusPoller(stack, _HOME)
        with terminal.step(f"Run {jobs} jobs with both"):
            warm_up(stack, poller)
            pairs = compare(stack, poller, chats(jobs))
        with terminal.step(f"Run {executions} executions at the same time"):
            burst_result = burst(stack, shorts(executions))
    results = list(targets(pairs, burst_result))
    document.put("e2e", render(pairs, burst_result, results))
    return results


def main(words: list[str]) -> int:
    """Return the exit code: 1 if a deployment failed, else 0."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.e2e", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--executions", type=int, default=EXECUTIONS)
    arguments = parser.parse_args(words)
    try:
        results = run(arguments.jobs, arguments.executions)
    except ToolError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    print("\n".join([*target.lines(results), "", f"Report: {document.REPORT}", target.summary(results)]))
    return 0


if __name__ == "__main__":
    interrupts.install()
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(interrupts.EXIT_CODE)
