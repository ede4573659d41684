"""The servers of a local deployment: MiniStack and the simulated Waterflai."""

import json
import socket
import sys
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import environment
from .errors import ToolError
from .files import read_json_file
from .processes import ChildProcess, start_process
from .waiting import wait_for

SIMULATOR_API_KEY = "local-simulator-key"

_READY_S = 60.0
_ANSWER_S = 2.0
_POLL_S = 0.05
_MINISTACK = Path(__file__).with_name("run_ministack.py")
_MINISTACK_PYTHON = environment.ROOT / ".venv-aws" / "bin" / "python"


@dataclass(frozen=True, slots=True)
class WaterflaiEndpoint:
    """Base URL and API key of the Waterflai that the deployed functions call."""

    base_url: str
    api_key: str

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "WaterflaiEndpoint | None":
        """Return the endpoint in WATERFLAI_BASE_URL and WATERFLAI_API_KEY; None for the simulator.

        Raises ToolError if only one of them is set.
        """
        base_url = environ.get("WATERFLAI_BASE_URL", "")
        api_key = environ.get("WATERFLAI_API_KEY", "")
        if bool(base_url) != bool(api_key):
            missing = "WATERFLAI_API_KEY" if base_url else "WATERFLAI_BASE_URL"
            raise ToolError(
                f"{missing} is not set. Set both WATERFLAI_BASE_URL and WATERFLAI_API_KEY, or neither."
            )
        return cls(base_url.rstrip("/"), api_key) if base_url else None


def is_ready(endpoint_url: str) -> bool:
    """Return whether MiniStack at this address accepts requests."""
    return _get(f"{endpoint_url}/_ministack/ready") is not None


def enforces_iam(endpoint_url: str) -> bool:
    """Return whether this MiniStack enforces roles and policies."""
    health = json.loads(_get(f"{endpoint_url}/_ministack/health") or b"{}")
    return bool(health.get("auth") == "enabled")


def _get(url: str) -> bytes | None:
    """Return the body of a GET request on loopback; None for an error or a timeout."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_ANSWER_S) as answer:
            return bytes(answer.read())
    except OSError:  # refused connections, timeouts and error statuses
        return None


def start_ministack(port: int, temporary: Path, log: Path, *, auth: bool) -> ChildProcess:
    """Start MiniStack on a loopback port. It and its functions write their files to `temporary`."""
    if not _MINISTACK_PYTHON.exists():
        raise ToolError("The local AWS is not installed. Install it: make setup")
    temporary.mkdir(parents=True, exist_ok=True)
    env = environment.for_ministack(port, temporary, auth=auth)
    # With -P and another working folder, handlers can't import the modules of the checkout.
    command = [str(_MINISTACK_PYTHON), "-P", str(_MINISTACK)]
    return start_process("ministack", command, env=env, cwd=temporary, log=log)


def start_simulator(ready_file: Path, log: Path) -> ChildProcess:
    """Start the simulated Waterflai on a free loopback port. It writes `ready_file` when it accepts requests."""
    ready_file.unlink(missing_ok=True)
    module = [sys.executable, "-m", "local.simulator"]
    options = ["--port", "0", "--api-key", SIMULATOR_API_KEY, "--ready-file", str(ready_file)]
    return start_process(
        "waterflai", [*module, *options], env=environment.for_tools(), cwd=environment.ROOT, log=log
    )


def read_simulator_endpoint(ready_file: Path) -> WaterflaiEndpoint:
    """Return the endpoint of the simulator from its ready file."""
    return WaterflaiEndpoint(str(read_json_file(ready_file)["base_url"]), SIMULATOR_API_KEY)


def wait_until_ready(ready: Callable[[], bool], child: ChildProcess) -> None:
    """Wait until `ready` returns true. Raises ToolError with the end of the log if the process ends or is too slow."""

    def is_decided() -> bool:
        return ready() or child.exit_code() is not None

    with suppress(TimeoutError):
        wait_for(is_decided, timeout_s=_READY_S, interval_s=_POLL_S, message="not ready")
    if not ready():
        raise ToolError(f"{child.identity.name} did not start\n{child.log_tail()}")


def free_port() -> int:
    """Return a free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
