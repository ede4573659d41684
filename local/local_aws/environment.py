"""Environment variables for the processes of the local AWS."""

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REGION = "us-east-1"
# The local AWS accepts this key as the root user of the account, also with --auth.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
# Path of the stages of an API in the local AWS, by the id of the API.
API_PATH_PREFIX = "/_aws/execute-api"

_LOOPBACK = "127.0.0.1,localhost"
# MAKE: flags of the outer `make` must not reach the `make` that builds the layer.
_FOREIGN_PREFIXES = ("AWS_", "SAM_", "PYTHON", "VIRTUAL_ENV", "CONDA_", "MAKE")
_TRUST_STORES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def isolate(environ: MutableMapping[str, str]) -> None:
    """Remove all variables with which an AWS client could use the user's account, and set local credentials.

    Config files are replaced by /dev/null. Requests to loopback use no proxy.
    """
    for name in [name for name in environ if is_aws_setting(name)]:
        del environ[name]
    environ.update(CREDENTIALS)
    environ.update(AWS_REGION=REGION, AWS_DEFAULT_REGION=REGION, AWS_EC2_METADATA_DISABLED="true")
    environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull)
    for name in ("NO_PROXY", "no_proxy"):
        if not environ.get(name, "").endswith(_LOOPBACK):
            environ[name] = ",".join(filter(None, [environ.get(name), _LOOPBACK]))


def is_aws_setting(name: str) -> bool:
    """Return whether a variable can make an AWS client use another account or endpoint."""
    return name.startswith(("AWS_", "SAM_")) and name != "AWS_CA_BUNDLE"


def for_ministack(port: int, temporary: Path, *, auth: bool) -> dict[str, str]:
    """Return the environment of MiniStack. It has none of the user's variables, because handlers inherit it."""
    return {
        **{name: os.environ[name] for name in _TRUST_STORES if name in os.environ},
        **CREDENTIALS,
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "HOME": str(temporary),
        "TMPDIR": str(temporary),
        "STATE_DIR": str(temporary / "state"),  # MiniStack writes a key there even without persistence
        "PYTHONUNBUFFERED": "1",
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_HOST": "127.0.0.1",  # in queue addresses; localhost may be ::1
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "false",
        # Without a limit, many executions would start a process each and use up the memory.
        "LAMBDA_ACCOUNT_CONCURRENCY": "32",
        "AUTH": "true" if auth else "false",
        # The API function returns absolute URLs, but the event of MiniStack does not contain the base URL.
        "WATERHOOK_API_PATH_PREFIX": API_PATH_PREFIX,
    }


def for_tools(endpoint_url: str | None = None) -> dict[str, str]:
    """Return the environment of the SAM CLI and the simulator: the user's without AWS and Python variables."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN_PREFIXES)}
    isolate(env)
    if endpoint_url:
        env["AWS_ENDPOINT_URL"] = endpoint_url
    # `sam build` searches the Python of the runtime, and its pip, in the PATH.
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])
    env["PYTHONUNBUFFERED"] = "1"
    return env
