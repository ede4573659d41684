"""The template that the local AWS gets: the deployed one, with exemptions that no shipped file contains."""

import json
from pathlib import Path
from typing import Any

from local.local_aws.definition import write_for_local_aws, write_inlined
from local.local_aws.environment import ROOT

EXEMPTION = {"aws:SourceIp": "127.0.0.0/8"}


def denials(node: Any) -> list[dict[str, Any]]:
    """Return every statement in a document that denies."""
    if isinstance(node, list):
        return [found for item in node for found in denials(item)]
    if not isinstance(node, dict):
        return []
    own = [node] if node.get("Effect") == "Deny" else []
    return own + [found for value in node.values() for found in denials(value)]


def written(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.iterdir())]


def test_the_local_aws_gets_the_template_with_loopback_exempt_from_every_denial(tmp_path: Path) -> None:
    shipped, local = tmp_path / "shipped", tmp_path / "local"
    shipped.mkdir()
    local.mkdir()
    write_inlined(ROOT / "template.yaml", shipped / "template.json")
    write_for_local_aws(ROOT / "template.yaml", local / "template.json")
    exempt = written(local)
    found = denials(exempt)
    assert found
    assert [statement["Condition"].pop("NotIpAddress") for statement in found] == [EXEMPTION] * len(found)
    assert exempt == written(shipped)  # nothing else differs
