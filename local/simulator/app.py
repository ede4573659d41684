"""The simulated API over HTTP: start, status, cancel and stream. Errors have the field `detail`."""

import hashlib
import json
import logging
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from local.simulator.api_key import ApiKey
from local.simulator.chatbots import CHATBOTS, job_script
from local.simulator.clock import SimulatedClock
from local.simulator.control_api import PREFIX, ControlApi, RequestLog
from local.simulator.event_stream import event_bytes
from local.simulator.executions import Execution, Executions, TooManyExecutionsError
from local.simulator.fault_registry import FaultRegistry
from local.simulator.fault_responses import PipelinedResponse, respond
from local.simulator.fault_rules import ActiveFault, Operation
from local.simulator.fault_types import (
    CleanupSoon,
    ForeignDocument,
    Lag,
    NotFoundFor,
    PipelinedDocument,
    StreamFault,
)
from local.simulator.http_json import JsonResponse, read_body
from local.simulator.strict_json import InvalidJsonError, InvalidValueError, JsonObject, as_object

_log = logging.getLogger(__name__)


class Simulator:
    """The simulator as an ASGI application. It counts and logs each response."""

    def __init__(self, api_key: str, base_url: str, clock: SimulatedClock | None = None) -> None:
        self._executions = Executions(clock or SimulatedClock())
        self._faults = FaultRegistry()
        self._request_log = RequestLog()
        key = ApiKey(api_key)
        self._app: ASGIApp = _application(
            ExecutionsApi(self._executions, self._faults, self._request_log, key, base_url).router(),
            ControlApi(self._executions, self._faults, self._request_log, key).router(),
        )

    def close(self) -> None:
        """Delete all executions and faults. This ends open streams and slow responses."""
        self._executions.reset()
        self._faults.clear()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request, or reset its connection."""
        is_answered = False

        async def send_recorded(message: Message) -> None:
            nonlocal is_answered
            if message["type"] == "http.response.start":
                is_answered = True
                self._record(scope, message["status"])
            await send(message)

        await self._app(scope, receive, send_recorded)
        if not is_answered:  # the connection was reset, or the client disconnected
            self._record(scope, None)

    def _record(self, scope: Scope, status_code: int | None) -> None:
        # The raw path is percent-encoded, so it can't contain a line break and forge a log line.
        path = scope["raw_path"].decode("ascii", "replace")
        _log.info("%s %s %s", scope["method"], path, status_code or "unanswered")
        if not path.startswith(PREFIX):
            self._request_log.count_response(_operation(scope), status_code)
        if start := scope["state"].get("start"):
            start.status_code = status_code


class ExecutionsApi:
    """The four operations of Waterflai's asynchronous execution API."""

    def __init__(
        self,
        executions: Executions,
        faults: FaultRegistry,
        request_log: RequestLog,
        key: ApiKey,
        base_url: str,
    ) -> None:
        self._executions = executions
        self._faults = faults
        self._request_log = request_log
        self._key = key
        # The Host header is not used: the client controls it.
        self._base_url = base_url

    def router(self) -> APIRouter:
        """Return the routes. Each request is counted, then its key is checked."""
        before_each = [Depends(self._count), Depends(self._check_key)]
        routes = APIRouter(prefix="/v1/executions", dependencies=before_each)
        routes.add_api_route(
            "/{chatbot_id}/async", self._start, methods=["POST"], name=Operation.START, status_code=202
        )
        routes.add_api_route("/{execution_id}", self._status, methods=["GET"], name=Operation.STATUS)
        routes.add_api_route("/{execution_id}", self._cancel, methods=["DELETE"], name=Operation.CANCEL)
        routes.add_api_route("/{execution_id}/stream", self._stream, methods=["GET"], name=Operation.STREAM)
        return routes

    async def _count(self, request: Request) -> None:
        self._request_log.count_request(_operation(request.scope))

    async def _check_key(self, x_api_key: Annotated[str | None, Header()] = None) -> None:
        if x_api_key is None:
            raise HTTPException(401, "API key is missing")
        if not self._key.matches(x_api_key):
            raise HTTPException(401, "API key is invalid")

    async def _start(self, chatbot_id: str, request: Request) -> Response:
        input_data = await _input_data(request)
        base = CHATBOTS.get(chatbot_id)
        if base is None:
            raise HTTPException(404, "Chatbot not found")
        script = job_script(base, input_data)
        active = self._faults.next_fault(Operation.START, _fingerprint(chatbot_id, input_data), script.faults)
        start = request.state.start = self._request_log.add_start(chatbot_id, input_data, active)

        def handle() -> Response:
            execution = self._executions.start(chatbot_id, script)
            start.execution_id = execution.execution_id
            url = f"{self._base_url}/v1/executions/{execution.execution_id}"
            accepted = {
                "execution_id": execution.execution_id,
                "status_url": url,
                "stream_url": f"{url}/stream",
                "cancel_url": url,
            }
            return JsonResponse(accepted, status_code=202)

        return respond(request, active, handle, self._faults.cleared)

    async def _status(self, execution_id: str, request: Request) -> Response:
        execution = self._find(execution_id)
        active = self._next_fault(Operation.STATUS, execution)

        def handle() -> Response:
            lag_s = 0.0
            match active and active.kind:
                case CleanupSoon(seconds=seconds):
                    self._executions.clean_up_soon(execution, seconds)
                case Lag(seconds=seconds):
                    lag_s = seconds
                case NotFoundFor(seconds=seconds) if self._executions.is_younger(execution, seconds):
                    raise _not_found()
            return JsonResponse(self._executions.document(execution, lag_s))

        response = respond(request, active, handle, self._faults.cleared)
        return self._with_foreign_document(active, execution, response)

    async def _cancel(self, execution_id: str, request: Request) -> Response:
        execution = self._find(execution_id)
        active = self._next_fault(Operation.CANCEL, execution)

        def handle() -> Response:
            cancelled, previous = self._executions.cancel(execution)
            document = {
                "execution_id": execution_id,
                "cancelled": cancelled,
                "message": "Execution cancelled" if cancelled else f"Execution is already {previous}",
                "previous_status": previous,
            }
            return JsonResponse(document)

        response = respond(request, active, handle, self._faults.cleared)
        return self._with_foreign_document(active, execution, response)

    async def _stream(self, execution_id: str, request: Request) -> Response:
        execution = self._find(execution_id)
        active = self._next_fault(Operation.STREAM, execution)
        kind = active.kind if active and isinstance(active.kind, StreamFault) else None

        def handle() -> Response:
            if isinstance(kind, NotFoundFor) and self._executions.is_younger(execution, kind.seconds):
                raise _not_found()
            return StreamingResponse(
                event_bytes(kind, self._executions, execution),
                media_type="text/event-stream",
                headers={"Cache-Control": "no-cache"},
            )

        return respond(request, active, handle, self._faults.cleared)

    def _with_foreign_document(
        self, active: ActiveFault | None, execution: Execution, response: Response
    ) -> Response:
        """Return `response`, or for two fault types one with the document of another execution."""
        match active and active.kind:
            case ForeignDocument():
                return JsonResponse(self._executions.foreign_document(execution))
            case PipelinedDocument(pause_seconds=pause_s):
                return PipelinedResponse(response, self._executions.foreign_document(execution), pause_s)
            case _:
                return response

    def _next_fault(self, operation: Operation, execution: Execution) -> ActiveFault | None:
        is_final = self._executions.snapshot(execution).status.is_final
        return self._faults.next_fault(
            operation, execution.execution_id, execution.script.faults, is_final=is_final
        )

    def _find(self, execution_id: str) -> Execution:
        execution = self._executions.find(execution_id)
        if execution is None:
            raise _not_found()
        return execution


def _not_found() -> HTTPException:
    return HTTPException(404, "Execution not found")


def _application(*routers: APIRouter) -> FastAPI:
    # An unknown path gets 404, never a redirect.
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    for router in routers:
        app.include_router(router)

    @app.exception_handler(InvalidJsonError)
    async def malformed(_request: Request, error: InvalidJsonError) -> Response:
        return JsonResponse({"detail": str(error)}, status_code=400)

    @app.exception_handler(InvalidValueError)
    async def wrong_value(_request: Request, error: InvalidValueError) -> Response:
        return JsonResponse({"detail": str(error)}, status_code=422)

    @app.exception_handler(TooManyExecutionsError)
    async def too_many(_request: Request, error: TooManyExecutionsError) -> Response:
        return JsonResponse({"detail": str(error)}, status_code=429)

    @app.exception_handler(ClientDisconnect)
    async def disconnected(_request: Request, _error: ClientDisconnect) -> Response:
        return JsonResponse({"detail": "The request was cut off"}, status_code=400)

    @app.exception_handler(Exception)
    async def internal_error(_request: Request, _error: Exception) -> Response:
        return JsonResponse({"detail": "Internal server error"}, status_code=500)

    return app


async def _input_data(request: Request) -> JsonObject:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise HTTPException(415, "Content-Type: expected application/json")
    body = await read_body(request)
    return as_object("input_data", body.get("input_data"))


def _operation(scope: Scope) -> str:
    return getattr(scope.get("route"), "name", "unknown")


def _fingerprint(chatbot_id: str, input_data: JsonObject) -> str:
    """Return a hash that identifies repeated starts. A start has no execution id yet."""
    return hashlib.sha256(json.dumps([chatbot_id, input_data], sort_keys=True).encode()).hexdigest()
