"""The errors that end a command, the exit codes, and the messages for errors of botocore.

CommandError                 message, hint and exit code
├── AccessDeniedError        the API of the stack denied access
└── StackNotFoundError       the account has no stack with the selected name (waterhook_cli.stack)
"""

from enum import IntEnum
from http import HTTPStatus
from typing import IO, Any, Self

import click
from botocore import exceptions as aws
from rich.console import Console
from rich.text import Text

from waterhook.errors import THROTTLING_CODES, DependencyUnavailableError, aws_error_code
from waterhook.text import clip

_PREFIX = "waterhook: "
_MAX_CHARS = 4_000


class ExitCode(IntEnum):
    """Exit code of a command. `meaning` is its text in the documents and in `--help`."""

    meaning: str

    OK = 0, "done; with `--follow` or `--wait`: the execution is COMPLETED"
    UNSUCCESSFUL = 1, "another outcome than COMPLETED, not everything done, or you declined"
    USAGE = 2, "the command or the request is wrong"
    NOT_FOUND = 3, "no such stack or execution"
    UNAVAILABLE = 4, "not reachable, not allowed or not set up"
    PROBLEMS = 5, "`doctor` found problems"
    NOT_ENDED = 6, "with `--wait`: the execution continues, it did not end in time"
    BUG = 70, "a bug in the command itself"
    INTERRUPTED = 130, "Ctrl-C; an execution continues"

    def __new__(cls, value: int, meaning: str) -> Self:
        """Return the member with its meaning."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


class CommandError(click.ClickException):
    """Ends the command. `message` states what is wrong, `hint` what the user can do."""

    def __init__(self, exit_code: ExitCode, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.exit_code = int(exit_code)
        self.hint = hint

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message on one line, and the lines of the hint, on standard error or to `file`."""
        console = Console(stderr=file is None, file=file, highlight=False, soft_wrap=True)
        console.print(Text.assemble((_PREFIX, "bold red"), printable(self.message)))
        for line in self.hint.splitlines():
            console.print(Text(printable(line)))


class AccessDeniedError(CommandError):
    """Raised when the API of the stack returns 401 or 403."""


_CREDENTIALS_HINT = (
    "Set up credentials with `aws configure` or `aws sso login`, or select a profile that has credentials with "
    "--profile NAME. For the stack of `make up`, add --local."
)
# The first matching entry applies: error types, message, hint. Names in braces are attributes of the botocore error.
_BOTOCORE_ERRORS: list[tuple[tuple[type[Exception], ...], str, str]] = [
    (
        (aws.NoRegionError,),
        "no AWS region is set",
        "Add --region NAME, or set the environment variable AWS_REGION. For the stack of `make up`, add --local.",
    ),
    (
        (aws.NoCredentialsError, aws.PartialCredentialsError),
        "no AWS credentials were found",
        _CREDENTIALS_HINT,
    ),
    (
        (aws.ProfileNotFound,),
        "no AWS profile {profile!r} is configured",
        "List the configured profiles: aws configure list-profiles",
    ),
    (
        (aws.ConnectionError, aws.HTTPClientError),
        "{endpoint_url} can't be reached ({error_name})",
        "Check the network connection, the region and the environment variable AWS_ENDPOINT_URL.",
    ),
    ((aws.InvalidRegionError,), "{text}", "Check --region, AWS_REGION and the region of the profile."),
    ((aws.BotoCoreError,), "the call to AWS failed: {text}", _CREDENTIALS_HINT),
]
_ACCESS_DENIED_CODES = {
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "UnauthorizedOperation",
    "AccessDeniedFault",
}
_INVALID_CREDENTIALS_CODES = {
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "InvalidAccessKeyId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "AuthFailure",
    "RequestExpired",
}


def is_access_denied(error: Exception) -> bool:
    """Return whether AWS accepted the credentials but denied the operation."""
    return isinstance(error, aws.ClientError) and aws_error_code(error) in _ACCESS_DENIED_CODES


def is_temporary(error: Exception) -> bool:
    """Return whether the same call may succeed later, and may have been carried out: throttling, 5xx, no connection."""
    if isinstance(error, aws.ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return aws_error_code(error) in THROTTLING_CODES or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return isinstance(error, aws.ConnectionError | aws.HTTPClientError)


def to_command_error(error: Exception) -> CommandError | None:
    """Return the CommandError for an error of botocore, waterhook or the operating system; None for other errors."""
    if isinstance(error, CommandError):
        return error
    if isinstance(error, DependencyUnavailableError):
        cause = error.__cause__
        command_error = to_command_error(cause) if isinstance(cause, Exception) else None
        return command_error or CommandError(ExitCode.UNAVAILABLE, one_line(error))
    if isinstance(error, aws.ClientError):
        return _from_client_error(error)
    if isinstance(error, OSError):  # for example a full disk
        return CommandError(ExitCode.UNAVAILABLE, one_line(error))
    for error_types, message, hint in _BOTOCORE_ERRORS:
        if isinstance(error, error_types):
            attributes: dict[str, Any] = {
                "profile": "",
                "endpoint_url": "AWS",
                **getattr(error, "kwargs", {}),
                "error_name": type(error).__name__,
            }
            text = message.format(**attributes, text=one_line(error))
            return CommandError(ExitCode.UNAVAILABLE, text, hint)
    return None


def _from_client_error(error: aws.ClientError) -> CommandError:
    code, message = aws_error_code(error), error.response["Error"].get("Message", "")
    if is_access_denied(error):
        return CommandError(
            ExitCode.UNAVAILABLE,
            f"not allowed: {error.operation_name}",
            f"Get this permission, or use another profile. The message of AWS: {message}",
        )
    if code in _INVALID_CREDENTIALS_CODES:
        return CommandError(
            ExitCode.UNAVAILABLE, f"AWS does not accept these credentials ({code})", _CREDENTIALS_HINT
        )
    return CommandError(ExitCode.UNAVAILABLE, f"{error.operation_name} failed: {code}: {message}")


def printable(text: str) -> str:
    """Return the text on one line without control characters, at most 4,000 characters."""
    return clip(text, _MAX_CHARS)


def one_line(error: Exception) -> str:
    """Return the text of an exception without line breaks, or its class name if it has no text."""
    return " ".join(str(error).split()) or type(error).__name__
