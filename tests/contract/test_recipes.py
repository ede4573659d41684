"""The templates in docs/recipes: lint, dead-letter queues, permissions, and the code inside them."""

import json
import re
import shlex
import subprocess
import sys
import textwrap
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from samcli.yamlhelper import yaml_parse

from local.local_aws.definition import write_inlined
from tests.contract.template import EVERYTHING, KMS_KEY_ARN, ROOT, as_list, deployed, of_type, source
from waterhook.notifications.delivery_targets import EVENT_SOURCE
from waterhook.notifications.notification_events import PROGRESS_TYPE

RECIPES = sorted(
    path for pattern in ("*.yaml", "*/*.yaml") for path in (ROOT / "docs" / "recipes").glob(pattern)
)
SUBSCRIBING = [path for path in RECIPES if "AWS::SNS::Subscription" in path.read_text(encoding="utf-8")]
GOLDEN = sorted((ROOT / "tests" / "contract" / "golden").glob("*.json"))


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(yaml_parse(path.read_text(encoding="utf-8"))))
    return document


def code(name: str) -> dict[str, Any]:
    """Return the names that the inline code of a template defines."""
    resources = read(ROOT / "docs" / "recipes" / name)["Resources"]
    (function,) = of_type(resources, "AWS::Lambda::Function").values()
    names: dict[str, Any] = {}
    exec(textwrap.dedent(function["Properties"]["Code"]["ZipFile"]), names)  # noqa: S102  # our own
    return names


def delivered(event: Any) -> dict[str, Any]:
    return {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": json.dumps(event), "MessageId": "1"}}]}


def test_cfn_lint_finds_nothing(tmp_path: Path) -> None:
    # With the state machine definition inlined, because cfn-lint does not read other files.
    whole = [tmp_path / f"{path.stem}.json" for path in RECIPES]
    for path, file in zip(RECIPES, whole, strict=True):
        write_inlined(path, file)
        text = file.read_text(encoding="utf-8")
        for partition in ("${AWS::Partition}", "${Partition}"):
            text = text.replace(partition, "aws")
        file.write_text(text, encoding="utf-8")
    entry = "import sys; from cfnlint.runner import main; sys.exit(main())"
    lint = [sys.executable, "-c", entry, "--regions", "us-east-1", "--template", *map(str, whole)]
    done = subprocess.run(lint, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", SUBSCRIBING, ids=lambda path: path.stem)
def test_a_subscription_has_a_filter_and_a_dead_letter_queue(path: Path) -> None:
    resources = read(path)["Resources"]
    (subscription,) = of_type(resources, "AWS::SNS::Subscription").values()
    properties = subscription["Properties"]
    assert properties["FilterPolicy"].keys() <= {"type", "status", "chatbot_id"}
    dead_letter_queue = properties["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]
    queue = resources[dead_letter_queue]["Properties"]
    assert queue["SqsManagedSseEnabled"] is True
    assert queue["MessageRetentionPeriod"] == 1209600
    allowed = [
        (statement["Resource"], statement["Condition"])
        for policy in of_type(resources, "AWS::SQS::QueuePolicy").values()
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if statement["Principal"] == {"Service": "sns.amazonaws.com"} and statement["Effect"] == "Allow"
    ]
    ((resource, condition),) = allowed
    arns = resource if isinstance(resource, list) else [resource]
    assert {"Fn::GetAtt": [dead_letter_queue, "Arn"]} in arns
    assert condition == {"ArnEquals": {"aws:SourceArn": {"Ref": "TopicArn"}}}
    if properties["Protocol"] == "sqs":
        assert properties["Endpoint"] in arns


@pytest.mark.parametrize("name", ["bus-fifo.yaml", "bus-account.yaml"])
def test_a_rule_on_the_bus_selects_the_outcomes_of_one_stack_and_has_a_dead_letter_queue(name: str) -> None:
    resources = read(ROOT / "docs" / "recipes" / name)["Resources"]
    (rule,) = of_type(resources, "AWS::Events::Rule").values()
    assert rule["Properties"]["EventPattern"] == {
        "source": [EVENT_SOURCE],
        "detail-type": [{"anything-but": PROGRESS_TYPE}],
        "detail": {"source": [{"Fn::Sub": "/waterhook/${WaterhookStackName}"}]},
    }
    (target,) = rule["Properties"]["Targets"]
    undelivered = target["DeadLetterConfig"]["Arn"]
    queue = resources[undelivered["Fn::GetAtt"][0]]["Properties"]
    assert "FifoQueue" not in queue
    for properties in [entry["Properties"] for entry in of_type(resources, "AWS::SQS::Queue").values()]:
        assert properties["SqsManagedSseEnabled"] is True
        assert properties["MessageRetentionPeriod"] == 1209600
    (policy,) = of_type(resources, "AWS::SQS::QueuePolicy").values()
    (statement,) = policy["Properties"]["PolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert undelivered in as_list(statement["Resource"])
    arn = statement["Condition"]["ArnLike"]["aws:SourceArn"]["Fn::Sub"]
    # The name that CloudFormation generates for the rule, on the default bus and on another one.
    pattern = arn.replace("${AWS::StackName}", "shop")
    prefix = "arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:rule"
    assert fnmatchcase(f"{prefix}/shop-Rule-AbCdEf", pattern)
    assert fnmatchcase(f"{prefix}/results/shop-Rule-AbCdEf", pattern)


def test_the_fifo_queue_drops_an_event_that_is_published_again() -> None:
    resources = read(ROOT / "docs" / "recipes" / "bus-fifo.yaml")["Resources"]
    (target,) = resources["Rule"]["Properties"]["Targets"]
    assert (target["InputPath"], target["SqsParameters"]) == (
        "$.detail",
        {"MessageGroupId": {"Ref": "GroupId"}},
    )
    queue = resources["Queue"]["Properties"]
    assert queue["ContentBasedDeduplication"] is True
    dead_letters = resources[queue["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]]
    assert dead_letters["Properties"]["FifoQueue"] is queue["FifoQueue"] is True


def test_events_are_forwarded_to_one_bus_of_another_account_only() -> None:
    sender = read(ROOT / "docs" / "recipes" / "bus-account.yaml")["Resources"]
    (policy,) = sender["Role"]["Properties"]["Policies"]
    bus = {"Ref": "ReceivingBusArn"}
    assert policy["PolicyDocument"]["Statement"] == [
        {"Effect": "Allow", "Action": "events:PutEvents", "Resource": bus}
    ]
    assert sender["Rule"]["Properties"]["Targets"][0]["Arn"] == bus
    receiver = read(ROOT / "docs" / "recipes" / "bus-account-receiver.yaml")["Resources"]
    (statement,) = receiver["Bus"]["Properties"]["Policy"]["Statement"]
    assert statement["Action"] == "events:PutEvents"
    assert statement["Principal"] == {
        "AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${SendingAccountId}:root"}
    }
    assert statement["Condition"] == {"StringEquals": {"events:source": EVENT_SOURCE}}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_table_or_a_log_group_of_a_recipe_expires_its_data_and_names_what_a_deletion_does(
    path: Path,
) -> None:
    for resource in read(path)["Resources"].values():
        if resource["Type"] in {"AWS::DynamoDB::Table", "AWS::Logs::LogGroup"}:
            assert {"DeletionPolicy", "UpdateReplacePolicy"} <= resource.keys()
        if resource["Type"] == "AWS::Logs::LogGroup":
            assert resource["Properties"]["RetentionInDays"] <= 30
        if resource["Type"] == "AWS::DynamoDB::Table":
            assert resource["Properties"]["SSESpecification"] == {"SSEEnabled": True}
            assert resource["Properties"]["TimeToLiveSpecification"]["Enabled"] is True


def test_the_topic_uses_the_signature_version_that_the_endpoint_requires() -> None:
    assert deployed()["NotificationTopic"]["Properties"]["SignatureVersion"] == "2"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_no_role_of_a_recipe_has_a_wildcard(path: Path) -> None:
    for role in of_type(read(path)["Resources"], "AWS::IAM::Role").values():
        for policy in role["Properties"]["Policies"]:
            for written in policy["PolicyDocument"]["Statement"]:
                statement = written.get("Fn::If", [None, written])[1]
                assert statement["Resource"] != "*"
                assert "*" not in json.dumps(statement["Action"])


@pytest.mark.parametrize("name", ["parent.yaml", "schedule.yaml"])
def test_a_recipe_that_starts_executions_may_use_the_kms_key(name: str) -> None:
    document = read(ROOT / "docs" / "recipes" / name)
    assert document["Parameters"]["KmsKeyArn"]["Default"] == ""
    (role,) = of_type(document["Resources"], "AWS::IAM::Role").values()
    (policy,) = role["Properties"]["Policies"]
    conditional = [one["Fn::If"] for one in policy["PolicyDocument"]["Statement"] if "Fn::If" in one]
    statement = {
        "Effect": "Allow",
        "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
        "Resource": {"Ref": "KmsKeyArn"},
    }
    assert conditional == [["HasKmsKey", statement, {"Ref": "AWS::NoValue"}]]


def test_no_recipe_or_sample_is_limited_to_one_partition() -> None:
    for path in [*RECIPES, *(ROOT / "events").glob("*.yaml")]:
        text = re.sub(r"#.*", "", path.read_text(encoding="utf-8"))
        assert "arn:aws:" not in text, path.name


def test_the_function_recipe_accepts_each_notification(capsys: pytest.CaptureFixture[str]) -> None:
    handler = code("function.yaml")["handler"]
    for path in GOLDEN:
        handler(delivered(json.loads(path.read_text(encoding="utf-8"))), None)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == len(GOLDEN)
    assert {"id", "output_is_in"} in [set(each) for each in lines]


def test_a_slack_message_has_chatbot_and_status_and_mentions_no_one() -> None:
    line = code("slack.yaml")["line"]
    event = json.loads((ROOT / "tests" / "contract" / "golden" / "failed.json").read_text(encoding="utf-8"))
    event["data"]["error"]["message"] = "<!channel> & <@U1>"
    message = line(event)
    assert message.startswith("support-chat FAILED")
    assert message.endswith("&lt;!channel&gt; &amp; &lt;@U1&gt;")


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_slack_message_has_the_status_and_no_output(path: Path) -> None:
    event = json.loads(path.read_text(encoding="utf-8"))
    event["data"]["final_output"] = "what the customer got"
    message = code("slack.yaml")["line"](event)
    assert event["data"]["status"] in message
    assert "customer got" not in message


def test_inline_code_is_within_the_limit_of_cloudformation() -> None:
    for path in RECIPES:
        for function in of_type(read(path)["Resources"], "AWS::Lambda::Function").values():
            assert len(function["Properties"]["Code"]["ZipFile"]) < 4096
            assert re.fullmatch(r"python3\.\d+", function["Properties"]["Runtime"])


# ---- The subscriber with Powertools -------------------------------------------------------------------------------

SUBSCRIBER = ROOT / "docs" / "recipes" / "subscriber"


def test_the_subscriber_has_time_to_finish_a_batch_before_its_messages_are_delivered_again() -> None:
    resources = read(SUBSCRIBER / "template.yaml")["Resources"]
    function, queue = resources["Function"]["Properties"], resources["Queue"]["Properties"]
    (event,) = function["Events"].values()
    assert event["Properties"]["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert queue["VisibilityTimeout"] == 6 * function["Timeout"]  # the recommendation of Lambda
    assert queue["RedrivePolicy"]["maxReceiveCount"] >= 5


def test_the_subscriber_stores_ids_longer_than_a_notification_can_be_repeated() -> None:
    document = read(SUBSCRIBER / "template.yaml")
    days = document["Parameters"]["IdempotencyDays"]
    queue_days = document["Resources"]["Queue"]["Properties"]["MessageRetentionPeriod"] / 86_400
    records = source()["Parameters"]["RecordRetentionDays"]
    assert days["Default"] >= records["Default"] + queue_days
    assert days["MinValue"] >= min(records["AllowedValues"]) + queue_days


def test_the_role_of_the_subscriber_reads_outputs_and_uses_its_own_resources() -> None:
    resources = read(SUBSCRIBER / "template.yaml")["Resources"]
    (policy,) = resources["Role"]["Properties"]["Policies"]
    statements = [one.get("Fn::If", [None, one])[1] for one in policy["PolicyDocument"]["Statement"]]
    allowed = {action: one["Resource"] for one in statements for action in as_list(one["Action"])}
    assert allowed.pop("s3:GetObject") == {"Fn::Sub": "arn:${AWS::Partition}:s3:::${BucketName}/executions/*"}
    assert allowed.pop("kms:Decrypt") == {"Ref": "KmsKeyArn"}
    own = {"logs": "Logs", "sqs": "Queue", "dynamodb": "IdempotencyTable"}
    assert allowed == {action: {"Fn::GetAtt": [own[action.partition(":")[0]], "Arn"]} for action in allowed}


def test_the_tests_run_the_subscriber_with_a_version_that_it_allows() -> None:
    text = (SUBSCRIBER / "requirements.txt").read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if not line.startswith("#"))
    requirement = Requirement(line)
    assert requirement.extras == {"parser"}
    assert version(requirement.name) in requirement.specifier


# ---- Receivers of webhooks ------------------------------------------------------------------------------------------


def installed_by(document: str, command: str) -> set[str]:
    """Return the packages that the only such command of a file under docs installs."""
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if f"{command} " in line)
    return {word for word in shlex.split(line.partition(command)[2]) if not word.startswith("-")}


def test_the_tests_run_the_receivers_with_versions_that_their_commands_allow() -> None:
    python = installed_by("recipes.md", "-m pip install")
    assert python == installed_by("recipes/receiver_fastapi.py", "-m pip install")
    for requirement in map(Requirement, python):
        assert version(requirement.name) in requirement.specifier, requirement
    node = installed_by("recipes.md", "npm install")
    assert node == installed_by("recipes/receiver_express.mjs", "npm install")
    lock = (ROOT / "tests" / "webhook_receiver" / "package-lock.json").read_text(encoding="utf-8")
    for name, _, oldest in (package.partition("@") for package in node):
        tested = Version(json.loads(lock)["packages"][f"node_modules/{name}"]["version"])
        wanted = Version(oldest.removeprefix("^"))
        assert tested.major == wanted.major
        assert tested >= wanted


# ---- The key ------------------------------------------------------------------------------------------------------

KEY = ROOT / "docs" / "recipes" / "key.yaml"
ACCOUNT = {"AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}}
# The statements that a type of resource under KmsKeyArn needs.
STATEMENTS = {
    "AWS::DynamoDB::Table": {"UseInDynamoDB", "GrantToDynamoDB"},
    "AWS::S3::Bucket": {"UseInS3SnsAndSecretsManager"},
    "AWS::SecretsManager::Secret": {"UseInS3SnsAndSecretsManager"},
    "AWS::SNS::Topic": {"UseInS3SnsAndSecretsManager", "PublishAlarms"},
    "AWS::StepFunctions::StateMachine": {
        "UseForStateMachines",
        "EncryptLogDeliveries",
        "DecryptLogDeliveries",
    },
    "AWS::Scheduler::Schedule": {"UseForSchedules"},
    "AWS::Logs::LogGroup": {"EncryptLogGroups"},
}


def key_policy() -> dict[str, dict[str, Any]]:
    """Return the statements of the key policy by Sid."""
    (key,) = of_type(read(KEY)["Resources"], "AWS::KMS::Key").values()
    assert key["Properties"]["EnableKeyRotation"] is True
    assert key["DeletionPolicy"] == key["UpdateReplacePolicy"] == "Retain"
    return {statement["Sid"]: statement for statement in key["Properties"]["KeyPolicy"]["Statement"]}


def test_the_key_policy_has_exactly_the_statements_that_the_encrypted_resources_need() -> None:
    under_it = {
        entry["Type"]
        for entry in deployed(**EVERYTHING).values()
        if KMS_KEY_ARN in json.dumps(entry["Properties"])
    }
    assert {kind for kind in under_it if not kind.startswith("AWS::IAM::")} == STATEMENTS.keys()
    assert key_policy().keys() == {"AdministerByIamPolicies"}.union(*STATEMENTS.values())


def test_each_statement_of_the_key_policy_is_limited() -> None:
    for sid, statement in key_policy().items():
        actions = as_list(statement["Action"])
        assert statement["Effect"] == "Allow"
        assert all(action.startswith("kms:") and action != "kms:*" for action in actions)
        if sid == "AdministerByIamPolicies":
            assert statement["Principal"] == ACCOUNT
            assert not re.search("crypt|GenerateDataKey|CreateGrant", " ".join(actions))
        else:
            assert statement["Condition"], sid
            assert statement["Principal"] == ACCOUNT or statement["Principal"].keys() == {"Service"}


def test_the_key_policy_allows_the_log_groups_of_the_stack() -> None:
    patterns = [
        one["Fn::Sub"].partition("log-group:")[2].replace("${WaterhookStackName}", "${AWS::StackName}")
        for one in key_policy()["EncryptLogGroups"]["Condition"]["ArnLike"][
            "kms:EncryptionContext:aws:logs:arn"
        ]
    ]
    for logical_id, group in of_type(deployed(**EVERYTHING), "AWS::Logs::LogGroup").items():
        # Without a name, CloudFormation generates one from the stack name, the logical id and a suffix.
        generated = {"Fn::Sub": f"${{AWS::StackName}}-{logical_id}-AbCdEf"}
        name = group["Properties"].get("LogGroupName", generated)["Fn::Sub"]
        assert any(fnmatchcase(name, pattern.replace("[", "[[]")) for pattern in patterns), name


def test_the_roles_of_functions_have_the_actions_that_the_key_policy_allows() -> None:
    (granted,) = of_type(deployed(**EVERYTHING), "AWS::IAM::ManagedPolicy").keys() & {"UseKmsKeyPolicy"}
    policy = deployed(**EVERYTHING)[granted]["Properties"]["PolicyDocument"]
    (statement,) = policy["Statement"]
    for sid in ("UseInS3SnsAndSecretsManager", "UseForStateMachines", "UseForSchedules"):
        assert set(as_list(key_policy()[sid]["Action"])) == set(statement["Action"])
