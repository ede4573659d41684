"""What holds for every test: no account of the user's is in reach, and no stack outlives the run."""

import os
import signal
from pathlib import Path
from types import FrameType

import pytest

from local.local_aws import environment
from local.local_aws.deployment import LocalDeployment, end_abandoned_deployments, state_dir_of_tests
from tests.support.example_counts import summarize_examples

_HOME = "WATERHOOK_TEST_STACK"
_E2E = Path(__file__).parent / "e2e"
_QUICK = [Path(__file__).parent / "unit" / folder for folder in ("domain", "upstream", "waterhook_cli")]


def pytest_configure(config: pytest.Config) -> None:
    environment.isolate(os.environ)
    if _is_worker(config):
        return
    # One stack for the whole run, with or without workers: they inherit its place, the first to need it
    # starts it, and this process ends it.
    os.environ[_HOME] = str(state_dir_of_tests(os.getpid()))
    signal.signal(signal.SIGTERM, _interrupt)
    end_abandoned_deployments()


def pytest_unconfigure(config: pytest.Config) -> None:
    if _is_worker(config):
        return
    home = Path(os.environ[_HOME])
    # Beside it there may be one deployed with other parameters.
    for started in [*home.parent.glob(home.name), *home.parent.glob(f"{home.name}-*")]:
        LocalDeployment(started).down()  # its logs stay until the next run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much bad input was tried, and what came of it."""
    reports = [report for some in terminalreporter.stats.values() for report in some]
    told = [item for report in reports for item in getattr(report, "user_properties", ())]
    if lines := summarize_examples(told):
        terminalreporter.section("bad input")
        terminalreporter.write_line("\n".join(lines))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if _E2E in item.path.parents:
            item.add_marker(pytest.mark.e2e)
    if _is_worker(config):
        items[:] = dealt(items, hands=int(config.workerinput["workercount"]))  # type: ignore[attr-defined]


def dealt(items: list[pytest.Item], hands: int) -> list[pytest.Item]:
    """Return the tests in the order in which xdist gives them to workers: to each one part in `4 * hands` first.

    Tests that wait for a deployed stack come first, on two workers: a test that needs follow concurrency of the shared
    stack must not run beside one that takes all of it. Quick tests fill up their parts. The other tests keep the
    processor busy meanwhile.
    """
    if hands == 1:
        return items
    following = [item for item in items if item.path.stem in _FOLLOWING and not _polls(item)]
    other_stacks = [item for item in items if _E2E in item.path.parents and item not in following]
    quick = [item for item in items if any(folder in item.path.parents for folder in _QUICK)]
    order: list[pytest.Item] = []
    for waiting in (following, other_stacks):
        room = max(len(items) // hands // 4 - len(waiting), 0)
        order += [*waiting, *quick[:room]]
        del quick[:room]
    dealt_out = set(order)
    return order + [item for item in items if item not in dealt_out]


_FOLLOWING = {"test_faults", "test_triggers", "test_outcomes", "test_guarantees"}


def _polls(item: pytest.Item) -> bool:
    """Whether a test is about the stack that only polls, which is another one."""
    fixtures = getattr(item, "fixturenames", ())
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return "polling_stack" in fixtures or parameters.get("either_stack") == "poll"


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
