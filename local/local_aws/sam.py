"""Runs `sam build`, and `sam deploy` into the local AWS."""

import json
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from . import environment
from .definition import write_for_local_aws
from .processes import ChildProcess, start_process

STACK_NAME = "waterhook-local"
ARTIFACTS_BUCKET = "waterhook-local-artifacts"

# Folder of the SAM CLI, shared by all stacks of this checkout. A lock allows one run at a time.
SAM_WORKDIR = environment.ROOT / ".local" / "sam"
BUILD = SAM_WORKDIR / "build"


def build_of(checkout: Path) -> Path:
    """Return the build folder of a checkout, which may be another version than this one."""
    return BUILD if checkout == environment.ROOT else checkout / ".aws-sam" / "build"


def start_build(log: Path, checkout: Path = environment.ROOT) -> ChildProcess:
    """Start `sam build` of the template of a checkout."""
    build = build_of(checkout)
    options = {
        "--template-file": str(checkout / "template.yaml"),
        "--build-dir": str(build),
        "--cache-dir": str(build.with_name("cache")),
    }
    return _start("build", options, ["--cached", "--parallel"], environment.for_tools(), log)


def start_deploy(
    endpoint_url: str,
    parameters: Mapping[str, str],
    log: Path,
    *,
    build: Path = BUILD,
    stack_name: str = STACK_NAME,
) -> ChildProcess:
    """Start `sam deploy` of a build."""
    template = build / "template-for-ministack.json"
    write_for_local_aws(build / "template.yaml", template)
    options = {
        "--template-file": str(template),
        "--stack-name": stack_name,
        "--s3-bucket": ARTIFACTS_BUCKET,
        "--region": environment.REGION,
        "--capabilities": "CAPABILITY_IAM",
    }
    flags = ["--no-confirm-changeset", "--no-fail-on-empty-changeset", "--no-progressbar"]
    flags += ["--parameter-overrides", *(override(name, value) for name, value in parameters.items())]
    return _start("deploy", options, flags, environment.for_tools(endpoint_url), log)


def override(name: str, value: str) -> str:
    """Return a parameter override for the SAM CLI. The value is quoted, else JSON would lose its quotes."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{name}="{escaped}"'


def prepare_workdir(workdir: Path) -> tuple[Path, Path]:
    """Create a samconfig.toml, because the file of the checkout is for AWS, and an empty temporary folder.

    The SAM CLI leaves empty folders in the temporary folder. The next run deletes them.
    """
    config, temporary = workdir / "samconfig.toml", workdir / "tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    config.write_text("version = 0.1\n", encoding="utf-8")
    return config, temporary


def _start(
    command: str, options: Mapping[str, str], flags: list[str], env: dict[str, str], log: Path
) -> ChildProcess:
    config, temporary = prepare_workdir(SAM_WORKDIR)
    # Disables the update check. The SAM CLI has no option for this.
    metadata = {"lastVersionCheck": time.time(), "telemetryEnabled": False}
    (SAM_WORKDIR / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    words = [word for option in {**options, "--config-file": str(config)}.items() for word in option]
    argv = [sys.executable, "-m", "samcli", command, *words, *flags]
    own = {
        "SAM_CLI_TELEMETRY": "0",
        "SAM_CLI_POLL_DELAY": "0.2",
        "__SAM_CLI_APP_DIR": str(SAM_WORKDIR),
        "TMPDIR": str(temporary),
    }
    # The SAM CLI downloads files for a build into its working folder.
    return start_process(f"sam {command}", argv, env=env | own, cwd=SAM_WORKDIR, log=log)
