"""Unit tests find the bugs of `unit_mutations.py`, in code that no history runs."""

import os
import subprocess
import sys
from pathlib import Path

from tests.invariants.unit_mutations import UNIT_MUTATIONS

_ROOT = Path(__file__).parents[2]


def test_a_unit_test_fails_with_each_bug_in_code_that_no_history_runs() -> None:
    # In a process of its own: pytest does not run inside of pytest.
    table = subprocess.run(
        [sys.executable, "-m", "tests.invariants.unit_mutations"],
        cwd=_ROOT,
        env=os.environ | {"PYTHONPATH": str(_ROOT / "layers" / "waterhook")},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    tests = [line.split()[-1] for line in table.splitlines()]
    assert len(tests) == len(UNIT_MUTATIONS)
    assert all(test.startswith("test_") for test in tests), table


def test_each_subpackage_that_histories_replace_in_part_has_a_bug() -> None:
    subpackages = {mutation.module.split(".")[1] for mutation in UNIT_MUTATIONS}
    assert subpackages == {"domain", "observability", "upstream", "webhooks"}
