"""`doctor` looks at Waterflai: the secret with its key, its address, and whether the two go together."""

import json
import socket
import uuid
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError, ConnectTimeoutError, HTTPClientError, SSLError
from botocore.exceptions import ConnectionError as Unreachable

from waterhook.errors import KeyUnavailableError
from waterhook.upstream.api_key import ApiKey
from waterhook_cli.api import Send
from waterhook_cli.findings import Finding

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

_GONE = {
    "ResourceNotFoundException": "does not exist",
    "InvalidRequestException": "can't be read: it may be marked for deletion",
}
_PUT = "aws secretsmanager put-secret-value --secret-id {name} --secret-string KEY"
_REFUSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}


def secret(client: "SecretsManagerClient", arn: str, region: str) -> Iterator[Finding]:
    """Look whether the functions find a key in the secret. The key itself is never told."""
    name = _name(arn)
    put = _PUT.format(name=name)
    if arn.split(":")[3:4] != [region]:
        yield Finding.problem(
            f"the secret {name} is in another region than the stack, and the functions look in {region}",
            f"Create one in {region} and deploy with its ARN as WaterflaiApiKeySecretArn.",
        )
    try:
        found: Mapping[str, Any] = client.get_secret_value(SecretId=arn)
    except ClientError as error:
        code = error.response["Error"].get("Code", "")
        if code not in _GONE:
            raise
        yield Finding.problem(
            f"the secret {name} {_GONE[code]}",
            "Create one and deploy with its ARN as WaterflaiApiKeySecretArn, or bring this one back: "
            f"aws secretsmanager restore-secret --secret-id {name}",
        )
        return
    text = found.get("SecretString")
    if text is None:
        yield Finding.problem(f"the secret {name} holds bytes, not text", f"Put the key in: {put}")
    elif not text.strip():
        yield Finding.problem(f"the secret {name} is empty", f"Put the key in: {put}")
    elif _key(client, arn) is None:
        yield Finding.problem(
            f'the secret {name} holds neither a key as plain text nor {{"api_key": "..."}} in JSON',
            f"Put the key in: {put}",
        )
    elif text != text.strip() or _padded_in_json(text):
        yield Finding.warning(
            f"the secret {name} has white space around its key: Waterhook overlooks it, others may not",
            f"A newline often comes from `echo`; printf '%s' adds none. Put the key in again: {put}",
        )
    else:
        yield Finding.ok(f"the secret {name} holds a key")


def upstream(base_url: str, send: Send, client: "SecretsManagerClient", secret_arn: str) -> Iterator[Finding]:
    """Ask for the status of an execution that can't exist: 404 says that address and key are right."""
    key = _key(client, secret_arn)
    request = AWSRequest("GET", f"{base_url}/v1/executions/{uuid.uuid4()}", headers={"X-API-Key": key or ""})
    try:
        answer = send(request)
    except (Unreachable, HTTPClientError) as error:
        yield _unreachable(base_url, error)
        return
    code = answer.status_code
    if code in _REFUSED and key is None:
        yield Finding.note(f"{base_url} answers; without a key there is nothing more to see")
    elif code in _REFUSED:
        yield Finding.problem(
            f"{base_url} refuses the key ({code})",
            f"No deployment is needed. Put the right one in: {_PUT.format(name=_name(secret_arn))}",
        )
    elif code == HTTPStatus.NOT_FOUND and _is_json_object(answer.text):
        yield Finding.ok(f"{base_url} answers and takes the key")
    elif HTTPStatus.MULTIPLE_CHOICES <= code < HTTPStatus.BAD_REQUEST:
        yield Finding.problem(
            f"{base_url} redirects elsewhere ({code}), and the key is sent nowhere else",
            "Deploy with the address itself as WaterflaiBaseUrl.",
        )
    elif code >= HTTPStatus.INTERNAL_SERVER_ERROR or code == HTTPStatus.TOO_MANY_REQUESTS:
        yield Finding.warning(
            f"{base_url} has trouble: it answers {code}",
            "Executions go on when it is back; look again later.",
        )
    else:
        yield Finding.warning(
            f"{base_url} answers {code}, and not as Waterflai does for an execution it doesn't know",
            "Is WaterflaiBaseUrl right?",
        )


def _unreachable(base_url: str, error: Exception) -> Finding:
    place = urlsplit(base_url)
    here = "Seen from here; the functions go their own way. Is WaterflaiBaseUrl right?"
    if isinstance(error, SSLError):
        return Finding.problem(f"{base_url}: its TLS certificate is not accepted", here)
    if isinstance(error, ConnectTimeoutError | HTTPClientError) and not isinstance(error, Unreachable):
        return Finding.problem(f"{base_url} does not answer ({type(error).__name__})", here)
    try:
        socket.getaddrinfo(place.hostname or "", place.port or 443)
    except OSError:
        return Finding.problem(f"{place.hostname} has no address: DNS does not know the name", here)
    return Finding.problem(f"{base_url} can't be reached: nobody takes the connection", here)


def _name(arn: str) -> str:
    """Return a secret's name, without the six characters that AWS adds in its ARN."""
    return arn.rpartition(":")[2][:-7]


def _key(client: "SecretsManagerClient", arn: str) -> str | None:
    """Return the key as the functions read it, or None where they would find none."""
    try:
        return ApiKey(arn, client).get()
    except KeyUnavailableError:
        return None


def _padded_in_json(text: str) -> bool:
    try:
        key = json.loads(text)["api_key"]
    except (ValueError, TypeError, KeyError):
        return False
    return isinstance(key, str) and key != key.strip()


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
