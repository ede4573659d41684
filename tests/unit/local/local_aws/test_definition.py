"""The template for the local AWS differs from the shipped template only in two ways."""

import json
from pathlib import Path
from typing import Any

from local.local_aws.definition import write_for_local_aws, write_inlined
from local.local_aws.environment import ROOT

EXEMPTION = {"aws:SourceIp": "127.0.0.0/8"}


def denials(node: Any) -> list[dict[str, Any]]:
    """Return all statements of a document with the effect Deny."""
    if isinstance(node, list):
        return [statement for item in node for statement in denials(item)]
    if not isinstance(node, dict):
        return []
    own = [node] if node.get("Effect") == "Deny" else []
    return own + [statement for value in node.values() for statement in denials(value)]


def test_the_local_template_exempts_loopback_from_each_denial_and_has_no_metric_math(tmp_path: Path) -> None:
    shipped, local = tmp_path / "shipped.json", tmp_path / "local.json"
    write_inlined(ROOT / "template.yaml", shipped)
    write_for_local_aws(ROOT / "template.yaml", local)
    exempt = json.loads(local.read_text(encoding="utf-8"))
    statements = denials(exempt)
    assert statements
    exemptions = [statement["Condition"].pop("NotIpAddress") for statement in statements]
    assert exemptions == [EXEMPTION] * len(statements)
    whole = json.loads(shipped.read_text(encoding="utf-8"))
    assert "Metrics" in whole["Resources"].pop("ThrottlesAlarm")["Properties"]
    assert exempt == whole  # nothing else differs
