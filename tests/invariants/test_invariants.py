"""Every invariant is true of 10,000 histories, and each bug of `mutations.py` violates one. See README.md."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.invariants.invariants import Invariant
from tests.invariants.mutations import MUTATIONS, SEEDS, SUBPACKAGES, Mutation
from tests.invariants.scheduler import Scheduler
from tests.invariants.search import Counterexample, find_counterexample, run_history, simplify
from tests.invariants.simulation import Components

# Small enough for the workers of pytest-xdist to share the histories evenly.
_BATCH = 500
_ID = re.compile("[0-9a-f]{32}")


def _report(counterexample: Counterexample | None) -> str:
    """Return the violations of the simplest history that can be found, and the command that runs it again."""
    if counterexample is None:
        return ""
    simplest = simplify(counterexample, Components())
    return "\n".join(
        [
            *map(str, simplest.violations),
            f"seed: {counterexample.seed}",
            f"choices: {simplest.choices.hex()}",
            "to run it again: PYTHONPATH=layers/waterhook python -m tests.invariants.search (seed or choices)",
        ]
    )


@pytest.mark.parametrize("first_seed", range(0, len(SEEDS), _BATCH))
def test_every_invariant_is_true_of_every_history(
    first_seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    counterexample = find_counterexample(range(first_seed, first_seed + _BATCH), Components())
    assert counterexample is None, _report(counterexample)
    with capsys.disabled():
        print(f" [{_BATCH} histories from seed {first_seed}] ", end="")  # noqa: T201 - shows that they ran


@settings(max_examples=300)
@given(st.binary(min_size=60, max_size=400))
def test_every_invariant_is_true_of_the_histories_that_hypothesis_chooses(choices: bytes) -> None:
    scheduler = Scheduler()
    try:
        assert run_history(choices, scheduler, Components()) == []
    finally:
        scheduler.close()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.bug)
def test_a_bug_violates_its_invariant(mutation: Mutation) -> None:
    assert mutation.find([mutation.found_by_seed]) or mutation.find(SEEDS)


def test_each_invariant_is_violated_by_a_bug() -> None:
    assert {mutation.violates for mutation in MUTATIONS} == set(Invariant)


def test_each_subpackage_that_a_history_runs_has_a_bug() -> None:
    assert set().union(*(mutation.subpackages for mutation in MUTATIONS)) == set(SUBPACKAGES)


def test_a_counterexample_is_simplified_and_can_be_run_again() -> None:
    mutation = next(one for one in MUTATIONS if one.violates is Invariant.OUTCOME_IS_FINAL)
    counterexample = mutation.find(SEEDS)
    assert counterexample is not None
    simplest = simplify(counterexample, mutation.components)
    assert sum(simplest.choices) < sum(counterexample.choices)
    scheduler = Scheduler()
    first, second = (
        _without_ids(run_history(simplest.choices, scheduler, mutation.components)) for _ in range(2)
    )
    scheduler.close()
    assert first == second == _without_ids(simplest.violations)


def _without_ids(violations: object) -> str:
    """Return violations as text without execution ids: without an idempotency key the API chooses a random id."""
    return _ID.sub("id", str(violations))
