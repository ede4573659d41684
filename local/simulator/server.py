"""The HTTP server of the simulator, on the loopback interface."""

import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from local.simulator.app import Simulator
from local.simulator.connection import KEEP_ALIVE_S, Connection

HOST = "127.0.0.1"

_GRACE_S = 2


class Server(uvicorn.Server):
    """Serves the simulator until a signal. Calls `on_ready` when it accepts requests."""

    def __init__(self, simulator: Simulator, on_ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                simulator,
                access_log=False,
                http=Connection,
                lifespan="off",
                log_config=None,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=_GRACE_S,
                timeout_keep_alive=KEEP_ALIVE_S,
                ws="none",
            )
        )
        self._simulator = simulator
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept requests, then call `on_ready`."""
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End open streams, then stop the server."""
        self._simulator.close()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Begin the shutdown. The signal is not raised again, so the exit code is 0."""
        self.should_exit = True


def bind(port: int = 0) -> tuple[socket.socket, str]:
    """Return a socket bound to `port` of the loopback interface, 0 for a free one, and its base URL."""
    # asyncio disables Nagle's algorithm only for sockets with an explicit protocol. With Nagle's algorithm, each
    # response on a reused connection is 40 ms late, because the client delays its acknowledgement.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((HOST, port))
    return bound, f"http://{HOST}:{bound.getsockname()[1]}"
