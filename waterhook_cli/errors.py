"""What ends a command early: the exit codes, the error with its message, and the meaning of botocore's errors.

CommandError                 ends the command: what is wrong, what to do, and the exit code
├── AccessDeniedError        the API of the stack denied access
└── StackNotFoundError       the account has no stack of that name (waterhook_cli.stack)
"""

from enum import IntEnum
from typing import IO, Any, Self

import click
from botocore import exceptions as aws
from rich.console import Console
from rich.text import Text

from waterhook.errors import DependencyUnavailableError, aws_error_code
from waterhook.text import clip

_PREFIX = "waterhook: "
_MAX_CHARS = 4_000


class ExitCode(IntEnum):
    """Exit code of a command; `meaning` is its text in the README and in `--help`."""

    meaning: str

    OK = 0, "done; with `--follow`: the execution is COMPLETED"
    UNSUCCESSFUL = 1, "another outcome than COMPLETED, not everything done, or you declined"
    USAGE = 2, "the command or the request is wrong"
    NOT_FOUND = 3, "no such stack or execution"
    UNAVAILABLE = 4, "not reachable, not allowed or not set up"
    PROBLEMS = 5, "`doctor` found problems"
    BUG = 70, "a bug in the command itself"
    INTERRUPTED = 130, "Ctrl-C; an execution continues"

    def __new__(cls, value: int, meaning: str) -> Self:
        """Return the member with its meaning."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


class CommandError(click.ClickException):
    """Raised for what the user can act on: `message` says what is wrong, `hint` what to do. Ends the command."""

    def __init__(self, exit_code: ExitCode, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.exit_code = int(exit_code)
        self.hint = hint

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it on standard error, or to `file`: two lines at most, so that a command in them can be copied."""
        console = Console(stderr=file is None, file=file, highlight=False, soft_wrap=True)
        console.print(Text.assemble((_PREFIX, "bold red"), printable(self.message)))
        if self.hint:
            console.print(Text(printable(self.hint)))


class AccessDeniedError(CommandError):
    """Raised when the API of the stack answers 401 or 403."""


_CREDENTIALS_HINT = (
    "Set up credentials as for the AWS CLI (`aws configure`, `aws sso login`) or name a --profile that has "
    "some. For the stack of `make up`, add --local."
)
# The first entry that fits. The names in braces are attributes of the botocore error.
_BOTOCORE_ERRORS: list[tuple[tuple[type[Exception], ...], str, str]] = [
    (
        (aws.NoRegionError,),
        "no AWS region is set",
        "Add --region, set AWS_REGION, or give the profile one. For the stack of `make up`, add --local.",
    ),
    (
        (aws.NoCredentialsError, aws.PartialCredentialsError),
        "no AWS credentials were found",
        _CREDENTIALS_HINT,
    ),
    (
        (aws.ProfileNotFound,),
        "no AWS profile {profile!r} is configured",
        "`aws configure list-profiles` lists the ones that are.",
    ),
    (
        (aws.ConnectionError, aws.HTTPClientError),
        "{endpoint_url} can't be reached ({error_name})",
        "Check the network, the region and AWS_ENDPOINT_URL.",
    ),
    ((aws.InvalidRegionError,), "{text}", "Check --region, AWS_REGION and the profile's region."),
    ((aws.BotoCoreError,), "AWS can't be called: {text}", _CREDENTIALS_HINT),
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
    """Return whether AWS accepted the credentials and denied the permission."""
    return isinstance(error, aws.ClientError) and aws_error_code(error) in _ACCESS_DENIED_CODES


def to_command_error(error: Exception) -> CommandError | None:
    """Return the CommandError for an error of botocore, the package or the operating system; None for any other."""
    if isinstance(error, CommandError):
        return error
    if isinstance(error, DependencyUnavailableError):
        cause = error.__cause__
        found = to_command_error(cause) if isinstance(cause, Exception) else None
        return found or CommandError(ExitCode.UNAVAILABLE, one_line(error))
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
            ExitCode.UNAVAILABLE, f"not allowed: {error.operation_name}", f"Answer of AWS: {message}"
        )
    if code in _INVALID_CREDENTIALS_CODES:
        return CommandError(
            ExitCode.UNAVAILABLE, f"AWS does not accept these credentials ({code})", _CREDENTIALS_HINT
        )
    return CommandError(ExitCode.UNAVAILABLE, f"{error.operation_name} failed: {code}: {message}")


def printable(text: str) -> str:
    """Return text on one line without control characters, at most 4,000 of it: much of it comes from elsewhere."""
    return clip(text, _MAX_CHARS)


def one_line(error: Exception) -> str:
    """Return an exception's text without line breaks, or its class name where it has no text."""
    return " ".join(str(error).split()) or type(error).__name__
