"""Follow: hold the event stream and poll the status beside it, until there is an outcome or the time is up."""

import os
import time
from functools import cache
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from waterhook.client import WaterflaiClient
from waterhook.following import Follower
from waterhook.models import Job
from waterhook.polling import Poller
from waterhook.progress import Relay
from waterhook.record_check import RecordCheck
from waterhook.records import Records
from waterhook.results import Results
from waterhook.secrets import ApiKey
from waterhook.settings import Settings
from waterhook.telemetry import Telemetry

telemetry = Telemetry("follow", correlation_id_path="execution.arn")

# Reserved for the last status request, its answer and the write of an output.
RESERVE_S = 30.0
# 128 MB of memory suffice for a small status document; the poll function reads larger ones.
MAX_STATUS_BYTES = 256 * 1024


@cache
def _wiring() -> tuple[Follower, Settings]:
    settings = Settings.from_env(os.environ)
    key = ApiKey(settings.api_key_secret_arn)
    key.preload()
    client = WaterflaiClient(settings.base_url, key, watch=telemetry.called)
    poller = Poller(client, Results(settings.bucket), settings, time.time, limit_bytes=MAX_STATUS_BYTES)

    def publisher() -> Relay:
        # Only for an execution whose caller wants progress events: each AWS client needs memory.
        return Relay.of(settings, time.time)

    check = RecordCheck(cache(lambda: Records(settings.table)), time.time)
    follower = Follower(
        client, poller, publisher, check, clock=time.time, monotonic=time.monotonic, sleep=time.sleep
    )
    return follower, settings


@telemetry.observed
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Follow the execution; return the state of the loop."""
    telemetry.tell(event["state"])
    follower, settings = _wiring()
    left_s = context.get_remaining_time_in_millis() / 1000 - RESERVE_S
    # Where following was switched off meanwhile, the status is polled once.
    follow_s = min(settings.follow_s, left_s) if settings.follow else 0.0
    job = follower.follow(Job.from_dict(event["state"]), follow_s)
    telemetry.asked(job)
    state = job.to_dict()
    telemetry.tell(state)
    return state


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    _wiring()
