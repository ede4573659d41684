"""Loop state: the state that travels through the state machine as JSON."""

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

jobs = st.builds(
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


@given(jobs)
def test_a_job_survives_its_way_through_the_state_machine(job: LoopState) -> None:
    assert LoopState.from_dict(json.loads(json.dumps(job.to_dict()))) == job


@given(jobs)
def test_every_state_has_what_the_state_machine_reads(job: LoopState) -> None:
    state = job.to_dict()
    assert {"v", "outcome", "next", "wait_seconds", "history", "execution_id", "deadline"} <= set(state)


def test_a_state_of_a_newer_version_is_read_without_what_is_new_in_it() -> None:
    state = builders.job(unsaved=True).to_dict()
    state |= {"v": 7, "brand_new": [1]}
    state["history"] |= {"also_new": {}}
    job = LoopState.from_dict(state)
    assert (job.unsaved, job.v) == (True, 7)


def test_a_state_with_what_a_catch_adds_to_it_is_still_a_job() -> None:
    state = builders.job().to_dict() | {"fault": "Lambda.Unknown", "outcome": "ERROR", "next": "notify"}
    assert LoopState.from_dict(state).outcome is Status.ERROR


def test_reading_a_state_leaves_it_as_it_was() -> None:
    state = builders.job().to_dict()
    before = json.dumps(state)
    LoopState.from_dict(state)
    assert json.dumps(state) == before


def test_a_running_state_stays_far_below_8_kib_whatever_the_upstream_returns() -> None:
    crowded = builders.job(
        waterflai_execution_id="🙂" * 200,
        history=PollHistory(*(123_456_789.123456 for _ in range(12))),  # type: ignore[arg-type]
    )
    assert len(json.dumps(crowded.to_dict())) < 4 * 1024


def test_an_ended_job_goes_to_notify_with_a_clipped_one_line_reason() -> None:
    job = builders.job(next=NextStep.WAIT, wait_seconds=9).ended(
        Status.FAILED, code="failed", message="a\nb\x00" + "c" * 5000
    )
    assert (job.next, job.wait_seconds, job.outcome) == (NextStep.NOTIFY, 0, Status.FAILED)
    assert job.error is not None
    assert job.error["message"].startswith("a b c")
    assert len(job.error["message"]) == MAX_MESSAGE_CHARS


def test_an_ended_job_keeps_only_results_that_there_are() -> None:
    job = builders.job().ended(Status.COMPLETED, completed_at=None, output_ref="s3://a/b")
    assert job.result == {"output_ref": "s3://a/b"}
    assert job.error is None
