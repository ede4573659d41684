"""The event bus for results in one history, and which targets a record lists as having received its outcome."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tests.fakes.event_bus import refused
from tests.invariants.dynamodb import Item, refusal
from tests.invariants.invariants import Invariant
from waterhook.notifications.notification_events import PROGRESS_TYPE

if TYPE_CHECKING:
    from tests.invariants.simulation import Simulation

NAME = "results"
_DOWN = refusal("InternalException", "PutEvents", 500)


class EventBus:
    """The client of EventBridge. A fault is an error, or a response that refuses the only entry."""

    def __init__(self, simulation: "Simulation") -> None:
        self._simulation = simulation

    def put_events(self, *, Entries: list[dict[str, Any]]) -> Mapping[str, Any]:  # noqa: N803 - as boto3 has it
        (entry,) = Entries
        self._simulation.check_topic_before_bus(entry["Detail"])

        def put() -> Mapping[str, Any]:
            self._simulation.put(entry)
            return {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}

        return self._simulation.call(
            "put_events",
            put,
            before=(refused("ThrottlingException"), _DOWN),
            after=(_DOWN,),
            is_retried=True,
            dependency="bus",
        )


class TargetMarks:
    """Since how many calls each record has listed a target that received its outcome."""

    def __init__(self, simulation: "Simulation") -> None:
        self._simulation = simulation
        self._marked: dict[tuple[str, str], int] = {}

    def check_record_write(self, after: Item | None) -> None:
        """Note which targets have received the outcome."""
        if after is None or "finished_at" not in after:
            return
        execution_id = after["execution_id"]["S"]
        for target in ("sns", "eventbridge", "webhook"):
            is_marked = "notified_at" in after or target in {
                entry["S"] for entry in after.get("published_to", {"L": []})["L"]
            }
            if is_marked:
                self._marked.setdefault((execution_id, target), self._simulation.calls)
            else:
                self._marked.pop((execution_id, target), None)

    def check_published(self, message: str, target: str) -> None:
        """Check that a call that began later than the mark of a target does not publish an outcome to it."""
        if PROGRESS_TYPE not in message:
            self.check_outcome(json.loads(message)["subject"], target)

    def check_outcome(self, execution_id: str, target: str) -> None:
        task = self._simulation.scheduler.current
        assert task is not None
        if task.name == "redeliver" and target != "webhook":
            return
        marked_at = self._marked.get((execution_id, target))
        if task.name == "redeliver" or (marked_at is not None and marked_at < task.began_at):
            self._simulation.violated(
                Invariant.TARGET_IS_NOT_REPEATED, f"{task.name} published {execution_id} to {target} again"
            )
