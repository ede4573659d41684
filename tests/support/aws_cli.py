"""Which commands the AWS CLI accepts, without sending anything. Run by the Python of .venv-awscli.

Standard input is a JSON list of commands, each a list of words without `aws`. Standard output is a JSON list with
null for each that is accepted, else what the CLI prints of it. A command is accepted once its first request has been
built from its parameters; the request itself is not sent.
"""

import contextlib
import io
import json
import sys
from typing import Any, NoReturn

from awscli.clidriver import create_clidriver


class _BuiltError(BaseException):
    """Raised in place of sending a request."""


def refusal(words: list[str]) -> str | None:
    """Return what the CLI prints of a command that it refuses, None for one that it accepts."""
    built: list[str] = []

    def before_call(model: Any, **_: Any) -> NoReturn:
        built.append(model.name)
        raise _BuiltError

    driver = create_clidriver()
    driver.session.register("before-call", before_call)
    printed = io.StringIO()
    # The parser ends with SystemExit. The threads of `aws s3` catch what is raised in them.
    with (
        contextlib.redirect_stderr(printed),
        contextlib.redirect_stdout(printed),
        contextlib.suppress(_BuiltError, SystemExit),
    ):
        driver.main(words)
    return None if built else printed.getvalue().strip()


if __name__ == "__main__":
    json.dump([refusal(words) for words in json.load(sys.stdin)], sys.stdout)
