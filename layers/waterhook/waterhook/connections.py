"""Connections to the upstream's host: a pool of them for calls, and one beside it for a stream."""

import logging
import math
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

# It warns of headers it can't parse by quoting them, and an upstream may echo the key in one.
logging.getLogger("urllib3.connection").setLevel(logging.ERROR)


class NotConnected(Exception):
    """No connection came about, so nothing was sent. urllib3 alone can't tell this from a broken answer."""


class _Marked:
    """Marks what failed before there was a connection, in front of either of urllib3's two kinds."""

    sock: Any
    opened: socket.socket | None = None
    """The socket it is on. `sock` is None as soon as an answer says that nothing comes after it."""

    def connect(self) -> None:
        try:
            super().connect()  # type: ignore[misc]  # the mixin's next in line has it
        except Exception as error:
            raise NotConnected(str(error)) from error
        self.opened = self.sock


class _MarkedHTTPConnection(_Marked, HTTPConnection):
    pass


class _MarkedHTTPSConnection(_Marked, HTTPSConnection):
    pass


class _Watched:
    """Lets either kind of pool know the socket of the call under way, so that the call can be ended."""

    _under_way: Any = None

    def _get_conn(self, timeout: float | None = None) -> Any:
        self._under_way = super()._get_conn(timeout)  # type: ignore[misc]  # the mixin's next in line has it
        return self._under_way

    @property
    def opened(self) -> socket.socket | None:
        """The socket of the call under way, or of the last one; None before there is one."""
        return getattr(self._under_way, "opened", None)


class _HTTPPool(_Watched, urllib3.HTTPConnectionPool):
    ConnectionCls = _MarkedHTTPConnection


class _HTTPSPool(_Watched, urllib3.HTTPSConnectionPool):
    ConnectionCls = _MarkedHTTPSConnection


type Pool = _HTTPPool | _HTTPSPool
type Connection = _MarkedHTTPConnection | _MarkedHTTPSConnection


@cache
def shared_ssl_context() -> ssl.SSLContext:
    """Return the one context of this process: reading the CA file anew costs more than a handshake."""
    return ssl.create_default_context()


def pool(base_url: str, *, connect_timeout_s: float, read_timeout_s: float) -> Pool:
    """Return the pool for the host of `base_url`; it opens nothing yet, and no call takes it to another host."""
    url = urllib3.util.parse_url(base_url)
    timeout = urllib3.Timeout(connect=connect_timeout_s, read=read_timeout_s)
    host = url.host or ""
    if url.scheme == "https":
        return _HTTPSPool(host, url.port, timeout=timeout, ssl_context=shared_ssl_context())
    return _HTTPPool(host, url.port, timeout=timeout)


def connection_beside(calls: Pool, connect_timeout_s: float) -> Connection:
    """Return a connection to the host of a pool, not opened yet. Its socket is known, as a pool's never is."""
    if isinstance(calls, _HTTPSPool):
        context = shared_ssl_context()
        return _MarkedHTTPSConnection(calls.host, calls.port, timeout=connect_timeout_s, ssl_context=context)
    return _MarkedHTTPConnection(calls.host, calls.port, timeout=connect_timeout_s)


class _Watch:
    """Ends calls whose time is up. One thread for the process's life: a timer each would cost more than the call."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls: dict[object, tuple[float, Pool | Connection]] = {}
        self._wakes_at = math.inf
        self._thread: threading.Thread | None = None

    @contextmanager
    def over(self, ends_at: float, holder: Pool | Connection) -> Iterator[None]:
        """Watch over what is done inside the block."""
        call = object()
        with self._changed:
            self._calls[call] = (ends_at, holder)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()
            elif ends_at < self._wakes_at:
                self._changed.notify()
        try:
            yield
        finally:
            # After this it is surely not at work: the socket's number may be another connection's then.
            with self._changed:
                del self._calls[call]

    def _run(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                for call, (ends_at, holder) in self._calls.items():
                    if ends_at <= now:
                        self._calls[call] = (math.inf, holder)
                        _shut_down(holder)
                self._wakes_at = min((ends_at for ends_at, _ in self._calls.values()), default=math.inf)
                self._changed.wait(None if self._wakes_at == math.inf else self._wakes_at - now)


_watch = _Watch()


def shut_down_at(ends_at: float, holder: Pool | Connection) -> AbstractContextManager[None]:
    """End whatever is waited for on its socket at `ends_at`: a byte in time would begin a read timeout anew."""
    return _watch.over(ends_at, holder)


def _shut_down(holder: Pool | Connection) -> None:
    if holder.opened is not None:
        with suppress(OSError):
            # Of a TLS socket the plain one underneath: its own method would read on in the clear.
            socket.socket.shutdown(holder.opened, socket.SHUT_RDWR)
