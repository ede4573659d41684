"""The input of a state machine execution: each trigger's own shape, read into an execution id and a request."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from waterhook.domain.request import MAX_REQUEST_BYTES, Request, RequestDefaults
from waterhook.errors import InvalidRequestError
from waterhook.timestamps import to_epoch_s

# Names of the triggers in the API, by the `source` of a record. Execution ids are derived from the source, so it keeps
# its values: otherwise an execution that waits for its start would get another id with an update of the stack.
TRIGGERS = {
    "api": "api",
    "events": "eventbridge",
    "schedule": "schedule",
    "states": "state_machine",
}


def trigger_name(source: str) -> str:
    """Return the name of a trigger in the API; that of a newer version is unchanged."""
    return TRIGGERS.get(source, source)


def derive_execution_id(source: str, key: str) -> str:
    """Return the execution id of a source and a key: 32 hexadecimal digits, always the same for the same pair."""
    # An EventBridge event id may contain half of a surrogate pair.
    return hashlib.sha256(f"{len(source)}:{source}:{key}".encode(errors="surrogatepass")).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class TriggerInput:
    """The input of a state machine execution: its id and source, and the request or the problem with it.

    `accepted_id` is the execution id that the API assigned. Any principal that may start executions can write it, so
    trust it only if that record names this execution as its owner.
    """

    execution_id: str
    source: str
    request: Request | None
    problem: str | None = None
    accepted_id: str | None = None

    @classmethod
    def read(
        cls, execution_input: object, *, execution_arn: str, started_at: str, defaults: RequestDefaults
    ) -> Self:
        """Read the input of a state machine execution. Never raises: what is wrong is in `problem`.

        The default key is the EventBridge event id, or the schedule's ARN and time, else the ARN and start time of the
        state machine execution. A function that is called again derives the same key and finds its record. An invalid
        request also gets the default key, so that the corrected request can use the caller's key.
        """
        source, raw, accepted_id = "states", execution_input, None
        key = f"{execution_arn}@{_start_second(started_at)}"
        if (
            isinstance(execution_input, Mapping)
            and "request" in execution_input
            and "chatbot_id" not in execution_input
        ):
            raw = execution_input["request"]
            if isinstance(execution_input.get("execution_id"), str):
                accepted_id = execution_input["execution_id"]
                raw = _merge_parameters(raw, execution_input.get("parameters"))
            elif isinstance(execution_input.get("event_id"), str):
                source, key = "events", execution_input["event_id"]
            elif (schedule_key := _schedule_key(execution_input.get("schedule"))) is not None:
                source, key = "schedule", schedule_key
        try:
            # The API has measured what the caller sent. Step Functions may have written numbers longer since.
            limit_bytes = MAX_REQUEST_BYTES if accepted_id is None else None
            request = Request.from_dict(raw, defaults, limit_bytes=limit_bytes)
        except InvalidRequestError as error:
            return cls(derive_execution_id(source, key), source, None, str(error), accepted_id)
        execution_id = derive_execution_id(source, request.idempotency_key or key)
        return cls(execution_id, source, request, accepted_id=accepted_id)


def _merge_parameters(raw: object, parameters: object) -> object:
    """Return a request of the API with the fields from its path and headers."""
    if isinstance(raw, Mapping) and isinstance(parameters, Mapping):
        return {**raw, **parameters}
    return raw


def _schedule_key(schedule: object) -> str | None:
    """Return the key of one run of a schedule, or None if the ARN or the time is missing."""
    if not isinstance(schedule, Mapping):
        return None
    arn, moment = schedule.get("arn"), schedule.get("time")
    return f"{arn}@{moment}" if isinstance(arn, str) and isinstance(moment, str) else None


def _start_second(started_at: str) -> str:
    """Return the start time in whole seconds: the state machine and DescribeExecution write fractions differently."""
    moment = to_epoch_s(started_at)
    return started_at if moment is None else str(int(moment))
