"""API: answers the requests of the REST API. Paths and shapes are those of Waterflai's API where it has them."""

import os
import time
from functools import cache
from typing import Any

from aws_lambda_powertools.logging.correlation_paths import API_GATEWAY_REST
from aws_lambda_powertools.utilities.typing import LambdaContext

from waterhook import aws_clients
from waterhook.api.live_status import LiveStatus
from waterhook.api.routes import Routes
from waterhook.api.service import ExecutionService
from waterhook.domain.status_document import MAX_SHORT_STATUS_BYTES
from waterhook.notifications.notifier import Notifier
from waterhook.observability.telemetry import Telemetry
from waterhook.settings import Settings
from waterhook.steps.job_canceller import JobCanceller
from waterhook.steps.status_poller import StatusPoller
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.storage.results_bucket import ResultsBucket
from waterhook.upstream.api_key import ApiKey
from waterhook.upstream.client import WaterflaiClient

telemetry = Telemetry("api", correlation_id_path=API_GATEWAY_REST)
# A caller waits for the answer, and API Gateway ends the request after 29 s. A cancel that is too late sends two.
READ_TIMEOUT_S = 6.0
BUDGET_S = 10.0


@cache
def _wiring() -> ExecutionService:
    settings = Settings.from_env(os.environ)
    records = ExecutionsTable(settings.table)

    @cache
    def remote() -> LiveStatus:
        # Most callers start an execution and send no other request: they don't pay for the upstream's client.
        key = ApiKey(settings.api_key_secret_arn)
        client = WaterflaiClient(
            settings.base_url,
            key,
            read_timeout_s=READ_TIMEOUT_S,
            budget_s=BUDGET_S,
            watch=telemetry.record_call,
        )
        poller = StatusPoller(
            client, ResultsBucket(settings.bucket), settings, time.time, limit_bytes=MAX_SHORT_STATUS_BYTES
        )
        notifier = Notifier.of(settings, records, time.time, telemetry.record_delivery)
        return LiveStatus(records, client, JobCanceller(client, poller), notifier, time.time)

    states = aws_clients.session().client("stepfunctions", config=aws_clients.ONE_ATTEMPT)
    return ExecutionService(records, states, ResultsBucket(settings.bucket), settings, time.time, remote)


@telemetry.observe
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer one HTTP request."""
    # Set where the local AWS runs: it serves an API under a path that its events don't have.
    path_prefix = os.environ.get("WATERHOOK_API_PATH_PREFIX", "")
    answer = Routes(_wiring, telemetry, path_prefix).answer(event)
    # The template of the path, not the path: what a caller writes into that is not logged.
    telemetry.add_fields(
        route=f"{event.get('httpMethod')} {event.get('resource')}", http_status=answer["statusCode"]
    )
    return answer


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    _wiring()
