"""The scenarios of the demo: success, failure, timeout, cancel and flaky."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Scenario:
    """The request that the demo sends, and when it cancels the execution."""

    title: str
    chatbot: str
    request: Mapping[str, Any]
    cancel_after_s: float | None = None
    """Seconds from the request to the cancellation. None: the demo does not cancel."""
    simulated: bool = True
    """Whether the scenario needs the simulated Waterflai."""
    has_webhook: bool = False
    """Whether the request names a webhook, if webhooks are on."""


_INPUT_DATA = {"message": "Where is my order?", "language": "en"}
_METADATA = {"ticket": "T-1001"}

# Five faults in one execution, which still completes.
_FAULTS = [
    {"on": "start", "kind": "status_code", "code": 503, "retry_after": 1, "times": 1},
    {"on": "stream", "kind": "reset", "times": 1},
    {"on": "status", "kind": "status_code", "code": 502, "html": True, "times": 1},
    {"on": "status", "kind": "truncated", "after": 1, "times": 1},
    {"on": "status", "kind": "status_code", "code": 429, "retry_after": 2, "after": 2, "times": 1},
]

SCENARIOS = {
    "success": Scenario(
        "success. The chatbot answers, the job completes.",
        "support-chat",
        {"input_data": _INPUT_DATA, "metadata": _METADATA},
        simulated=False,
        has_webhook=True,
    ),
    "failure": Scenario(
        "failure. The job fails; the notification has the error.",
        "always-fails",
        {"input_data": _INPUT_DATA, "metadata": _METADATA},
    ),
    "timeout": Scenario(
        "timeout. The job does not end; Waterhook cancels it at its deadline.",
        "endless",
        {"input_data": _INPUT_DATA, "metadata": _METADATA, "timeout_seconds": 10},
    ),
    "cancel": Scenario(
        "cancel. The caller cancels the execution after 4 seconds.",
        "endless",
        {"input_data": _INPUT_DATA, "metadata": _METADATA},
        cancel_after_s=4.0,
    ),
    "flaky": Scenario(
        "flaky. Waterflai fails five times; the job still completes.",
        "support-chat",
        {"input_data": _INPUT_DATA | {"simulate": {"seconds": 5, "faults": _FAULTS}}, "metadata": _METADATA},
    ),
}
