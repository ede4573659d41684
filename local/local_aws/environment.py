"""Environment variables of the local AWS's processes."""

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REGION = "us-east-1"
# The local AWS takes this key for the account's root user, also when it enforces permissions.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
# Path under which the local AWS serves an API's stages, by the API's id.
API_PATH_PREFIX = "/_aws/execute-api"

_LOOPBACK = "127.0.0.1,localhost"
# MAKE: flags of the outer `make` must not reach the one that builds the layer.
_FOREIGN_PREFIXES = ("AWS_", "SAM_", "PYTHON", "VIRTUAL_ENV", "CONDA_", "MAKE")
_TRUST_STORES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def isolate(environ: MutableMapping[str, str]) -> None:
    """Remove every setting by which an AWS client could reach the user's account, and set local credentials.

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
    """Return whether a variable may direct an AWS client to another account or endpoint."""
    return name.startswith(("AWS_", "SAM_")) and name != "AWS_CA_BUNDLE"


def for_ministack(port: int, temporary: Path, *, auth: bool) -> dict[str, str]:
    """Return MiniStack's environment. It holds none of the user's variables, as handlers inherit it."""
    return {
        **{name: os.environ[name] for name in _TRUST_STORES if name in os.environ},
        **CREDENTIALS,
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "HOME": str(temporary),
        "TMPDIR": str(temporary),
        "STATE_DIR": str(temporary / "state"),  # it writes a key there even without persistence
        "PYTHONUNBUFFERED": "1",
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_HOST": "127.0.0.1",  # in queue addresses; localhost may be ::1
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "false",
        # Without a cap a burst of executions starts a process each until memory is gone.
        "LAMBDA_ACCOUNT_CONCURRENCY": "32",
        "AUTH": "true" if auth else "false",
        # The event of a request does not contain it, and the API function returns absolute URLs.
        "WATERHOOK_API_PATH_PREFIX": API_PATH_PREFIX,
    }


def for_tools(endpoint_url: str | None = None) -> dict[str, str]:
    """Return the environment of the SAM CLI and the simulator: the user's, without AWS and Python settings."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN_PREFIXES)}
    isolate(env)
    if endpoint_url:
        env["AWS_ENDPOINT_URL"] = endpoint_url
    # `sam build` takes the Python of the template's runtime, and its pip, from the PATH.
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])
    env["PYTHONUNBUFFERED"] = "1"
    return env
