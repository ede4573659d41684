"""The input of a state machine execution, from any trigger: its execution id, and its request."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from waterhook.domain.request import MAX_REQUEST_BYTES, Request, RequestDefaults
from waterhook.errors import InvalidRequestError
from waterhook.timestamps import to_epoch_s


def derive_execution_id(source: str, key: str) -> str:
    """Return the execution id that one key from one source always gets: 32 hexadecimal digits."""
    # An event id may be anything, half a surrogate pair included.
    return hashlib.sha256(f"{len(source)}:{source}:{key}".encode(errors="surrogatepass")).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class TriggerInput:
    """An execution's input: its id and source, and the request or what is wrong with it.

    `accepted_id` is what the API calls it, and no more than a claim until that record names this very
    execution as its owner: any principal that may start executions could write it.
    """

    execution_id: str
    source: str
    request: Request | None
    problem: str | None = None
    accepted_id: str | None = None

    @classmethod
    def read(cls, given: object, *, execution_arn: str, started_at: str, defaults: RequestDefaults) -> Self:
        """Read the input of a state machine execution. Never raises: what is wrong is in `problem`.

        The default key is the EventBridge event id, a schedule's ARN and time, else the execution itself, so
        that a function that is called again finds the record of its first call. An invalid request gets the
        default key too: its corrected successor must be able to use the caller's.
        """
        source, raw, key, accepted_id = "states", given, f"{execution_arn}@{_second(started_at)}", None
        if isinstance(given, Mapping) and "request" in given and "chatbot_id" not in given:
            raw = given["request"]
            if isinstance(given.get("execution_id"), str):
                accepted_id = given["execution_id"]
                raw = _with(raw, given.get("parameters"))
            elif isinstance(given.get("event_id"), str):
                source, key = "events", given["event_id"]
            elif (scheduled := _scheduled(given.get("schedule"))) is not None:
                source, key = "schedule", scheduled
        try:
            # The API has measured what the caller sent. After the engine, numbers may be longer.
            limit_bytes = MAX_REQUEST_BYTES if accepted_id is None else None
            request = Request.from_dict(raw, defaults, limit_bytes=limit_bytes)
        except InvalidRequestError as error:
            return cls(derive_execution_id(source, key), source, None, str(error), accepted_id)
        execution_id = derive_execution_id(source, request.idempotency_key or key)
        return cls(execution_id, source, request, accepted_id=accepted_id)


def _with(raw: object, parameters: object) -> object:
    """Return a request of the API with what its path and its header named, which the body need not repeat."""
    if isinstance(raw, Mapping) and isinstance(parameters, Mapping):
        return {**raw, **parameters}
    return raw


def _scheduled(schedule: object) -> str | None:
    """Return the key of a schedule's run, or None where ARN or time is missing: no two of those are the same."""
    if not isinstance(schedule, Mapping):
        return None
    arn, moment = schedule.get("arn"), schedule.get("time")
    return f"{arn}@{moment}" if isinstance(arn, str) and isinstance(moment, str) else None


def _second(started_at: str) -> str:
    """Return the second of an execution's start: the engine and its API write the same moment differently."""
    moment = to_epoch_s(started_at)
    return started_at if moment is None else str(int(moment))
