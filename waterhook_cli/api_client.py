"""Client of the stack's API. It signs requests with the AWS credentials, or sends the API key (AuthMode API_KEY)."""

import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from math import isfinite
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ConnectionError as BotocoreConnectionError
from botocore.exceptions import HTTPClientError, NoCredentialsError
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies

from waterhook.domain.status import Status
from waterhook_cli.errors import AccessDeniedError, CommandError, ExitCode
from waterhook_cli.stack import Stack

_TIMEOUT_S = 35  # API Gateway's own is 29 s
_RETRY_DELAYS_S = (0.5, 2.0)
_RETRIED = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}
_WRONG_REQUEST = {HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}
_ACCESS_DENIED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_PAGE_SIZE = 100


class HttpResponse(Protocol):
    """The attributes of botocore's response that the CLI reads."""

    @property
    def status_code(self) -> int:
        """HTTP status code."""

    @property
    def text(self) -> str:
        """Response body."""


type SendRequest = Callable[[AWSRequest], HttpResponse]
type SignRequest = Callable[[AWSRequest], None]


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """A JSON object that the API returned, as text and as parsed fields."""

    text: str
    fields: Mapping[str, Any]
    status_code: int = HTTPStatus.OK

    @classmethod
    def parse(cls, text: str, status_code: int = HTTPStatus.OK) -> "ApiResponse":
        """Return the parsed response. Raises CommandError if the text is not a JSON object."""
        try:
            fields = parse_json(text)
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            raise CommandError(
                ExitCode.UNAVAILABLE,
                "the API returned something other than a JSON object, so this is probably not a Waterhook stack",
                "Select the Waterhook stack with --stack NAME.",
            )
        return cls(text, fields, status_code)

    @property
    def status(self) -> str:
        """Status of the execution, as the API returned it."""
        return str(self.fields.get("status"))

    @property
    def is_final(self) -> bool:
        """Whether the execution has ended. An unknown status of a newer version is not final."""
        return self.status in Status.__members__ and Status(self.status).is_final


class ApiClient:
    """Client of the API of one stack. Each method raises CommandError if its request fails."""

    def __init__(
        self,
        base_url: str,
        sign: SignRequest,
        send: SendRequest,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`base_url` is the URL of the API Gateway stage. `sign` adds credentials to a request, `send` sends it."""
        self._base_url = base_url.rstrip("/")
        self._sign = sign
        self._send = send
        self._sleep = sleep

    @classmethod
    def for_stack(cls, stack: Stack) -> "ApiClient":
        """Return a client for a stack. With AuthMode API_KEY this reads the key from API Gateway."""
        return cls(stack.api_url, _signer(stack), http_sender(stack.api_url))

    def submit(
        self, chatbot_id: str, request: Mapping[str, Any], key: str | None, wait_s: int | None = None
    ) -> ApiResponse:
        """Start an execution; return `execution_id`, `status` and the URLs.

        With `wait_s` the API waits up to so many seconds. If the execution ends in this time, the status code is 200,
        and the response is the status document.

        If `key` is None, a random idempotency key is sent, so that a retry does not start a second execution.
        """
        key = key or uuid.uuid4().hex
        headers = {"Idempotency-Key": key}
        if wait_s is not None:
            headers["Prefer"] = f"wait={wait_s}"
        try:
            return self._call("POST", f"/{quote(chatbot_id, safe='')}/async", request, headers)
        except CommandError as error:
            if error.exit_code == ExitCode.UNAVAILABLE and not error.hint:
                error.hint = (
                    f"The execution may have started. Repeat the command with --key {key}: "
                    "it returns this execution, or starts it if it does not exist."
                )
            raise

    def status(self, execution_id: str, wait_s: int | None = None) -> ApiResponse:
        """Return the status document of an execution. With `wait_s` the API waits up to so many seconds for its end."""
        query = "" if wait_s is None else f"?wait={wait_s}"
        return self._call("GET", f"/{quote(execution_id, safe='')}{query}")

    def cancel(self, execution_id: str) -> ApiResponse:
        """Cancel an execution; return `cancelled`, `message`, `previous_status`."""
        return self._call("DELETE", f"/{quote(execution_id, safe='')}")

    def executions(self, filters: Mapping[str, str | None] | None = None) -> Iterator[Mapping[str, Any]]:
        """Yield the caller's executions, for an operator all, newest first. `filters` are parameters of the API.

        Each page is requested when the iteration reaches it.
        """
        next_page = None
        while True:
            query = {"limit": _PAGE_SIZE, **(filters or {}), "next": next_page}
            parameters = {name: value for name, value in query.items() if value is not None}
            page = self._call("GET", f"?{urlencode(parameters)}").fields
            yield from page.get("executions", [])
            next_page = page.get("next")
            if not next_page:
                return

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ApiResponse:
        """Send a request and return the response. Sends it up to three times if the API is unavailable."""
        data = None if body is None else _to_json_bytes(body)
        url = f"{self._base_url}/v1/executions{path}"
        response: HttpResponse | None = None
        for delay_s in (*_RETRY_DELAYS_S, None):
            # Each attempt is signed again, because a signature contains its time.
            request = AWSRequest(method, url, headers={"Content-Type": "application/json"}, data=data)
            for name, value in (headers or {}).items():
                request.headers[name] = value
            self._sign(request)
            response = self._send_or_none(request)
            if response is not None and response.status_code not in _RETRIED:
                break
            if delay_s is not None:
                self._sleep(delay_s)
        if response is None:
            raise CommandError(ExitCode.UNAVAILABLE, f"the API at {self._base_url} can't be reached")
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            raise _to_error(response)
        return ApiResponse.parse(response.text, response.status_code)

    def _send_or_none(self, request: AWSRequest) -> HttpResponse | None:
        try:
            return self._send(request)
        except (BotocoreConnectionError, HTTPClientError):
            return None


def http_sender(url: str, timeout_s: int = _TIMEOUT_S) -> SendRequest:
    """Return a function that sends a request to the host of `url` once. It does not follow redirects.

    It uses the proxy of the environment, except for the loopback interface.
    """
    is_loopback = urlsplit(url).hostname in {"127.0.0.1", "localhost", "::1"}
    http = URLLib3Session(
        verify=os.environ.get("AWS_CA_BUNDLE") or True,  # type: ignore[arg-type]  # botocore passes a path too
        timeout=timeout_s,
        proxies={} if is_loopback else get_environ_proxies(url),
    )
    return lambda request: http.send(request.prepare())


def _signer(stack: Stack) -> SignRequest:
    if key_id := stack.outputs.get("ApiKeyId"):
        response = stack.client("apigateway").get_api_key(apiKey=key_id, includeValue=True)
        return _api_key_signer(str(response["value"]))
    credentials = stack.account.session.get_credentials()
    if credentials is None:
        raise NoCredentialsError
    return SigV4Auth(credentials, "execute-api", stack.region).add_auth


def _api_key_signer(key: str) -> SignRequest:
    def sign(request: AWSRequest) -> None:
        request.headers["x-api-key"] = key

    return sign


def _to_error(response: HttpResponse) -> CommandError:
    """Return the error for a response with a status code of 400 or higher."""
    try:
        body = json.loads(response.text)
        detail = str(body.get("detail") or body.get("message"))
    except (ValueError, AttributeError, RecursionError):
        detail = response.text[:200]
    if response.status_code in _WRONG_REQUEST:
        return CommandError(ExitCode.USAGE, detail)
    if response.status_code == HTTPStatus.NOT_FOUND:
        return CommandError(
            ExitCode.NOT_FOUND,
            detail,
            "The API returns only executions that you started; to an operator (OperatorPrincipalArns) it returns all.\n"
            "To list them: waterhook list",
        )
    if response.status_code in _ACCESS_DENIED:
        return AccessDeniedError(
            ExitCode.UNAVAILABLE,
            f"the API denied access: {detail}",
            "You need the permission execute-api:Invoke on the ARN in the stack's output ApiInvokeArn.",
        )
    return CommandError(ExitCode.UNAVAILABLE, f"the API returned status {response.status_code}: {detail}")


def _to_json_bytes(body: Mapping[str, Any]) -> bytes:
    """Return compact JSON in UTF-8, because the API limits the size of a request."""
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        # A lone surrogate can't be encoded in UTF-8. Escaped, it reaches the API, and the API's error names the field.
        return json.dumps(body, separators=(",", ":")).encode()


def parse_json(text: str) -> Any:
    """Return the value of a JSON text. A number that Python can't represent is returned as text. Raises ValueError."""
    return json.loads(text, parse_int=_parse_int, parse_float=_parse_float)


def _parse_int(text: str) -> int | str:
    return int(text) if len(text) <= sys.int_info.default_max_str_digits else text


def _parse_float(text: str) -> float | str:
    return value if isfinite(value := float(text)) else text
