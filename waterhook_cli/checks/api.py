"""Checks the API of the stack."""

from collections.abc import Iterator

from waterhook_cli.api_client import ApiClient
from waterhook_cli.checks.finding import Finding
from waterhook_cli.errors import AccessDeniedError, CommandError


def check_api(api: ApiClient) -> Iterator[Finding]:
    """Check that the API responds and allows access."""
    try:
        next(api.executions(), None)
    except AccessDeniedError as error:  # only a warning: an operator may manage a stack without using its API
        yield Finding.warning(error.message, error.hint)
    except CommandError as error:
        yield Finding.problem(
            error.message, error.hint or "Find the cause in the log of the function ApiFunction."
        )
    else:
        yield Finding.ok("the API responds and allows you access")
