"""The fixture that starts processes and ends them after the test."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.local_aws import processes
from local.local_aws.processes import ChildProcess
from tests.unit.local.local_aws.children import Start


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    children: list[ChildProcess] = []

    def start(code: str) -> ChildProcess:
        log = tmp_path / f"{len(children)}.log"
        child = processes.start_process("fake", [sys.executable, "-c", code], env={}, cwd=tmp_path, log=log)
        children.append(child)
        return child

    yield start
    for child in children:
        child.popen.kill()
        child.popen.wait()
