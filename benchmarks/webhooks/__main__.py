"""`python -m benchmarks.webhooks`: deploys the stack, runs executions with webhooks, writes a section of the report."""

from benchmarks import document, stack_benchmark
from benchmarks.e2e.jobs import shorts
from benchmarks.target import Target
from benchmarks.webhooks.burst import burst
from benchmarks.webhooks.delay import measure
from benchmarks.webhooks.report import render, targets
from local.terminal import Terminal
from local.webhook_receiver.stack_receiver import receiver_for

DELAYS, EXECUTIONS = 20, 500


def run(delays: int = DELAYS, executions: int = EXECUTIONS) -> list[Target]:
    """Run the benchmark, write its section and return the targets. Raises ToolError if a deployment fails."""
    terminal = Terminal()
    with stack_benchmark.deployed("webhooks", terminal) as stack:
        with (
            terminal.step(f"Run {delays} executions one after the other"),
            receiver_for(stack.outputs) as receiver,
        ):
            measured = measure(stack, receiver, delays)
        with terminal.step(f"Run {executions} executions at the same time"):
            burst_result = burst(stack, shorts(executions))
    results = list(targets(measured, burst_result))
    document.put("webhooks", render(measured, burst_result, results))
    return results


def main(words: list[str]) -> int:
    """Return the exit code: 1 if a deployment failed, else 0."""
    return stack_benchmark.command("webhooks", __doc__, run, words, delays=DELAYS, executions=EXECUTIONS)


if __name__ == "__main__":
    stack_benchmark.exit_with(main)
