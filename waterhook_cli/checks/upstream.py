"""Checks that Waterflai is reachable and accepts the API key."""

import json
import socket
import uuid
from collections.abc import Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from botocore.awsrequest import AWSRequest
from botocore.exceptions import ConnectionError as BotocoreConnectionError
from botocore.exceptions import ConnectTimeoutError, HTTPClientError, SSLError

from waterhook_cli.api_client import SendRequest
from waterhook_cli.checks.finding import Finding, deploy_hint
from waterhook_cli.checks.secret import put_command, read_key

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

_REJECTED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_HTTPS_PORT = 443


def check_upstream(
    base_url: str, send: SendRequest, secretsmanager: "SecretsManagerClient", secret_arn: str
) -> Iterator[Finding]:
    """Request the status of an execution that does not exist. A 404 means that URL and key are correct."""
    key = read_key(secretsmanager, secret_arn)
    request = AWSRequest("GET", f"{base_url}/v1/executions/{uuid.uuid4()}", headers={"X-API-Key": key or ""})
    try:
        response = send(request)
    except (BotocoreConnectionError, HTTPClientError) as error:
        yield _unreachable(base_url, error)
        return
    status = response.status_code
    if status in _REJECTED and key is None:
        yield Finding.note(f"{base_url} responds. The key is missing, so it is not checked")
    elif status in _REJECTED:
        yield Finding.problem(
            f"{base_url} rejects the key ({status})",
            f"Store a valid key. A deployment is not necessary: {put_command(secret_arn)}",
        )
    elif status == HTTPStatus.NOT_FOUND and _is_json_object(response.text):
        yield Finding.ok(f"{base_url} responds and accepts the key")
    elif HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        yield Finding.problem(
            f"{base_url} redirects to another URL ({status}). Waterhook does not send the key there",
            deploy_hint("WaterflaiBaseUrl=URL", "of that server"),
        )
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        yield Finding.warning(
            f"{base_url} is unavailable: it returns status {status}",
            "Executions continue when Waterflai is available again. Run doctor again later.",
        )
    else:
        yield Finding.warning(
            f"{base_url} returns status {status}. Waterflai returns 404 with JSON for an unknown execution",
            f"Check the parameter WaterflaiBaseUrl. {deploy_hint('WaterflaiBaseUrl=URL', 'to change it')}",
        )


def _unreachable(base_url: str, error: Exception) -> Finding:
    url = urlsplit(base_url)
    hint = (
        "Check the parameter WaterflaiBaseUrl and the network. doctor runs on this computer: the network of the "
        "functions may differ."
    )
    if isinstance(error, SSLError):
        return Finding.problem(f"the TLS certificate of {base_url} is not valid", hint)
    if isinstance(error, ConnectTimeoutError | HTTPClientError) and not isinstance(
        error, BotocoreConnectionError
    ):
        return Finding.problem(f"{base_url} does not respond ({type(error).__name__})", hint)
    try:
        socket.getaddrinfo(url.hostname or "", url.port or _HTTPS_PORT)
    except OSError:
        return Finding.problem(f"{url.hostname} has no address in DNS", hint)
    return Finding.problem(f"{base_url} can't be reached: the connection fails", hint)


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
