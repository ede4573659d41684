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
from .errors import RunnerError

_TEMPLATE = environment.ROOT / "template.yaml"
_POINTERS = ("DefinitionS3Location", "DefinitionUri")


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
