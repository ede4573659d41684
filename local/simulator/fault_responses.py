"""Sends a response with a fault over HTTP. `respond` is the entry point: app.py calls it for every request."""

import asyncio
import email.utils
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from local.simulator.connection import CDN_PHRASES, KEEP_ALIVE_S, connection_of
from local.simulator.content_encodings import encode_response
from local.simulator.document_faults import RUNNING, apply_to_document, echo_key, make_invalid
from local.simulator.fault_rules import ActiveFault, Operation
from local.simulator.fault_types import (
    Bomb,
    Buffered,
    ClosesIdle,
    CutOff,
    DocumentFault,
    Drip,
    EchoKey,
    EmptyAnswer,
    Encoded,
    Ends,
    Interim,
    InvalidOutput,
    Redirect,
    RequestFault,
    Reset,
    ResponseFault,
    SlowDown,
    Stall,
    StatusCode,
    TransferFault,
    Truncated,
)
from local.simulator.http_json import JsonResponse
from local.simulator.strict_json import JsonObject

type Handler = Callable[[], Response]

_NO_BODY = frozenset({204, 304})
# Reason phrases that a gateway sends.
_PHRASES = {503: "Service Temporarily Unavailable", 504: "Gateway Time-out", **CDN_PHRASES}


def respond(
    request: Request, active: ActiveFault | None, handle: Handler, cleared: asyncio.Event
) -> Response:
    """Return the normal response, which `handle` builds, or the response with the active fault.

    `handle` processes the request. It is not called if the fault prevents processing. Setting `cleared` ends slow
    responses.
    """
    if active is None:
        return handle()
    if not isinstance(active.kind, RequestFault):
        return _with_response_fault(
            active.kind, active, handle(), cleared, request.headers.get("X-API-Key", "")
        )
    # Without `processed`, a stalled request is processed after the pause.
    normal = handle() if active.kind.processed else _DeferredResponse(handle)
    match active.kind:
        case Reset():
            return ConnectionReset()
        case Stall(seconds=seconds):
            return SlowResponse(_stalling(seconds, normal), cleared)
        case StatusCode():
            return _status_code(active.kind)
        case Redirect(to=to, code=code):
            return Response(status_code=code, headers={"Location": to + request.scope["raw_path"].decode()})


def _with_response_fault(
    kind: ResponseFault, active: ActiveFault, normal: Response, cleared: asyncio.Event, key: str
) -> Response:
    if isinstance(kind, TransferFault):
        return SlowResponse(_transferring(kind, normal), cleared)
    if active.rule.on is Operation.STREAM:  # event_stream.py has applied the fault to the events
        return SlowResponse(_streaming(kind, normal), cleared)
    if isinstance(kind, DocumentFault):
        document = apply_to_document(kind, json.loads(bytes(normal.body)), active.occurrence)
        return JsonResponse(document, normal.status_code)
    return _with_document_fault(kind, normal, key)


def _json(body: bytes, normal: Response) -> Response:
    return Response(body, normal.status_code, media_type=JsonResponse.media_type)


def _with_document_fault(kind: ResponseFault, normal: Response, key: str) -> Response:
    match kind:
        case EmptyAnswer(code=code):
            return Response(status_code=code)
        case SlowDown(retry_after=retry_after) if json.loads(bytes(normal.body))["status"] in RUNNING:
            normal.headers["Retry-After"] = retry_after
            return normal
        case InvalidOutput(how=how):
            return _json(make_invalid(how, bytes(normal.body)), normal)
        case EchoKey(form=form):
            return _json(echo_key(form, json.loads(bytes(normal.body)), key), normal)
        case Truncated():
            body = bytes(normal.body)
            return Response(body[: len(body) // 2], normal.status_code, media_type=JsonResponse.media_type)
        case _:
            return normal


def _streaming(kind: ResponseFault, normal: Response) -> ASGIApp:
    match kind:
        case Ends(reset=True):
            return _cutting_off(normal)
        case Buffered(head=False):
            return _with_late_head(normal)
        case _:
            return normal


def _transferring(kind: TransferFault, normal: Response) -> ASGIApp:
    match kind:
        case Drip():
            return _dripping(kind, normal)
        case CutOff():
            return _cutting_off(normal)
        case Interim():
            return _with_interim_responses(kind, normal)
        case ClosesIdle():
            return _closing_idle(kind, normal)
        case Encoded() | Bomb():
            return encode_response(kind, normal)


def gateway_page(code: int) -> Response:
    """Return a gateway's error page in HTML."""
    return HTMLResponse(
        f"<html><head><title>{code} {_phrase(code)}</title></head><body>{code} {_phrase(code)}</body></html>\n",
        status_code=code,
    )


def _status_code(kind: StatusCode) -> Response:
    if kind.code in _NO_BODY:
        response = Response(status_code=kind.code)
    elif kind.html:
        response = gateway_page(kind.code)
    elif kind.body is not None:
        # A lone surrogate in `body` becomes bytes that are not valid UTF-8.
        body = kind.body.encode("utf-8", "surrogatepass")
        response = Response(body, kind.code, media_type=JsonResponse.media_type)
    else:
        response = JsonResponse(
            {"detail": _phrase(kind.code) if kind.detail is None else kind.detail}, kind.code
        )
    if kind.retry_after is not None:
        response.headers["Retry-After"] = kind.retry_after
    elif kind.retry_after_date is not None:
        # An HTTP date has whole seconds. It is rounded up, so it is never earlier than `retry_after_date`.
        moment = datetime.now(UTC).replace(microsecond=0) + timedelta(
            seconds=math.ceil(kind.retry_after_date) + 1
        )
        response.headers["Retry-After"] = email.utils.format_datetime(moment, usegmt=True)
    return response


def _phrase(code: int) -> str:
    try:
        return _PHRASES.get(code) or HTTPStatus(code).phrase
    except ValueError:
        return "Unknown"


class ConnectionReset(Response):
    """Resets the connection in place of a response."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Reset the connection, and return when the server has processed the disconnect."""
        connection_of(scope).reset()
        await _disconnected(receive)


class SlowResponse(Response):
    """A slow response. It ends when its client disconnects. When the faults are cleared, its connection is reset."""

    def __init__(self, slow: ASGIApp, cleared: asyncio.Event) -> None:
        super().__init__()
        self._slow = slow
        self._cleared = cleared

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond until the client disconnects or the faults are cleared."""
        sending = asyncio.ensure_future(self._slow(scope, receive, send))
        disconnected = asyncio.ensure_future(_disconnected(receive))
        cleared = asyncio.ensure_future(self._cleared.wait())
        try:
            await asyncio.wait({sending, disconnected, cleared}, return_when=asyncio.FIRST_COMPLETED)
            if cleared.done() and not sending.done():
                connection_of(scope).reset()
                await disconnected
        finally:
            for task in (sending, disconnected, cleared):
                task.cancel()
        if sending.done():
            await sending  # raises the exception of the task


class PipelinedResponse(Response):
    """A response, and on the same connection a second response: in the same bytes, or `pause_s` later."""

    def __init__(self, first: Response, second: JsonObject, pause_s: float) -> None:
        super().__init__()
        self._first = first
        self._second = JsonResponse(second)
        self._pause_s = pause_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send both responses. A closed connection gets only the first."""
        connection = connection_of(scope)
        lines = [b"HTTP/1.1 200 OK", *(name + b": " + value for name, value in self._second.raw_headers)]
        second = b"\r\n".join([*lines, b"", bytes(self._second.body)])
        with connection.in_one_segment():
            await self._first(scope, receive, send)
            if not self._pause_s:
                connection.write(second)
        if self._pause_s:
            asyncio.get_running_loop().call_later(self._pause_s, connection.write, second)


class _DeferredResponse:
    """A response that processes the request when the server starts to send it."""

    def __init__(self, handle: Handler) -> None:
        self._process = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._process()(scope, receive, send)


def _stalling(seconds: float, normal: ASGIApp) -> ASGIApp:
    async def stalling(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(seconds)
        await normal(scope, receive, send)

    return stalling


def _dripping(kind: Drip, normal: ASGIApp) -> ASGIApp:
    async def dripping(scope: Scope, receive: Receive, send: Send) -> None:
        async def drip(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                return
            body = message.get("body", b"")
            for start in range(0, len(body), kind.chunk_bytes):
                piece = body[start : start + kind.chunk_bytes]
                await send({**message, "body": piece, "more_body": True})
                await asyncio.sleep(kind.pause_seconds)
            if not message.get("more_body"):
                await send({**message, "body": b""})

        await normal(scope, receive, drip)

    return dripping


def _cutting_off(normal: ASGIApp) -> ASGIApp:
    async def cutting_off(scope: Scope, receive: Receive, send: Send) -> None:
        async def cut(message: Message) -> None:
            if message["type"] == "http.response.start" or message.get("more_body"):
                await send(message)
                return
            body = message.get("body", b"")
            await send({**message, "body": body[: len(body) // 2], "more_body": True})
            await ConnectionReset()(scope, receive, send)

        await normal(scope, receive, cut)

    return cutting_off


def _with_late_head(normal: ASGIApp) -> ASGIApp:
    async def with_late_head(scope: Scope, receive: Receive, send: Send) -> None:
        head: Message | None = None

        async def hold_back(message: Message) -> None:
            nonlocal head
            if message["type"] == "http.response.start":
                head = message
                return
            if head is not None:
                await send(head)
                head = None
            await send(message)

        await normal(scope, receive, hold_back)

    return with_late_head


def _with_interim_responses(kind: Interim, normal: ASGIApp) -> ASGIApp:
    async def with_interim_responses(scope: Scope, receive: Receive, send: Send) -> None:
        for code in kind.codes:
            head = f"HTTP/1.1 {code} {_phrase(code)}\r\nLink: </>; rel=preconnect\r\n\r\n"
            connection_of(scope).write(head.encode())
            await asyncio.sleep(kind.pause_seconds)
        await normal(scope, receive, send)

    return with_interim_responses


def _closing_idle(kind: ClosesIdle, normal: Response) -> ASGIApp:
    async def closing_idle(scope: Scope, receive: Receive, send: Send) -> None:
        normal.headers["Connection"] = "keep-alive"
        normal.headers["Keep-Alive"] = f"timeout={KEEP_ALIVE_S}"
        connection_of(scope).close_when_idle(kind.after_seconds, reset=kind.reset)
        await normal(scope, receive, send)

    return closing_idle


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
