"""A client connection with features that ASGI lacks: TCP reset, raw bytes and an idle timeout per connection."""

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

# Longer than usual polling intervals, so that the server rarely closes a connection while a client reuses it.
KEEP_ALIVE_S = 75

# Key of the connection in the state of each request.
_CONNECTION = "connection"

# SO_LINGER with a time of 0: closing the socket sends a reset.
_NO_LINGER = struct.pack("ii", 1, 0)
# Linux only: holds back partial segments.
_CORK: int | None = getattr(socket, "TCP_CORK", None)

# Status codes of content delivery networks. The module `http` lacks them.
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
# uvicorn reads reason phrases from this table only.
STATUS_PHRASES.update({code: phrase.encode() for code, phrase in CDN_PHRASES.items()})


class Connection(H11Protocol):
    """HTTP on one connection. The application gets it with `connection_of(scope)`."""

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
        """Close the connection with a TCP reset."""
        self._set_option(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.transport.abort()

    def write(self, data: bytes) -> None:
        """Send bytes outside of the HTTP response."""
        if not self.transport.is_closing():
            self.transport.write(data)

    @contextlib.contextmanager
    def in_one_segment(self) -> Iterator[None]:
        """Send all bytes that the block writes in the same TCP segments. No effect on macOS."""
        if _CORK is None:
            yield
            return
        self._set_option(socket.IPPROTO_TCP, _CORK, 1)
        try:
            yield
        finally:
            self._set_option(socket.IPPROTO_TCP, _CORK, 0)

    def close_when_idle(self, after_s: float, *, reset: bool) -> None:
        """Close or reset the connection `after_s` seconds after this response, unless a request arrives earlier."""
        self.timeout_keep_alive = after_s  # type: ignore[assignment]  # call_later takes a float as well
        self._resets_idle = reset

    def data_received(self, data: bytes) -> None:
        """Receive a request, and restore the default idle timeout."""
        self.timeout_keep_alive = KEEP_ALIVE_S
        self._resets_idle = False
        super().data_received(data)

    def timeout_keep_alive_handler(self) -> None:
        """Close or reset the connection after the idle timeout."""
        if self._resets_idle and not self.transport.is_closing():
            self.reset()
        else:
            super().timeout_keep_alive_handler()

    def _set_option(self, level: int, option: int, value: int | bytes) -> None:
        self.transport.get_extra_info("socket").setsockopt(level, option, value)


def connection_of(scope: Scope) -> Connection:
    """Return the connection of a request."""
    connection: Connection = scope["state"][_CONNECTION]
    return connection
