"""AWS Control Tower's rules for CloudFormation, evaluated by cfn-guard: which resources they refuse, and why.

Accounts under Control Tower may have any of these rules switched on. A resource that breaks one is not created, and the
stack is rolled back.
"""

import json
import platform
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.infra.template import EVERYTHING, ROOT, deployed

AUDIT = ROOT / ".venv-audit"
# Rules that the resources break, by identifier, with the reason.
WITH_EVERYTHING = {
    "CT.APIGATEWAY.PR.1": "logging needs a role that is set once for the whole account, which is not ours to set",
    "CT.CLOUDWATCH.PR.2": "LogRetentionDays is a parameter with the default 30: set it to 365",
    "CT.LAMBDA.PR.2": "every permission has a SourceArn; the rule does not read one written as Fn::Sub",
    "CT.S3.PR.2": "an access log needs a second bucket",
    "CT.S3.PR.4": "no event notification: the record of an execution points to the object",
    "CT.S3.PR.9": "object lock: what is erased must be gone",
    "CT.S3.PR.11": "versions: what is erased must be gone",
    "CT.SQS.PR.1": "a dead-letter queue has no dead-letter queue of its own",
}
WITH_DEFAULTS = {
    **WITH_EVERYTHING,
    "CT.APIGATEWAY.PR.2": "X-Ray: Tracing is a parameter with the default OFF",
    "CT.LAMBDA.PR.3": "a VPC: SubnetIds and SecurityGroupIds are parameters, empty by default",
    "CT.CLOUDWATCH.PR.3": "a key for logs: KmsKeyArn is a parameter, empty by default",
    "CT.S3.PR.10": "a key for the bucket: KmsKeyArn is a parameter, empty by default",
    "CT.STEPFUNCTIONS.PR.2": "X-Ray: Tracing is a parameter with the default OFF",
}


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


def refused(package: Path, document: Path) -> set[str]:
    """Return the identifiers of the rules that a template breaks."""
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
        names = set(re.findall(r"\[(CT\.\w+\.PR\.\d+)\]", json.dumps(rule)))
        assert len(names) == 1, rule
        found |= names
    return found


@pytest.mark.parametrize(
    ("parameters", "reasons"),
    [({}, WITH_DEFAULTS), (EVERYTHING, WITH_EVERYTHING)],
    ids=["the defaults", "every option"],
)
def test_a_control_tower_account_refuses_only_what_is_listed_here_with_its_reason(
    package: Path, tmp_path: Path, parameters: dict[str, str], reasons: dict[str, str]
) -> None:
    document = tmp_path / "template.json"
    resources = deployed(**parameters)
    document.write_text(json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources}))
    assert refused(package, document) == reasons.keys()


def test_the_bucket_policy_passes_as_it_stands_in_its_file(package: Path) -> None:
    assert "CT.S3.PR.8" not in refused(package, ROOT / "template.yaml")


def test_a_bucket_policy_that_exempts_an_address_is_refused(package: Path, tmp_path: Path) -> None:
    resources = deployed()
    (statement,) = resources["OutputsBucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    statement["Condition"]["NotIpAddress"] = {"aws:SourceIp": "127.0.0.0/8"}
    document = tmp_path / "template.json"
    document.write_text(json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources}))
    assert "CT.S3.PR.8" in refused(package, document)
