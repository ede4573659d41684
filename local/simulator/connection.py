"""One client's connection, with what ASGI has no message for: resets, raw bytes, and an idle time of its own."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol
from uvicorn.server import ServerState

# Longer than the pauses of a poller, so that the server seldom closes a connection that is about to be used.
KEEP_ALIVE_S = 75

# In the state of each request, for the application.
_CONNECTION = "connection"

# Linger for no time: what is closed is dropped, and the other side gets a reset.
_NO_LINGER = struct.pack("ii", 1, 0)
# Only Linux has an option for that.
_CORK: int | None = getattr(socket, "TCP_CORK", None)

# Status codes of a content delivery network, which `http` lacks.
CDN_PHRASES = {
    520: "Web Server Returned an Unknown Error",
    521: "Web Server Is Down",
    522: "Connection Timed Out",
    523: "Origin Is Unreachable",
    524: "A Timeout Occurred",
    525: "SSL Handshake Failed",
    526: "Invalid SSL Certificate",
    527: "Railgun Error",
    530: "Origin DNS Error",
}
# uvicorn takes the phrase from this table only.
STATUS_PHRASES.update({code: phrase.encode() for code, phrase in CDN_PHRASES.items()})


class Connection(H11Protocol):
    """HTTP on one connection. The application reaches it through `connection_of` a request's scope."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, {**app_state, _CONNECTION: self}, _loop)
        self._resets_idle = False

    def reset(self) -> None:
        """Drop the connection: the client gets a TCP reset."""
        self._set_option(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.transport.abort()

    def write(self, data: bytes) -> None:
        """Send bytes that HTTP on this connection does not account for."""
        if not self.transport.is_closing():
            self.transport.write(data)

    @contextlib.contextmanager
    def in_one_segment(self) -> Iterator[None]:
        """Send what is written in the block in the same TCP segments. Without effect on macOS."""
        if _CORK is None:
            yield
            return
        self._set_option(socket.IPPROTO_TCP, _CORK, 1)
        try:
            yield
        finally:
            self._set_option(socket.IPPROTO_TCP, _CORK, 0)

    def close_when_idle(self, after_s: float, *, reset: bool) -> None:
        """Close or reset the connection `after_s` seconds after the present answer, unless a request comes first."""
        self.timeout_keep_alive = after_s  # type: ignore[assignment]  # call_later takes a float as well
        self._resets_idle = reset

    def data_received(self, data: bytes) -> None:
        """Take the next request, whose answer has the usual idle time again."""
        self.timeout_keep_alive = KEEP_ALIVE_S
        self._resets_idle = False
        super().data_received(data)

    def timeout_keep_alive_handler(self) -> None:
        """End the connection: it was idle for too long."""
        if self._resets_idle and not self.transport.is_closing():
            self.reset()
        else:
            super().timeout_keep_alive_handler()

    def _set_option(self, level: int, option: int, value: int | bytes) -> None:
        self.transport.get_extra_info("socket").setsockopt(level, option, value)


def connection_of(scope: Scope) -> Connection:
    """Return the connection on which a request came."""
    connection: Connection = scope["state"][_CONNECTION]
    return connection
