"""Writes the template with the definition of the state machine inline, for the local AWS and for cfn-lint."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from samcli.yamlhelper import yaml_parse

from . import environment
from .errors import ToolError

_TEMPLATE = environment.ROOT / "template.yaml"
_POINTERS = ("DefinitionS3Location", "DefinitionUri")
_LOOPBACK = "127.0.0.0/8"


def write_inlined(template: Path, target: Path) -> None:
    """Write the template as JSON to `target`, with the definition of each state machine inline.

    AWS reads the definition as YAML from the bucket of `sam deploy`. MiniStack reads only JSON there, and cfn-lint
    reads only the template. Raises ToolError if a definition is not valid YAML.
    """
    _write(_inlined(template), target)


def write_for_local_aws(template: Path, target: Path) -> None:
    """Write the template as `write_inlined` does, with changes for MiniStack.

    Denials in resource policies do not apply to requests from loopback. With --auth, MiniStack enforces these policies,
    but requests use plain HTTP, and it compares aws:PrincipalArn with the ARN of the session instead of the role.
    Alarms with metric math are left out, because MiniStack rejects them.
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
    """Run cfn-lint on the template, without and with inline definitions. Return the first exit code other than 0."""
    code = _cfn_lint(_TEMPLATE)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "template-with-definition.json"
        write_inlined(_TEMPLATE, whole)
        # cfn-lint rejects an ARN with a placeholder as its partition.
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
        raise ToolError(f"{file} is not valid YAML: {error}") from error


def _cfn_lint(template: Path) -> int:
    # cfn-lint can't be run as a module. Its script fails if the path has spaces, because of its shebang.
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
