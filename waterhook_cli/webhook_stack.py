"""The webhooks of a stack: its outputs, its table of deliveries, and the calls of its deliver function."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from waterhook.storage.webhook_deliveries import WebhookDeliveries
from waterhook_cli.errors import CommandError, ExitCode
from waterhook_cli.stack import Stack

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient


class DeliverFunctionError(CommandError):
    """Raised when the deliver function was invoked and failed."""


def webhook_output(stack: Stack, name: str) -> str:
    """Return an output that a stack with webhooks has. Raises CommandError if webhooks are switched off."""
    if name not in stack.outputs:
        raise CommandError(
            ExitCode.UNAVAILABLE,
            f"webhooks are switched off in {stack}: it has no output {name}",
            "To switch them on, deploy with the hosts of the receivers: "
            "sam deploy --parameter-overrides WebhookAllowedHosts=hooks.example.com",
        )
    return stack.output(name)


def deliveries_of(stack: Stack) -> WebhookDeliveries:
    """Return the deliveries of a stack. Raises CommandError if webhooks are switched off."""
    return WebhookDeliveries(webhook_output(stack, "WebhookTableName"), stack.client("dynamodb"))


class DeliverFunction:
    """Invokes the deliver function and waits for its result."""

    def __init__(self, name: str, client: "LambdaClient") -> None:
        """`name` is the name or the ARN of the function."""
        self._name = name
        self._client = client

    def invoke(self, payload: Mapping[str, Any], result_has: str) -> Mapping[str, Any]:
        """Return the result, which has the field `result_has`.

        Raises DeliverFunctionError if the function fails, and boto3's errors if it can't be invoked.
        """
        response = self._client.invoke(
            FunctionName=self._name,
            InvocationType="RequestResponse",
            Payload=json.dumps(payload).encode(),
        )
        read = json.loads(response["Payload"].read() or "null")
        result: Mapping[str, Any] = read if isinstance(read, dict) else {}
        if response.get("FunctionError") or result_has not in result:
            # The error message is not printed, because it may contain data of the execution. The function logs it.
            error_type = result.get("errorType") or "no result"
            raise DeliverFunctionError(
                ExitCode.UNAVAILABLE,
                f"DeliverFunction failed ({error_type}). Its log has the cause",
                "Fix it with docs/runbook/DeliverAlarm.md, then repeat the command.",
            )
        return result
