"""Connections to the upstream's host: a pool of them for calls, and one beside it for a stream."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection


class NotConnected(Exception):
    """No connection came about, so nothing was sent. urllib3 alone can't tell this from a broken answer."""


class _Marked:
    """Marks what failed before there was a connection, in front of either of urllib3's two kinds."""

    def connect(self) -> None:
        try:
            super().connect()  # type: ignore[misc]  # the mixin's next in line has it
        except Exception as error:
            raise NotConnected(str(error)) from error


class _MarkedHTTPConnection(_Marked, HTTPConnection):
    pass


class _MarkedHTTPSConnection(_Marked, HTTPSConnection):
    pass


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _MarkedHTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _MarkedHTTPSConnection


@cache
def shared_ssl_context() -> ssl.SSLContext:
    """Return the one context of this process: reading the CA file anew costs more than a handshake."""
    return ssl.create_default_context()


def pool(base_url: str, *, connect_timeout_s: float, read_timeout_s: float) -> urllib3.HTTPConnectionPool:
    """Return the pool for the host of `base_url`; it opens nothing yet, and no call takes it to another host."""
    url = urllib3.util.parse_url(base_url)
    timeout = urllib3.Timeout(connect=connect_timeout_s, read=read_timeout_s)
    host = url.host or ""
    if url.scheme == "https":
        return _HTTPSPool(host, url.port, timeout=timeout, ssl_context=shared_ssl_context())
    return _HTTPPool(host, url.port, timeout=timeout)


def connection_beside(calls: urllib3.HTTPConnectionPool, connect_timeout_s: float) -> HTTPConnection:
    """Return a connection to the host of a pool, not opened yet. Its socket is known, as a pool's never is."""
    if isinstance(calls, _HTTPSPool):
        context = shared_ssl_context()
        return _MarkedHTTPSConnection(calls.host, calls.port, timeout=connect_timeout_s, ssl_context=context)
    return _MarkedHTTPConnection(calls.host, calls.port, timeout=connect_timeout_s)


@contextmanager
def shut_down_at(ends_at: float, sock: socket.socket) -> Iterator[None]:
    """End whatever is waited for on the socket at `ends_at`: a byte in time would begin a read timeout anew."""

    def shut_down() -> None:
        with suppress(OSError):
            # Of a TLS socket the plain one underneath: its own method would read on in the clear.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)

    timer = threading.Timer(ends_at - time.monotonic(), shut_down)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        # Otherwise it might still be at work when the socket's number is another connection's.
        timer.join()
