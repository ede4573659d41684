"""Loop state: the JSON that the steps of the state machine pass to each other."""

import json

from hypothesis import given
from hypothesis import strategies as st

from tests.support import builders
from waterhook.domain.loop_state import LoopState, NextStep
from waterhook.domain.poll_history import PollHistory
from waterhook.domain.status import Status
from waterhook.domain.stream_history import StreamHistory
from waterhook.text import MAX_MESSAGE_CHARS

finite = st.floats(0, 4e9)

counts = st.integers(0, 10_000)

histories = st.builds(
    PollHistory,
    started_at=finite,
    status_requests=counts,
    errors=counts,
    retry_after_s=st.none() | finite,
    not_found=counts,
    not_found_since=st.none() | finite,
    progress=st.none() | st.floats(0, 100),
    progress_at=st.none() | finite,
    first_progress=st.none() | st.floats(0, 100),
    first_progress_at=st.none() | finite,
    cleanup_after=st.none() | finite,
    cancels=counts,
)

streams = st.builds(
    StreamHistory,
    delivered=st.booleans(),
    event_at=st.none() | finite,
    final_event_at=st.none() | finite,
    failures=counts,
    reopens_at=st.none() | finite,
)

states = st.builds(
    LoopState,
    execution_id=st.text(min_size=1),
    deadline=finite,
    history=histories,
    stream=streams,
    waterflai_execution_id=st.none() | st.text(min_size=1),
    unsaved=st.booleans(),
    outcome=st.sampled_from(Status),
    next=st.sampled_from(NextStep),
    wait_seconds=st.integers(0, 3600),
    error=st.none() | st.fixed_dictionaries({"code": st.text(), "message": st.text()}),
    result=st.dictionaries(st.sampled_from(["output_ref", "final_output_json", "output_error"]), st.text()),
)


@given(states)
def test_a_state_is_unchanged_after_it_was_written_and_read_as_json(state: LoopState) -> None:
    assert LoopState.from_dict(json.loads(json.dumps(state.to_dict()))) == state


@given(states)
def test_every_state_has_the_fields_that_the_state_machine_reads(state: LoopState) -> None:
    assert {"v", "outcome", "next", "wait_seconds", "history", "execution_id", "deadline"} <= set(
        state.to_dict()
    )


def test_unknown_fields_of_a_newer_version_are_ignored() -> None:
    state = builders.running_state(unsaved=True).to_dict()
    state |= {"v": 7, "brand_new": [1]}
    state["history"] |= {"also_new": {}}
    job = LoopState.from_dict(state)
    assert (job.unsaved, job.v) == (True, 7)


def test_a_state_with_the_fields_that_a_catch_adds_can_be_read() -> None:
    state = builders.running_state().to_dict() | {
        "fault": "Lambda.Unknown",
        "outcome": "ERROR",
        "next": "notify",
    }
    assert LoopState.from_dict(state).outcome is Status.ERROR


def test_reading_a_state_does_not_change_it() -> None:
    state = builders.running_state().to_dict()
    before = json.dumps(state)
    LoopState.from_dict(state)
    assert json.dumps(state) == before


def test_a_running_state_is_smaller_than_4_kib() -> None:
    large = builders.running_state(
        waterflai_execution_id="🙂" * 200,
        history=PollHistory(*(123_456_789.123456 for _ in range(12))),  # type: ignore[arg-type]
    )
    assert len(json.dumps(large.to_dict())) < 4 * 1024


def test_a_job_with_an_outcome_goes_to_notify_with_a_clipped_message() -> None:
    job = builders.running_state(next=NextStep.WAIT, wait_seconds=9).ended(
        Status.FAILED, code="failed", message="a\nb\x00" + "c" * 5000
    )
    assert (job.next, job.wait_seconds, job.outcome) == (NextStep.NOTIFY, 0, Status.FAILED)
    assert job.error is not None
    assert job.error["message"].startswith("a b c")
    assert len(job.error["message"]) == MAX_MESSAGE_CHARS


def test_results_that_are_none_are_left_out() -> None:
    job = builders.running_state().ended(Status.COMPLETED, completed_at=None, output_ref="s3://a/b")
    assert job.result == {"output_ref": "s3://a/b"}
    assert job.error is None
