"""What the benchmarks of a deployed stack share: its deployment, and their command line."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import document, target
from benchmarks.target import Target
from local.local_aws import environment, interrupts
from local.local_aws.deployment import STATE_DIR, LocalDeployment
from local.local_aws.errors import ToolError
from local.local_aws.stack_client import StackClient
from local.terminal import Terminal

# The intervals are the template's defaults.
_PARAMETERS = {"ShortestWaitSeconds": "2", "LongestWaitSeconds": "30"}


def home_of(name: str) -> Path:
    """Return the folder of a benchmark's own deployment, so that the stack of `make up` is not affected."""
    return STATE_DIR / f"bench-{name}"


@contextmanager
def deployed(name: str, terminal: Terminal) -> Iterator[StackClient]:
    """Deploy a stack for the block. Raises ToolError if the deployment fails."""
    environment.isolate(os.environ)
    with (
        LocalDeployment(home_of(name), parameters=_PARAMETERS, terminal=terminal) as outputs,
        StackClient(outputs) as stack,
    ):
        yield stack


def command(
    name: str, doc: str | None, run: Callable[..., Sequence[Target]], words: Sequence[str], **counts: int
) -> int:
    """Run a benchmark from the command line. Return the exit code: 1 if a deployment failed, else 0.

    `doc` is the docstring of its module. `counts` are the keyword arguments of `run` and options of the command, with
    their defaults.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}", description=(doc or "").split("\n")[0]
    )
    for option, default in counts.items():
        parser.add_argument(f"--{option}", type=int, default=default)
    try:
        results = run(**vars(parser.parse_args(words)))
    except ToolError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    print("\n".join([*target.lines(results), "", f"Report: {document.REPORT}", target.summary(results)]))
    return 0


def exit_with(main: Callable[[list[str]], int]) -> None:
    """Exit with the result of a benchmark's `main`, also after Ctrl+C."""
    interrupts.install()
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(interrupts.EXIT_CODE)
