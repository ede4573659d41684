"""Accepts requests and starts their state machine executions. Finds, cancels and lists executions."""

import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from waterhook.api.callers import Caller
from waterhook.api.cancellation import ExecutionCanceller
from waterhook.api.list_query import ListQuery, write_cursor
from waterhook.domain import polling_policy
from waterhook.domain.execution_list import Entry
from waterhook.domain.poll_history import PollHistory
from waterhook.domain.request import MAX_REQUEST_BYTES, MAX_WRITTEN_BYTES, Request
from waterhook.domain.status import Status
from waterhook.domain.trigger_input import derive_execution_id, trigger_name
from waterhook.errors import (
    THROTTLING_CODES,
    ApiError,
    RecordConflictError,
    RecordUnavailableError,
    aws_error_code,
)
from waterhook.json_text import join_members, to_json, to_json_bytes
from waterhook.settings import Settings
from waterhook.storage.execution_lists import ExecutionLists
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.text import clip
from waterhook.timestamps import to_epoch_s
from waterhook.upstream.client import CancelResult

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

_API = "api"
_LISTED = ("execution_id", "status", "chatbot_id", "created_at", "finished_at")
# Errors of Step Functions for an input that it would also refuse the next time.
_REFUSED_INPUT = {"InvalidExecutionInput", "ValidationException"}
# An API call retries StartExecution within this time after the first attempt. Each attempt takes at most 3 s, and the
# caller is answered after at most 28 s.
START_WITHIN_S = 3.0
START_ATTEMPTS = 4
START_PAUSE_S = 0.2
_CHANGING = "another call is changing the record; try again"
_NOT_STARTED = "the execution may not have been started; try again with the same Idempotency-Key"


class ExecutionService:
    """Accepts requests, and finds, cancels and lists executions. The state machine does the rest."""

    def __init__(
        self,
        table: ExecutionsTable,
        states: "SFNClient",
        settings: Settings,
        clock: Callable[[], float],
        canceller: Callable[[], ExecutionCanceller],
        sleep: Callable[[float], None] = time.sleep,
        *,
        lists: ExecutionLists,
    ) -> None:
        """`states` makes one attempt per call, so that the service sees the error of every attempt.

        `canceller` is called only by requests that need the upstream.
        """
        self._sleep = sleep
        self._canceller = canceller
        self._table = table
        self._lists = lists
        self._states = states
        self._settings = settings
        self._clock = clock

    def accept(
        self, raw: object, caller: str, input_members: Mapping[str, str] | None = None
    ) -> ExecutionRecord:
        """Return the record of a new request, or of the same request that was accepted before.

        `input_members` are the members of the state machine's input as JSON text, with the request as it was sent, at
        most MAX_REQUEST_BYTES. Without them `raw` is serialized.

        The record is written before the execution is started, so a GET right after the POST finds it. If the start of
        an execution failed, it is started when the request is sent again with the same key. Raises
        InvalidRequestError, or ApiError for a conflict or a failing AWS service.
        """
        limit_bytes = MAX_WRITTEN_BYTES if input_members else MAX_REQUEST_BYTES
        request = Request.from_dict(raw, self._settings.defaults, limit_bytes=limit_bytes)
        key, now = request.idempotency_key, self._clock()
        execution_id = derive_execution_id(f"api/{caller}", key) if key else uuid.uuid4().hex
        record = ExecutionRecord.accepted(
            execution_id,
            request,
            now,
            owner=self._owner(f"{execution_id}-{int(now * 1000)}"),
            source=_API,
            defaults=self._settings.defaults,
            caller=caller,
        )
        try:
            self._table.accept(record, now)
        except RecordConflictError as error:
            record = self._find_same_request(record, now, error)
        if record.waterflai_execution_id is None and not record.status.is_final:
            self._start(record, input_members or {"request": to_json_bytes(raw).decode()})
        return record

    def find(self, execution_id: str, caller: Caller) -> ExecutionRecord:
        """Return a record that the caller may see: its own, for an operator any. Raises ApiError 404 otherwise."""
        record = self._table.get(execution_id, self._clock())
        if record is None or not (caller.is_operator or caller.started(record.caller)):
            raise not_found(execution_id, caller)
        return record

    def cancel(self, record: ExecutionRecord, caller: Caller) -> CancelResult:
        """Return the result of a cancel of a record that the caller may see. Raises ApiError 404 or 502."""
        return self._canceller().cancel(record, by_operator=not caller.started(record.caller))

    def page(self, query: ListQuery, caller: Caller) -> dict[str, Any]:
        """Return a page of executions, newest first, and the cursor of the next page."""
        filters, limit, position = query.filters, query.limit, query.position
        if query.caller is None:
            entries, end = self._lists.of_all(filters, limit, position)
        elif filters.source in {None, _API}:
            # The index has only requests of the API, and not their source.
            own = replace(filters, source=None)
            entries, end = self._lists.of_caller(query.caller, own, limit, position)
        else:
            entries, end = [], None
        listed = [_public_entry(entry, caller) for entry in entries]
        return {"executions": listed, "next": write_cursor(end) if end else None}

    def retry_after_s(self, record: ExecutionRecord) -> int | None:
        """Return the seconds after which a caller should poll again, or None if the status is final."""
        if record.status.is_final:
            return None
        now = self._clock()
        history = PollHistory(started_at=to_epoch_s(record.created_at) or now)
        # The wait of a polled execution. A followed one has no wait, and callers of the API always poll.
        limits = self._settings.limits(record.deadline, may_follow=False)
        return max(polling_policy.next_step(history, now, limits).wait_seconds, 1)

    def _find_same_request(
        self, record: ExecutionRecord, now: float, conflict: RecordConflictError
    ) -> ExecutionRecord:
        """Return the record that has this id. Raises ApiError 409 if it belongs to another request."""
        first = self._table.get(record.execution_id, now)
        if first is None:
            raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, _CHANGING) from conflict
        if first.request_sha256 != record.request_sha256:
            detail = "idempotency_key: already used for another request; use a new key for a new request"
            raise ApiError(HTTPStatus.CONFLICT, detail)
        # The call that accepted the request may withdraw an ACCEPTED record, so prevent that.
        return self._mark_repeated(first, now) if first.status is Status.ACCEPTED else first

    def _mark_repeated(self, first: ExecutionRecord, now: float) -> ExecutionRecord:
        try:
            return self._table.mark_repeated(first, now)
        except RecordConflictError as conflict:
            current = self._table.get(first.execution_id, now)
            if current is None or current.owner_execution_arn != first.owner_execution_arn:
                raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, _CHANGING) from conflict
            return current

    def _start(self, record: ExecutionRecord, input_members: Mapping[str, str]) -> None:
        """Start the state machine execution that owns the record. Its name makes retries idempotent.

        Raises ApiError 400 if Step Functions refuses the input, and 503 if no attempt succeeded. If every attempt was
        refused, the record is withdrawn.
        """
        name = record.owner_execution_arn.rpartition(":")[2]
        execution_input = join_members({"execution_id": to_json(record.execution_id), **input_members})
        ends_at = self._clock() + START_WITHIN_S
        may_be_started = False
        fault: ClientError | BotoCoreError | None = None
        for attempt in range(START_ATTEMPTS):
            try:
                self._states.start_execution(
                    stateMachineArn=self._settings.state_machine_arn, name=name, input=execution_input
                )
            except (ClientError, BotoCoreError) as error:
                fault = error
            else:
                return
            if aws_error_code(fault) == "ExecutionAlreadyExists":
                return
            was_refused = _is_refusal(fault)
            may_be_started = may_be_started or not was_refused
            pause_s = START_PAUSE_S * 2**attempt
            # Throttling passes. Any other refusal, such as a denial, would be repeated.
            may_succeed = not was_refused or aws_error_code(fault) in THROTTLING_CODES
            if not may_succeed or self._clock() + pause_s >= ends_at:
                break
            self._sleep(pause_s)
        if not may_be_started:
            self._withdraw(record)
        if isinstance(fault, ClientError) and aws_error_code(fault) in _REFUSED_INPUT:
            why = clip(fault.response["Error"].get("Message") or aws_error_code(fault), 300)
            size_bytes = len(execution_input.encode())
            detail = f"request: Step Functions refuses it as an execution input of {size_bytes} bytes: {why}"
            raise ApiError(HTTPStatus.BAD_REQUEST, detail) from fault
        raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, _NOT_STARTED) from fault

    def _withdraw(self, record: ExecutionRecord) -> None:
        # If this fails too, a record without an execution remains. A POST with the same key starts it, or a sweep
        # discards it.
        with suppress(RecordConflictError, RecordUnavailableError):
            self._table.withdraw(record)

    def _owner(self, name: str) -> str:
        machine = self._settings.state_machine_arn
        return machine.replace(":stateMachine:", ":execution:") + f":{name}"


def not_found(execution_id: str, caller: Caller) -> ApiError:
    """Return the error for an execution that the caller does not have."""
    nothing = "there is no execution" if caller.is_operator else "this caller has no execution"
    detail = f"execution_id: {nothing} {clip(execution_id, 100)}; it may have expired"
    return ApiError(HTTPStatus.NOT_FOUND, detail)


def _is_refusal(error: ClientError | BotoCoreError) -> bool:
    """Return whether AWS refused the call. Otherwise (5xx or no response) an execution may have been started."""
    metadata = error.response.get("ResponseMetadata", {}) if isinstance(error, ClientError) else {}
    return HTTPStatus.BAD_REQUEST <= metadata.get("HTTPStatusCode", 0) < HTTPStatus.INTERNAL_SERVER_ERROR


def _public_entry(entry: Entry, caller: Caller) -> Entry:
    """Return a record's entry in a list."""
    shown = {name: entry[name] for name in _LISTED if name in entry}
    shown["trigger"] = trigger_name(entry.get("source", _API))
    return shown | {"caller": entry.get("caller")} if caller.is_operator else shown
