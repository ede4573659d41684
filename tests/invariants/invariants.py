"""What must hold at the end of every history, however it went."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from tests.invariants.machine import Execution
from tests.invariants.world import World
from waterhook.domain.status import Status
from waterhook.notifications.cloudevents import PROGRESS_TYPE
from waterhook.notifications.state_machine_output import DUPLICATE, IDEMPOTENCY_CONFLICT
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.timestamps import to_epoch_s

# No job here is old enough for a longer wait.
MOST_DELAY_S = 13.0
# In 30 s of a follow, at the interval of a young job.
MOST_LATE_POLLS = 17
# Events that go on postpone a poll by up to 30 s.
MOST_POSTPONED_S = 32.0


@dataclass(frozen=True, slots=True)
class Ending:
    """A world in which nothing happens any more."""

    world: World
    executions: list[Execution]

    @property
    def records(self) -> dict[str, ExecutionRecord]:
        items = self.world.table.items
        return {key: ExecutionRecord.from_item(item) for key, item in items.items() if "status" in item}


def broken(ending: Ending) -> list[str]:
    """Return every promise that was broken, in words."""
    records = ending.records
    return [
        *ending.world.seen.broken,
        *_accepted(ending, records),
        *_outcomes(ending, records),
        *_notifications(ending, records),
        *_jobs(ending, records),
        *_answers(ending, records),
        *_delays(ending, records),
        *_outages(ending, records),
        *_given_up(ending, records),
        *_final_records(ending, records),
        *_slots(ending),
    ]


def _accepted(ending: Ending, records: dict[str, ExecutionRecord]) -> Iterator[str]:
    """Every accepted request has one outcome."""
    owners = {record.owner_execution_arn for record in records.values()}
    for execution_id in ending.world.seen.accepted:
        if execution_id not in records:
            yield f"{execution_id}: a caller had a 202, and there is no record"
    for one in ending.executions:
        refused = one.ending.get("error_name") in {DUPLICATE, IDEMPOTENCY_CONFLICT}
        if one.arn not in owners and not refused and one.ending.get("execution_id") not in records:
            stopped = one.status in {"ABORTED", "TIMED_OUT"} or not one.ending
            if not stopped:
                yield f"{one.arn}: ended as {one.ending} and owns no record"
    for record in records.values():
        if not record.status.is_final:
            yield f"{record.execution_id}: nothing happens any more, and it is {record.status}"
        if record.notified_at is None or record.unfinished is not None:
            yield f"{record.execution_id}: nothing happens any more, and a sweep would find it again"


def _outcomes(ending: Ending, records: dict[str, ExecutionRecord]) -> Iterator[str]:
    """COMPLETED only if the upstream completed; REJECTED only without a job; the machine ends as its record says."""
    jobs = ending.world.upstream.jobs
    by_owner = {record.owner_execution_arn: record for record in records.values()}
    for record in records.values():
        job = jobs.get(record.waterflai_execution_id or "")
        if record.status is Status.COMPLETED and (job is None or job.outcome != "COMPLETED"):
            yield f"{record.execution_id}: COMPLETED, but the job is {job}"
        if job is not None and record.final_output_json not in {None, job.output}:
            yield f"{record.execution_id}: has the output {record.final_output_json}, its job {job.output}"
    for one in ending.executions:
        owned = by_owner.get(one.arn)
        if owned is None or not one.ending:
            continue
        if one.ending.get("status") != owned.status:
            yield f"{one.arn}: ended as {one.ending}, its record as {owned.status}"
        if (one.status == "SUCCEEDED") != (owned.status is Status.COMPLETED):
            yield f"{one.arn}: {one.status}, its record {owned.status}"


def _notifications(ending: Ending, records: dict[str, ExecutionRecord]) -> Iterator[str]:
    """Published at least once, each time the same, by the execution whose record it is or in its stead."""
    said: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    started = {one.arn for one in ending.executions}
    for published in ending.world.seen.published:
        event = json.loads(published.message)
        execution_id = event["subject"]
        record = records.get(execution_id)
        if record is None:
            yield f"{execution_id}: published without a record"
            continue
        owner = record.owner_execution_arn
        if owner not in started and execution_id not in ending.world.seen.accepted:
            yield f"{execution_id}: published, but never started, and no caller has its id"
        if published.actor not in {"api", "sweep", owner, f"reconcile {owner}"}:
            yield f"{execution_id}: published by {published.actor}, owned by {owner}"
        if event["type"] == PROGRESS_TYPE:
            continue
        said[execution_id].add((published.message, published.attributes))
        accepted_ms = round((to_epoch_s(record.created_at) or 0.0) * 1000)
        expected = (f"{execution_id}/{accepted_ms}/{record.status}", record.finished_at)
        if (event["id"], event["time"]) != expected or event["data"]["status"] != record.status:
            yield f"{execution_id}: published {event['id']} of {event['time']}, the record says {expected}"
    for record in records.values():
        times = len(said[record.execution_id])
        if times > 1:
            yield f"{record.execution_id}: published in {times} versions: {said[record.execution_id]}"
        if record.status.is_final and "sns" in record.deliver_to and not times:
            yield f"{record.execution_id}: {record.status} was never published"


def _jobs(ending: Ending, records: dict[str, ExecutionRecord]) -> Iterator[str]:
    """One key, one remote job; and none at all for what was rejected, or cancelled before it was started."""
    jobs: defaultdict[str, list[str]] = defaultdict(list)
    for job_id, job in ending.world.upstream.jobs.items():
        # What differs has the same key all the same.
        jobs[job.marker.partition(",")[0]].append(job_id)
    for marker, several in jobs.items():
        if len(several) > 1 and not ending.world.settings.at_least_once:
            yield f"{marker}: {len(several)} remote jobs"
    for record in records.values():
        marker = ending.world.seen.accepted.get(record.execution_id, "").partition(",")[0]
        for one in ending.executions:
            if one.arn == record.owner_execution_arn:
                given = one.given if isinstance(one.given, dict) else {}
                marker = given.get("request", given)["input_data"]["marker"].partition(",")[0]
        jobless = record.status in {Status.REJECTED, Status.CANCELLED} and not record.waterflai_execution_id
        if jobless and jobs[marker]:
            yield f"{record.execution_id}: {record.status} without a job, and there is {jobs[marker]}"


def _answers(ending: Ending, records: dict[str, ExecutionRecord]) -> Iterator[str]:
    """Whoever was told that it is cancelled was told the truth."""
    for execution_id, answer in ending.world.seen.answers:
        record = records.get(execution_id)
        if answer.cancelled and (record is None or record.status is not Status.CANCELLED):
            yield f"{execution_id}: a cancel was confirmed, and it is {record and record.status}"
        job = ending.world.upstream.jobs.get((record and record.waterflai_execution_id) or "")
        if answer.cancelled and job is not None and job.outcome != "CANCELLED" and not job.is_stubborn:
            yield f"{execution_id}: a cancel was confirmed, and its job is {job}"


def _delays(ending: Ending, records: dict[str, ExecutionRecord]) -> Iterator[str]:
    """Whatever the stream does, an outcome is known soon, where no call fails.

    Where several executions run at a time, one that sleeps moves the clock of all: those say nothing of delays.
    """
    if len(ending.executions) > 1:
        return
    owners = {one.arn for one in ending.executions if one.status == "SUCCEEDED"}
    for record in records.values():
        job = ending.world.upstream.jobs.get(record.waterflai_execution_id or "")
        if not ending.world.is_calm or job is None or record.owner_execution_arn not in owners:
            continue
        delay_s = (to_epoch_s(record.finished_at) or 0.0) - job.ends_at - job.lag_s
        if delay_s > (MOST_POSTPONED_S if job.stream == "chatters" else MOST_DELAY_S):
            yield f"{record.execution_id}: known {delay_s:.1f} s after its end, the stream: {job.stream}"


def _outages(ending: Ending, records: dict[str, ExecutionRecord]) -> Iterator[str]:
    """A job whose dependency comes back within six hours keeps its real outcome."""
    if not ending.world.outage.is_of_a_dependency or not ending.world.is_steady:
        return
    left = {one.arn for one in ending.executions if one.is_stopped or one.has_lost_its_start}
    for record in records.values():
        job = ending.world.upstream.jobs.get(record.waterflai_execution_id or "")
        if job is not None and record.owner_execution_arn not in left and record.status != job.outcome:
            yield f"{record.execution_id}: {record.status} {record.error}, its job {job.outcome}"


def _given_up(ending: Ending, records: dict[str, ExecutionRecord]) -> Iterator[str]:
    """The job of what ends in ERROR is cancelled, and the message says truly whether that worked."""
    by_owner = {record.owner_execution_arn: record for record in records.values()}
    for one in ending.executions:
        record = by_owner.get(one.arn)
        if record is None or record.status is not Status.ERROR or record.waterflai_execution_id is None:
            continue
        job_id = record.waterflai_execution_id
        if one.has_lost_its_poll and not ending.world.upstream.cancels[job_id]:
            yield f"{record.execution_id}: {record.error}, and no cancel was tried"
        job, message = ending.world.upstream.jobs[job_id], str(record.error)
        if "was cancelled" in message and job.outcome != "CANCELLED" and not job.is_stubborn:
            yield f"{record.execution_id}: {message}, and its job is {job}"


def _final_records(ending: Ending, records: dict[str, ExecutionRecord]) -> Iterator[str]:
    """A record that is final ends its loop within one poll, and a follow within 30 s and a poll."""
    if not ending.world.is_calm:
        return
    most = MOST_LATE_POLLS if ending.world.settings.follow else 1
    for job_id, count in ending.world.upstream.late_polls.items():
        if count > most:
            yield f"{job_id}: {count} polls after its record was final"


def _slots(ending: Ending) -> Iterator[str]:
    """No slot is held by what is over."""
    for execution_id in ending.world.table.holders():
        yield f"{execution_id}: holds a slot, and nothing runs any more"
