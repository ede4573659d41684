"""The message and the exit code for each kind of exception."""

import pytest
from botocore.exceptions import ClientError

from tests.fakes.aws import client_error
from waterhook.errors import RecordUnavailableError
from waterhook_cli.errors import ExitCode, is_access_denied, printable, to_command_error


def test_an_error_of_the_package_is_explained_by_its_cause() -> None:
    error = RecordUnavailableError("the table failed")
    error.__cause__ = client_error("AccessDeniedException")
    explained = to_command_error(error)
    assert explained is not None
    assert (explained.message, explained.exit_code) == ("not allowed: AnyOperation", ExitCode.UNAVAILABLE)
    alone = to_command_error(RecordUnavailableError("the table failed"))
    assert alone is not None
    assert (alone.message, alone.exit_code) == ("the table failed", ExitCode.UNAVAILABLE)


def test_an_exception_of_the_program_is_not_explained() -> None:
    assert to_command_error(KeyError("x")) is None


@pytest.mark.parametrize(
    ("error", "is_denied"),
    [
        (client_error("AccessDenied"), True),
        (client_error("AuthorizationError"), True),
        (client_error("Throttling"), False),
        (ClientError({"Error": {"Code": "ExpiredToken"}}, "AnyOperation"), False),
        (KeyError("AccessDenied"), False),
    ],
)
def test_denied_access_differs_from_other_errors(error: Exception, *, is_denied: bool) -> None:
    assert is_access_denied(error) is is_denied


def test_external_text_is_printed_on_one_line_of_at_most_4000_characters() -> None:
    assert printable("a\x1b]0;b\nc") == "a ]0;b c"
    assert len(printable("x" * 5000)) == 4000
