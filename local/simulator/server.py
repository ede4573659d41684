"""The simulator on a socket: listens on loopback, says when it answers, and ends when told to."""

import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from local.simulator.app import Simulator
from local.simulator.connection import KEEP_ALIVE_S, Connection

HOST = "127.0.0.1"

_GRACE_S = 2


class Server(uvicorn.Server):
    """Serves one simulator until told to end, says when it answers, and ends its streams before it goes."""

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
        self._when_ready = on_ready

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


def bind(port: int = 0) -> tuple[socket.socket, str]:
    """Return a socket bound to `port` of the loopback interface, 0 for a free one, and its base URL."""
    # asyncio switches Nagle's algorithm off only where the protocol is named; else each kept connection answers 40 ms
    # late, its client being slow to confirm what came first.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((HOST, port))
    return bound, f"http://{HOST}:{bound.getsockname()[1]}"
