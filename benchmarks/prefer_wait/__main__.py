"""`python -m benchmarks.prefer_wait`: deploys the stack, sends requests that wait, writes a section of the report."""

from benchmarks import document, stack_benchmark
from benchmarks.prefer_wait.crowd import crowd
from benchmarks.prefer_wait.delay import measure
from benchmarks.prefer_wait.report import render, targets
from benchmarks.target import Target
from local.terminal import Terminal

DELAYS, CALLERS = 30, 100
# The default of MaxWaiters.
_PLACES = 5


def run(delays: int = DELAYS, callers: int = CALLERS) -> list[Target]:
    """Run the benchmark, write its section and return the targets. Raises ToolError if a deployment fails."""
    terminal = Terminal()
    with stack_benchmark.deployed("prefer-wait", terminal) as stack:
        with terminal.step(f"Run {delays} executions one after the other"):
            measured = measure(stack, delays)
        with terminal.step(f"Send {callers} requests at the same time"):
            crowd_result = crowd(stack, callers, _PLACES)
    results = list(targets(measured, crowd_result, _PLACES))
    section = render(measured, crowd_result, results)
    document.put("prefer_wait", section)
    print(section)
    return results


def main(words: list[str]) -> int:
    """Return the exit code: 1 if a deployment failed, else 0."""
    return stack_benchmark.command("prefer_wait", __doc__, run, words, delays=DELAYS, callers=CALLERS)


if __name__ == "__main__":
    stack_benchmark.exit_with(main)
