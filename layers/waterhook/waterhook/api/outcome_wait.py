"""Waits for the outcome of an execution while its caller waits for the answer.

The answer must be sent before the function's timeout, also if AWS answers slowly. So a wait leaves RESERVE_S, each call
takes at most CALL_S, and none is made without time for it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from botocore.exceptions import BotoCoreError, ClientError

from waterhook import aws_config
from waterhook.api.callers import Caller
from waterhook.domain.status import Status
from waterhook.errors import DependencyUnavailableError, RecordUnavailableError
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.waiting_places import MAX_TAKE_CALLS

PAUSE_S = 0.5
# The wait ends after this many reads in a row that failed.
MAX_FAILURES = 5
# Part of the invocation's time that a wait leaves for the answer.
RESERVE_S = 3.0
# Longest call, and the time to build the answer.
CALL_S = aws_config.longest_call_s(aws_config.SHORT) + 0.2
# With less time than for taking a place, no wait begins.
LEAST_S = MAX_TAKE_CALLS * CALL_S
# A place expires this long after the wait: the function has ended by then, and clocks may differ a little.
PLACE_MARGIN_S = RESERVE_S + 2


class StatusReader(Protocol):
    """Reads records."""

    def status(self, execution_id: str) -> Status | None:
        """Return only the status, perhaps an older one. Raises RecordUnavailableError."""

    def get(self, execution_id: str, now: float) -> ExecutionRecord | None:
        """Return the record, or None if it does not exist or has expired. Raises RecordUnavailableError."""


class Places(Protocol):
    """A limited number of places for waiting requests."""

    def new(self, expires_at: float) -> str:
        """Return a place that is not taken yet."""

    def take(self, place: str, now: float) -> bool:
        """Take the place, and return whether one was free. Raises RecordUnavailableError."""

    def give_back(self, place: str) -> None:
        """Give a place back. Raises nothing."""


class DocumentSource(Protocol):
    """Builds status documents."""

    def document(self, record: ExecutionRecord, caller: Caller, *, with_progress: bool = True) -> str:
        """Return the status document for a caller as JSON text."""


class WaitResult(StrEnum):
    """Why a wait ended."""

    FINAL = "final"
    TIME_OVER = "time_over"
    GONE = "gone"
    """The record was erased or has expired."""
    FAILED = "failed"
    """DynamoDB did not answer in time."""
    NO_PLACE = "no_place"
    """MaxWaiters other requests wait."""
    NO_TIME = "no_time"
    """The invocation has less than LEAST_S left."""


@dataclass(frozen=True, slots=True)
class Waited:
    """The result of a wait."""

    result: WaitResult
    record: ExecutionRecord | None
    """The record after the wait, or the earlier one if it was not read again. None if it is gone."""
    applied_s: int
    """Longest time that the request could wait."""
    waited_s: float = 0.0


class OutcomeWait:
    """Waits for outcomes in the API function. Each waiting request has one of `MaxWaiters` places."""

    def __init__(
        self,
        longest_s: int,
        records: StatusReader,
        places: Places,
        documents: DocumentSource,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        """`longest_s` is `MaxWaitSeconds`. Each call to AWS ends within CALL_S."""
        self.longest_s = longest_s
        self._records = records
        self._places = places
        self._documents = documents
        self._clock = clock
        self._sleep = sleep

    def impossible(self, record: ExecutionRecord) -> str | None:
        """Return why a caller can't wait for this execution, or None if it can."""
        if not self.longest_s:
            return "this deployment allows no waiting (MaxWaitSeconds is 0); send the request without it"
        if "dynamodb" not in record.deliver_to:
            return "the deliver_to of this execution lacks dynamodb, so its output can't be read here"
        return None

    def wait(self, record: ExecutionRecord, wanted_s: int, remaining_s: Callable[[], float]) -> Waited:
        """Wait until the record is final, at most `wanted_s`. An execution that is final already needs no place.

        `remaining_s` returns the time until the function's timeout.
        """
        began = self._clock()
        applied_s = min(wanted_s, self.longest_s)
        if record.status.is_final:
            return Waited(WaitResult.FINAL, record, applied_s)
        if remaining_s() < LEAST_S:
            return Waited(WaitResult.NO_TIME, record, 0)
        applied_s = min(applied_s, int(remaining_s() - RESERVE_S))
        place = self._places.new(began + applied_s + PLACE_MARGIN_S)
        try:
            if not self._places.take(place, began):
                return Waited(WaitResult.NO_PLACE, record, applied_s)
        except RecordUnavailableError:
            return Waited(WaitResult.FAILED, record, applied_s, self._clock() - began)
        try:
            result, current = self._watch(record, began + applied_s, remaining_s)
        finally:
            if remaining_s() >= CALL_S:
                self._places.give_back(place)
        return Waited(result, current, applied_s, self._clock() - began)

    def document(
        self, record: ExecutionRecord, caller: Caller, remaining_s: Callable[[], float]
    ) -> str | None:
        """Return the status document after `wait`, or None if AWS fails or the time is over.

        The progress is that of the record, because Waterflai may answer too late.
        """
        if remaining_s() < CALL_S:
            return None
        try:
            return self._documents.document(record, caller, with_progress=False)
        except (DependencyUnavailableError, BotoCoreError, ClientError):
            return None

    def _watch(
        self, record: ExecutionRecord, ends_at: float, remaining_s: Callable[[], float]
    ) -> tuple[WaitResult, ExecutionRecord | None]:
        """Read the status until it is final or the time is over. Return the result and the whole record."""
        id_, failures = record.execution_id, 0
        while remaining_s() >= CALL_S and failures < MAX_FAILURES:
            if is_waiting := (rest_s := ends_at - self._clock()) > 0:
                self._sleep(min(rest_s, PAUSE_S))
            try:
                status = self._records.status(id_) if is_waiting else None
                if status is not None and not status.is_final:
                    failures = 0
                    continue
                if remaining_s() < CALL_S:
                    break
                # Without a status, the record is gone, or the read did not see it yet. This one is consistent.
                current = self._records.get(id_, self._clock())
            except RecordUnavailableError:
                failures += 1
                continue
            if current is None:
                return WaitResult.GONE, None
            if current.status.is_final:
                return WaitResult.FINAL, current
            if not is_waiting:
                return WaitResult.TIME_OVER, current
        return WaitResult.FAILED, record
