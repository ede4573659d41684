"""The state that the steps of the state machine pass to each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Self

from waterhook.domain.poll_history import PollHistory
from waterhook.domain.status import Status
from waterhook.domain.stream_history import StreamHistory
from waterhook.text import clip

STATE_VERSION = 1


class NextStep(StrEnum):
    """The step that the state machine takes next."""

    START = "start"
    FOLLOW = "follow"
    WAIT = "wait"
    POLL = "poll"
    CANCEL = "cancel"
    NOTIFY = "notify"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class LoopState:
    """State of the loop. Small and versioned; steps get nothing else from the step before."""

    execution_id: str
    deadline: float
    history: PollHistory
    waterflai_execution_id: str | None = None
    unsaved: bool = False
    """The id of the job is not in the record yet. A later step saves it."""
    progress_events: bool = False
    cancel_requested: bool = False
    cancelled_by_operator: bool = False
    """The cancel was requested by an operator, not by the caller."""
    chatbot_id: str | None = None
    """For log lines, so that no step reads the record for it."""
    follow_refused: bool = False
    """Set by the state machine when Lambda throttled the follow function. The next poll counts it."""
    fault: str | None = None
    """Set by the state machine when a step failed permanently: the name of its error."""
    outcome: Status = Status.RUNNING
    next: NextStep = NextStep.POLL
    wait_seconds: int = 0
    error: Mapping[str, Any] | None = None
    """`code` and `message` of the outcome. Before there is an outcome: the reason for which the job is cancelled."""
    result: Mapping[str, Any] = field(default_factory=dict)
    stream: StreamHistory = StreamHistory()  # noqa: RUF009 - it is frozen
    v: int = STATE_VERSION

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Read the state that a step received. Fields of a newer version are ignored."""
        known = {name: state[name] for name in cls.__dataclass_fields__ if name in state}
        return cls(
            **known
            | {
                "history": _read(PollHistory, known["history"]),
                "stream": _read(StreamHistory, known.get("stream", {})),
                "outcome": Status(known.get("outcome", Status.RUNNING)),
                "next": NextStep(known.get("next", NextStep.POLL)),
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON: always `v`, `outcome`, `next` and `wait_seconds`, other fields if not the default."""
        always = {"v": self.v, "outcome": self.outcome, "next": self.next, "wait_seconds": self.wait_seconds}
        state = _changed_fields(self) | {"history": _changed_fields(self.history)} | always
        return state | {"stream": _changed_fields(self.stream)} if "stream" in state else state

    def ended(self, outcome: Status, *, code: str | None = None, message: str = "", **result: Any) -> Self:
        """Return the state with an outcome; the next step is NOTIFY."""
        error = {"code": code, "message": clip(message)} if code else None
        return replace(
            self,
            outcome=outcome,
            next=NextStep.NOTIFY,
            wait_seconds=0,
            fault=None,
            error=error,
            result={name: value for name, value in result.items() if value is not None},
        )


def _read[T: (PollHistory, StreamHistory)](kind: type[T], state: Mapping[str, Any]) -> T:
    return kind(**{name: value for name, value in state.items() if name in kind.__dataclass_fields__})


def _changed_fields(record: PollHistory | StreamHistory | LoopState) -> dict[str, Any]:
    """Return the fields that differ from their default, to keep the state small."""
    values = ((name, getattr(record, name), default) for name, default in _DEFAULTS[type(record)])
    return {name: value for name, value, default in values if value not in (default, {})}


_DEFAULTS = {
    kind: [(entry.name, entry.default) for entry in fields(kind)]
    for kind in (PollHistory, StreamHistory, LoopState)
}
