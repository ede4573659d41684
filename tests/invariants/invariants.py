"""What must hold at the end of every history, however it went."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from tests.invariants.machine import Execution
from tests.invariants.world import World
from waterhook.domain.status import Status
from waterhook.notifications.notification_events import PROGRESS_TYPE
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
class FinalState:
    """A world in which nothing is left to happen."""

    world: World
    executions: list[Execution]

    @property
    def records(self) -> dict[str, ExecutionRecord]:
        items = self.world.table.items
        return {key: ExecutionRecord.from_item(item) for key, item in items.items() if "status" in item}


def broken(final: FinalState) -> list[str]:
    """Return every promise that was broken, in words."""
    records = final.records
    return [
        *final.world.seen.broken,
        *_accepted(final, records),
        *_outcomes(final, records),
        *_notifications(final, records),
        *_jobs(final, records),
        *_answers(final, records),
        *_delays(final, records),
        *_outages(final, records),
        *_given_up(final, records),
        *_final_records(final, records),
        *_slots(final),
    ]


def _accepted(final: FinalState, records: dict[str, ExecutionRecord]) -> Iterator[str]:
    """Every accepted request has one outcome."""
    owners = {record.owner_execution_arn for record in records.values()}
    for execution_id in final.world.seen.accepted:
        if execution_id not in records:
            yield f"{execution_id}: a caller had a 202, and there is no record"
    for one in final.executions:
        refused = one.output.get("error_name") in {DUPLICATE, IDEMPOTENCY_CONFLICT}
        if one.arn not in owners and not refused and one.output.get("execution_id") not in records:
            stopped = one.status in {"ABORTED", "TIMED_OUT"} or not one.output
            if not stopped:
                yield f"{one.arn}: ended as {one.output} and owns no record"
    for record in records.values():
        if not record.status.is_final:
            yield f"{record.execution_id}: nothing happens any more, and it is {record.status}"
        if record.notified_at is None or record.unfinished is not None:
            yield f"{record.execution_id}: nothing happens any more, and a sweep would find it again"


def _outcomes(final: FinalState, records: dict[str, ExecutionRecord]) -> Iterator[str]:
    """COMPLETED only if the upstream completed; REJECTED only without a job; the machine ends as its record does."""
    jobs = final.world.upstream.jobs
    by_owner = {record.owner_execution_arn: record for record in records.values()}
    for record in records.values():
        job = jobs.get(record.waterflai_execution_id or "")
        if record.status is Status.COMPLETED and (job is None or job.outcome != "COMPLETED"):
            yield f"{record.execution_id}: COMPLETED, but the job is {job}"
        if job is not None and record.final_output_json not in {None, job.output}:
            yield f"{record.execution_id}: has the output {record.final_output_json}, its job {job.output}"
    for one in final.executions:
        owned = by_owner.get(one.arn)
        if owned is None or not one.output:
            continue
        if one.output.get("status") != owned.status:
            yield f"{one.arn}: ended as {one.output}, its record as {owned.status}"
        if (one.status == "SUCCEEDED") != (owned.status is Status.COMPLETED):
            yield f"{one.arn}: {one.status}, its record {owned.status}"


def _notifications(final: FinalState, records: dict[str, ExecutionRecord]) -> Iterator[str]:
    """Published at least once, each time the same, by the execution whose record it is or in its stead."""
    versions: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    started = {one.arn for one in final.executions}
    for published in final.world.seen.published:
        event = json.loads(published.message)
        execution_id = event["subject"]
        record = records.get(execution_id)
        if record is None:
            yield f"{execution_id}: published without a record"
            continue
        owner = record.owner_execution_arn
        if owner not in started and execution_id not in final.world.seen.accepted:
            yield f"{execution_id}: published, but never started, and no caller has its id"
        if published.actor not in {"api", "sweep", owner, f"reconcile {owner}"}:
            yield f"{execution_id}: published by {published.actor}, owned by {owner}"
        if event["type"] == PROGRESS_TYPE:
            continue
        versions[execution_id].add((published.message, published.attributes))
        accepted_ms = round((to_epoch_s(record.created_at) or 0.0) * 1000)
        expected = (f"{execution_id}/{accepted_ms}/{record.status}", record.finished_at)
        if (event["id"], event["time"]) != expected or event["data"]["status"] != record.status:
            yield f"{execution_id}: published {event['id']} of {event['time']}, the record has {expected}"
    for record in records.values():
        times = len(versions[record.execution_id])
        if times > 1:
            yield f"{record.execution_id}: published in {times} versions: {versions[record.execution_id]}"
        if record.status.is_final and "sns" in record.deliver_to and not times:
            yield f"{record.execution_id}: {record.status} was never published"


def _jobs(final: FinalState, records: dict[str, ExecutionRecord]) -> Iterator[str]:
    """One key, one remote job; and none at all for what was rejected, or cancelled before it was started."""
    jobs: defaultdict[str, list[str]] = defaultdict(list)
    for job_id, job in final.world.upstream.jobs.items():
        # What differs has the same key all the same.
        jobs[job.marker.partition(",")[0]].append(job_id)
    for marker, several in jobs.items():
        if len(several) > 1 and not final.world.settings.at_least_once:
            yield f"{marker}: {len(several)} remote jobs"
    for record in records.values():
        marker = final.world.seen.accepted.get(record.execution_id, "").partition(",")[0]
        for one in final.executions:
            if one.arn == record.owner_execution_arn:
                given = one.given if isinstance(one.given, dict) else {}
                marker = given.get("request", given)["input_data"]["marker"].partition(",")[0]
        jobless = record.status in {Status.REJECTED, Status.CANCELLED} and not record.waterflai_execution_id
        if jobless and jobs[marker]:
            yield f"{record.execution_id}: {record.status} without a job, and there is {jobs[marker]}"


def _answers(final: FinalState, records: dict[str, ExecutionRecord]) -> Iterator[str]:
    """A caller that got "cancelled" has a job that was cancelled."""
    for execution_id, answer in final.world.seen.answers:
        record = records.get(execution_id)
        if answer.cancelled and (record is None or record.status is not Status.CANCELLED):
            yield f"{execution_id}: a cancel was confirmed, and it is {record and record.status}"
        job = final.world.upstream.jobs.get((record and record.waterflai_execution_id) or "")
        if answer.cancelled and job is not None and job.outcome != "CANCELLED" and not job.is_stubborn:
            yield f"{execution_id}: a cancel was confirmed, and its job is {job}"


def _delays(final: FinalState, records: dict[str, ExecutionRecord]) -> Iterator[str]:
    """Whatever the stream does, an outcome is known soon, where no call fails.

    Where several executions run at a time, one that sleeps moves the clock of all: their delays are not measured.
    """
    if len(final.executions) > 1:
        return
    owners = {one.arn for one in final.executions if one.status == "SUCCEEDED"}
    for record in records.values():
        job = final.world.upstream.jobs.get(record.waterflai_execution_id or "")
        if not final.world.is_calm or job is None or record.owner_execution_arn not in owners:
            continue
        delay_s = (to_epoch_s(record.finished_at) or 0.0) - job.ends_at - job.lag_s
        if delay_s > (MOST_POSTPONED_S if job.stream == "chatters" else MOST_DELAY_S):
            yield f"{record.execution_id}: known {delay_s:.1f} s after its end, the stream: {job.stream}"


def _outages(final: FinalState, records: dict[str, ExecutionRecord]) -> Iterator[str]:
    """A job whose dependency comes back within six hours keeps its real outcome."""
    if not final.world.outage.is_of_a_dependency or not final.world.is_steady:
        return
    left = {one.arn for one in final.executions if one.is_stopped or one.has_lost_its_start}
    for record in records.values():
        job = final.world.upstream.jobs.get(record.waterflai_execution_id or "")
        if job is not None and record.owner_execution_arn not in left and record.status != job.outcome:
            yield f"{record.execution_id}: {record.status} {record.error}, its job {job.outcome}"


def _given_up(final: FinalState, records: dict[str, ExecutionRecord]) -> Iterator[str]:
    """The job of what ends in ERROR is cancelled, and the message states whether that worked."""
    by_owner = {record.owner_execution_arn: record for record in records.values()}
    for one in final.executions:
        record = by_owner.get(one.arn)
        if record is None or record.status is not Status.ERROR or record.waterflai_execution_id is None:
            continue
        job_id = record.waterflai_execution_id
        if one.has_lost_its_poll and not final.world.upstream.cancels[job_id]:
            yield f"{record.execution_id}: {record.error}, and no cancel was tried"
        job, message = final.world.upstream.jobs[job_id], str(record.error)
        if "was cancelled" in message and job.outcome != "CANCELLED" and not job.is_stubborn:
            yield f"{record.execution_id}: {message}, and its job is {job}"


def _final_records(final: FinalState, records: dict[str, ExecutionRecord]) -> Iterator[str]:
    """A record that is final ends its loop within one poll, and a follow within 30 s and a poll."""
    if not final.world.is_calm:
        return
    most = MOST_LATE_POLLS if final.world.settings.follow else 1
    for job_id, count in final.world.upstream.late_polls.items():
        if count > most:
            yield f"{job_id}: {count} polls after its record was final"


def _slots(final: FinalState) -> Iterator[str]:
    """No slot is held by what is over."""
    for execution_id in final.world.table.holders():
        yield f"{execution_id}: holds a slot, and nothing runs any more"
