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

from local.waterflai.documents import reshaped
from local.waterflai.exchange import JsonResponse
from local.waterflai.faults import Met
from local.waterflai.kinds import (
    CutOff,
    Drip,
    Early,
    Ends,
    LateKind,
    Redirect,
    Reset,
    Stall,
    StatusCode,
    StreamKind,
    Truncated,
)

type Process = Callable[[], Response]

# Where the server puts the function that resets a request's connection: in the request's state.
RESET = "reset_connection"

_NO_BODY = frozenset({204, 304})
# As the gateway in front words them.
_PHRASES = {503: "Service Temporarily Unavailable", 504: "Gateway Time-out"}


def answer(request: Request, met: Met | None, process: Process, over: asyncio.Event) -> Response:
    """Return what the client gets: what `process` returns, unless a fault is met.

    `process` is called once, or never where the fault comes first; `over` ends answers that are held up.
    """
    if met is None:
        return process()
    if not isinstance(met.kind, Early):
        return _altered(met.kind, met.turn, process(), over)
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


def _altered(kind: LateKind, turn: int, honest: Response, over: asyncio.Event) -> Response:
    if isinstance(kind, StreamKind):  # the events are already as it has them
        resets = isinstance(kind, Ends) and kind.reset
        return Held(_cutting_off(honest) if resets else honest, over)
    match kind:
        case Drip():
            return Held(_dripping(kind, honest), over)
        case CutOff():
            return Held(_cutting_off(honest), over)
        case Truncated():
            body = bytes(honest.body)
            return Response(body[: len(body) // 2], honest.status_code, media_type=JsonResponse.media_type)
        case _:
            document = reshaped(kind, json.loads(bytes(honest.body)), turn)
            return JsonResponse(document, honest.status_code)


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
        scope["state"][RESET]()
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
                scope["state"][RESET]()
                await gone
        finally:
            for task in (answering, gone, over):
                task.cancel()
        if answering.done():
            await answering  # raises what it raised


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


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
