"""DNS look-up of a receiver's host, within a time limit."""

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from queue import Empty, SimpleQueue
from threading import Thread

from waterhook.errors import ReceiverError


def resolve(host: str, port: int, *, timeout_s: float) -> list[IPv4Address | IPv6Address]:
    """Return all addresses of a host, in the order in which connections are to be tried.

    Raises ReceiverError ("unresolved") if there is none, or after `timeout_s`.
    """
    answers: SimpleQueue[list[str]] = SimpleQueue()
    # getaddrinfo has no timeout of its own. The thread ends when the system's resolver gives up.
    Thread(target=_look_up, args=(host, port, answers), daemon=True, name="resolver").start()
    try:
        texts = answers.get(timeout=max(timeout_s, 0.0))
        addresses = list(dict.fromkeys(map(ip_address, texts)))
    except (Empty, ValueError):
        raise ReceiverError("unresolved") from None
    if not addresses:
        raise ReceiverError("unresolved")
    return addresses


def _look_up(host: str, port: int, answers: SimpleQueue[list[str]]) -> None:
    try:
        # Without AI_ADDRCONFIG, so that an address that is not allowed is never left out of the check.
        found = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
    except (OSError, ValueError):
        answers.put([])
    else:
        answers.put([str(address[0]) for *_, address in found])
