"""Program that calls one Lambda handler once and measures the memory of its process.

Reads the event from stdin and writes `{"answer": …, "peak_kib": …}` to stdout. PYTHONPATH contains the module `app`.
"""

import contextlib
import io
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

TIME_LEFT_MS = 60_000


class Context(LambdaContext):
    def __init__(self) -> None:
        self._function_name = "measured"
        self._memory_limit_in_mb = 512
        self._invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:measured"
        self._aws_request_id = "00000000-0000-4000-8000-000000000000"

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return TIME_LEFT_MS


def peak_kib() -> int:
    """Return the peak memory of this process alone. getrusage would count the parent process before the fork too."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    [line] = [line for line in lines if line.startswith("VmHWM:")]
    return int(line.split()[1])


def call(event: Any) -> Any:
    # The import creates the dependencies, as at the start of a container.
    return import_module("app").handler(event, Context())


if __name__ == "__main__":
    event = json.loads(sys.stdin.read())
    with contextlib.redirect_stdout(io.StringIO()):  # functions log there
        answer = call(event)
    sys.stdout.write(json.dumps({"answer": answer, "peak_kib": peak_kib()}))
