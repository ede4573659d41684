"""`python -m benchmarks.webhooks`: deploys the stack, runs executions with webhooks, writes a section of the report."""

import argparse
import os
import sys

from benchmarks import document, target
from benchmarks.e2e.jobs import shorts
from benchmarks.target import Target
from benchmarks.webhooks.burst import burst
from benchmarks.webhooks.delay import measure
from benchmarks.webhooks.report import render, targets
from local.local_aws import environment, interrupts
from local.local_aws.deployment import STATE_DIR, LocalDeployment
from local.local_aws.errors import ToolError
from local.local_aws.stack_client import StackClient
from local.terminal import Terminal
from local.webhook_receiver.stack_receiver import receiver_for

DELAYS, EXECUTIONS = 20, 500
# A separate deployment, so the stack of `make up` is not affected. The intervals are the template's defaults.
_HOME = STATE_DIR / "bench-webhooks"
_PARAMETERS = {"ShortestWaitSeconds": "2", "LongestWaitSeconds": "30"}


def run(delays: int = DELAYS, executions: int = EXECUTIONS) -> list[Target]:
    """Run the benchmark, write its section and return the targets. Raises ToolError if a deployment fails."""
    environment.isolate(os.environ)
    terminal = Terminal()
    with (
        LocalDeployment(_HOME, parameters=_PARAMETERS, terminal=terminal) as outputs,
        StackClient(outputs) as stack,
    ):
        with (
            terminal.step(f"Run {delays} executions one after the other"),
            receiver_for(outputs) as receiver,
        ):
            measured = measure(stack, receiver, delays)
        with terminal.step(f"Run {executions} executions at the same time"):
            burst_result = burst(stack, shorts(executions))
    results = list(targets(measured, burst_result))
    document.put("webhooks", render(measured, burst_result, results))
    return results


def main(words: list[str]) -> int:
    """Return the exit code: 1 if a deployment failed, else 0."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.webhooks", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--delays", type=int, default=DELAYS)
    parser.add_argument("--executions", type=int, default=EXECUTIONS)
    arguments = parser.parse_args(words)
    try:
        results = run(arguments.delays, arguments.executions)
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
