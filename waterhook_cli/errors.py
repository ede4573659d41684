"""What ends a command early, as a person is told of it: what is wrong, what to do, and the exit code."""

from enum import IntEnum
from typing import IO, Any, Self

import click
from botocore import exceptions as aws
from rich.console import Console
from rich.text import Text

from waterhook.text import clip

_NAME = "waterhook: "
_MAX_CHARS = 4_000


class ExitCode(IntEnum):
    """How a command ends; `meaning` is what the README and `--help` say of it."""

    meaning: str

    OK = 0, "done; with `--follow`: the execution is COMPLETED"
    ENDED_OTHERWISE = 1, "the execution ended otherwise, not all could be done, or you declined"
    USAGE = 2, "the command or the request is wrong"
    NOT_FOUND = 3, "no such stack or execution"
    UNAVAILABLE = 4, "not reachable, not allowed or not set up"
    PROBLEMS = 5, "`doctor` found problems"
    BUG = 70, "a fault of the command itself"
    INTERRUPTED = 130, "Ctrl-C; an execution goes on"

    def __new__(cls, value: int, meaning: str) -> Self:
        """Return the member with its meaning."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


class Problem(click.ClickException):
    """Raised for what the user can act on: `what` is wrong, and what to `do` about it."""

    def __init__(self, code: ExitCode, what: str, do: str = "") -> None:
        super().__init__(what)
        self.exit_code = int(code)
        self.do = do

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it on standard error: two lines at most, so that a command in them can be copied."""
        console = Console(stderr=file is None, file=file, highlight=False, soft_wrap=True)
        console.print(Text.assemble((_NAME, "bold red"), plain(self.message)))
        if self.do:
            console.print(Text(plain(self.do)))


class Refused(Problem):
    """Raised when whoever asks is not let in."""


_CREDENTIALS = (
    "Set up credentials as for the AWS CLI (`aws configure`, `aws sso login`) or name a --profile that has "
    "some. For the stack of `make up`, add --local."
)
# The first that fits; what is in braces, botocore knows of the error.
_UNANSWERED: list[tuple[tuple[type[Exception], ...], str, str]] = [
    (
        (aws.NoRegionError,),
        "no AWS region is set",
        "Add --region, set AWS_REGION, or give the profile one. For the stack of `make up`, add --local.",
    ),
    ((aws.NoCredentialsError, aws.PartialCredentialsError), "no AWS credentials were found", _CREDENTIALS),
    (
        (aws.ProfileNotFound,),
        "no AWS profile {profile!r} is configured",
        "`aws configure list-profiles` lists the ones that are.",
    ),
    (
        (aws.ConnectionError, aws.HTTPClientError),
        "{endpoint_url} can't be reached ({kind})",
        "Check the network, the region and AWS_ENDPOINT_URL.",
    ),
    ((aws.InvalidRegionError,), "{text}", "Check --region, AWS_REGION and the profile's region."),
    ((aws.BotoCoreError,), "AWS can't be asked: {text}", _CREDENTIALS),
]
_DENIED = {
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "UnauthorizedOperation",
    "AccessDeniedFault",
}
_BAD_CREDENTIALS = {
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


def denied(error: Exception) -> bool:
    """Whether AWS knows who asks, and says no."""
    return isinstance(error, aws.ClientError) and error.response["Error"].get("Code") in _DENIED


def explained(error: Exception) -> Problem | None:
    """Return what an exception of botocore or of the operating system means to the user, or None for any other."""
    if isinstance(error, aws.ClientError):
        return _answered(error)
    if isinstance(error, OSError):  # a disk that is full, for example
        return Problem(ExitCode.UNAVAILABLE, one_line(error))
    for kinds, what, do in _UNANSWERED:
        if isinstance(error, kinds):
            known: dict[str, Any] = getattr(error, "kwargs", {})
            said = {"profile": "", "endpoint_url": "AWS", **known, "kind": type(error).__name__}
            return Problem(ExitCode.UNAVAILABLE, what.format(**said, text=one_line(error)), do)
    return None


def _answered(error: aws.ClientError) -> Problem:
    code = error.response["Error"].get("Code", "")
    message = error.response["Error"].get("Message", "")
    if denied(error):
        return Problem(
            ExitCode.UNAVAILABLE,
            f"not allowed: {error.operation_name}",
            f"AWS says: {message}",
        )
    if code in _BAD_CREDENTIALS:
        return Problem(ExitCode.UNAVAILABLE, f"AWS does not accept these credentials ({code})", _CREDENTIALS)
    return Problem(ExitCode.UNAVAILABLE, f"{error.operation_name} failed: {code}: {message}")


def plain(text: str) -> str:
    """Return text without what would steer the terminal: much of it comes from elsewhere."""
    return clip(text, _MAX_CHARS)


def one_line(error: Exception) -> str:
    """Return an exception's text without line breaks, or its name when it has none."""
    return " ".join(str(error).split()) or type(error).__name__
