"""Waits for the outcome of an execution while its caller waits for the answer.

The answer must be sent before the function's timeout, also if AWS answers slowly. So a wait leaves RESERVE_S. Calls use
the usual clients of the function as long as there is time for them. Then each call takes at most CALL_S, and none is
made without time for it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from botocore.exceptions import BotoCoreError, ClientError

from waterhook import aws_config
from waterhook.api.callers import Caller
from waterhook.api.cancellation import CALL_BUDGET_S
from waterhook.domain.status import Status
from waterhook.errors import DependencyUnavailableError, RecordUnavailableError
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.waiting_places import MAX_TAKE_CALLS

PAUSE_S = 0.5
# The wait ends after this many reads in a row that failed.
MAX_FAILURES = 5
# Part of the invocation's time that a wait leaves for the answer.
RESERVE_S = 3.0
# One call of the usual clients, and a request for the progress with the API key. They are used while this time is left
# in addition to RESERVE_S.
USUAL_CALL_S = aws_config.longest_call_s() + 0.2
USUAL_PROGRESS_S = USUAL_CALL_S + CALL_BUDGET_S
# One call of the clients with short timeouts, and the time to build the answer.
CALL_S = aws_config.longest_call_s(aws_config.SHORT) + 0.2
# Budget of such a request with short timeouts, and the time that it takes with the API key, which may be read twice.
PROGRESS_BUDGET_S = 1.0
PROGRESS_S = 2 * CALL_S + PROGRESS_BUDGET_S
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


@dataclass(frozen=True, slots=True)
class Access:
    """What a wait uses of AWS, through clients with the same timeouts. Each is called when it is needed."""

    records: Callable[[], StatusReader]
    places: Callable[[], Places]
    documents: Callable[[], DocumentSource]


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
    """The invocation has less than a second to wait."""


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
        usual: Access,
        short: Access,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        """`longest_s` is `MaxWaitSeconds`. Each call of `short` ends within CALL_S."""
        self.longest_s = longest_s
        self._usual = usual
        self._short = short
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
        applied_s = min(applied_s, int(remaining_s() - RESERVE_S))
        if applied_s < 1:
            return Waited(WaitResult.NO_TIME, record, 0)
        place = ""
        try:
            places = self._access(remaining_s, MAX_TAKE_CALLS * USUAL_CALL_S).places()
            wanted = places.new(began + applied_s + PLACE_MARGIN_S)
            if not places.take(wanted, began):
                return Waited(WaitResult.NO_PLACE, record, applied_s)
            place = wanted
            result, current = self._watch(record, began + applied_s, remaining_s)
        except RecordUnavailableError:
            result, current = WaitResult.FAILED, record
        finally:
            if place and remaining_s() >= CALL_S:
                self._access(remaining_s).places().give_back(place)
        return Waited(result, current, applied_s, self._clock() - began)

    def document(
        self, record: ExecutionRecord, caller: Caller, remaining_s: Callable[[], float]
    ) -> str | None:
        """Return the status document after `wait`, or None if AWS fails or the time is over.

        Without the time to read the progress from Waterflai, the progress is that of the record.
        """
        if remaining_s() < CALL_S:
            return None
        needed_s = USUAL_CALL_S if record.status.is_final else USUAL_PROGRESS_S
        documents = self._access(remaining_s, needed_s).documents()
        try:
            return documents.document(record, caller, with_progress=remaining_s() >= PROGRESS_S)
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
            records = self._access(remaining_s).records()
            try:
                status = records.status(id_) if is_waiting else None
                if status is not None and not status.is_final:
                    failures = 0
                    continue
                if remaining_s() < CALL_S:
                    break
                # Without a status, the record is gone, or the read did not see it yet. This one is consistent.
                current = self._access(remaining_s).records().get(id_, self._clock())
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

    def _access(self, remaining_s: Callable[[], float], needed_s: float = USUAL_CALL_S) -> Access:
        """Return the usual clients if they have the time that they may need, else those with short timeouts."""
        return self._usual if remaining_s() >= RESERVE_S + needed_s else self._short
