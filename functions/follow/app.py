"""Follow: listen to the event stream until something final or the time is up, then ask the status."""

import math
import os
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import replace
from enum import Enum, auto
from functools import cache
from typing import Any, Protocol

from aws_lambda_powertools.utilities.typing import LambdaContext

from waterhook import policy
from waterhook.client import WaterflaiClient
from waterhook.errors import UpstreamError
from waterhook.models import MAX_ID_CHARS, Job, Next, clip
from waterhook.polling import Poller
from waterhook.progress import Relay
from waterhook.results import Results
from waterhook.secrets import ApiKey
from waterhook.settings import Settings
from waterhook.telemetry import Telemetry

telemetry = Telemetry("follow", correlation_id_path="execution.arn")

# Every other event means "something changed"; this one means "ask now". The status decides what is true.
FINAL_EVENT = "execution_completed"
# A dead connection and a silent job look the same: after this the status is asked, and the stream reopened.
IDLE_TIMEOUT_S = 60.0
# A stream that was opened and then broke off or fell silent; any other error refused it.
BROKE_OFF = "no_answer"
# A stream shorter than this is not worth reopening at once: it would turn listening into fast polling.
WORTHWHILE_S = 5.0
# How far the event stream may be ahead of the status document.
REPLICATION_S = 1.0
# What is left for the last question, its answer and the save of an output.
LAST_QUESTION_S = 30.0
# At 128 MB there is room for a small status document; a larger one is left to poll.
MAX_STATUS_BYTES = 256 * 1024


class Heard(Enum):
    """What came of listening once."""

    END = auto()  # the stream says that the execution is over
    CHANGE = auto()  # it was open for a while: silence is no failure, and the end would have been heard
    NOTHING = auto()  # refused or too short


class Streamer(Protocol):
    """What listening needs of the client."""

    def stream(
        self, execution_id: str, *, ends_at: float, idle_timeout_s: float
    ) -> Generator[dict[str, Any]]:
        """Yield the stream's events until it ends, `ends_at` (monotonic) passes, or raise UpstreamError."""


class Follower:
    """Trusts the stream for the moment, never for the verdict; a stream that fails costs one question."""

    def __init__(
        self,
        streamer: Streamer,
        poller: Poller,
        relay: Callable[[], Relay],
        monotonic: Callable[[], float],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        """Keep what it works with; `relay` makes one for an execution that wants progress events."""
        self._streamer = streamer
        self._poller = poller
        self._relay = relay
        self._monotonic = monotonic
        self._clock = clock
        self._sleep = sleep

    def follow(self, job: Job, follow_s: float) -> Job:
        """Return the job with an outcome or with what to do next, after at most `follow_s` of listening."""
        ends_at = self._monotonic() + max(min(follow_s, job.deadline - self._clock()), 0.0)
        relay = self._relay() if job.progress_events else None
        job = replace(job, history=replace(job.history, follows=job.history.follows + 1))
        while True:
            opened = self._monotonic()
            heard = self._listen(job, ends_at, relay)
            job = self._counted(job, self._monotonic() - opened)
            if heard is not Heard.CHANGE:
                # Only an outcome makes up for it; without one, polling is the way on for a while.
                job = replace(job, history=policy.not_followed(job.history, self._clock()))
            job = self._poller.poll(job)
            if heard is Heard.END and not job.outcome.is_final and job.next is not Next.POLL:
                # The event may be ahead of the status by a moment. If it is not, it lied and changes nothing.
                # (POLL says that the status is there and too large for us, so nothing is to be waited for.)
                self._sleep(REPLICATION_S)
                job = self._poller.poll(job)
            if job.next is not Next.FOLLOW or ends_at - self._monotonic() < WORTHWHILE_S:
                return job

    def _listen(self, job: Job, ends_at: float, relay: Relay | None) -> "Heard":
        """Listen once, relaying what changes, until the stream ends in whatever way."""
        opened, upstream_id = self._monotonic(), job.waterflai_execution_id or ""
        heard = Heard.CHANGE
        try:
            stream = self._streamer.stream(upstream_id, ends_at=ends_at, idle_timeout_s=IDLE_TIMEOUT_S)
            with closing(stream) as events:
                for event in events:
                    if event.get("type") == FINAL_EVENT:
                        return Heard.END
                    if relay is not None:
                        relay.tell(job, change_in(event))
        except UpstreamError as error:
            if error.code != BROKE_OFF or error.status is None:
                heard = Heard.NOTHING
        return heard if self._monotonic() - opened >= WORTHWHILE_S else Heard.NOTHING

    def _counted(self, job: Job, listened_s: float) -> Job:
        seconds = round(job.history.follow_seconds + listened_s, 3)
        return replace(job, history=replace(job.history, follow_seconds=seconds))


def change_in(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of an event is relayed: its type, its progress in percent and its node, where they fit."""
    progress, node = event.get("progress"), event.get("node_id") or event.get("current_node")
    change: dict[str, Any] = {}
    if isinstance(event.get("type"), str) and event["type"].startswith("node_"):
        change["event"] = clip(event["type"], 40)
    if isinstance(progress, int | float) and not isinstance(progress, bool):
        # Bounded first: an integer of any length is JSON, and no float holds it. Python also parses NaN.
        percent = float(min(max(progress, 0), 100))
        if not math.isnan(percent):
            change["progress"] = percent
    if isinstance(node, str):
        change["node_id"] = clip(node, MAX_ID_CHARS)
    return change


@cache
def _wiring() -> tuple[Follower, Settings]:
    settings = Settings.from_env(os.environ)
    key = ApiKey(settings.api_key_secret_arn)
    key.get()
    client = WaterflaiClient(settings.base_url, key, watch=telemetry.called)
    poller = Poller(client, Results(settings.bucket), settings, time.time, limit_bytes=MAX_STATUS_BYTES)

    def relay() -> Relay:
        # Only for an execution that asked for progress events: each client costs memory we have little of.
        return Relay.of(settings, time.time)

    return Follower(client, poller, relay, time.monotonic, time.time, time.sleep), settings


@telemetry.observed
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Follow the execution's stream; return the state of the loop."""
    telemetry.tell(event["state"])
    follower, settings = _wiring()
    left_s = context.get_remaining_time_in_millis() / 1000 - LAST_QUESTION_S
    job = follower.follow(Job.from_dict(event["state"]), min(settings.follow_s, left_s))
    telemetry.asked(job)
    state = job.to_dict()
    telemetry.tell(state)
    return state


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    _wiring()
