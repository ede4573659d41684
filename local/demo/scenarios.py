"""The scenarios of the demo: success, failure, timeout, cancel and flaky."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Scenario:
    """One request and what is done with its execution."""

    title: str
    chatbot: str
    request: Mapping[str, Any]
    cancel_after_s: float | None = None
    """When the demo cancels the execution, in seconds from the request."""
    simulated: bool = True
    """Whether it needs the simulated Waterflai."""


_QUESTION = {"message": "Where is my order?", "language": "en"}
_TICKET = {"ticket": "T-1001"}

# One fault of each kind: one run shows them all and still completes.
_FAULTS = [
    {"on": "start", "kind": "status_code", "code": 503, "retry_after": 1, "times": 1},
    {"on": "stream", "kind": "reset", "times": 1},
    {"on": "status", "kind": "status_code", "code": 502, "html": True, "times": 1},
    {"on": "status", "kind": "truncated", "after": 1, "times": 1},
    {"on": "status", "kind": "status_code", "code": 429, "retry_after": 2, "after": 2, "times": 1},
]

SCENARIOS = {
    "success": Scenario(
        "A chat that answers",
        "support-chat",
        {"input_data": _QUESTION, "metadata": _TICKET},
        simulated=False,
    ),
    "failure": Scenario(
        "A chat that fails at Waterflai: the notification holds the reason",
        "always-fails",
        {"input_data": _QUESTION, "metadata": _TICKET},
    ),
    "timeout": Scenario(
        "A job that never ends: at its deadline it is cancelled",
        "endless",
        {"input_data": _QUESTION, "metadata": _TICKET, "timeout_seconds": 10},
    ),
    "cancel": Scenario(
        "A caller cancels: effective immediately, whatever the loop waits for",
        "endless",
        {"input_data": _QUESTION, "metadata": _TICKET},
        cancel_after_s=4.0,
    ),
    "flaky": Scenario(
        "A bad minute at Waterflai: 503, a broken stream, HTML, half an answer, 429",
        "support-chat",
        {"input_data": _QUESTION | {"simulate": {"seconds": 5, "faults": _FAULTS}}, "metadata": _TICKET},
    ),
}
