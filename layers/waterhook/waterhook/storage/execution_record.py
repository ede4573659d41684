"""The record of an execution, and its form as a DynamoDB item."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

from waterhook.domain.request import Request, RequestDefaults
from waterhook.domain.status import Status
from waterhook.json_text import to_json
from waterhook.timestamps import to_rfc3339

if TYPE_CHECKING:
    from waterhook.domain.webhook import Webhook

# TTL of a record without a notification, counted from its deadline or outcome. It must outlive its job.
UNFINISHED_GRACE_S = 30 * 24 * 3600

# Records without a notification are in an index, sharded by the first digit of the execution id. A DynamoDB partition
# takes 1,000 writes per second, so 16 shards take more executions than Step Functions starts.
UNFINISHED_SHARDS = "0123456789abcdef"

# All records are in an index by time. An execution writes its entry four times (ACCEPTED, STARTING, RUNNING, outcome),
# and Step Functions starts 300 executions per second in the largest regions. That is 1,200 writes per second. Four
# shards take 4,000.
TIME_SHARDS = "0123"

_serializer = TypeSerializer()
_deserializer = TypeDeserializer()


@dataclass(frozen=True, slots=True)
class ExecutionRecord:
    """The record of an execution. `…_at` is RFC 3339, except `expires_at` (TTL) in epoch seconds.

    Values that the customer may nest are stored as JSON text, because DynamoDB allows only 32 levels.
    """

    execution_id: str
    status: Status
    owner_execution_arn: str
    source: str
    created_at: str
    deadline: int
    expires_at: int
    deliver_to: tuple[str, ...]
    chatbot_id: str | None = None
    request_sha256: str | None = None
    metadata_json: str = "{}"
    progress_events: bool = False
    webhook: "Webhook | None" = None
    caller: str | None = None
    start_attempts: int = 0
    start_token: str | None = None
    first_attempt_at: str | None = None
    """When the first attempt to start the job began. `StartDeadlineSeconds` counts from here."""
    perhaps_started: bool = False
    """Waterflai may have accepted an attempt whose answer was lost."""
    waiting: Mapping[str, Any] | None = None
    """Why the request waits for its start, see waterhook.steps.wait_reason."""
    slots: tuple[str, ...] | None = None
    """Keys of the items of the table that list this execution as the holder of a slot."""
    repeated: str | None = None
    """When the same request was sent again while this record was ACCEPTED."""
    progress: float | None = None
    progress_sequence: int = 0
    cancel_requested: str | None = None
    cancelled_by_operator: bool | None = None
    """Whether the latest cancel request came from an operator. Missing if it came from the caller."""
    waterflai_execution_id: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    published_to: tuple[str, ...] | None = None
    """Targets that received the outcome while another target failed. Only the others are tried again."""
    notified_at: str | None = None
    shard: str | None = None
    """Shard in the index of all records by time."""
    unfinished: str | None = None
    """Shard in the index of unfinished records. Removed when the record is notified and its slots are released."""
    error: Mapping[str, Any] | None = None
    final_output_json: str | None = None
    output_ref: str | None = None
    output_error: str | None = None
    timing: Mapping[str, Any] | None = None
    usage: Mapping[str, Any] | None = None

    @classmethod
    def accepted(
        cls,
        execution_id: str,
        request: Request | None,
        now: float,
        *,
        owner: str,
        source: str,
        defaults: RequestDefaults,
        caller: str | None = None,
    ) -> Self:
        """Return the record of a request that was just accepted. `request` is None if it is invalid.

        The outcome of an invalid request goes to the targets of `defaults`.
        """
        deadline = int(now) + (request.timeout_seconds if request else 0)
        return cls(
            execution_id=execution_id,
            status=Status.ACCEPTED,
            owner_execution_arn=owner,
            source=source,
            created_at=to_rfc3339(now) or "",
            deadline=deadline,
            expires_at=deadline + UNFINISHED_GRACE_S,
            deliver_to=request.deliver_to if request else defaults.deliver_to,
            chatbot_id=request.chatbot_id if request else None,
            request_sha256=request.sha256 if request else None,
            metadata_json=to_json(request.metadata) if request else "{}",
            progress_events=request.progress_events if request else False,
            webhook=request.webhook if request else defaults.webhook,
            caller=caller,
            shard=shard_of(execution_id),
            unfinished=execution_id[0],
        )

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Self:
        """Read an item. Attributes of another version are ignored."""
        known = {name: from_attribute(item[name]) for name in cls.__dataclass_fields__ if name in item}
        known |= {"status": Status(known["status"]), "deliver_to": tuple(known["deliver_to"])}
        for name in ("slots", "published_to"):
            if name in known:
                known[name] = tuple(known[name])
        if "webhook" in known:
            from waterhook.domain.webhook import Webhook

            known["webhook"] = Webhook.from_mapping(known["webhook"])
        return cls(**known)

    def to_item(self) -> dict[str, Any]:
        """Return the item without empty attributes."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        values["webhook"] = self.webhook and self.webhook.to_mapping()
        return {name: to_attribute(value) for name, value in values.items() if value is not None}

    @property
    def has_begun(self) -> bool:
        """Whether the state machine execution or a caller's cancel has changed the record since acceptance."""
        if self.status is not Status.ACCEPTED or self.start_attempts:
            return True
        return any(trace is not None for trace in (self.slots, self.waiting, self.cancel_requested))

    @property
    def publishes_progress(self) -> bool:
        """Whether a target receives progress events."""
        return self.progress_events or (self.webhook is not None and self.webhook.wants_progress)

    @property
    def webhook_wants_outcome(self) -> bool:
        """Whether the record is final and its webhook receives this outcome."""
        return self.webhook is not None and self.status.is_final and self.webhook.wants(self.status)

    @property
    def metadata(self) -> dict[str, Any]:
        """The caller's metadata, which notifications return unchanged."""
        metadata: dict[str, Any] = json.loads(self.metadata_json)
        return metadata


def shard_of(execution_id: str) -> str:
    """Return the shard of a record in the index by time. The first digits of ids are evenly distributed."""
    return TIME_SHARDS[int(execution_id[0], 16) % len(TIME_SHARDS)]


def to_attribute(value: Any) -> dict[str, Any]:
    """Return a value as a DynamoDB attribute value."""
    return dict(_serializer.serialize(_fit(value)))


def from_attribute(attribute: Any) -> Any:
    """Return the value of a DynamoDB attribute value, with numbers as int or float."""
    return _plain(_deserializer.deserialize(attribute))


def _fit(value: Any) -> Any:
    """Return a value in the types that boto3's serializer accepts: no tuple, float or StrEnum."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, float):
        # DynamoDB accepts 38 digits and exponents from -130. An upstream number may be smaller.
        return Decimal(str(round(value, 6)))
    if isinstance(value, Mapping):
        return {name: _fit(entry) for name, entry in value.items()}
    return value


def _plain(value: Any) -> Any:
    """Return a deserialized value with int or float instead of Decimal."""
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value
