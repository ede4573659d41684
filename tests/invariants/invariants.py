"""The invariants: what must be true of every history, whatever failed and in whatever order the calls ran.

`find_violations` checks most of them at the end of a history. `Simulation` checks the others at each write.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from waterhook.domain.poll_history import LOST_AFTER_COUNT
from waterhook.domain.status import Status
from waterhook.domain.webhook_delivery import DeliveryStatus
from waterhook.notifications.notification_events import PROGRESS_TYPE
from waterhook.notifications.notification_events import event_id as event_id_of
from waterhook.notifications.state_machine_output import DUPLICATE, IDEMPOTENCY_CONFLICT
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.timestamps import to_epoch_s

if TYPE_CHECKING:
    from tests.invariants.simulation import Published, Simulation
    from tests.invariants.state_machine import StateMachineExecution
    from tests.invariants.waterflai import Job

# The jobs of the model are young: no polling interval of theirs is longer.
MAX_DELAY_S = 13.0
# Events that keep arriving postpone a poll by up to 30 s.
MAX_DELAY_WITH_EVENTS_S = 32.0
# A follow reads the record every 30 s. A young job is polled this often in that time.
MAX_POLLS_AFTER_OUTCOME = 20


class Invariant(StrEnum):
    """What must be true of every history."""

    HISTORY_ENDS = "Every execution ends: none loops forever."
    EXECUTION_HAS_RECORD = (
        "A state machine execution that returns an output owns a record or names another's."
    )
    RECORD_IS_KEPT = "A record is never deleted once a caller of the API has its id."
    RECORD_KEEPS_OWNER = "The owner of a record never changes."
    RECORD_HAS_OUTCOME = "Every record gets an outcome."
    OUTCOME_IS_FINAL = "An outcome never changes: the first one that is written counts."
    OUTCOME_IS_OF_JOB = "COMPLETED and FAILED are the job's own outcomes, LOST follows three answers 404."
    OUTPUT_IS_OF_JOB = "The output of a record is the output of its job."
    OUTCOME_SURVIVES_OUTAGE = (
        "An execution has its job's outcome although an AWS service was down for an hour."
    )
    OUTCOME_IS_TIMELY = (
        "Without faults, an outcome is written within 13 s of the job's end (32 s between events)."
    )
    STATE_MACHINE_AGREES = (
        "A state machine execution ends as its record does: successfully only if COMPLETED."
    )
    KEY_HAS_ONE_REQUEST = "Two different requests with one idempotency key never share an execution."
    KEY_HAS_ONE_JOB = "One idempotency key starts one job at most, unless AT_LEAST_ONCE is configured."
    JOB_IS_KNOWN = "An execution that is REJECTED or CANCELLED without a job id has no job at Waterflai."
    JOB_IS_CANCELLED_AFTER_FAULT = "If a poll fails permanently, a cancel request is sent for the job."
    FAULT_MESSAGE_IS_TRUE = "The message of ERROR states that the job was cancelled only if it was."
    CANCEL_ANSWER_IS_TRUE = 'The answer to a cancel is "cancelled" only if the record and the job are.'
    CANCEL_MESSAGE_IS_TRUE = (
        "The message of an outcome names the caller or an operator only if that one has cancelled."
    )
    LOOP_ENDS_WITH_RECORD = (
        "After its record is final, a loop polls at most once, or follows for at most 30 s."
    )
    NOTIFICATION_IS_PUBLISHED = "Every outcome is published, unless the request's `deliver_to` lacks sns."
    EVENT_IS_PUT = "Every outcome is put on the event bus, if the request's `deliver_to` lists it."
    EVENT_IS_WANTED = (
        "Nothing else is put on the bus, and progress only if the request has `progress_events`."
    )
    EVENT_IS_NOTIFICATION = (
        "The detail of an event is the notification; its type, time and resource are those of the execution."
    )
    TOPIC_IGNORES_FAILURE_OF_BUS = (
        "The topic receives an outcome before the bus is called, and once while only the bus is down."
    )
    REDELIVERY_REACHES_TARGETS = (
        "A redelivery that succeeds reaches the topic and the bus, whichever `deliver_to` lists."
    )
    NOTIFICATION_IS_RECORDED = "Every record is marked as notified and has left the index of unfinished ones."
    NOTIFICATION_IS_CONSTANT = (
        "All notifications of one outcome are identical, and so are two with the same event id."
    )
    NOTIFICATION_MATCHES_RECORD = (
        "A notification has the status and the time of its record, and an id made of them."
    )
    NOTIFICATION_HAS_EXECUTION = (
        "A notification has a record, whose execution was started or whose id a caller has."
    )
    NOTIFICATION_IS_OF_OWNER = (
        "Only a record's owner, its reconcile, the API and the sweep publish its notification."
    )
    SWEEP_SPARES_RUNNING = "A sweep changes no record whose state machine execution is running."
    SLOT_IS_KEPT = "An execution keeps its concurrency slot until it has an outcome."
    SLOT_IS_RELEASED = "An execution that has ended holds no concurrency slot."
    TARGET_IS_NOT_REPEATED = (
        "Once the record lists a target, no call publishes the outcome there; redeliver never to the webhook."
    )
    WEBHOOK_IS_DELIVERED = (
        "Each outcome that its webhook wants, and each resend, is delivered, answered 410, or dead-lettered."
    )
    WEBHOOK_SURVIVES_OUTAGE = (
        "Without faults of AWS, a receiver that works again within three days gets the outcome."
    )
    WEBHOOK_USES_ITS_ATTEMPTS = "A delivery is dead-lettered after ten attempts or five days, not earlier."
    WEBHOOK_IS_NOT_REPEATED = "Without a fault or a resend, nothing is sent after an answer 2xx."
    WEBHOOK_IS_CONSTANT = "All requests with one webhook-id have the same body."
    WEBHOOK_MATCHES_RECORD = (
        "A webhook is sent for an outcome in the record, with its id and content; if full, with the output."
    )
    WEBHOOK_IS_WANTED = "A webhook receives only the events that its request lists."
    NO_PROGRESS_AFTER_OUTCOME = "A call that begins after the outcome was written sends no progress webhook."
    ATTEMPT_IS_COUNTED = (
        "Each attempt is counted before its request, and is made by one call; ten are made at most."
    )
    ATTEMPT_IS_DUE = (
        "An attempt is made at most two seconds before it is due; without faults, soon after that."
    )
    DELIVERY_MATCHES_ANSWER = (
        "DELIVERED follows an answer 2xx, GONE 410, FAILED a dead letter; none of them from before a resend."
    )
    DELIVERIES_END = (
        "After the last sweep no delivery is pending, none is in the index, and no message is queued."
    )
    OUTPUT_IS_KEPT = "The output is kept for the webhook until a day after the delivery has ended."
    OUTPUT_IS_DROPPED = "Without dynamodb in `deliver_to` the record loses its output in the end."
    OPEN_HOST_IS_NOT_USED = (
        "An open breaker, or an attempt that probes the host, holds back deliveries younger than three days."
    )
    BREAKER_COUNTS_FAILURES = (
        "A breaker opens after five failures of its host in a row, and any other answer closes it."
    )
    HOST_IS_SHARED = "At most a quarter of the concurrency sends to one host at the same time."
    PLACE_IS_GIVEN_BACK = "A call without a fault gives back its place of the host."
    ERASED_IS_NOT_SENT = "After an erasure, no call that begins sends a webhook, and no delivery is left."


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that a history violates, and how."""

    invariant: Invariant
    detail: str

    def __str__(self) -> str:
        return f"{self.invariant} But {self.detail}"


@dataclass(frozen=True, slots=True)
class FinalState:
    """The simulation after the last event of a history."""

    simulation: "Simulation"
    executions: "list[StateMachineExecution]"
    records: dict[str, ExecutionRecord]

    @property
    def by_owner(self) -> dict[str, ExecutionRecord]:
        return {record.owner_execution_arn: record for record in self.records.values()}

    def job_of(self, record: ExecutionRecord) -> "Job | None":
        return self.simulation.waterflai.jobs.get(record.waterflai_execution_id or "")


def find_violations(simulation: "Simulation", executions: "list[StateMachineExecution]") -> list[Violation]:
    """Return the violations of a history that has ended."""
    items = simulation.table.items
    records = {
        key: ExecutionRecord.from_item(item)
        for key, item in (items | simulation.observed.erased).items()
        if "status" in item
    }
    final = FinalState(simulation, executions, records)
    checks = (
        _check_records,
        _check_outcomes,
        _check_state_machine,
        _check_requests,
        _check_notifications,
        _check_repeated_notifications,
        _check_events_on_bus,
        _check_topic_beside_bus,
        _check_redeliveries,
        _check_jobs,
        _check_cancel_answers,
        _check_cancel_messages,
        _check_delays,
        _check_outages,
        _check_faults,
        _check_late_polls,
        _check_slots,
        _check_webhooks,
        _check_deliveries,
    )
    violations = list(simulation.observed.violations)
    for check in checks:
        violations += [Violation(invariant, detail) for invariant, detail in check(final)]
    return violations


type Found = Iterator[tuple[Invariant, str]]


def _check_records(final: FinalState) -> Found:
    for execution_id in final.simulation.observed.accepted:
        if execution_id not in final.records:
            yield Invariant.RECORD_IS_KEPT, f"{execution_id} was accepted and has no record"
    for execution in final.executions:
        refused = execution.output.get("error_name") in {DUPLICATE, IDEMPOTENCY_CONFLICT}
        names_record = execution.output.get("execution_id") in final.records
        if execution.arn in final.by_owner or refused or names_record:
            continue
        if execution.output and execution.status not in {"ABORTED", "TIMED_OUT"}:
            yield Invariant.EXECUTION_HAS_RECORD, f"{execution.arn} ended with {execution.output}"
    for record in final.records.values():
        if not record.status.is_final:
            yield Invariant.RECORD_HAS_OUTCOME, f"{record.execution_id} is {record.status} at the end"
        if record.notified_at is None or record.unfinished is not None:
            yield Invariant.NOTIFICATION_IS_RECORDED, f"a sweep would read {record.execution_id} again"


def _check_outcomes(final: FinalState) -> Found:
    waterflai = final.simulation.waterflai
    for record in final.records.values():
        job = final.job_of(record)
        is_of_job = record.status in {Status.COMPLETED, Status.FAILED}
        if is_of_job and (job is None or job.outcome != record.status):
            yield (
                Invariant.OUTCOME_IS_OF_JOB,
                f"{record.execution_id} is {record.status} and its job is {job}",
            )
        not_found = waterflai.not_found[record.waterflai_execution_id or ""]
        if record.status is Status.LOST and not_found < LOST_AFTER_COUNT:
            yield Invariant.OUTCOME_IS_OF_JOB, f"{record.execution_id} is LOST after {not_found} answers 404"
        if job is not None and record.final_output_json not in {None, job.output}:
            detail = f"{record.execution_id} has {record.final_output_json}, and its job {job.output}"
            yield Invariant.OUTPUT_IS_OF_JOB, detail


def _check_state_machine(final: FinalState) -> Found:
    for execution in final.executions:
        record = final.by_owner.get(execution.arn)
        if record is None or not execution.output:
            continue
        if execution.output.get("status") != record.status:
            detail = f"{execution.arn} returned {execution.output}, and its record is {record.status}"
            yield Invariant.STATE_MACHINE_AGREES, detail
        if (execution.status == "SUCCEEDED") != (record.status is Status.COMPLETED):
            detail = f"{execution.arn} is {execution.status}, and its record is {record.status}"
            yield Invariant.STATE_MACHINE_AGREES, detail


def _check_requests(final: FinalState) -> Found:
    for execution_id, markers in final.simulation.observed.accepted.items():
        if len(markers) > 1:
            yield Invariant.KEY_HAS_ONE_REQUEST, f"{execution_id} was returned for {sorted(markers)}"
    markers_of = {execution.arn: _marker(execution.execution_input) for execution in final.executions}
    for execution in final.executions:
        record = final.records.get(execution.output.get("execution_id", ""))
        if record is None or record.owner_execution_arn not in markers_of:
            continue
        marker, first = markers_of[execution.arn], markers_of[record.owner_execution_arn]
        if marker != first and execution.output.get("error_name") != IDEMPOTENCY_CONFLICT:
            detail = f"{execution.arn} returned the execution of {first} for {marker}"
            yield Invariant.KEY_HAS_ONE_REQUEST, detail


def _check_notifications(final: FinalState) -> Found:
    started = {execution.arn for execution in final.executions}
    for published in final.simulation.observed.published:
        event = json.loads(published.message)
        execution_id = event["subject"]
        record = final.records.get(execution_id)
        if record is None:
            yield Invariant.NOTIFICATION_HAS_EXECUTION, f"{event['id']} was published without a record"
            continue
        owner = record.owner_execution_arn
        if owner not in started and execution_id not in final.simulation.observed.accepted:
            yield Invariant.NOTIFICATION_HAS_EXECUTION, f"the execution of {event['id']} was never started"
        if published.task not in {"api", "sweep", "redeliver", owner, f"reconcile {owner}"}:
            detail = f"{published.task} published {event['id']}, which {owner} owns"
            yield Invariant.NOTIFICATION_IS_OF_OWNER, detail
        if event["type"] == PROGRESS_TYPE:
            continue
        accepted_ms = round((to_epoch_s(record.created_at) or 0.0) * 1000)
        expected = (f"{execution_id}/{accepted_ms}/{record.status}", record.finished_at)
        if (event["id"], event["time"]) != expected or event["data"]["status"] != record.status:
            detail = f"{event['id']} of {event['time']} was published, and the record has {expected}"
            yield Invariant.NOTIFICATION_MATCHES_RECORD, detail


def _check_repeated_notifications(final: FinalState) -> Found:
    versions: defaultdict[str, set[Published]] = defaultdict(set)
    for published in final.simulation.observed.published:
        event = json.loads(published.message)
        # An execution has one outcome, and so one notification of it. Of progress it has many.
        key = event["id"] if event["type"] == PROGRESS_TYPE else event["subject"]
        versions[key].add(replace(published, task=""))
    for key, messages in versions.items():
        if len(messages) > 1:
            yield Invariant.NOTIFICATION_IS_CONSTANT, f"{key} was published as {messages}"
    for record in final.records.values():
        if record.status.is_final and "sns" in record.deliver_to and not versions[record.execution_id]:
            detail = f"{record.execution_id} is {record.status} and was not published"
            yield Invariant.NOTIFICATION_IS_PUBLISHED, detail


def _check_events_on_bus(final: FinalState) -> Found:
    observed = final.simulation.observed
    notifications: defaultdict[str, set[str]] = defaultdict(set)
    for published in (*observed.published, *observed.put):
        notifications[json.loads(published.message)["id"]].add(published.message)
    received = set()
    for put in observed.put:
        event = json.loads(put.message)
        record = final.records.get(event["subject"])
        if record is None:
            yield Invariant.EVENT_IS_NOTIFICATION, f"{event['id']} was put without a record"
            continue
        is_progress = event["type"] == PROGRESS_TYPE
        received |= set() if is_progress else {record.execution_id}
        if "eventbridge" not in record.deliver_to or (is_progress and not record.progress_events):
            yield (
                Invariant.EVENT_IS_WANTED,
                f"{event['id']} was put, and its request wants {record.deliver_to}",
            )
        envelope = [event["type"], event["time"], [record.owner_execution_arn]]
        is_final_time = is_progress or event["time"] == record.finished_at
        if len(notifications[event["id"]]) > 1 or json.loads(put.attributes) != envelope or not is_final_time:
            yield Invariant.EVENT_IS_NOTIFICATION, f"{put} and {notifications[event['id']]}"
    for record in final.records.values():
        wants_event = final.simulation.has_bus and "eventbridge" in record.deliver_to
        if record.status.is_final and wants_event and record.execution_id not in received:
            yield Invariant.EVENT_IS_PUT, f"{record.execution_id} is {record.status} and was not put"


def _check_topic_beside_bus(final: FinalState) -> Found:
    simulation = final.simulation
    if simulation.outage.target != "bus" or not simulation.has_no_call_faults:
        return
    outcomes = [entry for entry in simulation.observed.published if PROGRESS_TYPE not in entry.message]
    for record in final.records.values():
        count = sum(
            entry.task == record.owner_execution_arn
            and json.loads(entry.message)["subject"] == record.execution_id
            for entry in outcomes
        )
        if count > 1:
            yield Invariant.TOPIC_IGNORES_FAILURE_OF_BUS, f"{record.execution_id} was published {count} times"


def _check_redeliveries(final: FinalState) -> Found:
    observed = final.simulation.observed
    for execution_id, count in Counter(observed.redelivered).items():
        record = final.records[execution_id]
        for target, events in (("sns", observed.published), ("eventbridge", observed.put)):
            received = sum(
                entry.task == "redeliver" and json.loads(entry.message)["subject"] == execution_id
                for entry in events
            )
            if target in record.deliver_to and received < count:
                yield Invariant.REDELIVERY_REACHES_TARGETS, f"{target} received {received} of {count}"


def _check_jobs(final: FinalState) -> Found:
    jobs: defaultdict[str, list[str]] = defaultdict(list)
    for job_id, job in final.simulation.waterflai.jobs.items():
        jobs[_key_of(job.marker)].append(job_id)
    for key, job_ids in jobs.items():
        if len(job_ids) > 1 and not final.simulation.settings.at_least_once:
            yield Invariant.KEY_HAS_ONE_JOB, f"{key} started {job_ids}"
    inputs = {execution.arn: execution.execution_input for execution in final.executions}
    for record in final.records.values():
        accepted = final.simulation.observed.accepted.get(record.execution_id, {""})
        owner = record.owner_execution_arn
        key = _key_of(_marker(inputs[owner]) if owner in inputs else min(accepted))
        is_jobless = (
            record.status in {Status.REJECTED, Status.CANCELLED} and not record.waterflai_execution_id
        )
        if is_jobless and jobs[key]:
            detail = f"{record.execution_id} is {record.status} without an id, and it started {jobs[key]}"
            yield Invariant.JOB_IS_KNOWN, detail


def _marker(execution_input: Any) -> str:
    """Return the text in a state machine execution's input that differs between two requests."""
    marker: str = execution_input.get("request", execution_input)["input_data"]["marker"]
    return marker


def _key_of(marker: str) -> str:
    """Return the part of a marker that all requests with the same idempotency key share."""
    return marker.partition(",")[0]


def _check_cancel_answers(final: FinalState) -> Found:
    for execution_id, answer in final.simulation.observed.cancel_answers:
        if not answer.cancelled:
            continue
        record = final.records.get(execution_id)
        if record is None or record.status is not Status.CANCELLED:
            detail = f"the record of {execution_id} is {record and record.status}"
            yield Invariant.CANCEL_ANSWER_IS_TRUE, detail
        job = None if record is None else final.job_of(record)
        if job is not None and job.outcome != "CANCELLED" and not job.ignores_cancel:
            yield Invariant.CANCEL_ANSWER_IS_TRUE, f"the job of {execution_id} is {job}"


def _check_cancel_messages(final: FinalState) -> Found:
    for execution_id, record in final.records.items():
        message = str((record.error or {}).get("message"))
        cancels = final.simulation.observed.cancels_by_operators.get(execution_id, set())
        names_caller = message.startswith(("cancelled by its caller", "cancelled before the job was started"))
        if (names_caller and False not in cancels) or ("by an operator" in message and True not in cancels):
            yield Invariant.CANCEL_MESSAGE_IS_TRUE, f"{execution_id}: {message}"


def _check_delays(final: FinalState) -> Found:
    # All executions share one clock: with several of them, the sleep of one would count as a delay of another.
    # For the same reason, a receiver that does not answer would.
    if len(final.executions) > 1 or not final.simulation.has_no_faults or final.simulation.webhooks:
        return
    for execution in final.executions:
        record = final.by_owner.get(execution.arn)
        job = None if record is None else final.job_of(record)
        if record is None or job is None or execution.status != "SUCCEEDED":
            continue
        delay_s = (to_epoch_s(record.finished_at) or 0.0) - job.ends_at - job.status_lag_s
        if delay_s > (MAX_DELAY_WITH_EVENTS_S if job.stream == "sends events" else MAX_DELAY_S):
            detail = f"it took {delay_s:.1f} s for {record.execution_id}, whose stream {job.stream}"
            yield Invariant.OUTCOME_IS_TIMELY, detail


def _check_outages(final: FinalState) -> Found:
    if not final.simulation.outage.is_of_a_dependency or not final.simulation.has_no_call_faults:
        return
    for execution in final.executions:
        record = final.by_owner.get(execution.arn)
        job = None if record is None else final.job_of(record)
        if record is None or job is None or execution.was_stopped or execution.start_failed:
            continue
        if record.cancel_requested is not None:
            continue  # by its caller, perhaps before the job could be cancelled
        if record.status != job.outcome:
            detail = f"{record.execution_id} is {record.status} {record.error}, and its job is {job}"
            yield Invariant.OUTCOME_SURVIVES_OUTAGE, detail


def _check_faults(final: FinalState) -> Found:
    for execution in final.executions:
        record = final.by_owner.get(execution.arn)
        if record is None or record.status is not Status.ERROR or record.waterflai_execution_id is None:
            continue
        job_id, message = record.waterflai_execution_id, str(record.error)
        if execution.poll_failed and not final.simulation.waterflai.cancels[job_id]:
            yield Invariant.JOB_IS_CANCELLED_AFTER_FAULT, f"{job_id} got none: {message}"
        job = final.simulation.waterflai.jobs[job_id]
        if "was cancelled" in message and job.outcome != "CANCELLED" and not job.ignores_cancel:
            yield Invariant.FAULT_MESSAGE_IS_TRUE, f"it is {message!r}, and the job is {job}"


def _check_late_polls(final: FinalState) -> Found:
    if not final.simulation.has_no_faults:
        return
    most = MAX_POLLS_AFTER_OUTCOME if final.simulation.settings.follow else 1
    most += sum(execution.lost_answers for execution in final.executions)
    for job_id, count in final.simulation.waterflai.late_polls.items():
        if count > most:
            yield Invariant.LOOP_ENDS_WITH_RECORD, f"{job_id} was polled {count} times after that"


def _check_slots(final: FinalState) -> Found:
    for execution_id in final.simulation.table.slot_holders():
        yield Invariant.SLOT_IS_RELEASED, f"{execution_id} holds one"


def _check_webhooks(final: FinalState) -> Found:
    webhooks = final.simulation.webhooks
    if webhooks is None:
        return
    for record in final.records.values():
        if record.webhook is None or not record.webhook_wants_outcome:
            continue
        if record.execution_id in final.simulation.observed.erased:
            continue
        event_id = event_id_of(record)
        event = webhooks.checks.events[event_id]
        if event.claims != event.requests and not final.simulation.fault_count:
            yield Invariant.ATTEMPT_IS_COUNTED, f"{event_id} has {event}"
        if event.status is None:
            yield Invariant.WEBHOOK_IS_DELIVERED, f"{event_id} has no result: {event}"
        works = webhooks.hosts[record.webhook.host].works_in_time and not final.simulation.fault_count
        if works and event.status is not DeliveryStatus.DELIVERED:
            yield Invariant.WEBHOOK_SURVIVES_OUTAGE, f"{event_id} was not delivered: {event}"
        if "dynamodb" not in record.deliver_to and record.final_output_json is not None:
            yield Invariant.OUTPUT_IS_DROPPED, f"{record.execution_id} has {record.final_output_json}"


def _check_deliveries(final: FinalState) -> Found:
    webhooks = final.simulation.webhooks
    if webhooks is None:
        return
    for message in webhooks.queue.messages:
        yield Invariant.DELIVERIES_END, f"a message is left: {message}"
    for item in webhooks.table.items.values():
        # A function that is frozen for more than a minute may write a delivery later.
        if item["pk"]["S"] in webhooks.checks.erased_at and not final.simulation.fault_count:
            yield Invariant.ERASED_IS_NOT_SENT, f"a delivery is left: {item}"
        is_in_index = item.get("undelivered", {"S": "failed"})["S"] != "failed"
        if is_in_index or item.get("status", {"S": ""})["S"] == DeliveryStatus.PENDING:
            yield Invariant.DELIVERIES_END, f"a sweep would find {item}"
