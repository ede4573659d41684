"""Start: claim the execution's record, POST once, save the upstream's id."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, Protocol

from aws_lambda_powertools.utilities.typing import LambdaContext

from waterhook import envelope, policy
from waterhook.capacity import NO_CAP, Capacity
from waterhook.client import WaterflaiClient
from waterhook.errors import NotAccepted, RecordConflict, RecordUnavailable, Unavailable, UpstreamError
from waterhook.figures import Figure
from waterhook.intake import Intake
from waterhook.jitter import jitter_of
from waterhook.models import History, Job, Next, Status, epoch
from waterhook.record import Record
from waterhook.records import Records
from waterhook.request import Request
from waterhook.secrets import ApiKey
from waterhook.settings import Settings
from waterhook.telemetry import Telemetry

telemetry = Telemetry("start", correlation_id_path="execution.arn")
_SERVICE_UNAVAILABLE = 503
_CANCELLED_BEFORE = {"code": "cancelled", "message": "cancelled before it was started"}


class Upstream(Protocol):
    """What a start needs of the client."""

    def start(self, chatbot_id: str, input_data: Mapping[str, Any]) -> str:
        """Start an execution and return its id."""

    def cancel(self, execution_id: str) -> object:
        """Cancel it."""


class Starter:
    """One key, one remote job: every edge between ACCEPTED, STARTING and RUNNING is a conditional write."""

    def __init__(
        self,
        records: Records,
        upstream: Upstream,
        settings: Settings,
        clock: Callable[[], float],
        capacity: Capacity = NO_CAP,
    ) -> None:
        """Keep what it works with."""
        self._capacity = capacity
        self._records = records
        self._upstream = upstream
        self._settings = settings
        self._clock = clock

    def start(self, given: object, *, owner: str, started_at: str) -> dict[str, Any]:
        """Return the state of the loop, or how this execution ends where the request is another's.

        Safe to call again after any crash: the record says how far the last call came.
        """
        now = self._clock()
        defaults = self._settings.defaults
        intake = Intake.read(given, execution_arn=owner, started_at=started_at, defaults=defaults)
        record = intake.claim(self._records, owner=owner, now=now, defaults=defaults)
        request = intake.request
        if record.owner_execution_arn != owner:
            same = record.request_sha256 == (request.sha256 if request else None)
            return envelope.duplicate(record) if same else envelope.idempotency_conflict(record)
        accepted_at = epoch(record.created_at) or now
        events = policy.events_before_start(
            record.start_attempts, now - accepted_at, record.deadline - accepted_at
        )
        job = Job(
            record.execution_id,
            record.deadline,
            History(round(now, 3), earlier_events=events),
            record.waterflai_execution_id,
            progress_events=record.progress_events,
            chatbot_id=record.chatbot_id,
        )
        if request is None:
            problem = intake.problem or ""
            return job.ended(Status.REJECTED, code="invalid_request", message=problem).to_dict()
        return self._go_on(job, record, request).to_dict()

    def _go_on(self, job: Job, record: Record, request: Request) -> Job:
        if record.status.is_final:
            return job.ended(record.status)
        if record.status is Status.RUNNING:
            return self._running(job)
        if record.status is Status.STARTING:
            # The last call ended between its POST and its save, or before the POST. Nobody knows.
            return self._perhaps_accepted(job, record, "the start was interrupted")
        return self._accepted(job, record, request)

    def _accepted(self, job: Job, record: Record, request: Request) -> Job:
        if record.cancel_requested:
            return job.ended(Status.CANCELLED, **_CANCELLED_BEFORE)
        if self._clock() >= record.deadline:
            tried = record.start_attempts > 0
            return self._never_started(job, "the deadline passed before the start", tried=tried)
        waiting = self._records.waiting(record)
        if not self._capacity.take(record.execution_id, request.chatbot_id, waiting):
            return self._queued(job, record)
        return self._post(job, record, request)

    def _queued(self, job: Job, record: Record) -> Job:
        """Return the job on its way to another look for a free slot; its record stays ACCEPTED meanwhile."""
        telemetry.measure(Figure.STARTS_QUEUED)
        now = self._clock()
        waited_s = now - (epoch(record.created_at) or now)
        decision = policy.queue_again(waited_s, now, self._settings.limits(job.deadline))
        return replace(job, next=decision.next, wait_seconds=decision.wait_seconds)

    def _post(self, job: Job, record: Record, request: Request) -> Job:
        try:
            record = self._records.begin_start(record)
        except RecordConflict:
            # The slot is left to whoever was first: by a verdict it was given back, by a start it is in use.
            return self._overtaken(job)
        try:
            upstream_id = self._upstream.start(request.chatbot_id, request.input_data)
        except UpstreamError as error:
            return self._not_started(job, record, error)
        job = replace(job, waterflai_execution_id=upstream_id)
        try:
            record = self._records.save_start(record, upstream_id, self._clock())
        except RecordConflict:
            current = self._records.get(job.execution_id, self._clock())
            if current and current.status is Status.RUNNING and current.waterflai_execution_id == upstream_id:
                # It was our own write: its answer was lost, and boto3's repetition of it came too late.
                record = current
            else:
                # A verdict came while we were starting: nobody will wait for this job.
                self._cancel_quietly(upstream_id)
                return self._overtaken(job)
        except RecordUnavailable:
            telemetry.logger.warning("the upstream id is not saved yet", execution_id=job.execution_id)
            job = replace(job, unsaved=True)
        if record.cancel_requested:
            return replace(job, next=Next.CANCEL, cancel_requested=True)
        return self._running(job)

    def _not_started(self, job: Job, record: Record, error: UpstreamError) -> Job:
        ambiguous_503 = error.status == _SERVICE_UNAVAILABLE and self._settings.uncertain_on_503
        if not isinstance(error, NotAccepted) or ambiguous_503:
            return self._perhaps_accepted(job, record, error.message, error.retry_after_s)
        if not isinstance(error, Unavailable):
            message = f"Waterflai refused the start: {error.message}"
            # This attempt is counted already; it is the ones before it that may have been taken.
            return self._never_started(job, message, code=error.code, tried=record.start_attempts > 1)
        return self._again(job, record, error.message, error.retry_after_s)

    def _perhaps_accepted(
        self, job: Job, record: Record, why: str, retry_after_s: float | None = None
    ) -> Job:
        if self._settings.at_least_once:
            return self._again(job, record, why, retry_after_s)
        message = f"{why}; Waterflai may be running this job, and it was not started a second time"
        return job.ended(Status.UNCERTAIN, code="start_uncertain", message=message)

    def _again(self, job: Job, record: Record, why: str, retry_after_s: float | None = None) -> Job:
        """Return the job on its way to another start, or rejected when the start deadline has passed."""
        try:
            record = self._records.undo_start(record)
        except RecordConflict:
            return self._overtaken(job)
        if record.cancel_requested:
            return job.ended(Status.CANCELLED, **_CANCELLED_BEFORE)
        accepted_at = epoch(record.created_at) or 0.0
        limits = self._settings.limits(min(accepted_at + self._settings.start_deadline_s, record.deadline))
        jitter = jitter_of(job.execution_id, record.start_attempts)
        decision = policy.start_again(record.start_attempts, retry_after_s, self._clock(), limits, jitter)
        if decision.next is Next.NOTIFY:
            message = f"Waterflai could not take the job until the start deadline; at last: {why}"
            return self._never_started(job, message, tried=True)
        return replace(job, next=decision.next, wait_seconds=decision.wait_seconds)

    def _never_started(self, job: Job, message: str, *, tried: bool, code: str = "start_deadline") -> Job:
        """Return the job as rejected: TIMED_OUT would say that one ran. Among several attempts one may have."""
        outcome = Status.UNCERTAIN if tried and self._settings.at_least_once else Status.REJECTED
        return job.ended(outcome, code=code, message=message)

    def _running(self, job: Job) -> Job:
        limits = self._settings.limits(job.deadline, may_follow=not job.unsaved)
        decision = policy.next_step(job.history, self._clock(), limits)
        return replace(job, next=decision.next, wait_seconds=decision.wait_seconds)

    def _overtaken(self, job: Job) -> Job:
        """Return the job as the record has it: final, or cancelled before it was started."""
        record = self._records.get(job.execution_id, self._clock())
        if record is not None and record.status.is_final:
            return job.ended(record.status)
        if record is not None and record.cancel_requested:
            return job.ended(Status.CANCELLED, **_CANCELLED_BEFORE)
        message = f"{job.execution_id}: the record is neither final nor cancelled"
        raise RecordConflict(message)

    def _cancel_quietly(self, upstream_id: str) -> None:
        try:
            self._upstream.cancel(upstream_id)
        except UpstreamError as error:
            telemetry.logger.warning(
                "a job nobody waits for was not cancelled", code=error.code, http_status=error.status
            )


@cache
def _wiring() -> Starter:
    settings = Settings.from_env(os.environ)
    key = ApiKey(settings.api_key_secret_arn)
    key.get()
    client = WaterflaiClient(settings.base_url, key, watch=telemetry.called)
    capacity = Capacity(settings.table, settings.caps)
    return Starter(Records(settings.table), client, settings, time.time, capacity)


@telemetry.observed
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Start the execution that the state machine was handed; return the state of its loop."""
    given, execution = event["input"], event["execution"]
    if isinstance(given, dict):
        telemetry.tell(event_id=given.get("event_id"), execution_id=given.get("execution_id"))
    state = _wiring().start(given, owner=execution["arn"], started_at=execution["started_at"])
    telemetry.tell(state)
    return state


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    _wiring()
