"""Live status of a running job: cached for two seconds, and None where it can't be read."""

import pytest

from tests.fakes.aws import client_error
from tests.fakes.clock import NOW, Clock
from tests.fakes.upstream_client import Answer, FakeUpstream
from tests.support.builders import UPSTREAM_ID, final_attributes, record, running_record
from waterhook.api.live_status import CACHED_S, MAX_CACHED, LiveStatus
from waterhook.domain.status import Status
from waterhook.domain.status_document import StatusDocument
from waterhook.errors import (
    KeyUnavailableError,
    UpstreamUnavailableError,
)
from waterhook.storage.execution_record import ExecutionRecord


class LiveStatusScenario:
    """A live status and its upstream, on one clock."""

    def __init__(self, *statuses: Answer[StatusDocument]) -> None:
        self.clock = Clock(NOW + 60)
        self.upstream = FakeUpstream(statuses=list(statuses))
        self.live = LiveStatus(self.upstream, self.clock)


def test_the_live_status_of_a_running_job_is_the_status_document_of_the_upstream() -> None:
    document = StatusDocument("RUNNING", progress=40.0)
    scenario = LiveStatusScenario(document)
    assert scenario.live.read(running_record()) is document
    assert scenario.upstream.polled == [UPSTREAM_ID]


def test_the_status_is_requested_at_most_every_two_seconds() -> None:
    documents = [StatusDocument("RUNNING", progress=float(percent)) for percent in range(5)]
    scenario = LiveStatusScenario(*documents)
    progress = []
    for _ in range(8):
        document = scenario.live.read(running_record())
        progress.append(document.progress if document else None)
        scenario.clock.advance(CACHED_S / 4)
    assert progress == [0.0] * 4 + [1.0] * 4


@pytest.mark.parametrize(
    "fault",
    [
        UpstreamUnavailableError("unreachable", "no connection"),
        KeyUnavailableError("no key"),
        client_error("AccessDeniedException"),
    ],
    ids=str,
)
def test_a_failed_status_request_is_repeated_two_seconds_later(fault: Exception) -> None:
    scenario = LiveStatusScenario(fault, StatusDocument("RUNNING", progress=9.0))
    assert [scenario.live.read(running_record()) for _ in range(3)] == [None] * 3
    assert len(scenario.upstream.polled) == 1
    scenario.clock.advance(CACHED_S)
    document = scenario.live.read(running_record())
    assert document is not None
    assert document.progress == 9.0


def test_each_job_has_a_cached_document_of_its_own() -> None:
    one, other = StatusDocument(progress=1.0), StatusDocument(progress=2.0)
    scenario = LiveStatusScenario(one, other)
    assert scenario.live.read(running_record()) is one
    assert scenario.live.read(running_record(waterflai_execution_id="another")) is other
    assert scenario.live.read(running_record()) is one


@pytest.mark.parametrize(
    "stored",
    [
        record(),
        record(status=Status.STARTING),
        running_record(**final_attributes()),
    ],
    ids=lambda stored: stored.status,
)
def test_no_status_is_requested_before_the_start_and_after_the_end(stored: ExecutionRecord) -> None:
    scenario = LiveStatusScenario()
    assert scenario.live.read(stored) is None
    assert scenario.upstream.polled == []


def test_the_number_of_cached_documents_is_bounded() -> None:
    scenario = LiveStatusScenario()
    for number in range(MAX_CACHED + 50):
        scenario.live.read(running_record(waterflai_execution_id=f"job-{number}"))
    scenario.live.read(running_record(waterflai_execution_id=f"job-{MAX_CACHED + 49}"))
    assert len(scenario.upstream.polled) == MAX_CACHED + 50
    scenario.live.read(running_record(waterflai_execution_id="job-0"))
    assert len(scenario.upstream.polled) == MAX_CACHED + 51
