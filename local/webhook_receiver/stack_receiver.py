"""A receiver of the webhooks of a local stack: its authority, and the secret with which the stack signs."""

import sys
from pathlib import Path

from local.local_aws import aws_resources, environment
from local.local_aws.errors import ToolError
from local.local_aws.local_authority import LocalAuthority
from local.local_aws.stack_outputs import StackOutputs

from .receiver import WebhookReceiver

_LAYER = str(environment.ROOT / "layers" / "waterhook")


def receiver_for(outputs: StackOutputs, *, host: str = "localhost", port: int = 0) -> WebhookReceiver:
    """Return a receiver that the stack trusts, with the secret of its host.

    Raises ToolError if webhooks are off or the authority is damaged, ValueError if the host is not on loopback.
    """
    try:
        authority = LocalAuthority.load(Path(outputs.authority_path))
    except (OSError, ValueError) as error:
        raise ToolError(
            f"The certificate authority in {outputs.authority_path} is missing or damaged. "
            "Start the local stack again: make down up"
        ) from error
    receiver = WebhookReceiver(authority, host=host, port=port)
    receiver.secret = secret_of_host(outputs, receiver.host)
    return receiver


def secret_of_host(outputs: StackOutputs, host: str) -> str:
    """Return the newest secret of a host, `whsec_…`. Raises ToolError if webhooks are off."""
    if not outputs.has_webhooks:
        raise ToolError(
            "Webhooks are off in the local stack: it was deployed without WebhookAllowedHosts. "
            "Start it again: make down up"
        )
    client = aws_resources.session().client("secretsmanager", endpoint_url=outputs.endpoint_url)
    return newest_secret(client.get_secret_value(SecretId=outputs.webhook_secret_arn)["SecretString"], host)


def newest_secret(secret_text: str, host: str) -> str:
    """Return the secret of a host, by the text of the stack's secret, which holds the master keys."""
    if _LAYER not in sys.path:
        sys.path.append(_LAYER)  # `python -m local` runs without the package of the layer
    from waterhook.webhooks.signature import derive_key, shown_secret  # noqa: PLC0415  # see above
    from waterhook.webhooks.signing_keys import master_keys  # noqa: PLC0415

    return shown_secret(derive_key(master_keys(secret_text)[0].key, host))
