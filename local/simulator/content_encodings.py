"""Responses with a content coding that no client of the simulator accepts: correct, undecodable, or a bomb."""

import asyncio
import zlib
from collections.abc import Callable, Iterator

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from local.simulator.fault_types import Bomb, Encoded, Encoding

type Encode = Callable[[bytes, bool], bytes]

_MIB_OF_SPACE = b" " * 1024 * 1024
_WINDOWS = {Encoding.GZIP: 31, Encoding.DEFLATE: 15}
_FASTEST = 1

# The first byte of no Brotli stream, and each byte of the body inverted: no JSON and no UTF-8 either.
_NO_BROTLI = b"\x11"
_INVERTED = bytes(255 - each for each in range(256))


def encode_response(kind: Encoded | Bomb, normal: ASGIApp) -> ASGIApp:
    """Return an application that responds as `normal` does, in the coding of `kind`.

    Each message of the body can be decoded when it arrives: a stream's events are not held back.
    """
    name = kind.encoding if isinstance(kind, Encoded) else Encoding.GZIP

    async def encode_body(scope: Scope, receive: Receive, send: Send) -> None:
        encode = _inverting() if name is Encoding.BR else _compressing(name)

        async def send_encoded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Encoding"] = name
                del headers["Content-Length"]
                await send(message)
                if isinstance(kind, Bomb):
                    is_stream = headers.get("Content-Type", "").startswith("text/event-stream")
                    for piece in _padding(kind, is_stream=is_stream):
                        body = encode(piece, True)  # noqa: FBT003 - as it is declared
                        await send({"type": "http.response.body", "body": body, "more_body": True})
                        await asyncio.sleep(0)  # other requests wait for one piece at the most
                return
            goes_on = message.get("more_body", False)
            await send({**message, "body": encode(message.get("body", b""), goes_on)})

        await normal(scope, receive, send_encoded)

    return encode_body


def _compressing(name: Encoding) -> Encode:
    compressor = zlib.compressobj(_FASTEST, zlib.DEFLATED, _WINDOWS[name])

    def compress(body: bytes, goes_on: bool) -> bytes:  # noqa: FBT001
        return compressor.compress(body) + compressor.flush(zlib.Z_SYNC_FLUSH if goes_on else zlib.Z_FINISH)

    return compress


def _inverting() -> Encode:
    first = _NO_BROTLI

    def invert(body: bytes, _goes_on: bool) -> bytes:  # noqa: FBT001
        nonlocal first
        inverted, first = first + body.translate(_INVERTED), b""
        return inverted

    return invert


def _padding(kind: Bomb, *, is_stream: bool) -> Iterator[bytes]:
    """Yield white space as JSON allows it before a document; in a stream it has to be a comment."""
    if is_stream:
        yield b":"
    for _ in range(kind.mib):
        yield _MIB_OF_SPACE
    if is_stream:
        yield b"\n\n"
