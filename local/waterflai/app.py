"""The simulated API over HTTP, as its documentation describes it: four calls, one key, errors as `detail`."""

import logging
import secrets
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from local.waterflai.chatbots import CHATBOTS, script_for
from local.waterflai.clock import SimulatedClock
from local.waterflai.control import PREFIX, Control, Ledger
from local.waterflai.exchange import JsonResponse, Operation, body_of, distorted
from local.waterflai.executions import Execution, Executions, TooManyExecutions
from local.waterflai.wire import InvalidJson, InvalidValue, Object, as_object, write_json

_log = logging.getLogger(__name__)


class Simulator:
    """The whole upstream as one ASGI application, which counts and logs what it answers."""

    def __init__(self, api_key: str, base_url: str, clock: SimulatedClock | None = None) -> None:
        self._executions = Executions(clock or SimulatedClock())
        self._ledger = Ledger()
        self._app: ASGIApp = _application(
            Api(self._executions, self._ledger, api_key, base_url).router(),
            Control(self._executions, self._ledger).router(),
        )

    def close(self) -> None:
        """Forget every execution, so that open streams end."""
        self._executions.reset()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._record(scope, message["status"])
            await send(message)

        await self._app(scope, receive, send_recorded)

    def _record(self, scope: Scope, status_code: int) -> None:
        # The path as it was sent: still percent-encoded, so that it can't forge a line of the log.
        path = scope["raw_path"].decode("ascii", "replace")
        _log.info("%s %s %d", scope["method"], path, status_code)
        if not path.startswith(PREFIX):
            self._ledger.answered(getattr(scope.get("route"), "name", "unknown"), status_code)


class Api:
    """The four calls of Waterflai's asynchronous execution API."""

    def __init__(self, executions: Executions, ledger: Ledger, api_key: str, base_url: str) -> None:
        self._executions = executions
        self._ledger = ledger
        self._api_key = api_key.encode()
        # Not taken from a Host header: a client may send anything there.
        self._base_url = base_url

    def router(self) -> APIRouter:
        """Return the routes. The key is checked before anything else of a request is looked at."""
        routes = APIRouter(prefix="/v1/executions", dependencies=[Depends(self._check_key)])
        routes.add_api_route(
            "/{chatbot_id}/async", self._start, methods=["POST"], name=Operation.START, status_code=202
        )
        routes.add_api_route("/{execution_id}", self._status, methods=["GET"], name=Operation.STATUS)
        routes.add_api_route("/{execution_id}", self._cancel, methods=["DELETE"], name=Operation.CANCEL)
        routes.add_api_route("/{execution_id}/stream", self._stream, methods=["GET"], name=Operation.STREAM)
        return routes

    async def _check_key(self, x_api_key: Annotated[str | None, Header()] = None) -> None:
        if x_api_key is None:
            raise HTTPException(401, "API key is missing")
        if not secrets.compare_digest(x_api_key.encode(), self._api_key):
            raise HTTPException(401, "API key is invalid")

    async def _start(self, chatbot_id: str, request: Request) -> Response:
        input_data = await _input_data(request)
        base = CHATBOTS.get(chatbot_id)
        if base is None:
            raise HTTPException(404, "Chatbot not found")
        execution = self._executions.start(chatbot_id, script_for(base, input_data))
        url = f"{self._base_url}/v1/executions/{execution.execution_id}"
        accepted = {
            "execution_id": execution.execution_id,
            "status_url": url,
            "stream_url": f"{url}/stream",
            "cancel_url": url,
        }
        response = distorted(Operation.START, execution.script, JsonResponse(accepted, status_code=202))
        self._ledger.started(execution, input_data, response.status_code)
        return response

    async def _status(self, execution_id: str) -> Response:
        execution = self._find(execution_id)
        return distorted(
            Operation.STATUS, execution.script, JsonResponse(self._executions.document(execution))
        )

    async def _cancel(self, execution_id: str) -> Response:
        execution = self._find(execution_id)
        cancelled, previous = self._executions.cancel(execution)
        message = "Execution cancelled" if cancelled else f"Execution is already {previous}"
        verdict = {
            "execution_id": execution_id,
            "cancelled": cancelled,
            "message": message,
            "previous_status": previous,
        }
        return distorted(Operation.CANCEL, execution.script, JsonResponse(verdict))

    async def _stream(self, execution_id: str) -> Response:
        execution = self._find(execution_id)
        stream = StreamingResponse(
            self._events(execution), media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
        )
        return distorted(Operation.STREAM, execution.script, stream)

    async def _events(self, execution: Execution) -> AsyncIterator[bytes]:
        async for event in self._executions.follow(execution):
            yield b"data: " + write_json(event) + b"\n\n"

    def _find(self, execution_id: str) -> Execution:
        execution = self._executions.find(execution_id)
        if execution is None:
            raise HTTPException(404, "Execution not found")
        return execution


def _application(*routers: APIRouter) -> FastAPI:
    # No page but the API's own: a path that it doesn't have is a 404 and never a redirect.
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    for router in routers:
        app.include_router(router)

    @app.exception_handler(InvalidJson)
    async def malformed(_request: Request, error: InvalidJson) -> Response:
        return JsonResponse({"detail": str(error)}, status_code=400)

    @app.exception_handler(InvalidValue)
    async def wrong_value(_request: Request, error: InvalidValue) -> Response:
        return JsonResponse({"detail": str(error)}, status_code=422)

    @app.exception_handler(TooManyExecutions)
    async def full(_request: Request, error: TooManyExecutions) -> Response:
        return JsonResponse({"detail": str(error)}, status_code=429)

    @app.exception_handler(ClientDisconnect)
    async def hung_up(_request: Request, _error: ClientDisconnect) -> Response:
        return JsonResponse({"detail": "The request was cut off"}, status_code=400)

    @app.exception_handler(Exception)
    async def own_fault(_request: Request, _error: Exception) -> Response:
        return JsonResponse({"detail": "Internal server error"}, status_code=500)

    return app


async def _input_data(request: Request) -> Object:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise HTTPException(415, "Content-Type: expected application/json")
    body = await body_of(request)
    return as_object("input_data", body.get("input_data"))
