"""What holds for every test: no account of the user's is in reach, and no stack outlives the run."""

import os
import signal
from pathlib import Path
from types import FrameType

import pytest

from local.runner import environment
from local.runner.stack import LocalStack, end_abandoned, home_of_tests
from tests.support.tried import account

_HOME = "WATERHOOK_TEST_STACK"
_E2E = Path(__file__).parent / "e2e"


def pytest_configure(config: pytest.Config) -> None:
    environment.isolate(os.environ)
    if _is_worker(config):
        return
    # One stack for the whole run, with or without workers: they inherit its place, the first to need it
    # starts it, and this process ends it.
    os.environ[_HOME] = str(home_of_tests(os.getpid()))
    signal.signal(signal.SIGTERM, _interrupt)
    end_abandoned()


def pytest_unconfigure(config: pytest.Config) -> None:
    if _is_worker(config):
        return
    home = Path(os.environ[_HOME])
    # Beside it there may be one deployed with other parameters.
    for started in [*home.parent.glob(home.name), *home.parent.glob(f"{home.name}-*")]:
        LocalStack(started).down()  # its logs stay until the next run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much bad input was tried, and what came of it."""
    reports = [report for some in terminalreporter.stats.values() for report in some]
    told = [item for report in reports for item in getattr(report, "user_properties", ())]
    if lines := account(told):
        terminalreporter.section("bad input")
        terminalreporter.write_line("\n".join(lines))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _E2E in item.path.parents:
            item.add_marker(pytest.mark.e2e)


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
