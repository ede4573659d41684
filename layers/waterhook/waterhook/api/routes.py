"""Routes of the REST API: from an event of API Gateway to its response.

Routes are chosen by `resource`, which is the path in the template. `path` is not usable, because it begins with the
base path of a custom domain:

| called by | `path` | `requestContext.path` |
|---|---|---|
| stage URL | `/v1/executions` | `/live/v1/executions` |
| custom domain, mapped to the stage | `/v1/executions` | `/v1/executions` |
| custom domain with base path `a/b` | `/a/b/v1/executions` | `/a/b/v1/executions` |

`resource` is `/v1/executions` in all of them. Path parameters are percent-encoded as the caller sent them.
"""

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from botocore.exceptions import BotoCoreError, ClientError

from waterhook.api.callers import Caller, Callers
from waterhook.api.gateway_event import Event, header, header_values, query_parameters
from waterhook.api.list_query import ListQuery
from waterhook.api.outcome_wait import OutcomeWait, Waited, WaitResult
from waterhook.api.request_body import RequestBody
from waterhook.api.service import ExecutionService, not_found
from waterhook.api.status_documents import StatusDocuments
from waterhook.domain import wait_preference
from waterhook.domain.status import Status
from waterhook.errors import (
    ApiError,
    DependencyUnavailableError,
    InvalidRequestError,
    RequestTooLargeError,
    SettingsError,
)
from waterhook.json_text import to_json
from waterhook.observability.metrics import Metric
from waterhook.observability.telemetry import Telemetry
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.text import clip

type HttpResponse = dict[str, Any]
type RemainingTime = Callable[[], float]
"""Returns the seconds until the function's timeout."""

EXECUTIONS = "/v1/executions"
_HOST = re.compile(r"[A-Za-z0-9.-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")
_TRY_AGAIN = (
    "an AWS service that this deployment uses is unavailable; try again in a few seconds,"
    " a POST with the same Idempotency-Key"
)


class Routes:
    """Handles the requests of the four routes."""

    def __init__(
        self,
        service: Callable[[], ExecutionService],
        documents: Callable[[], StatusDocuments],
        callers: Callable[[], Callers],
        outcome_wait: Callable[[], OutcomeWait],
        telemetry: Telemetry,
        path_prefix: str = "",
    ) -> None:
        """The first three are called by the requests that need them, so that wrong settings are answered with 503.

        `outcome_wait` is called by requests that want to wait. `path_prefix` is the path before the API's
        id on the local AWS, where the host name does not identify the API.
        """
        self._service = service
        self._documents = documents
        self._callers = callers
        self._outcome_wait = outcome_wait
        self._telemetry = telemetry
        self._path_prefix = path_prefix

    def answer(self, event: Event, remaining_s: RemainingTime) -> HttpResponse:
        """Return the response to a request, in the format of a Lambda proxy integration."""
        route = ROUTES.get((str(event.get("httpMethod")), str(event.get("resource"))))
        if route is None:
            detail = f"no such path; start an execution with POST {EXECUTIONS}/{{chatbot_id}}/async"
            return _detail(HTTPStatus.NOT_FOUND, detail)
        try:
            return route(self, event, remaining_s)
        except ApiError as error:
            return _detail(error.status, error.detail)
        except RequestTooLargeError as error:
            return _detail(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error))
        except InvalidRequestError as error:
            return _detail(HTTPStatus.BAD_REQUEST, str(error))
        except (DependencyUnavailableError, SettingsError, BotoCoreError, ClientError) as error:
            self._telemetry.logger.error("AWS service unavailable", reason=str(error))  # noqa: TRY400 - the reason is enough
            return _detail(HTTPStatus.SERVICE_UNAVAILABLE, _TRY_AGAIN)

    def accept(self, event: Event, remaining_s: RemainingTime) -> HttpResponse:
        """Accept a request. Returns 202 with the URLs to read its status and to cancel it.

        If the caller prefers to wait and the outcome is known in time, returns 200 with the status document.
        """
        wait_s = wait_preference.preferred_wait_s(header_values(event, "Prefer")) or 0
        # Before the request is accepted, so that wrong settings have no effect but the error.
        waiting = self._outcome_wait() if wait_s else None
        body = RequestBody.read(
            _body(event), chatbot_id=_chatbot_id(event), idempotency_key=header(event, "Idempotency-Key")
        )
        caller = self._callers().of(event)
        record = self._service().accept(body.fields, caller.identity, body.input)
        self._telemetry.add_record(record)
        url = f"{base_url(event, self._path_prefix)}{EXECUTIONS}/{record.execution_id}"
        if waiting and not waiting.impossible(record):
            waited = waiting.wait(record, wait_s, remaining_s)
            self._record_wait(waited)
            if waited.record is not None and waited.record.status.is_final:
                self._telemetry.add_record(waited.record)
                if document := waiting.document(waited.record, caller, remaining_s):
                    applied = {"Location": url, "Preference-Applied": f"wait={waited.applied_s}"}
                    return _json(HTTPStatus.OK, document, applied)
        accepted = {
            "execution_id": record.execution_id,
            "status": record.status,
            "status_url": url,
            "cancel_url": url,
        }
        return _json(HTTPStatus.ACCEPTED, to_json(accepted), {"Location": url})

    def read(self, event: Event, remaining_s: RemainingTime) -> HttpResponse:
        """Return the status document of an execution, with 200, after the wait that the query requests."""
        wait_s = _wait_s(event)
        waiting = self._outcome_wait() if wait_s else None
        service = self._service()
        record, caller = self._find(event)
        self._telemetry.add_record(record)
        document = None
        if waiting:
            if reason := waiting.impossible(record):
                raise InvalidRequestError(f"wait: {reason}")
            waited = waiting.wait(record, wait_s, remaining_s)
            self._record_wait(waited)
            if waited.record is None:
                raise not_found(record.execution_id, caller)
            document = waiting.document(waited.record, caller, remaining_s)
            # After a failure, the record that was read before the wait. Until it is final, its document needs no call.
            record = waited.record if document else record
            self._telemetry.add_record(record)
        retry_after_s = service.retry_after_s(record)
        headers = {"Retry-After": str(retry_after_s)} if retry_after_s else {}
        document = document or self._documents().document(record, caller, with_progress=waiting is None)
        return _json(HTTPStatus.OK, document, headers)

    def list_executions(self, event: Event, _remaining_s: RemainingTime) -> HttpResponse:
        """Return a page of executions, newest first, with 200: the caller's own, for an operator those of all."""
        caller = self._callers().of(event)
        query = ListQuery.read(query_parameters(event), caller)
        self._log_operator(query.caller, caller)
        return _json(HTTPStatus.OK, to_json(self._service().page(query, caller)))

    def cancel(self, event: Event, _remaining_s: RemainingTime) -> HttpResponse:
        """Cancel an execution. Returns 200 with the result, or 202 if the job is just being started."""
        record, caller = self._find(event)
        result = self._service().cancel(record, caller)
        outcome = Status.CANCELLED if result.cancelled else result.previous_status
        self._telemetry.add_fields(execution_id=record.execution_id, outcome=outcome)
        document = {"execution_id": record.execution_id, **asdict(result)}
        is_pending = not result.cancelled and result.previous_status == Status.STARTING
        return _json(HTTPStatus.ACCEPTED if is_pending else HTTPStatus.OK, to_json(document))

    def _find(self, event: Event) -> tuple[ExecutionRecord, Caller]:
        """Return the record that the request names, and the caller. Raises ApiError 404."""
        caller = self._callers().of(event)
        record = self._service().find(_execution_id(event), caller)
        self._log_operator(record.caller, caller)
        return record, caller

    def _log_operator(self, owner: str | None, caller: Caller) -> None:
        if not caller.started(owner):
            self._telemetry.add_fields(operator=True)

    def _record_wait(self, waited: Waited) -> None:
        self._telemetry.add_fields(wait_result=waited.result, waited_s=waited.waited_s)
        if waited.result is WaitResult.NO_PLACE:
            self._telemetry.add_metric(Metric.WAITERS_REFUSED)


# By method and `resource`, as in the template. API Gateway answers 403 to any other path.
ROUTES: Mapping[tuple[str, str], Callable[[Routes, Event, RemainingTime], HttpResponse]] = {
    ("POST", f"{EXECUTIONS}/{{id}}/async"): Routes.accept,
    ("GET", f"{EXECUTIONS}/{{id}}"): Routes.read,
    ("GET", EXECUTIONS): Routes.list_executions,
    ("DELETE", f"{EXECUTIONS}/{{id}}"): Routes.cancel,
}


def base_url(event: Event, path_prefix: str = "") -> str:
    """Return the URL with which the caller reached the API, without the path of the resource.

    It ends with the stage, with the base path of a custom domain, or with the host.
    """
    context = event.get("requestContext") or {}
    before, separator, _ = str(context.get("path") or event.get("path")).partition(EXECUTIONS)
    path = before.rstrip("/") if separator else ""
    if context.get("domainName"):
        return f"https://{context['domainName']}{path}"
    # AWS always sends domainName; this is for the local AWS. Host and X-Forwarded-Proto can be trusted, because the URL
    # is returned only to the caller who sent them. On AWS, API Gateway serves only its own host names.
    host = header(event, "Host") or ""
    scheme = header(event, "X-Forwarded-Proto")
    if not _HOST.fullmatch(host):
        return path
    prefix = f"{path_prefix}/{context.get('apiId')}" if path_prefix else ""
    return f"{scheme if scheme in {'http', 'https'} else 'http'}://{host}{prefix}{path}"


def _wait_s(event: Event) -> int:
    """Return the query parameter `wait` in seconds, 0 without it. Raises InvalidRequestError."""
    text = query_parameters(event).get("wait")
    if text is None:
        return 0
    wait_s = wait_preference.seconds(text)
    if wait_s is None:
        raise InvalidRequestError(f"wait: expected a whole number of seconds, got {clip(text, 40)!r}")
    return wait_s


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
    """Return the path parameter. API Gateway passes it as sent: percent-encoded, or as raw characters."""
    return unquote(str((event.get("pathParameters") or {}).get("id", "")), errors="strict")


def _body(event: Event) -> str:
    """Return the body as text; its Content-Type is ignored. Raises InvalidRequestError."""
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
