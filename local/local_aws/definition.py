"""The templates with the state machine's definition written into them: for the local AWS, and for cfn-lint."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from samcli.yamlhelper import yaml_parse

from . import environment
from .errors import ToolError as RunnerError

_TEMPLATE = environment.ROOT / "template.yaml"
_POINTERS = ("DefinitionS3Location", "DefinitionUri")
_LOOPBACK = "127.0.0.0/8"


def write_inlined(template: Path, target: Path) -> list[Path]:
    """Write the template as JSON to `target`, each state machine with its definition instead of a file's name.

    AWS reads a definition in YAML from the bucket that `sam deploy` puts it in. MiniStack reads JSON
    only there, and cfn-lint looks into no other file than the template. Nested templates are written
    beside it; all that was written is returned.
    """
    document: dict[str, Any] = yaml_parse(template.read_text(encoding="utf-8"))
    written = [target]
    for name, resource in document["Resources"].items():
        properties = resource.get("Properties", {})
        for pointer in _POINTERS:
            if isinstance(properties.get(pointer), str):
                properties["Definition"] = _definition(template.parent / properties.pop(pointer))
        if "TemplateURL" in properties:
            inner = target.with_name(f"{target.stem}-{name}.json")
            written += write_inlined(template.parent / properties["TemplateURL"], inner)
            properties["TemplateURL"] = inner.name
    target.write_text(json.dumps(document, indent=1), encoding="utf-8")
    return written


def write_for_local_aws(template: Path, target: Path) -> None:
    """Write what `write_inlined` writes, with requests from loopback exempt from every denial of a resource policy.

    With --auth, MiniStack enforces these policies. Requests reach it by plain http, and it compares
    aws:PrincipalArn with the ARN of a role's session, AWS with the ARN of the role.
    """
    for file in write_inlined(template, target):
        document = json.loads(file.read_text(encoding="utf-8"))
        _exempt_loopback(document["Resources"])
        file.write_text(json.dumps(document, indent=1), encoding="utf-8")


def _exempt_loopback(node: object) -> None:
    if isinstance(node, dict):
        if node.get("Effect") == "Deny":
            node.setdefault("Condition", {})["NotIpAddress"] = {"aws:SourceIp": _LOOPBACK}
        for value in node.values():
            _exempt_loopback(value)
    elif isinstance(node, list):
        for item in node:
            _exempt_loopback(item)


def lint() -> int:
    """cfn-lint's exit code for the template as it is, or else for all templates with their definition in it."""
    code = _cfn_lint(_TEMPLATE)
    with tempfile.TemporaryDirectory() as folder:
        written = write_inlined(_TEMPLATE, Path(folder) / "template-with-definition.json")
        for whole in written:
            # cfn-lint takes an ARN with a placeholder in its partition for a misspelt one.
            whole.write_text(
                whole.read_text(encoding="utf-8").replace("${Partition}", "aws"), encoding="utf-8"
            )
        return code or _cfn_lint(*written)


def _definition(file: Path) -> object:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RunnerError(f"{file}: {error}") from error


def _cfn_lint(*templates: Path) -> int:
    # It is no runnable module, and its script can't be: a shebang takes no path with spaces.
    entry = "import sys; from cfnlint.runner import main; sys.exit(main())"
    command = [
        sys.executable,
        "-c",
        entry,
        "--regions",
        environment.REGION,
        "--template",
        *map(str, templates),
    ]
    return subprocess.run(command, check=False).returncode
