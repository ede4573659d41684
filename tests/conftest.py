"""For all tests: no access to an AWS account of the user, no stack after the run, and the order of the tests."""

import os
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from xdist.scheduler import WorkStealingScheduling  # type: ignore[import-untyped]

from local.local_aws import environment
from local.local_aws.deployment import LocalDeployment, end_abandoned_deployments, state_dir_of_tests
from tests.support.example_counts import summarize_examples

_HOME = "WATERHOOK_TEST_STACK"
_E2E = Path(__file__).parent / "e2e"


def pytest_configure(config: pytest.Config) -> None:
    environment.isolate(os.environ)
    if _is_worker(config):
        return
    # The workers inherit this folder and share the stacks in it. The first test that needs a stack starts it, and this
    # process ends it.
    os.environ[_HOME] = str(state_dir_of_tests(os.getpid()))
    signal.signal(signal.SIGTERM, _interrupt)
    end_abandoned_deployments()


def pytest_unconfigure(config: pytest.Config) -> None:
    if _is_worker(config):
        return
    home = Path(os.environ[_HOME])
    # The other folders have stacks with other parameters.
    for started in [*home.parent.glob(home.name), *home.parent.glob(f"{home.name}-*")]:
        LocalDeployment(started).down()  # the logs stay until the next run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many invalid inputs the tests used, with the results."""
    reports = [report for group in terminalreporter.stats.values() for report in group]
    properties = [item for report in reports for item in getattr(report, "user_properties", ())]
    if lines := summarize_examples(properties):
        terminalreporter.section("bad input")
        terminalreporter.write_line("\n".join(lines))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if _E2E in item.path.parents:
            item.add_marker(pytest.mark.e2e)
    if _is_worker(config):
        items[:] = order_for_workers(items, int(config.workerinput["workercount"]))  # type: ignore[attr-defined]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> WorkStealingScheduling:
    """Give each worker one slice of the tests. A worker that is done takes half of the rest of another one."""
    return WorkStealingScheduling(config, log)


def order_for_workers(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """Return the tests in an order in which each worker's slice begins with tests on deployed stacks.

    These tests wait most of the time, so the longest ones start first. The last worker's slice has none of them, unless
    there are few others, to keep the processor busy meanwhile.
    """
    deployed = [item for item in items if _E2E in item.path.parents]
    others = [item for item in items if _E2E not in item.path.parents]
    sizes = [len(items) // workers + (worker >= workers - len(items) % workers) for worker in range(workers)]
    heads: list[list[pytest.Item]] = [[] for _ in range(workers)]
    waiting = heads[:-1] if len(others) > sizes[0] else heads
    for unit in sorted(_units(deployed), key=_expected_s, reverse=True):
        with_room = [
            head for head, size in zip(waiting, sizes, strict=False) if len(head) + len(unit) <= size
        ]
        min(with_room or waiting, key=_expected_s).extend(unit)
    order: list[pytest.Item] = []
    for head, size in zip(heads, sizes, strict=True):
        room = max(size - len(head), 0)
        order += [*head, *others[:room]]
        del others[:room]
    return order


def _units(items: list[pytest.Item]) -> list[list[pytest.Item]]:
    """Return what is given to one worker together: each test, and those that may only run one after the other."""
    exclusive = [item for item in items if "strict" in getattr(item, "fixturenames", ())]
    return [exclusive, *([item] for item in items if item not in exclusive)]


def _expected_s(items: list[pytest.Item]) -> float:
    """Return how long the tests take together."""
    return sum(next((s for part, s in _TEST_S.items() if part in item.nodeid), 3) for item in items)


# Seconds that a test takes, by a part of its node id. Rough numbers are enough.
_TEST_S = {
    "test_upgrade": 100,
    "test_faults.py::test_each_fault": 75,
    "test_memory": 40,
    "test_webhook_faults": 35,
    "test_secrecy": 25,
    "test_outcomes": 20,
    "test_smoke": 15,
    "test_interrupted_deployment": 10,
    "test_permissions": 10,
    "test_webhook_load": 10,
    "test_webhooks": 5,
    "test_generated_client": 5,
    "test_recipes": 8,
    "test_demo": 7,
}


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
