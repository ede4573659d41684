"""Follow: hold the event stream and poll the status beside it, until there is an outcome or the time is up."""

import os
import time
from functools import cache
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from waterhook.domain.loop_state import LoopState
from waterhook.notifications.progress_publisher import ProgressPublisher
from waterhook.observability.telemetry import Telemetry
from waterhook.settings import Settings
from waterhook.steps.follow import FollowStep
from waterhook.steps.record_check import RecordCheck
from waterhook.steps.status_poller import StatusPoller
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.storage.results_bucket import ResultsBucket
from waterhook.upstream.api_key import ApiKey
from waterhook.upstream.client import WaterflaiClient

telemetry = Telemetry("follow", correlation_id_path="execution.arn")

# Reserved for the last status request, its answer and the write of an output.
RESERVE_S = 30.0
# 128 MB of memory suffice for a small status document; the poll function reads larger ones.
MAX_STATUS_BYTES = 256 * 1024


@cache
def _wiring() -> tuple[FollowStep, Settings]:
    settings = Settings.from_env(os.environ)
    key = ApiKey(settings.api_key_secret_arn)
    key.preload()
    client = WaterflaiClient(settings.base_url, key, watch=telemetry.record_call)
    poller = StatusPoller(
        client, ResultsBucket(settings.bucket), settings, time.time, limit_bytes=MAX_STATUS_BYTES
    )

    def publisher() -> ProgressPublisher:
        # Only for an execution whose caller wants progress events: each AWS client needs memory.
        return ProgressPublisher.of(settings, time.time)

    check = RecordCheck(cache(lambda: ExecutionsTable(settings.table)), time.time)
    follower = FollowStep(
        client, poller, publisher, check, clock=time.time, monotonic=time.monotonic, sleep=time.sleep
    )
    return follower, settings


@telemetry.observe
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Follow the execution; return the state of the loop."""
    telemetry.add_fields(event["state"])
    follower, settings = _wiring()
    left_s = context.get_remaining_time_in_millis() / 1000 - RESERVE_S
    # Where following was switched off meanwhile, the status is polled once.
    follow_s = min(settings.follow_s, left_s) if settings.follow else 0.0
    job = follower.follow(LoopState.from_dict(event["state"]), follow_s)
    telemetry.record_staleness(job)
    state = job.to_dict()
    telemetry.add_fields(state)
    return state


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    _wiring()
