"""Errors of DynamoDB as errors of Waterhook."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError

from waterhook.errors import RecordConflictError, RecordUnavailableError, aws_error_code


@contextmanager
def translate_errors(
    item: str, conflict: str = "the record was changed by another call, or belongs to another execution"
) -> Iterator[None]:
    """Translate a failed condition into RecordConflictError and any other failure into RecordUnavailableError.

    `item` and `conflict` are parts of the message: which item, and what a failed condition means.
    """
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        code = aws_error_code(error)
        if code == "ConditionalCheckFailedException":
            raise RecordConflictError(f"{item}: {conflict}") from error
        raise RecordUnavailableError(f"{item}: the table failed: {code}") from error
