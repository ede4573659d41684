"""Checks of webhooks at each write, message and request. The checks at the end of a history are in `invariants.py`."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.invariants.dynamodb import Item, Table
from tests.invariants.invariants import Invariant
from tests.invariants.scheduler import Task
from waterhook.domain.status import Status
from waterhook.domain.webhook_delivery import DeliveryStatus
from waterhook.domain.webhook_host import MAX_HELD_BACK_S, OPEN_AFTER, PLACE_S
from waterhook.domain.webhook_retries import KEPT_AFTER_S, MAX_AGE_S, MAX_ATTEMPTS, TOLERANCE_S
from waterhook.notifications import notification_events
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.webhooks.sender import Attempt

if TYPE_CHECKING:
    from tests.invariants.simulation import Simulation

# `Retry-After` is at most a day; jitter makes the longest delay a little longer.
_LONGEST_DELAY_S = 1.1 * 24 * 3600
# Other calls of the deliver function may hang. All of them share one clock.
_MOST_LATE_S = 120.0
# Between the reading of the clock and a write, other functions may continue.
_TOLERANCE_S = 120.0


@dataclass
class Call:
    """One call of the deliver function."""

    began_at: int
    """How many calls to other systems the history had made before."""
    faults: int
    """How many faults had been injected before."""
    event_id: str = ""
    host: str = ""
    answer: Attempt | None = None
    """What its request was answered."""
    token: str = ""
    """Its place of the host."""
    place_ends_at: float = 0.0
    is_sending: bool = False
    restarts: int = 0
    """How often the delivery had been restarted before."""
    restarts_before_request: int = 0


@dataclass
class Event:
    """What happened to the event of one outcome."""

    claims: int = 0
    requests: int = 0
    claims_since_restart: int = 0
    requests_since_restart: int = 0
    letters: int = 0
    """Messages in the dead-letter queue since the last restart."""
    status: DeliveryStatus | None = None
    """The result that was written since the last restart."""
    ended_at: float = 0.0
    restarts: int = 0
    recorded_at: int | None = None
    """When a call without faults had written that the event was delivered, in calls."""


class WebhookChecks:
    """Follows each delivery and each host by what the functions write, send and receive."""

    def __init__(self, simulation: "Simulation", limit: int) -> None:
        """`limit` is the number of places of a host."""
        self._simulation, self._limit = simulation, limit
        self.table = Table(self.check_write, key=("pk", "sk"))
        """The deliveries table."""
        self.events: defaultdict[str, Event] = defaultdict(Event)
        self.calls: dict[Task, Call] = {}
        """Calls of the deliver function that have not ended."""
        self.erased_at: dict[str, int] = {}
        """After how many calls to other systems each erasure was complete."""
        self.failures: Counter[str] = Counter()
        """Failures in a row of each host, as the receivers saw them."""
        self._bodies: dict[str, bytes] = {}

    def check_ended(self, call: Call) -> None:
        """Check a call of the deliver function that has ended without an error and without a fault."""
        event = self.events[call.event_id]
        if call.answer is not None and is_success(call.answer) and call.restarts == event.restarts:
            event.recorded_at = self._simulation.calls
        places = self.table.items.get(("hosts", call.host), {}).get("places", {"M": {}})["M"]
        if call.token in places:
            detail = f"the call for {call.event_id} holds one of {call.host}"
            self._violated(Invariant.PLACE_IS_GIVEN_BACK, detail)

    def task(self) -> Task:
        task = self._simulation.scheduler.current
        assert task is not None
        return task

    def _violated(self, invariant: Invariant, detail: str) -> None:
        self._simulation.violated(invariant, detail)

    def check_record_write(self, before: Item | None, after: Item | None) -> None:
        """Check that the output is kept for the delivery."""
        if after is None or "finished_at" not in after:
            return
        execution_id = after["execution_id"]["S"]
        if before is not None and "final_output_json" in before and "final_output_json" not in after:
            record = ExecutionRecord.from_item(before)
            event = self.events[notification_events.event_id(record)]
            kept_until = event.ended_at + KEPT_AFTER_S - _TOLERANCE_S
            is_kept = event.status is None or self._simulation.clock.now < kept_until
            if record.webhook_wants_outcome and is_kept:
                self._violated(Invariant.OUTPUT_IS_KEPT, f"{execution_id} lost it while {event}")

    def check_message(self, body: str) -> None:
        message = json.loads(body)
        if "progress" not in message and self.task().name not in {"deliver", "resend", "delivery sweep"}:
            self._simulation.marks.check_outcome(message["execution_id"], "webhook")

    def note_dead_letter(self, body: str) -> None:
        event_id = json.loads(body)["event_id"]
        event, item, call = self.events[event_id], self._item_of(event_id), self.calls[self.task()]
        event.letters += 1
        if item is None or call.restarts != event.restarts:
            return  # it was erased, or resent in the meantime
        # The next attempt would be later than MAX_AGE_S after the creation.
        is_old = self._simulation.clock.now > float(item["created_at"]["N"]) + MAX_AGE_S - _LONGEST_DELAY_S
        if event.claims_since_restart < MAX_ATTEMPTS and not is_old:
            self._violated(Invariant.WEBHOOK_USES_ITS_ATTEMPTS, f"{body} was given up: {event}")

    def _item_of(self, event_id: str) -> Item | None:
        execution_id, _, rest = event_id.partition("/")
        return self.table.items.get((execution_id, rest))

    def check_write(self, before: Item | None, after: Item | None) -> None:
        if after is None:
            return
        if after["pk"]["S"] == "hosts":
            self._check_host(before or {}, after)
        else:
            self._check_delivery(before, after)

    def _check_delivery(self, before: Item | None, after: Item) -> None:
        event_id = f"{after['pk']['S']}/{after['sk']['S']}"
        event, now = self.events[event_id], self._simulation.clock.now
        old = before or {"attempts": {"N": "0"}, "status": {"S": "pending"}, "next_at": {"N": "0"}}
        count_before, count = int(old["attempts"]["N"]), int(after["attempts"]["N"])
        if "claim" in after and after["claim"] != old.get("claim"):
            event.claims += 1
            event.claims_since_restart += 1
            if count != count_before + 1 or old["status"]["S"] != "pending":
                self._violated(Invariant.ATTEMPT_IS_COUNTED, f"{event_id}: {count_before} became {count}")
            early_s = float(old["next_at"]["N"]) - now
            is_late = before is not None and early_s < -_MOST_LATE_S and self._simulation.has_had_no_faults
            if early_s > TOLERANCE_S + 1 or is_late:
                self._violated(
                    Invariant.ATTEMPT_IS_DUE, f"{event_id}: due at {old['next_at']}, made at {now}"
                )
        elif count != count_before and count:
            self._violated(Invariant.ATTEMPT_IS_COUNTED, f"{event_id}: {count_before} became {count}")
        if self.task().name == "resend" and before is not None:
            event.restarts += 1
            event.claims_since_restart, event.requests_since_restart, event.letters = 0, 0, 0
            event.status, event.recorded_at = None, None
        status = DeliveryStatus(after["status"]["S"])
        if status.is_final and old["status"]["S"] == "pending":
            event.status, event.ended_at = status, now
            call = self.calls[self.task()]
            answer = call.answer
            is_true = {
                DeliveryStatus.DELIVERED: answer is not None and is_success(answer),
                DeliveryStatus.GONE: answer is not None and answer.code == 410,
                DeliveryStatus.FAILED: event.letters > 0,
            }[status]
            is_late = answer is not None and call.restarts_before_request != event.restarts
            if is_late or not is_true:
                self._violated(Invariant.DELIVERY_MATCHES_ANSWER, f"{event_id} is {status} after {answer}")

    def _check_host(self, before: Item, after: Item) -> None:
        host, now = after["sk"]["S"], self._simulation.clock.now
        old, new = (item.get("places", {"M": {}})["M"] for item in (before, after))
        open_before, open_after = (float(item.get("open_until", {"N": "0"})["N"]) for item in (before, after))
        call = self.calls.get(self.task())
        if call is None:
            return
        used = sum(float(expires["N"]) > now for expires in new.values())
        if len(new) > len(old.keys() & new.keys()):
            call.host, call.place_ends_at = host, now + PLACE_S
            item = self._item_of(call.event_id)
            age_s = now - float(item["created_at"]["N"]) if item else 0.0
            is_probed = self.failures[host] >= OPEN_AFTER and used > 1
            is_same = call.restarts == self.events[call.event_id].restarts
            if is_same and age_s <= MAX_HELD_BACK_S and (now < open_before or is_probed):
                self._violated(Invariant.OPEN_HOST_IS_NOT_USED, f"{call.event_id} used {host}")
        if call.token in old and call.token not in new and call.answer is not None:
            has_failed = _is_host_failure(call.answer)
            self.failures[host] = self.failures[host] + 1 if has_failed else 0
            count = self.failures[host]
            is_open = open_after > min(open_before, now)
            if int(after["failures"]["N"]) != count or is_open != (count >= OPEN_AFTER):
                detail = f"{host} failed {count} times in a row, and its breaker was {before} and is {after}"
                self._violated(Invariant.BREAKER_COUNTS_FAILURES, detail)

    def check_request(self, call: Call, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Check a request before it is answered."""
        webhook_id, now = headers["webhook-id"], self._simulation.clock.now
        document = json.loads(body)
        execution_id = document["subject"]
        count = 1 + sum(
            other.is_sending and other.host == call.host and other.place_ends_at > now
            for other in self.calls.values()
        )
        if count > self._limit:
            self._violated(Invariant.HOST_IS_SHARED, f"{count} requests use {call.host}")
        if self._bodies.setdefault(webhook_id, body) != body:
            self._violated(
                Invariant.WEBHOOK_IS_CONSTANT, f"{webhook_id} has {self._bodies[webhook_id]!r} and {body!r}"
            )
        call.restarts_before_request = self.events[webhook_id].restarts
        item = self._simulation.table.items.get(execution_id)
        if item is None or execution_id in self.erased_at:
            if self.erased_at.get(execution_id, call.began_at) < call.began_at:
                self._violated(Invariant.ERASED_IS_NOT_SENT, f"{webhook_id} was sent after its erasure")
            return
        record = ExecutionRecord.from_item(item)
        if document["type"] == notification_events.PROGRESS_TYPE:
            self._check_progress(record, webhook_id, call)
        else:
            self._check_outcome(record, webhook_id, call)
            self._check_body(record, url, webhook_id, document)

    def _check_progress(self, record: ExecutionRecord, webhook_id: str, call: Call) -> None:
        final_at = self._simulation.final_at.get(record.execution_id)
        if final_at is not None and final_at < call.began_at:
            self._violated(Invariant.NO_PROGRESS_AFTER_OUTCOME, f"{webhook_id} was sent")
        if record.webhook is None or not record.webhook.wants_progress:
            self._violated(Invariant.WEBHOOK_IS_WANTED, f"{webhook_id} was sent to {record.webhook}")

    def _check_outcome(self, record: ExecutionRecord, webhook_id: str, call: Call) -> None:
        event = self.events[webhook_id]
        event.requests += 1
        event.requests_since_restart += 1
        if event.requests > event.claims or event.requests_since_restart > MAX_ATTEMPTS:
            detail = f"{webhook_id} was sent {event.requests} times: {event}"
            self._violated(Invariant.ATTEMPT_IS_COUNTED, detail)
        if event.recorded_at is not None and event.recorded_at < call.began_at:
            self._violated(Invariant.WEBHOOK_IS_NOT_REPEATED, f"{webhook_id} was sent again")
        if not record.webhook_wants_outcome:
            self._violated(Invariant.WEBHOOK_IS_WANTED, f"{webhook_id} was sent for {record.status}")

    def _check_body(
        self, record: ExecutionRecord, url: str, webhook_id: str, document: Mapping[str, Any]
    ) -> None:
        data = document["data"]
        job = self._simulation.waterflai.jobs.get(record.waterflai_execution_id or "")
        expected = notification_events.event_id(record) if record.status.is_final else None
        output = json.loads(job.output) if job and record.status is Status.COMPLETED else None
        is_full = record.webhook is not None and record.webhook.payload == "full"
        is_right = (
            document["id"] == webhook_id == expected
            and (document["time"], data["status"]) == (record.finished_at, record.status)
            and record.webhook is not None
            and url == record.webhook.url
            and ("final_output" in data) == is_full
            and (not is_full or data["final_output"] == output)
        )
        if not is_right:
            self._violated(
                Invariant.WEBHOOK_MATCHES_RECORD, f"{webhook_id} has {document}, and its record is {record}"
            )


def is_success(answer: Attempt) -> bool:
    return answer.code is not None and 200 <= answer.code < 300


def _is_host_failure(answer: Attempt) -> bool:
    """Whether an answer means that the host fails, and not only one of its URLs."""
    return answer.code is None or answer.code >= 500 or answer.code in {408, 429}
