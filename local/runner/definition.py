"""The template with the state machine's definition written into it: for the local AWS, and for cfn-lint."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from samcli.yamlhelper import yaml_parse

from . import environment
from .errors import RunnerError

_TEMPLATE = environment.ROOT / "template.yaml"
_POINTERS = ("DefinitionS3Location", "DefinitionUri")
_LOOPBACK = "127.0.0.0/8"


def write_inlined(template: Path, target: Path) -> None:
    """Write the template as JSON to `target`, each state machine with its definition instead of a file's name.

    AWS reads a definition in YAML from the bucket that `sam deploy` uploads it to. MiniStack reads only JSON
    there, and cfn-lint reads no file but the template. Raises RunnerError for a definition that is no YAML.
    """
    _write(_inlined(template), target)


def write_for_local_aws(template: Path, target: Path) -> None:
    """Write what `write_inlined` writes, changed where MiniStack differs from AWS.

    Requests from loopback are exempt from every denial of a resource policy: with --auth, MiniStack enforces these
    policies, requests reach it by plain http, and it compares aws:PrincipalArn with the ARN of a role's session, AWS
    with the ARN of the role. Alarms with metric math are left out: MiniStack refuses a template that has one.
    """
    document = _inlined(template)
    document["Resources"] = {
        name: resource
        for name, resource in document["Resources"].items()
        if not (resource["Type"] == "AWS::CloudWatch::Alarm" and "Metrics" in resource["Properties"])
    }
    _exempt_loopback(document["Resources"])
    _write(document, target)


def lint() -> int:
    """Return cfn-lint's exit code for the template as it is, or else for the one with its definition in it."""
    code = _cfn_lint(_TEMPLATE)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "template-with-definition.json"
        write_inlined(_TEMPLATE, whole)
        # cfn-lint reports an ARN with a placeholder in its partition as misspelt.
        whole.write_text(whole.read_text(encoding="utf-8").replace("${Partition}", "aws"), encoding="utf-8")
        return code or _cfn_lint(whole)


def _inlined(template: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml_parse(template.read_text(encoding="utf-8"))
    for resource in document["Resources"].values():
        properties = resource.get("Properties", {})
        for pointer in _POINTERS:
            if isinstance(properties.get(pointer), str):
                properties["Definition"] = _definition(template.parent / properties.pop(pointer))
    return document


def _write(document: dict[str, Any], target: Path) -> None:
    target.write_text(json.dumps(document, indent=1), encoding="utf-8")


def _exempt_loopback(node: object) -> None:
    if isinstance(node, dict):
        if node.get("Effect") == "Deny":
            node.setdefault("Condition", {})["NotIpAddress"] = {"aws:SourceIp": _LOOPBACK}
        for value in node.values():
            _exempt_loopback(value)
    elif isinstance(node, list):
        for item in node:
            _exempt_loopback(item)


def _definition(file: Path) -> object:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RunnerError(f"{file}: {error}") from error


def _cfn_lint(template: Path) -> int:
    # It is no runnable module, and its script can't be: a shebang takes no path with spaces.
    entry = "import sys; from cfnlint.runner import main; sys.exit(main())"
    command = [
        sys.executable,
        "-c",
        entry,
        "--regions",
        environment.REGION,
        "--template",
        str(template),
    ]
    return subprocess.run(command, check=False).returncode
