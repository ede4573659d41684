"""The stack's own API: signed with the caller's credentials, or called with its key, as the stack wants it."""

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ConnectionError as Unreachable
from botocore.exceptions import HTTPClientError, NoCredentialsError
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies

from waterhook_cli.errors import ExitCode, Problem, Refused
from waterhook_cli.output import read_json
from waterhook_cli.stack import Stack

_ANSWER_S = 35  # API Gateway hangs up after 29
_WAITS_S = (0.5, 2.0)  # before the second and the third try
_TRY_AGAIN = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}
_USAGE = {HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}
_REFUSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_MAX_PAGE = 100


class Answered(Protocol):
    """An HTTP answer, as far as it is looked at."""

    @property
    def status_code(self) -> int:
        """HTTP's number."""

    @property
    def text(self) -> str:
        """The body."""


type Send = Callable[[AWSRequest], Answered]
type Sign = Callable[[AWSRequest], None]


@dataclass(frozen=True, slots=True)
class Document:
    """What the API says of an execution: its own text, and what people are shown of it."""

    text: str
    fields: Mapping[str, Any]

    @classmethod
    def read(cls, text: str) -> "Document":
        """Return what an answer holds. Raises Problem when that is no JSON object."""
        try:
            fields = read_json(text)
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            raise Problem(ExitCode.UNAVAILABLE, "the API's answer is no JSON object: is this a Waterhook?")
        return cls(text, fields)

    @property
    def status(self) -> str:
        """Where the execution stands."""
        return str(self.fields.get("status"))


class Api:
    """Calls of one stack's API. Each raises Problem with the exit code that fits."""

    def __init__(
        self, base_url: str, sign: Sign, send: Send, *, pause: Callable[[float], None] = time.sleep
    ) -> None:
        """Connect to nothing yet."""
        self._base_url = base_url.rstrip("/")
        self._sign = sign
        self._send = send
        self._pause = pause

    @classmethod
    def of(cls, stack: Stack) -> "Api":
        """Return the API of a stack, with what it takes to be let in."""
        return cls(stack.api_url, _signer(stack), sender(stack.api_url))

    def submit(self, chatbot_id: str, request: Mapping[str, Any], key: str | None) -> Document:
        """Start an execution; return `execution_id`, `status` and where to look.

        A key is made up where none is given, so that an answer that was lost can be asked for again.
        """
        key = key or uuid.uuid4().hex
        try:
            return self._call(
                "POST", f"/{quote(chatbot_id, safe='')}/async", request, {"Idempotency-Key": key}
            )
        except Problem as problem:
            if problem.exit_code == ExitCode.UNAVAILABLE and not problem.do:
                problem.do = f"It may have been started. The same with --key {key} finds it, or starts it."
            raise

    def status(self, execution_id: str) -> Document:
        """Return the status document of an execution."""
        return self._call("GET", f"/{quote(execution_id, safe='')}")

    def cancel(self, execution_id: str) -> Document:
        """Return what a cancel came to: `cancelled`, `message`, `previous_status`."""
        return self._call("DELETE", f"/{quote(execution_id, safe='')}")

    def executions(self, status: str | None = None) -> Iterator[Mapping[str, Any]]:
        """Yield the caller's executions, newest first, page after page."""
        after = None
        while True:
            query = {"limit": _MAX_PAGE, "status": status, "next": after}
            given = {name: value for name, value in query.items() if value is not None}
            page = self._call("GET", f"?{urlencode(given)}").fields
            yield from page.get("executions", [])
            after = page.get("next")
            if not after:
                return

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Document:
        data = None if body is None else _in_utf8(body)
        url = f"{self._base_url}/v1/executions{path}"
        answer: Answered | None = None
        for wait_s in (*_WAITS_S, None):
            # Signed anew each time: a signature is of its minute.
            request = AWSRequest(method, url, headers={"Content-Type": "application/json"}, data=data)
            for name, value in (headers or {}).items():
                request.headers[name] = value
            self._sign(request)
            answer = self._try(request)
            if answer is not None and answer.status_code not in _TRY_AGAIN:
                break
            if wait_s is not None:
                self._pause(wait_s)
        if answer is None:
            raise Problem(ExitCode.UNAVAILABLE, f"the API at {self._base_url} can't be reached")
        if answer.status_code >= HTTPStatus.BAD_REQUEST:
            raise _refusal(answer)
        return Document.read(answer.text)

    def _try(self, request: AWSRequest) -> Answered | None:
        try:
            return self._send(request)
        except (Unreachable, HTTPClientError):
            return None


def sender(url: str, answer_s: int = _ANSWER_S) -> Send:
    """Return what sends requests there: one attempt, no redirects, by the user's proxy unless it is loopback."""
    loopback = urlsplit(url).hostname in {"127.0.0.1", "localhost", "::1"}
    http = URLLib3Session(
        verify=os.environ.get("AWS_CA_BUNDLE") or True,  # type: ignore[arg-type]  # as every other call of botocore's
        timeout=answer_s,
        proxies={} if loopback else get_environ_proxies(url),
    )
    return lambda request: http.send(request.prepare())


def _signer(stack: Stack) -> Sign:
    if key_id := stack.outputs.get("ApiKeyId"):
        answer = stack.client("apigateway").get_api_key(apiKey=key_id, includeValue=True)
        return _with_key(str(answer["value"]))
    credentials = stack.account.session.get_credentials()
    if credentials is None:
        raise NoCredentialsError
    return SigV4Auth(credentials, "execute-api", stack.region).add_auth


def _with_key(key: str) -> Sign:
    def sign(request: AWSRequest) -> None:
        request.headers["x-api-key"] = key

    return sign


def _refusal(answer: Answered) -> Problem:
    """Return what an answer above 400 means."""
    try:
        said = json.loads(answer.text)
        detail = str(said.get("detail") or said.get("message"))
    except (ValueError, AttributeError, RecursionError):
        detail = answer.text[:200]
    if answer.status_code in _USAGE:
        return Problem(ExitCode.USAGE, detail)
    if answer.status_code == HTTPStatus.NOT_FOUND:
        return Problem(ExitCode.NOT_FOUND, detail, "You see your own executions only: those you started.")
    if answer.status_code in _REFUSED:
        return Refused(
            ExitCode.UNAVAILABLE,
            f"the API does not let you in: {detail}",
            "Calling it needs execute-api:Invoke on the stack's output ApiInvokeArn.",
        )
    return Problem(ExitCode.UNAVAILABLE, f"the API answered {answer.status_code}: {detail}")


def _in_utf8(body: Mapping[str, Any]) -> bytes:
    """Return JSON without spaces and escapes: the API counts the size of what is sent."""
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair, which the API refuses by name.
        return json.dumps(body, separators=(",", ":")).encode()
