"""API: answers the requests of the REST API. Paths and shapes are those of Waterflai's API where it has them."""

import os
import time
from functools import cache
from typing import Any

from aws_lambda_powertools.logging.correlation_paths import API_GATEWAY_REST
from aws_lambda_powertools.utilities.typing import LambdaContext

from waterhook import aws
from waterhook.client import WaterflaiClient
from waterhook.front_door import FrontDoor
from waterhook.polling import Poller
from waterhook.records import Records
from waterhook.remote import Remote
from waterhook.results import Results
from waterhook.routes import Routes
from waterhook.secrets import ApiKey
from waterhook.settings import Settings
from waterhook.status import MAX_SHORT_STATUS_BYTES
from waterhook.stopping import Stopper
from waterhook.telemetry import Telemetry
from waterhook.verdict import Notifier

telemetry = Telemetry("api", correlation_id_path=API_GATEWAY_REST)
# A caller waits for the answer, and API Gateway ends the request after 29 s. A cancel that is too late sends two.
READ_TIMEOUT_S = 6.0
BUDGET_S = 10.0


@cache
def _wiring() -> FrontDoor:
    settings = Settings.from_env(os.environ)
    records = Records(settings.table)

    @cache
    def remote() -> Remote:
        # Most callers start an execution and send no other request: they don't pay for the upstream's client.
        key = ApiKey(settings.api_key_secret_arn)
        client = WaterflaiClient(
            settings.base_url,
            key,
            read_timeout_s=READ_TIMEOUT_S,
            budget_s=BUDGET_S,
            watch=telemetry.called,
        )
        poller = Poller(
            client, Results(settings.bucket), settings, time.time, limit_bytes=MAX_SHORT_STATUS_BYTES
        )
        notifier = Notifier.of(settings, records, time.time, telemetry.delivered)
        return Remote(records, client, Stopper(client, poller), notifier, time.time)

    states = aws.session().client("stepfunctions", config=aws.ONE_ATTEMPT)
    return FrontDoor(records, states, Results(settings.bucket), settings, time.time, remote)


@telemetry.observed
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer one HTTP request."""
    # Set where the local AWS runs: it serves an API under a path that its events don't have.
    path_prefix = os.environ.get("WATERHOOK_API_PATH_PREFIX", "")
    answer = Routes(_wiring, telemetry, path_prefix).answer(event)
    # The template of the path, not the path: what a caller writes into that is not logged.
    telemetry.tell(
        route=f"{event.get('httpMethod')} {event.get('resource')}", http_status=answer["statusCode"]
    )
    return answer


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    _wiring()
