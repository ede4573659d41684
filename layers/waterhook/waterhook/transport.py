"""HTTP toward one host: one attempt per call, and an error that says whether it may have been carried out."""

import json
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from http.client import HTTPException
from typing import Protocol

import urllib3

from waterhook.connections import NotConnected, connection_beside, pool, shut_down_at
from waterhook.errors import PerhapsAccepted, Refused, Unavailable, UpstreamError
from waterhook.models import clip

MAX_ANSWER_BYTES = 64 * 1024
_CHUNK_BYTES = 64 * 1024
_MAX_DETAIL_CHARS = 300


class KeySource(Protocol):
    """Where the client gets its key from, and asks again after a 401."""

    def get(self) -> str:
        """Return the key."""

    def refresh(self) -> bool:
        """Read it anew and return whether it has changed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it was read; `capped` where its body went on."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    capped: bool


class _TimeIsUp(Exception):
    """What a stream waited for was still to come when its time ended."""


class Transport:
    """Calls to one host, and streams from it. Safe to keep for the life of a container."""

    def __init__(
        self, base_url: str, key: KeySource, *, connect_timeout_s: float, read_timeout_s: float
    ) -> None:
        """Open nothing yet. The key is sent to the host of `base_url` and, redirects being refused, to no other."""
        self._key = key
        self._connect_timeout_s = connect_timeout_s
        self._new_pool = partial(
            pool, base_url, connect_timeout_s=connect_timeout_s, read_timeout_s=read_timeout_s
        )
        self._pool = self._new_pool()

    def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        budget_s: float,
        limit_bytes: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        """Return the answer to one attempt, or to a second, made only when the key has been rotated meanwhile.

        Reads `limit_bytes` of it, for `budget_s` in all. Raises UpstreamError for any answer but a success.
        """
        ends_at = time.monotonic() + budget_s
        answer = self._attempt(method, path, body, limit_bytes, ends_at)
        if answer.status == 401 and self._key.refresh():  # noqa: PLR2004 - Unauthorized
            answer = self._attempt(method, path, body, limit_bytes, ends_at)
        if _is_success(answer.status):
            return answer
        raise self._error(answer)

    def stream(
        self, path: str, media_type: str, *, ends_at: float, idle_timeout_s: float, limit_bytes: int
    ) -> Generator[bytes]:
        """Yield the body of a GET as it comes in, until it ends or it is `ends_at` on the monotonic clock.

        Raises UpstreamError for any other answer, one that breaks off, is silent for `idle_timeout_s` or goes on
        after `limit_bytes`. Closes its connection however it ends, with `close()` too.
        """
        with suppress(_TimeIsUp), ExitStack() as connections:
            response = connections.enter_context(self._listen(path, media_type, ends_at, idle_timeout_s))
            if response.status == 401 and self._key.refresh():  # noqa: PLR2004 - Unauthorized
                connections.close()
                response = connections.enter_context(self._listen(path, media_type, ends_at, idle_timeout_s))
            if not _is_success(response.status):
                raise self._error(_read(response, MAX_ANSWER_BYTES, ends_at))
            if response.headers.get("Content-Type", "").partition(";")[0].strip().lower() != media_type:
                raise unusable(response.status, f"not {media_type}")
            size_bytes = 0
            while chunk := response.read1(_CHUNK_BYTES, decode_content=False):
                size_bytes += len(chunk)
                if size_bytes > limit_bytes:
                    raise unusable(response.status, f"more than {limit_bytes} bytes")
                if time.monotonic() >= ends_at:
                    return
                yield chunk

    def _attempt(
        self, method: str, path: str, body: bytes | None, limit_bytes: int, ends_at: float
    ) -> Answer:
        headers = self._headers("application/json")
        with ExitStack() as done:
            calls = self._pool
            if body is not None:
                # A kept connection may be gone without our knowing, and then nobody can say whether the
                # start was received: it gets a connection of its own, which nobody gets after it.
                calls = self._new_pool()
                done.callback(calls.close)
                headers |= {"Content-Type": "application/json", "Connection": "close"}
            done.enter_context(shut_down_at(ends_at, calls))
            try:
                response = calls.urlopen(
                    method, path, body, headers, retries=False, redirect=False, preload_content=False
                )
            except NotConnected as error:
                raise _unreachable(error) from error
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise PerhapsAccepted("no_answer", f"no answer: {type(error).__name__}") from error
            # Read to its end it has already given its connection back; otherwise that is unfit for reuse.
            done.callback(response.close)
            return _read(response, limit_bytes, ends_at)

    @contextmanager
    def _listen(
        self, path: str, media_type: str, ends_at: float, idle_timeout_s: float
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Send a GET on a connection of its own, whose socket can be shut down when time is up."""
        left_s = ends_at - time.monotonic()
        if left_s <= 0:
            raise _TimeIsUp
        status = None
        try:
            with closing(connection_beside(self._pool, min(self._connect_timeout_s, left_s))) as connection:
                connection.connect()
                connection.timeout = idle_timeout_s
                with shut_down_at(ends_at, connection):
                    connection.request("GET", path, headers=self._headers(media_type), preload_content=False)
                    with closing(connection.getresponse()) as response:
                        status = response.status
                        yield response
        except (NotConnected, urllib3.exceptions.HTTPError, HTTPException, OSError) as error:
            if time.monotonic() >= ends_at:
                raise _TimeIsUp from error
            if isinstance(error, NotConnected):
                raise _unreachable(error) from error
            message = f"{'no answer' if status is None else 'the stream broke off'}: {type(error).__name__}"
            raise PerhapsAccepted("no_answer", message, status=status) from error

    def _headers(self, accept: str) -> dict[str, str]:
        return {
            "X-API-Key": self._key.get(),
            "Accept": accept,
            # A compressed body could unfold into any size.
            "Accept-Encoding": "identity",
            "User-Agent": "waterhook",
        }

    def _error(self, answer: Answer) -> UpstreamError:
        """Sort an answer that is no success; every status that a start may meet has its place here."""
        # In this order: a key that was cut in two would not be found.
        detail = clip(_detail(answer).replace(self._key.get(), "***"), _MAX_DETAIL_CHARS)
        said = f"HTTP {answer.status}" + (f": {detail}" if detail else "")
        status = answer.status
        if status in {429, 503}:
            return Unavailable("unavailable", said, status=status, retry_after_s=_retry_after_s(answer))
        if 300 <= status < 400:  # noqa: PLR2004 - the redirections of RFC 9110
            return Refused("redirected", f"HTTP {status}: redirects are not followed", status=status)
        if 400 <= status < 500 and status != 408:  # noqa: PLR2004 - 408 leaves open how far it got
            return Refused("refused", said, status=status)
        return PerhapsAccepted("server_error", said, status=status, retry_after_s=_retry_after_s(answer))


def unusable(status: int, why: str) -> PerhapsAccepted:
    """Return the error for a success that says nothing one can use."""
    return PerhapsAccepted("unusable_answer", f"HTTP {status}, but {clip(why, 100)}", status=status)


def _unreachable(error: NotConnected) -> Unavailable:
    return Unavailable("unreachable", f"no connection: {clip(str(error), _MAX_DETAIL_CHARS)}")


def _is_success(status: int) -> bool:
    return 200 <= status < 300  # noqa: PLR2004 - the successes of RFC 9110


def _read(response: urllib3.BaseHTTPResponse, limit_bytes: int, ends_at: float) -> Answer:
    """Read at most `limit_bytes` until `ends_at` on the monotonic clock, however slowly they drip."""
    body = bytearray()
    try:
        while chunk := response.read1(_CHUNK_BYTES, decode_content=False):
            body += chunk
            if len(body) > limit_bytes:
                break
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise PerhapsAccepted(
            "no_answer", f"the answer broke off: {type(error).__name__}", status=response.status
        ) from error
    if len(body) <= limit_bytes and time.monotonic() >= ends_at:
        # A body without a length ends where the connection does, and we may have shut it down.
        raise PerhapsAccepted("no_answer", "the answer took too long", status=response.status)
    return Answer(
        response.status, response.headers, bytes(body[:limit_bytes]), capped=len(body) > limit_bytes
    )


def _detail(answer: Answer) -> str:
    """Return the `detail` of an error body; an HTML page of a gateway has none."""
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        return ""
    detail = value.get("detail") if isinstance(value, dict) else None
    return detail if isinstance(detail, str) else ""


def _retry_after_s(answer: Answer) -> float | None:
    """Return the seconds of a Retry-After header in either of its forms (RFC 9110, 10.2.3), or None."""
    value = (answer.headers.get("Retry-After") or "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None
