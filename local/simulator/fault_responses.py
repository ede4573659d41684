"""Faults in action: what a client gets in the place of an honest answer."""

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
from local.simulator.content_encodings import encoding
from local.simulator.document_faults import RUNNING, echoing, invalid, reshaped
from local.simulator.fault_types import (
    Bomb,
    Buffered,
    ClosesIdle,
    CutOff,
    DocumentKind,
    Drip,
    Early,
    EchoKey,
    EmptyAnswer,
    Encoded,
    Ends,
    Interim,
    InvalidOutput,
    LateKind,
    Redirect,
    Reset,
    SlowDown,
    Stall,
    StatusCode,
    TransferKind,
    Truncated,
)
from local.simulator.faults import Met, Operation
from local.simulator.http_json import JsonResponse
from local.simulator.strict_json import Object

type Process = Callable[[], Response]

_NO_BODY = frozenset({204, 304})
# As the gateway in front words them.
_PHRASES = {503: "Service Temporarily Unavailable", 504: "Gateway Time-out", **CDN_PHRASES}


def answer(request: Request, met: Met | None, process: Process, over: asyncio.Event) -> Response:
    """Return what the client gets: what `process` returns, unless a fault is met.

    `process` is called once, or never where the fault comes first; `over` ends answers that are held up.
    """
    if met is None:
        return process()
    if not isinstance(met.kind, Early):
        return _altered(met.kind, met, process(), over, request.headers.get("X-API-Key", ""))
    # A stalled request that is not processed yet will be, once its time has come.
    honest = process() if met.kind.processed else _Later(process)
    match met.kind:
        case Reset():
            return ResetConnection()
        case Stall(seconds=seconds):
            return Held(_stalling(seconds, honest), over)
        case StatusCode():
            return _status_code(met.kind)
        case Redirect(to=to, code=code):
            return Response(status_code=code, headers={"Location": to + request.scope["raw_path"].decode()})


def _altered(kind: LateKind, met: Met, honest: Response, over: asyncio.Event, key: str) -> Response:
    if isinstance(kind, TransferKind):
        return Held(_transferring(kind, honest), over)
    if met.fault.on is Operation.STREAM:  # the events are already as it has them
        return Held(_streaming(kind, honest), over)
    if isinstance(kind, DocumentKind):
        document = reshaped(kind, json.loads(bytes(honest.body)), met.turn)
        return JsonResponse(document, honest.status_code)
    return _answering_otherwise(kind, honest, key)


def _json(body: bytes, honest: Response) -> Response:
    return Response(body, honest.status_code, media_type=JsonResponse.media_type)


def _answering_otherwise(kind: LateKind, honest: Response, key: str) -> Response:
    match kind:
        case EmptyAnswer(code=code):
            return Response(status_code=code)
        case SlowDown(retry_after=retry_after) if json.loads(bytes(honest.body))["status"] in RUNNING:
            honest.headers["Retry-After"] = retry_after
            return honest
        case InvalidOutput(how=how):
            return _json(invalid(how, bytes(honest.body)), honest)
        case EchoKey(form=form):
            return _json(echoing(form, json.loads(bytes(honest.body)), key), honest)
        case Truncated():
            body = bytes(honest.body)
            return Response(body[: len(body) // 2], honest.status_code, media_type=JsonResponse.media_type)
        case _:
            return honest


def _streaming(kind: LateKind, honest: Response) -> ASGIApp:
    match kind:
        case Ends(reset=True):
            return _cutting_off(honest)
        case Buffered(head=False):
            return _with_late_head(honest)
        case _:
            return honest


def _transferring(kind: TransferKind, honest: Response) -> ASGIApp:
    match kind:
        case Drip():
            return _dripping(kind, honest)
        case CutOff():
            return _cutting_off(honest)
        case Interim():
            return _announcing(kind, honest)
        case ClosesIdle():
            return _closing_idle(kind, honest)
        case Encoded() | Bomb():
            return encoding(kind, honest)


def gateway_page(code: int) -> Response:
    """Return an error page of a gateway, which knows nothing of JSON."""
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
        # Half a surrogate pair stands for bytes that aren't UTF-8.
        body = kind.body.encode("utf-8", "surrogatepass")
        response = Response(body, kind.code, media_type=JsonResponse.media_type)
    else:
        response = JsonResponse(
            {"detail": _phrase(kind.code) if kind.detail is None else kind.detail}, kind.code
        )
    if kind.retry_after is not None:
        response.headers["Retry-After"] = kind.retry_after
    elif kind.retry_after_date is not None:
        # A whole second: rounded up, so that it is never sooner than asked for.
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


class ResetConnection(Response):
    """No answer: the connection is reset."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Reset, and return once the server has noticed."""
        connection_of(scope).reset()
        await _gone(receive)


class Held(Response):
    """An answer that takes its time: given up when its client is gone, cut off when the faults are over."""

    def __init__(self, slow: ASGIApp, over: asyncio.Event) -> None:
        super().__init__()
        self._slow = slow
        self._over = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, for as long as somebody listens."""
        answering = asyncio.ensure_future(self._slow(scope, receive, send))
        gone = asyncio.ensure_future(_gone(receive))
        over = asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait({answering, gone, over}, return_when=asyncio.FIRST_COMPLETED)
            if over.done() and not answering.done():
                connection_of(scope).reset()
                await gone
        finally:
            for task in (answering, gone, over):
                task.cancel()
        if answering.done():
            await answering  # raises what it raised


class Pipelined(Response):
    """An answer, and behind it the answer to another request: in the same bytes, or `pause_s` after it."""

    def __init__(self, first: Response, second: Object, pause_s: float) -> None:
        super().__init__()
        self._first = first
        self._second = JsonResponse(second)
        self._pause_s = pause_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer twice, if the connection is kept."""
        connection = connection_of(scope)
        lines = [b"HTTP/1.1 200 OK", *(name + b": " + value for name, value in self._second.raw_headers)]
        second = b"\r\n".join([*lines, b"", bytes(self._second.body)])
        with connection.in_one_piece():
            await self._first(scope, receive, send)
            if not self._pause_s:
                connection.write(second)
        if self._pause_s:
            asyncio.get_running_loop().call_later(self._pause_s, connection.write, second)


class _Later:
    """What a request is answered if it is processed after all."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._process()(scope, receive, send)


def _stalling(seconds: float, honest: ASGIApp) -> ASGIApp:
    async def stalling(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(seconds)
        await honest(scope, receive, send)

    return stalling


def _dripping(kind: Drip, honest: ASGIApp) -> ASGIApp:
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

        await honest(scope, receive, drip)

    return dripping


def _cutting_off(honest: ASGIApp) -> ASGIApp:
    async def cutting_off(scope: Scope, receive: Receive, send: Send) -> None:
        async def cut(message: Message) -> None:
            if message["type"] == "http.response.start" or message.get("more_body"):
                await send(message)
                return
            body = message.get("body", b"")
            await send({**message, "body": body[: len(body) // 2], "more_body": True})
            await ResetConnection()(scope, receive, send)

        await honest(scope, receive, cut)

    return cutting_off


def _with_late_head(honest: ASGIApp) -> ASGIApp:
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

        await honest(scope, receive, hold_back)

    return with_late_head


def _announcing(kind: Interim, honest: ASGIApp) -> ASGIApp:
    async def announcing(scope: Scope, receive: Receive, send: Send) -> None:
        for code in kind.codes:
            head = f"HTTP/1.1 {code} {_phrase(code)}\r\nLink: </>; rel=preconnect\r\n\r\n"
            connection_of(scope).write(head.encode())
            await asyncio.sleep(kind.pause_seconds)
        await honest(scope, receive, send)

    return announcing


def _closing_idle(kind: ClosesIdle, honest: Response) -> ASGIApp:
    async def closing_idle(scope: Scope, receive: Receive, send: Send) -> None:
        honest.headers["Connection"] = "keep-alive"
        honest.headers["Keep-Alive"] = f"timeout={KEEP_ALIVE_S}"
        connection_of(scope).close_when_idle(kind.after_seconds, reset=kind.reset)
        await honest(scope, receive, send)

    return closing_idle


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
