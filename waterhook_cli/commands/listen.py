"""`waterhook listen`: prints notifications as they arrive, and forwards them to a server on this computer."""

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
from botocore.exceptions import BotoCoreError, ClientError
from click.core import ParameterSource
from rich.text import Text

from waterhook import aws_config
from waterhook.domain.status import Status
from waterhook.domain.webhook import EVENTS
from waterhook.errors import InvalidWebhookUrlError, SigningKeysUnavailableError
from waterhook.notifications.webhook_requests import KeySource, WebhookRequests
from waterhook.storage.results_bucket import ResultsBucket
from waterhook.timestamps import to_rfc3339
from waterhook.webhooks.sender import TIMEOUT_S, Attempt, AttemptError
from waterhook.webhooks.signature import KEY_BYTES, shown_secret
from waterhook.webhooks.signing_keys import SigningKeys
from waterhook_cli.errors import CommandError, ExitCode, is_access_denied, printable, to_command_error
from waterhook_cli.forward import SIGNING_HOST, Forwarder, Forwarding, LoopbackSender, LoopbackUrl, SessionKey
from waterhook_cli.interrupts import Interrupts
from waterhook_cli.listen_session import LONG_POLL, ListenSession, SessionOptions
from waterhook_cli.notification import MAX_COMBINATIONS, Notification, NotificationFilter, full_type
from waterhook_cli.options import CommandContext, common_options, examples, pass_context
from waterhook_cli.output import Output, console, format_time, status_style
from waterhook_cli.stack import Stack
from waterhook_cli.temporary_queue import TemporaryQueue, remove_expired

SECRET_VARIABLE = "WATERHOOK_WEBHOOK_SECRET"  # noqa: S105  # the name of a variable
_SNS_OPERATIONS = {"Subscribe", "Unsubscribe", "ListSubscriptionsByTopic"}
_STATUS_WIDTH = 9
_FAILURES: Mapping[str, str] = {
    AttemptError.NO_CONNECTION: "nothing accepts connections at {authority}",
    AttemptError.TIMEOUT: f"no answer within {TIMEOUT_S:.0f} s",
    AttemptError.TLS: "the TLS handshake failed",
    AttemptError.BAD_ANSWER: "the connection ended without a valid HTTP answer",
    AttemptError.REDIRECT: "redirects are not followed",
}


class NotificationTypeType(click.ParamType):
    """The type of notifications: its last word, such as `completed`, or the whole type."""

    name = "TYPE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the whole type."""
        if (found := full_type(value)) is None:
            self.fail(f"{value!r} is not a type: expected one of {', '.join(EVENTS)}", param, ctx)
        return found


class LoopbackUrlType(click.ParamType):
    """The URL of a server on this computer. No message contains it, because it may contain a token."""

    name = "URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> LoopbackUrl:
        """Return the parts of the URL."""
        try:
            return value if isinstance(value, LoopbackUrl) else LoopbackUrl.parse(value)
        except InvalidWebhookUrlError as error:
            self.fail(str(error), param, ctx)


class SecretType(click.ParamType):
    """The secret of a receiver. No message contains it."""

    name = "SECRET"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> SessionKey:
        """Return the key."""
        try:
            return value if isinstance(value, SessionKey) else SessionKey(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command(
    "listen",
    epilog=examples(
        "waterhook listen",
        "waterhook listen --status failed --chatbot support-chat",
        "waterhook listen --forward-to http://localhost:3000/hook",
        "waterhook listen --count 1 --json",
    ),
)
@click.option(
    "--status",
    "statuses",
    type=click.Choice([str(status) for status in Status], case_sensitive=False),
    multiple=True,
    metavar="STATUS",
    help="Only notifications with this status, for example FAILED. Can be repeated.",
)
@click.option(
    "--type",
    "types",
    type=NotificationTypeType(),
    multiple=True,
    help="Only notifications of this type: completed, progress, ... Can be repeated.",
)
@click.option(
    "--chatbot",
    "chatbot_ids",
    multiple=True,
    metavar="ID",
    help="Only notifications of this chatbot. Can be repeated.",
)
@click.option(
    "--forward-to",
    "url",
    type=LoopbackUrlType(),
    help="Post each notification to this server on your computer, as a signed webhook: http://localhost:3000/hook",
)
@click.option(
    "--secret",
    type=SecretType(),
    envvar=SECRET_VARIABLE,
    help=f"Sign the forwarded requests with this secret.  [{SECRET_VARIABLE}; the stack's secret of localhost]",
)
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after N notifications.")
@common_options
@pass_context
def command(
    context: CommandContext,
    /,
    statuses: Sequence[str],
    types: Sequence[str],
    chatbot_ids: Sequence[str],
    url: LoopbackUrl | None,
    secret: SessionKey | None,
    count: int | None,
) -> ExitCode:
    """Print notifications as they arrive, until Ctrl-C.

    A temporary SQS queue receives them. It is removed when the command ends. The output of an execution is printed only
    with --json.
    """
    selection = NotificationFilter(types, statuses, chatbot_ids)
    if selection.combinations > MAX_COMBINATIONS:
        raise click.UsageError(
            f"The filters have {selection.combinations} combinations of values, and SNS accepts {MAX_COMBINATIONS}."
        )
    if secret is not None and url is None and _is_on_command_line("secret"):
        raise click.UsageError("--secret requires --forward-to.")
    stack, output = context.find_stack(), context.output
    printer = AttemptPrinter(output, "" if url is None else url.authority)
    forwarder = None
    if url is not None:
        keys = _key_source(stack, secret, output, context.stack_options)
        forwarder = Forwarder(_forwarding(stack, url, keys).send, printer.print_attempt)
    topic_arn, sns, sqs = stack.output("TopicArn"), stack.client("sns"), stack.client("sqs")
    is_tls = not sqs.meta.endpoint_url.startswith("http:")
    session = ListenSession(
        lambda: TemporaryQueue(
            topic_arn, stack.name, sns, sqs, filter_policy=selection.policy, requires_tls=is_tls
        ),
        stack.client("sqs", LONG_POLL),
        printer,
        output,
        SessionOptions(selection, count, stack.is_local),
        forwarder,
    )
    try:
        with Interrupts() as interrupts:
            with interrupts.allowed():
                _remove_leftovers(
                    lambda: remove_expired(topic_arn, stack.name, sns, sqs, time.time()), output
                )
            session.run(
                interrupts, lambda: output.info("Waiting for notifications. Ctrl-C ends the command.")
            )
    except ClientError as error:
        raise _explain(error) from error
    return ExitCode.UNSUCCESSFUL if printer.failures else ExitCode.OK


class AttemptPrinter:
    """Prints notifications on standard output, and the results of forwarding. Used by several threads."""

    def __init__(self, output: Output, authority: str) -> None:
        """`authority` is host and port of the server."""
        self._output = output
        self._authority = authority
        self._lock = threading.Lock()
        self.failures = 0
        """The number of notifications that the server did not confirm."""

    def print_notification(self, notification: Notification) -> None:
        """Print a notification: with `--json` all of it, else nothing that may be customer data."""
        with self._lock:
            if self._output.as_json:
                is_terminal = console().is_terminal
                click.echo(notification.terminal_line if is_terminal else notification.json_line)
                return
            status, error = notification.text_of("status"), notification.data.get("error")
            details = [notification.text_of("chatbot_id")]
            if "progress" in notification.data:
                details.append(f"{notification.text_of('progress')} %")
            code = str(error.get("code") or "") if isinstance(error, dict) else ""
            details.append("" if code == status.lower() else code)
            self._line(format_time(notification.event.get("time")), status, notification, *details)

    def print_attempt(self, notification: Notification, attempt: Attempt) -> None:
        """Print the answer of the server: on standard error with `--json`."""
        with self._lock:
            self.failures += not attempt.is_delivered
            mark = f"-> {attempt.code or 'failed'}"
            failure = _FAILURES.get(attempt.error or "", "").format(authority=self._authority)
            details = [f"{attempt.latency_ms:.0f} ms", failure]
            self._line(
                format_time(to_rfc3339(time.time())), mark, notification, *details, is_ok=attempt.is_delivered
            )

    def _line(
        self, at: str, status: str, notification: Notification, *details: str, is_ok: bool | None = None
    ) -> None:
        """Print the cells of a line, aligned in a table, else separated by tabs. `is_ok` is set for an attempt."""
        cells = [at, status, notification.text_of("execution_id"), *filter(None, details)]
        if is_ok is not None and self._output.as_json:
            (self._output.info if is_ok else self._output.warning)("  ".join(cells))
        elif self._output.as_table:
            style = status_style(status) if is_ok is None else ("green" if is_ok else "red")
            before, after = f"{printable(at)}  ", "  ".join(map(printable, cells[2:]))
            self._output.line(
                Text.assemble(before, (printable(status).ljust(_STATUS_WIDTH), style), f"  {after}")
            )
        else:
            click.echo("\t".join(map(printable, cells)))


def _is_on_command_line(name: str) -> bool:
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def _key_source(stack: Stack, secret: SessionKey | None, output: Output, stack_options: str) -> KeySource:
    """Return the user's key, else those of the stack, else a new one. Prints where the receiver gets its secret."""
    if secret is not None:
        output.info("Requests are signed with your secret.")
        return secret
    if arn := stack.outputs.get("WebhookSecretArn"):
        keys = SigningKeys(arn, stack.client("secretsmanager"))
        try:
            keys.keys_for(SIGNING_HOST)
        except SigningKeysUnavailableError as error:
            cause = to_command_error(error) or CommandError(ExitCode.UNAVAILABLE, str(error))
            cause.hint = (
                f"{cause.hint} Or set your own secret in {SECRET_VARIABLE}, here and at the receiver.".strip()
            )
            raise cause from error
        output.info(
            f"Requests are signed with the secret of {SIGNING_HOST}. To print it: "
            f"waterhook webhook-secret {SIGNING_HOST}{stack_options}"
        )
        return keys
    new = shown_secret(secrets.token_bytes(KEY_BYTES))
    # A warning, because the receiver needs it also with --quiet.
    output.warning(
        "Webhooks are off in this stack, so requests are signed with a new secret. Set it at the receiver:",
        "",
    )
    output.warning(new, "")
    output.info(f"To use the same secret next time, set {SECRET_VARIABLE} to it.")
    return SessionKey(new)


def _forwarding(stack: Stack, url: LoopbackUrl, keys: KeySource) -> Forwarding:
    bucket = stack.output("BucketName")
    s3 = stack.client("s3", aws_config.UPLOADS)
    presign = ResultsBucket(bucket, lambda: s3).presign
    # `source` is not used: the event is the one that was published.
    return Forwarding(WebhookRequests(keys, presign, "", time.time), LoopbackSender(url), bucket, presign)


def _remove_leftovers(remove: Callable[[], Sequence[str]], output: Output) -> None:
    """Remove queues of earlier commands that were killed. A failure is no reason to print no notifications."""
    try:
        removed = remove()
    except (ClientError, BotoCoreError) as error:
        reason = to_command_error(_explain(error) if isinstance(error, ClientError) else error)
        output.warning(f"Queues of earlier runs were not removed: {reason.message if reason else error}.")
    else:
        if removed:
            output.info(f"Removed what earlier runs have left: {', '.join(removed)}.")


def _explain(error: ClientError) -> Exception:
    """Return an error that names the missing permission, else the error itself."""
    if not is_access_denied(error):
        return error
    service = "sns" if error.operation_name in _SNS_OPERATIONS else "sqs"
    return CommandError(
        ExitCode.UNAVAILABLE,
        f"not allowed: {service}:{error.operation_name}",
        "docs/security.md has a policy with the permissions of `waterhook listen`. The message of AWS: "
        f"{error.response['Error'].get('Message', '')}",
    )
