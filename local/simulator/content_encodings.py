"""Encodes response bodies with gzip or deflate, as undecodable `br`, or as a gzip bomb."""

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

# No Brotli stream begins with this byte. The bytes of the body are inverted: invalid JSON and invalid UTF-8.
_NO_BROTLI = b"\x11"
_INVERTED = bytes(255 - each for each in range(256))


def encode_response(kind: Encoded | Bomb, normal: ASGIApp) -> ASGIApp:
    """Return an application that sends the response of `normal` with the content encoding of `kind`.

    Each message is flushed, so a client can decode the events of a stream when they arrive.
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
                        body = encode(piece, True)  # noqa: FBT003 - the signature of Encode
                        await send({"type": "http.response.body", "body": body, "more_body": True})
                        await asyncio.sleep(0)  # lets other requests run between pieces
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
    """Yield white space, which JSON allows before a document. In a stream it is a comment."""
    if is_stream:
        yield b":"
    for _ in range(kind.mib):
        yield _MIB_OF_SPACE
    if is_stream:
        yield b"\n\n"
