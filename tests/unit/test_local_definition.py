"""The template that the local AWS gets: the deployed one, with exemptions that no shipped file contains."""

import json
from pathlib import Path
from typing import Any

from local.runner.definition import write_for_local_aws, write_inlined
from local.runner.environment import ROOT

EXEMPTION = {"aws:SourceIp": "127.0.0.0/8"}


def denials(node: Any) -> list[dict[str, Any]]:
    """Return every statement in a document that denies."""
    if isinstance(node, list):
        return [found for item in node for found in denials(item)]
    if not isinstance(node, dict):
        return []
    own = [node] if node.get("Effect") == "Deny" else []
    return own + [found for value in node.values() for found in denials(value)]


def test_the_local_aws_gets_loopback_exempt_from_every_denial_and_no_metric_math(tmp_path: Path) -> None:
    shipped, local = tmp_path / "shipped.json", tmp_path / "local.json"
    write_inlined(ROOT / "template.yaml", shipped)
    write_for_local_aws(ROOT / "template.yaml", local)
    exempt = json.loads(local.read_text(encoding="utf-8"))
    found = denials(exempt)
    assert found
    assert [statement["Condition"].pop("NotIpAddress") for statement in found] == [EXEMPTION] * len(found)
    whole = json.loads(shipped.read_text(encoding="utf-8"))
    assert "Metrics" in whole["Resources"].pop("ThrottlesAlarm")["Properties"]
    assert exempt == whole  # nothing else differs
