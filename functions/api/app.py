"""API: the front door. Same paths and shapes as the upstream's own API, answered without holding the caller."""

import hashlib
import json
import os
import re
import time
from dataclasses import asdict
from functools import cache
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from aws_lambda_powertools.logging.correlation_paths import API_GATEWAY_REST
from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEvent
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.exceptions import BotoCoreError, ClientError

from waterhook import aws
from waterhook.client import WaterflaiClient
from waterhook.errors import InvalidRequest, Problem, RecordUnavailable, RequestTooLarge, SettingsError
from waterhook.front_door import FrontDoor
from waterhook.models import Status
from waterhook.polling import Poller
from waterhook.records import Records
from waterhook.remote import Remote
from waterhook.request import MAX_REQUEST_BYTES, compact, kind
from waterhook.results import Results
from waterhook.secrets import ApiKey
from waterhook.settings import Settings
from waterhook.stopping import Stopper
from waterhook.telemetry import Telemetry
from waterhook.verdict import Notifier

telemetry = Telemetry("api", correlation_id_path=API_GATEWAY_REST)
# Somebody waits at the other end, and API Gateway hangs up after 29 s. A cancel that is too late asks twice.
READ_TIMEOUT_S = 6.0
BUDGET_S = 10.0
_SESSION = re.compile(r"(:assumed-role/[^/]+)/.*$")
app = APIGatewayRestResolver()


def caller_of(event: APIGatewayProxyEvent) -> str:
    """Return who asks: the IAM principal, else the API key by its id (or, where that is not told, its fingerprint)."""
    identity = event.raw_event.get("requestContext", {}).get("identity") or {}
    if identity.get("userArn"):
        # A role is the caller, whatever its session is called: the next one must find what this one started.
        return _SESSION.sub(r"\1", str(identity["userArn"]))
    if identity.get("apiKeyId"):
        return f"key/{identity['apiKeyId']}"
    return "key/" + hashlib.sha256((event.headers.get("x-api-key") or "").encode()).hexdigest()[:16]


def request_of(event: APIGatewayProxyEvent, chatbot_id: str) -> dict[str, Any]:
    """Return the request that path, header and body make together. Raises Problem or InvalidRequest."""
    try:
        body = (event.decoded_body or "").encode()
        if len(body) > MAX_REQUEST_BYTES:
            detail = f"body: {len(body)} bytes, at most {MAX_REQUEST_BYTES} are allowed"
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        message = "body: expected a JSON object with input_data"
        raise InvalidRequest(message) from error
    if not isinstance(given, dict):
        message = f"body: expected object, got {kind(given)}"
        raise InvalidRequest(message)
    named = {"chatbot_id": chatbot_id, "idempotency_key": event.headers.get("Idempotency-Key")}
    for name, value in named.items():
        if value is not None and given.get(name) not in (None, value):
            message = f"{name}: the body and the request around it name two different ones"
            raise InvalidRequest(message)
    return given | {name: value for name, value in named.items() if value is not None}


@cache
def _wiring() -> FrontDoor:
    settings = Settings.from_env(os.environ)
    records = Records(settings.table)

    @cache
    def remote() -> Remote:
        # Most callers start an execution and never ask again: they don't pay for the upstream's client.
        key = ApiKey(settings.api_key_secret_arn)
        client = WaterflaiClient(
            settings.base_url,
            key,
            read_timeout_s=READ_TIMEOUT_S,
            budget_s=BUDGET_S,
            watch=telemetry.called,
        )
        poller = Poller(client, Results(settings.bucket), settings, time.time)
        notifier = Notifier.of(settings, records, time.time, telemetry.delivered)
        return Remote(records, client, Stopper(client, poller), notifier, time.time)

    states = aws.session().client("stepfunctions")
    return FrontDoor(records, states, Results(settings.bucket), settings, time.time, remote)


def _json(status: int, body: str, headers: dict[str, str] | None = None) -> Response[str]:
    return Response(status, "application/json", body, dict(headers or {}))


def _detail(status: int, detail: str) -> Response[str]:
    return _json(status, compact({"detail": detail}))


@app.post("/v1/executions/<chatbot_id>/async")
def accept(chatbot_id: str) -> Response[str]:
    """Take a request in: 202 with where to look and how to cancel."""
    event = app.current_event
    record = _wiring().accept(request_of(event, unquote(chatbot_id)), caller_of(event))
    telemetry.tell_record(record)
    url = _base_url(event) + f"/v1/executions/{record.execution_id}"
    said = {
        "execution_id": record.execution_id,
        "status": record.status,
        "status_url": url,
        "cancel_url": url,
    }
    return _json(HTTPStatus.ACCEPTED, compact(said))


@app.get("/v1/executions/<execution_id>")
def read(execution_id: str) -> Response[str]:
    """Show where an execution stands: 200 with its status document."""
    door = _wiring()
    record = door.find(unquote(execution_id), caller_of(app.current_event))
    telemetry.tell_record(record)
    retry_after_s = door.retry_after_s(record)
    return _json(
        HTTPStatus.OK, door.document(record), {"Retry-After": str(retry_after_s)} if retry_after_s else {}
    )


@app.get("/v1/executions")
def browse() -> Response[str]:
    """List the caller's own executions: 200 with a page of them, newest first."""
    event = app.current_event
    asked = event.query_string_parameters or {}
    limit = asked.get("limit") or "20"
    if not (limit.isascii() and limit.isdigit()):
        raise InvalidRequest("limit: expected a whole number")
    page = _wiring().page(
        caller_of(event), status=asked.get("status"), limit=int(limit[:9]), after=asked.get("next")
    )
    return _json(HTTPStatus.OK, compact(page))


@app.delete("/v1/executions/<execution_id>")
def cancel(execution_id: str) -> Response[str]:
    """Cancel an execution: 200 with what came of it, 202 when that is not known yet."""
    execution_id = unquote(execution_id)
    answer = _wiring().cancel(execution_id, caller_of(app.current_event))
    outcome = Status.CANCELLED if answer.cancelled else answer.previous_status
    telemetry.tell(execution_id=execution_id, outcome=outcome)
    said = {"execution_id": execution_id, **asdict(answer)}
    pending = not answer.cancelled and answer.previous_status == Status.STARTING
    return _json(HTTPStatus.ACCEPTED if pending else HTTPStatus.OK, compact(said))


@app.exception_handler(Problem)  # type: ignore[untyped-decorator]  # Powertools leaves it untyped
def _problem(problem: Problem) -> Response[str]:
    return _detail(problem.status, problem.detail)


@app.exception_handler(RequestTooLarge)  # type: ignore[untyped-decorator]
def _too_large(error: RequestTooLarge) -> Response[str]:
    return _detail(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error))


@app.exception_handler(InvalidRequest)  # type: ignore[untyped-decorator]
def _invalid(error: InvalidRequest) -> Response[str]:
    return _detail(HTTPStatus.BAD_REQUEST, str(error))


@app.exception_handler([RecordUnavailable, SettingsError, BotoCoreError, ClientError])  # type: ignore[untyped-decorator]
def _unavailable(error: Exception) -> Response[str]:
    telemetry.logger.error("table, topic, bucket or secret is unavailable", reason=str(error))
    return _detail(HTTPStatus.SERVICE_UNAVAILABLE, "try again in a moment")


@app.not_found
def _not_found(_error: NotFoundError) -> Response[str]:
    return _detail(HTTPStatus.NOT_FOUND, "no such path; see POST /v1/executions/{chatbot_id}/async")


def _base_url(event: APIGatewayProxyEvent) -> str:
    """Return the URL the caller reached us by, without the path: stage and custom domain included."""
    raw = event.raw_event
    context = raw.get("requestContext", {})
    prefix = str(context.get("path") or raw["path"]).removesuffix(raw["path"])
    domain = context.get("domainName")
    return f"https://{domain}{prefix}" if domain else prefix


@telemetry.observed
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer one HTTP request."""
    answer = app.resolve(event, context)
    # The template of the path, not the path: what a caller may write into that is none of ours.
    telemetry.tell(
        route=f"{event.get('httpMethod')} {event.get('resource')}", http_status=answer["statusCode"]
    )
    return answer


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    _wiring()
