"""`waterhook webhook-test`: sends a test event to a URL, and explains the result."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import click
from botocore.config import Config

from waterhook.webhooks.sender import TIMEOUT_S, AttemptError
from waterhook_cli.checks.finding import deploy_hint
from waterhook_cli.errors import ExitCode
from waterhook_cli.options import CommandContext, common_options, examples, pass_context
from waterhook_cli.parameter_types import WebhookUrlType
from waterhook_cli.webhook_stack import DeliverFunction, webhook_output

# The function's timeout is 50 s. A repeated call would send a second event.
_ONE_CALL = Config(read_timeout=60, retries={"mode": "standard", "total_max_attempts": 1})
_SERVER = "Check the log of the receiver."
_UNAUTHORIZED = (
    "The receiver may have another secret. Print the secret of the host: waterhook webhook-secret {host}"
)
_ALLOW_HOST = deploy_hint("WebhookAllowedHosts=HOSTS", "(the present hosts and this one)")
_ALLOW_NETWORK = deploy_hint("WebhookAllowedNetworks=NETWORKS", "(with that of the receiver)")
# What happened, and what to do, by the error code of an attempt. {host} is the host of the URL.
_ERRORS: dict[str, tuple[str, str]] = {
    AttemptError.HTTP_STATUS: (
        "{host} answered {code}, and only 2xx confirms a webhook",
        f"{_SERVER} It must answer 2xx as soon as it has stored the event.",
    ),
    AttemptError.REDIRECT: (
        "{host} answered with a redirect ({code}). Redirects are not followed",
        "Use the URL that the receiver redirects to.",
    ),
    AttemptError.TIMEOUT: (
        f"{{host}} did not answer within {TIMEOUT_S:.0f} s",
        "Check that the host accepts connections from the functions. The receiver must answer before it processes.",
    ),
    AttemptError.NO_CONNECTION: (
        "{host} accepts no connection",
        "Check that the server runs, the port of the URL, and the firewall between the functions and the server.",
    ),
    AttemptError.TLS: (
        "the TLS handshake with {host} failed",
        (
            "The certificate must be for {host}, not expired, and sent with its intermediate certificates. For your "
            f"own authority: {deploy_hint('WebhookCaBundle=ARN', 'of a secret with its certificate')}"
        ),
    ),
    AttemptError.UNRESOLVED: (
        "DNS has no address of {host}, or did not answer",
        "Check the name. A name of a private zone resolves only for functions in a VPC that uses this zone.",
    ),
    AttemptError.ADDRESS_NOT_ALLOWED: (
        "{host} has an address that is not allowed",
        (
            "Each address of the host must be public or in WebhookAllowedNetworks; link-local addresses are never "
            f"allowed. {_ALLOW_NETWORK}"
        ),
    ),
    AttemptError.HOST_NOT_ALLOWED: ("{host} is not an allowed host", _ALLOW_HOST),
    AttemptError.BAD_ANSWER: (
        "{host} closed the connection without a valid HTTP answer",
        f"{_SERVER} Check that the URL is that of an HTTPS server.",
    ),
}
_STATUS_HINTS: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: _UNAUTHORIZED,
    HTTPStatus.FORBIDDEN: _UNAUTHORIZED,
    HTTPStatus.NOT_FOUND: "Check the path of the URL.",
    HTTPStatus.METHOD_NOT_ALLOWED: "Check the path of the URL: it must accept POST.",
    HTTPStatus.GONE: "410 ends a delivery without another attempt. Check the URL.",
    HTTPStatus.TOO_MANY_REQUESTS: "The receiver limits requests. Webhooks are tried again later.",
}
# What to do about a reason why nothing was sent, by the parameter that the reason names.
_DEPLOY = {"WebhookAllowedHosts": _ALLOW_HOST, "WebhookAllowedNetworks": _ALLOW_NETWORK}


def explain(result: Mapping[str, Any], stack_options: str = "") -> tuple[str, str]:
    """Return what happened in a test, and what to do. `stack_options`: options of a command for the same stack."""
    if reason := result.get("reason"):
        # The reasons of the rules contain the host, and never the URL.
        parameter = next((name for name in _DEPLOY if name in reason), None)
        hint = _DEPLOY[parameter] if parameter else ""
        return f"nothing was sent: {reason}", hint
    host, code, error = result.get("host"), result.get("code"), result.get("error")
    if result.get("delivered"):
        return f"{host} answered {code} after {result.get('latency_ms')} ms", ""
    what, hint = _ERRORS.get(str(error), ("the attempt failed: {error}", _SERVER))
    if error == AttemptError.HTTP_STATUS:
        hint = _STATUS_HINTS.get(code or 0, hint)
    values = {"host": host, "code": code, "error": error}
    hint = hint.format(**values)
    return what.format(**values), hint + stack_options if "waterhook webhook-secret" in hint else hint


@click.command("webhook-test", epilog=examples("waterhook webhook-test https://hooks.example.com/waterhook"))
@click.argument("url", type=WebhookUrlType(), metavar="URL")
@common_options
@pass_context
def command(context: CommandContext, url: str) -> ExitCode:
    """Send a signed test event to URL, and explain the result.

    The event has the type waterhook.webhook.test, and belongs to no execution. One attempt is made, with the checks of
    every webhook.
    """
    stack, output = context.find_stack(), context.output
    function = DeliverFunction(
        webhook_output(stack, "DeliverFunctionName"), stack.client("lambda", _ONE_CALL)
    )
    with context.spinner("Sending a test event"):
        result = function.invoke({"test": {"url": url}}, "delivered")
    is_delivered = result["delivered"] is True
    what, hint = explain(result, context.stack_options)
    if output.as_json:
        output.json({**result, "what": what, "do": hint})
    else:
        output.marked_line(
            "ok" if is_delivered else "failed", "green" if is_delivered else "bold red", what, hint
        )
        output.fields({"webhook-id": result.get("webhook_id")})
    return ExitCode.OK if is_delivered else ExitCode.UNSUCCESSFUL
