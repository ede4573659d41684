"""The REST API: an event of API Gateway in, its answer out.

API Gateway has matched the path already. Routes go by `resource`, the path of the template, because `path` begins
with the base path of a custom domain:

| called by | `path` | `requestContext.path` |
|---|---|---|
| stage URL | `/v1/executions` | `/live/v1/executions` |
| custom domain, mapped to the stage | `/v1/executions` | `/v1/executions` |
| custom domain with base path `a/b` | `/a/b/v1/executions` | `/a/b/v1/executions` |

`resource` is `/v1/executions` in all of them. Path parameters are percent-encoded as the caller sent them.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from botocore.exceptions import BotoCoreError, ClientError

from waterhook.api.request_body import RequestBody
from waterhook.api.service import MAX_PAGE, ExecutionService
from waterhook.domain.status import Status
from waterhook.errors import (
    ApiError,
    DependencyUnavailableError,
    InvalidRequestError,
    RequestTooLargeError,
    SettingsError,
)
from waterhook.json_text import to_json
from waterhook.observability.telemetry import Telemetry
from waterhook.text import clip

type Event = Mapping[str, Any]
type HttpResponse = dict[str, Any]

EXECUTIONS = "/v1/executions"
_SESSION = re.compile(r"(:assumed-role/[^/]+)/.*$")
_HOST = re.compile(r"[A-Za-z0-9.-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")
_TRY_AGAIN = (
    "an AWS service that this deployment uses is unavailable; try again in a few seconds,"
    " a POST with the same Idempotency-Key"
)


class Routes:
    """Answers the requests of the four routes."""

    def __init__(
        self, service: Callable[[], ExecutionService], telemetry: Telemetry, path_prefix: str = ""
    ) -> None:
        """Build nothing yet: a wrong configuration is a 503 too.

        `path_prefix` is a path before the API's id, where the API is reached by path instead of a name of its own.
        """
        self._service = service
        self._telemetry = telemetry
        self._path_prefix = path_prefix

    def answer(self, event: Event) -> HttpResponse:
        """Return the answer to a request, in the form of a Lambda proxy integration."""
        route = ROUTES.get((str(event.get("httpMethod")), str(event.get("resource"))))
        if route is None:
            detail = f"no such path; see POST {EXECUTIONS}/{{chatbot_id}}/async"
            return _detail(HTTPStatus.NOT_FOUND, detail)
        try:
            return route(self, event)
        except ApiError as problem:
            return _detail(problem.status, problem.detail)
        except RequestTooLargeError as error:
            return _detail(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error))
        except InvalidRequestError as error:
            return _detail(HTTPStatus.BAD_REQUEST, str(error))
        except (DependencyUnavailableError, SettingsError, BotoCoreError, ClientError) as error:
            self._telemetry.logger.error("table, topic, bucket or secret is unavailable", reason=str(error))  # noqa: TRY400 - a reason is enough
            return _detail(HTTPStatus.SERVICE_UNAVAILABLE, _TRY_AGAIN)

    def accept(self, event: Event) -> HttpResponse:
        """Accept a request: 202 with where to read its status and how to cancel it."""
        submission = RequestBody.read(
            _body(event), chatbot_id=_chatbot_id(event), idempotency_key=header(event, "Idempotency-Key")
        )
        record = self._service().accept(submission.fields, caller_of(event), submission.input)
        self._telemetry.add_record(record)
        url = f"{base_url(event, self._path_prefix)}{EXECUTIONS}/{record.execution_id}"
        accepted = {
            "execution_id": record.execution_id,
            "status": record.status,
            "status_url": url,
            "cancel_url": url,
        }
        return _json(HTTPStatus.ACCEPTED, to_json(accepted), {"Location": url})

    def read(self, event: Event) -> HttpResponse:
        """Return 200 with the status document of an execution."""
        service = self._service()
        record = service.find(_execution_id(event), caller_of(event))
        self._telemetry.add_record(record)
        retry_after_s = service.retry_after_s(record)
        headers = {"Retry-After": str(retry_after_s)} if retry_after_s else {}
        return _json(HTTPStatus.OK, service.document(record), headers)

    def browse(self, event: Event) -> HttpResponse:
        """Return 200 with a page of the caller's own executions, newest first."""
        query = event.get("queryStringParameters") or {}
        limit = query.get("limit") or "20"
        if not (limit.isascii() and limit.isdigit()):
            raise InvalidRequestError(
                f"limit: expected a whole number from 1 to {MAX_PAGE}, got {clip(limit, 40)}"
            )
        page = self._service().page(
            caller_of(event), status=query.get("status"), limit=int(limit[:9]), after=query.get("next")
        )
        return _json(HTTPStatus.OK, to_json(page))

    def cancel(self, event: Event) -> HttpResponse:
        """Cancel an execution: 200 with the result, 202 when it is not known yet."""
        execution_id = _execution_id(event)
        answer = self._service().cancel(execution_id, caller_of(event))
        outcome = Status.CANCELLED if answer.cancelled else answer.previous_status
        self._telemetry.add_fields(execution_id=execution_id, outcome=outcome)
        result = {"execution_id": execution_id, **asdict(answer)}
        pending = not answer.cancelled and answer.previous_status == Status.STARTING
        return _json(HTTPStatus.ACCEPTED if pending else HTTPStatus.OK, to_json(result))


# By method and `resource`. The template has the same ones, and API Gateway answers 403 to any other.
ROUTES: Mapping[tuple[str, str], Callable[[Routes, Event], HttpResponse]] = {
    ("POST", f"{EXECUTIONS}/{{id}}/async"): Routes.accept,
    ("GET", f"{EXECUTIONS}/{{id}}"): Routes.read,
    ("GET", EXECUTIONS): Routes.browse,
    ("DELETE", f"{EXECUTIONS}/{{id}}"): Routes.cancel,
}


def caller_of(event: Event) -> str:
    """Return the caller: the IAM principal, else the API key by its id or, where that is missing, its fingerprint."""
    identity = (event.get("requestContext") or {}).get("identity") or {}
    if identity.get("userArn"):
        # A role is the caller, whatever its session is called: the next session must find what this one started.
        return _SESSION.sub(r"\1", str(identity["userArn"]))
    if identity.get("apiKeyId"):
        return f"key/{identity['apiKeyId']}"
    key = header(event, "x-api-key") or ""
    return "key/" + hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:16]


def base_url(event: Event, path_prefix: str = "") -> str:
    """Return the URL by which the caller reached the API, without the path of the resource.

    It ends with the stage, with the base path of a custom domain, or with neither.
    """
    context = event.get("requestContext") or {}
    before, found, _ = str(context.get("path") or event.get("path")).partition(EXECUTIONS)
    path = before.rstrip("/") if found else ""
    if context.get("domainName"):
        return f"https://{context['domainName']}{path}"
    # AWS always sends domainName, so this is a stand-in for it. Host and X-Forwarded-Proto may be trusted, as on
    # AWS, where API Gateway serves no other Host than its own names: they only come back to the caller who sent them.
    host = header(event, "Host") or ""
    scheme = header(event, "X-Forwarded-Proto")
    if not _HOST.fullmatch(host):
        return path
    prefix = f"{path_prefix}/{context.get('apiId')}" if path_prefix else ""
    return f"{scheme if scheme in {'http', 'https'} else 'http'}://{host}{prefix}{path}"


def header(event: Event, name: str) -> str | None:
    """Return the value of a header, or None."""
    headers = event.get("headers") or {}
    return next((value for key, value in headers.items() if key.lower() == name.lower()), None)


def _chatbot_id(event: Event) -> str:
    try:
        return _id(event)
    except UnicodeDecodeError:
        raise InvalidRequestError("chatbot_id: expected percent-encoded UTF-8 in the path") from None


def _execution_id(event: Event) -> str:
    try:
        return _id(event)
    except UnicodeDecodeError:
        raise ApiError(HTTPStatus.NOT_FOUND, "execution_id: no such execution") from None


def _id(event: Event) -> str:
    """Return the path parameter. API Gateway hands it over as sent: encoded, or as raw characters."""
    return unquote(str((event.get("pathParameters") or {}).get("id", "")), errors="strict")


def _body(event: Event) -> str:
    """Return the body as text, whatever its Content-Type. Raises InvalidRequestError."""
    body = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        return str(body)
    try:
        return base64.b64decode(body).decode()
    except ValueError:
        raise InvalidRequestError("body: not UTF-8. Send a JSON object in UTF-8.") from None


def _json(status: HTTPStatus, body: str, headers: Mapping[str, str] | None = None) -> HttpResponse:
    return {
        "statusCode": int(status),
        "headers": {"Content-Type": "application/json", **(headers or {})},
        "body": body,
        "isBase64Encoded": False,
    }


def _detail(status: HTTPStatus, detail: str) -> HttpResponse:
    return _json(status, to_json({"detail": detail}))
