"""`python -m benchmarks.e2e`: deploys stack and poller, runs jobs, writes a section of the report, prints targets."""

from benchmarks import document, stack_benchmark
from benchmarks.e2e.burst import burst
from benchmarks.e2e.compare import compare, warm_up
from benchmarks.e2e.jobs import chats, shorts
from benchmarks.e2e.poller import StatusPoller
from benchmarks.e2e.report import render, targets
from benchmarks.target import Target
from local.terminal import Terminal

JOBS, EXECUTIONS = 16, 500
_STACK = "stack"


def run(jobs: int = JOBS, executions: int = EXECUTIONS) -> list[Target]:
    """Run the benchmark, write its section and return the targets. Raises ToolError if a deployment fails."""
    terminal = Terminal()
    with stack_benchmark.deployed(_STACK, terminal) as stack:
        with terminal.step("Deploy the job poller to compare with"):
            poller = StatusPoller(stack, stack_benchmark.home_of(_STACK))
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
    return stack_benchmark.command("e2e", __doc__, run, words, jobs=JOBS, executions=EXECUTIONS)


if __name__ == "__main__":
    stack_benchmark.exit_with(main)
