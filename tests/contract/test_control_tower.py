"""AWS Control Tower's proactive controls, evaluated by cfn-guard, against the table of findings in docs/security.md.

`sam build` replaces the paths of code and nothing else, so the template of the checkout stands for the built one. The
controls apply to the resources after SAM's transform and with the values of the parameters.
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
# Identifier of a control → what satisfies it, or `left: ` and the reason.
FINDINGS = {
    control: satisfied_by
    for control, _, satisfied_by in table((ROOT / "docs" / "security.md").read_text("utf-8"), "Control")
}
LEFT = {control for control, satisfied_by in FINDINGS.items() if satisfied_by.startswith("left: ")}
STRICT = EVERYTHING | {"LogRetentionDays": "365"}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the engine and the rules, unpacked from the plugin that `make guard` installs."""
    installed = [*AUDIT.glob("lib/python3*/site-packages/cdklabs/cdk_validator_cfnguard/_jsii/*.tgz")]
    if not installed:
        pytest.skip("cfn-guard is not installed: `make guard` installs it and runs this")
    folder = tmp_path_factory.mktemp("guard")
    with tarfile.open(installed[0]) as archive:
        archive.extractall(folder, filter="data")
    return folder / "package"


def findings(package: Path, resources: dict[str, Any]) -> set[str]:
    """Return the identifiers of the controls that some of the resources break."""
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
    assert report["compliant"], "no rule applies: is the template empty?"
    found: set[str] = set()
    for rule in report["not_compliant"]:
        identifiers = set(re.findall(r"\[(CT\.\w+\.PR\.\d+)\]", json.dumps(rule)))
        assert len(identifiers) == 1, rule
        found |= identifiers
    return found


def test_with_its_defaults_the_template_has_the_findings_of_the_table(package: Path) -> None:
    assert findings(package, deployed()) == FINDINGS.keys()


def test_with_every_option_the_findings_are_those_that_the_table_leaves(package: Path) -> None:
    resources = deployed(**STRICT)
    for group in of_type(resources, "AWS::Logs::LogGroup").values():
        # The resource gets a number, though the value of a parameter is a text.
        group["Properties"]["RetentionInDays"] = int(group["Properties"]["RetentionInDays"])
    assert findings(package, resources) == LEFT


@pytest.mark.parametrize("control", sorted(FINDINGS.keys() - LEFT))
def test_a_finding_that_is_not_left_names_the_parameters_that_satisfy_it(control: str) -> None:
    named = names(FINDINGS[control])
    assert named
    assert set(named) <= STRICT.keys() & source()["Parameters"].keys()


def test_before_its_transform_the_template_has_no_other_findings(package: Path) -> None:
    assert findings(package, source()["Resources"]) <= FINDINGS.keys()


def test_a_bucket_policy_that_exempts_an_address_is_found(package: Path) -> None:
    resources = deployed()
    (statement,) = resources["ResultsBucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    statement["Condition"]["NotIpAddress"] = {"aws:SourceIp": "127.0.0.0/8"}
    assert "CT.S3.PR.8" in findings(package, resources)
