"""The simulator on a socket: listens on loopback, says when it answers, and ends when told to."""

import asyncio
import socket
import struct
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from local.waterflai.acts import RESET
from local.waterflai.app import Simulator

HOST = "127.0.0.1"

# Longer than the pauses of a poller, so that the server seldom closes a connection that is about to be used.
_KEEP_ALIVE_S = 75
_GRACE_S = 2


# Linger for no time: what is closed is dropped, and the other side is told by a reset.
_NO_LINGER = struct.pack("ii", 1, 0)


class Protocol(H11Protocol):
    """HTTP on one connection, which the application can reset through its request's state: ASGI knows no such act."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, {**app_state, RESET: self._reset}, _loop)

    def _reset(self) -> None:
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.transport.abort()


class Server(uvicorn.Server):
    """Serves one simulator until told to end, says when it answers, and ends its streams before it goes."""

    def __init__(self, simulator: Simulator, when_ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                simulator,
                access_log=False,
                http=Protocol,
                lifespan="off",
                log_config=None,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=_GRACE_S,
                timeout_keep_alive=_KEEP_ALIVE_S,
                ws="none",
            )
        )
        self._simulator = simulator
        self._when_ready = when_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        self._when_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let open streams end, then stop."""
        self._simulator.close()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Stop at the next turn. Not raised again afterwards: being told to end is no failure."""
        self.should_exit = True


def listen(port: int = 0) -> tuple[socket.socket, str]:
    """Return a socket bound to `port` of the loopback interface, 0 for a free one, and its base URL."""
    # asyncio switches Nagle's algorithm off only where the protocol is named; else each kept connection answers 40 ms
    # late, its client being slow to confirm what came first.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((HOST, port))
    return bound, f"http://{HOST}:{bound.getsockname()[1]}"
