"""Results on an event bus: from each trigger, and with a bus that refuses events for hours."""

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from moto.events.models import EventsBackend

from tests.fakes.scripted_waterflai import completed
from tests.support.builders import REGION
from tests.workflow.world import World, request

ALL = ["sns", "dynamodb", "eventbridge"]


def of_event(fields: dict[str, Any]) -> dict[str, Any]:
    return {"event_id": str(uuid.uuid4()), "request": fields}


def of_schedule(fields: dict[str, Any]) -> dict[str, Any]:
    arn = f"arn:aws:scheduler:{REGION}:123456789012:schedule/default/{uuid.uuid4()}"
    return {"schedule": {"arn": arn, "time": "2026-01-01T08:00:00Z"}, "request": fields}


TRIGGERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "state machine": lambda fields: fields,
    "EventBridge": of_event,
    "schedule": of_schedule,
}


class Bus:
    """The event bus of the simulated AWS. It refuses the first `down_for` events, with a successful response."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.down_for = 0.0
        self.refused = 0
        self.details: list[str] = []

        def put_or_refuse(_backend: EventsBackend, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
            if self.refused < self.down_for:
                self.refused += 1
                return [{"ErrorCode": "ThrottlingException", "ErrorMessage": "Rate exceeded"}]
            self.details += [event["Detail"] for event in events]
            return [{"EventId": "1"}]

        patch.setattr(EventsBackend, "put_events", put_or_refuse)


@pytest.fixture
def bus(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    world.upstream.respond_with("status", completed('{"n": 1.0}'))
    with world.deployed_with(RESULT_EVENT_BUS="results"):
        yield Bus(monkeypatch)


def test_the_api_puts_results_on_the_bus(world: World, bus: Bus) -> None:
    execution_id = world.accept(request(deliver_to=ALL))
    assert world.finished(world.record(execution_id).owner_execution_arn).status == "SUCCEEDED"
    [notification] = world.notifications()
    assert bus.details == [notification.text]


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_each_other_trigger_puts_results_on_the_bus(world: World, bus: Bus, trigger: str) -> None:
    assert world.run(TRIGGERS[trigger](request(deliver_to=ALL))).status == "SUCCEEDED"
    [notification] = world.notifications()
    assert bus.details == [notification.text]


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_without_a_bus_a_request_that_lists_it_is_rejected(world: World, trigger: str) -> None:
    run = world.run(TRIGGERS[trigger](request(deliver_to=ALL)))
    assert (run.status, run.error) == ("FAILED", "Waterhook.Rejected")
    [notification] = world.notifications()
    assert "set its parameter ResultEventBusName" in json.loads(notification.text)["data"]["error"]["message"]


def test_where_it_is_the_default_a_request_without_deliver_to_is_put_on_the_bus_only(
    world: World, bus: Bus
) -> None:
    with world.deployed_with(RESULT_EVENT_BUS="results", DEFAULT_DELIVER_TO="eventbridge,dynamodb"):
        assert world.run(request()).status == "SUCCEEDED"
    assert (len(bus.details), world.notifications()) == (1, [])


def test_a_bus_that_refuses_forty_events_delays_only_the_bus(world: World, bus: Bus) -> None:
    bus.down_for = 40
    run = world.run(request(deliver_to=ALL))
    assert (run.status, bus.refused) == ("SUCCEEDED", 40)
    assert world.clock.elapsed_s > 3 * 3600
    [notification] = world.notifications()
    assert bus.details == [notification.text]
    # The topic received it at the end of the job.
    assert notification.event["time"] == "2026-01-01T00:00:04.000Z"
    assert world.functions.count("notify") == 41
