"""cfn-guard's findings for AWS Control Tower's proactive controls are those of the table in docs/security.md.

The controls apply to the resources after SAM's transform, with the values of the parameters.
"""

import json
import platform
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.contract.markdown import names, table
from tests.contract.template import EVERYTHING, ROOT, deployed, of_type, source

AUDIT = ROOT / ".venv-audit"
# Identifier of a control → the parameters that satisfy it, or `not met: ` and the reason.
FINDINGS = {
    control: satisfied_by
    for control, _, satisfied_by in table((ROOT / "docs" / "security.md").read_text("utf-8"), "Control")
}
NOT_MET = {control for control, satisfied_by in FINDINGS.items() if satisfied_by.startswith("not met: ")}
STRICT = EVERYTHING | {"LogRetentionDays": "365"}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the engine and the rules from the plugin that `make guard` installs, and return their folder."""
    installed = [*AUDIT.glob("lib/python3*/site-packages/cdklabs/cdk_validator_cfnguard/_jsii/*.tgz")]
    if not installed:
        pytest.skip("cfn-guard is not installed: `make guard` installs it and runs this")
    folder = tmp_path_factory.mktemp("guard")
    with tarfile.open(installed[0]) as archive:
        archive.extractall(folder, filter="data")
    return folder / "package"


def findings(package: Path, resources: dict[str, Any]) -> set[str]:
    """Return the identifiers of the controls that the resources break."""
    document = package.with_name("template.json")
    document.write_text(json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources}))
    system = {"linux": "ubuntu", "darwin": "macos"}[sys.platform]
    machine = {"arm64": "aarch64"}.get(platform.machine(), platform.machine())
    engine, rules = package / "bin" / system / machine / "cfn-guard", package / "rules" / "control-tower"
    options = ["--structured", "--output-format", "json", "--show-summary", "none"]
    command = [str(engine), "validate", "--rules", str(rules), "--data", str(document), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 19}, done.stderr  # 19: a rule is broken
    (report,) = json.loads(done.stdout)
    assert report["compliant"], "no rule applies to the template"
    broken: set[str] = set()
    for rule in report["not_compliant"]:
        identifiers = set(re.findall(r"\[(CT\.\w+\.PR\.\d+)\]", json.dumps(rule)))
        assert len(identifiers) == 1, rule
        broken |= identifiers
    return broken


def test_the_defaults_have_the_findings_of_the_table(package: Path) -> None:
    assert findings(package, deployed()) == FINDINGS.keys()


def test_all_options_together_have_the_findings_that_the_table_leaves(package: Path) -> None:
    resources = deployed(**STRICT)
    for group in of_type(resources, "AWS::Logs::LogGroup").values():
        # CloudFormation converts the text of the parameter to a number.
        group["Properties"]["RetentionInDays"] = int(group["Properties"]["RetentionInDays"])
    assert findings(package, resources) == NOT_MET


@pytest.mark.parametrize("control", sorted(FINDINGS.keys() - NOT_MET))
def test_each_other_finding_names_the_parameters_that_satisfy_it(control: str) -> None:
    named = names(FINDINGS[control])
    assert named
    assert set(named) <= STRICT.keys() & source()["Parameters"].keys()


def test_the_template_before_the_transform_has_no_other_findings(package: Path) -> None:
    assert findings(package, source()["Resources"]) <= FINDINGS.keys()


def test_a_bucket_policy_that_exempts_an_address_is_found(package: Path) -> None:
    resources = deployed()
    (statement,) = resources["ResultsBucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    statement["Condition"]["NotIpAddress"] = {"aws:SourceIp": "127.0.0.0/8"}
    assert "CT.S3.PR.8" in findings(package, resources)
