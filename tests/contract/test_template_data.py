"""Stored and published data: retention, encryption and permissions."""

from typing import Any

import pytest

from tests.contract import template
from tests.contract.template import EVERYTHING, TRIGGERS, WEBHOOKS, as_list, deployed, named, of_type, one
from waterhook.storage.execution_lists import CALLER_INDEX, LISTED_FIELDS, TIME_INDEX
from waterhook.storage.unfinished_index import UNFINISHED_INDEX

# Resources of these types store data.
DATA_TYPES = {"AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::SQS::Queue", "AWS::SecretsManager::Secret"}
# What `waterhook resend` replaces: ids in queues, and attempts.
REPLACEABLE = {"WebhookQueue", "WebhookDeadLetterQueue", "WebhookDeliveriesTable"}
PARAMETERS: dict[str, dict[str, Any]] = template.source()["Parameters"]


def test_a_resource_with_data_is_retained_when_the_stack_is_deleted() -> None:
    stored = {name: entry for name, entry in deployed(**EVERYTHING).items() if entry["Type"] in DATA_TYPES}
    for name in REPLACEABLE:
        entry = stored.pop(name)
        assert entry["DeletionPolicy"] == entry["UpdateReplacePolicy"] == "Delete"
    assert stored.keys() == {
        "ExecutionsTable",
        "ResultsBucket",
        "ResultsQueue",
        "ResultsDeadLetterQueue",
        "DeadLetterQueue",
        "WebhookSigningSecret",
    }
    for entry in stored.values():
        assert entry["DeletionPolicy"] == "RetainExceptOnCreate"
        assert entry["UpdateReplacePolicy"] == "Retain"


def properties(name: str) -> dict[str, Any]:
    found: dict[str, Any] = deployed(**EVERYTHING)[name]["Properties"]
    return found


def test_the_table_is_on_demand_recoverable_and_expires_records() -> None:
    table = properties("ExecutionsTable")
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["KeySchema"] == [{"AttributeName": "execution_id", "KeyType": "HASH"}]
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_the_index_for_lists_has_only_the_listed_fields() -> None:
    table = properties("ExecutionsTable")
    (index,) = (entry for entry in table["GlobalSecondaryIndexes"] if entry["IndexName"] == CALLER_INDEX)
    assert index["KeySchema"] == [
        {"AttributeName": "caller", "KeyType": "HASH"},
        {"AttributeName": "created_at", "KeyType": "RANGE"},
    ]
    # Besides the keys, only the fields of a list: no input, output or metadata.
    assert index["Projection"]["ProjectionType"] == "INCLUDE"
    # Each record in it has the source `api`.
    keys = {"execution_id", "created_at", "caller"}
    assert {*index["Projection"]["NonKeyAttributes"], *keys, "source"} == set(LISTED_FIELDS)
    assert {entry["AttributeName"] for entry in table["AttributeDefinitions"]} == {
        "execution_id",
        "caller",
        "created_at",
        "shard",
        "unfinished",
    }


def test_the_index_for_lists_of_operators_has_only_the_listed_fields() -> None:
    (index,) = (
        entry
        for entry in properties("ExecutionsTable")["GlobalSecondaryIndexes"]
        if entry["IndexName"] == TIME_INDEX
    )
    assert index["KeySchema"] == [
        {"AttributeName": "shard", "KeyType": "HASH"},
        {"AttributeName": "created_at", "KeyType": "RANGE"},
    ]
    assert index["Projection"]["ProjectionType"] == "INCLUDE"
    keys = {"execution_id", "created_at"}
    assert {*index["Projection"]["NonKeyAttributes"], *keys} == set(LISTED_FIELDS)


def test_the_index_of_unfinished_executions_has_only_their_owner() -> None:
    (index,) = (
        entry
        for entry in properties("ExecutionsTable")["GlobalSecondaryIndexes"]
        if entry["IndexName"] == UNFINISHED_INDEX
    )
    assert index["KeySchema"] == [
        {"AttributeName": "unfinished", "KeyType": "HASH"},
        {"AttributeName": "created_at", "KeyType": "RANGE"},
    ]
    assert index["Projection"] == {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["owner_execution_arn"]}


RETENTION = PARAMETERS["RecordRetentionDays"]


def test_an_object_in_the_bucket_is_private_and_expires_after_its_record() -> None:
    bucket = one("AWS::S3::Bucket")
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    assert "VersioningConfiguration" not in bucket
    (expiry,) = (rule for rule in bucket["LifecycleConfiguration"]["Rules"] if "ExpirationInDays" in rule)
    assert expiry == {"Status": "Enabled", "ExpirationInDays": RETENTION["Default"] + 5}
    assert any("AbortIncompleteMultipartUpload" in rule for rule in bucket["LifecycleConfiguration"]["Rules"])


@pytest.mark.parametrize("days", RETENTION["AllowedValues"])
def test_an_output_expires_five_days_after_the_retention_of_records(days: int) -> None:
    rules = deployed(RecordRetentionDays=str(days))["ResultsBucket"]["Properties"]["LifecycleConfiguration"][
        "Rules"
    ]
    assert [rule["ExpirationInDays"] for rule in rules if "ExpirationInDays" in rule] == [days + 5]
    assert 1 <= days <= 3650  # the bounds in Settings


@pytest.mark.parametrize(
    "parameters", [WEBHOOKS, EVERYTHING], ids=["with AWS's keys", "with the customer's key"]
)
def test_stored_data_is_encrypted(parameters: dict[str, str]) -> None:
    key = parameters.get("KmsKeyArn")
    resources = deployed(**parameters)
    for table in of_type(resources, "AWS::DynamoDB::Table").values():
        sse = table["Properties"]["SSESpecification"]
        assert sse == {"SSEEnabled": True, "SSEType": "KMS"} | ({"KMSMasterKeyId": key} if key else {})
    for secret in of_type(resources, "AWS::SecretsManager::Secret").values():
        assert secret["Properties"].get("KmsKeyId") == key
    assert resources["NotificationTopic"]["Properties"]["KmsMasterKeyId"] == (key or "alias/aws/sns")
    (rule,) = resources["ResultsBucket"]["Properties"]["BucketEncryption"][
        "ServerSideEncryptionConfiguration"
    ]
    with_key = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
    assert rule["ServerSideEncryptionByDefault"] == (with_key if key else {"SSEAlgorithm": "AES256"})
    machine = resources["StateMachine"]["Properties"].get("EncryptionConfiguration")
    assert machine == ({"Type": "CUSTOMER_MANAGED_KMS_KEY", "KmsKeyId": key} if key else None)
    for queue in of_type(resources, "AWS::SQS::Queue").values():
        assert queue["Properties"]["SqsManagedSseEnabled"] is True


def test_the_results_queue_receives_raw_events_and_has_a_dead_letter_queue() -> None:
    resources = deployed(**EVERYTHING)
    subscription = one("AWS::SNS::Subscription")
    dead_letters = {"Fn::GetAtt": ["ResultsDeadLetterQueue", "Arn"]}
    assert subscription["RawMessageDelivery"] is True
    assert subscription["RedrivePolicy"] == {"deadLetterTargetArn": dead_letters}
    redrive = resources["ResultsQueue"]["Properties"]["RedrivePolicy"]
    assert redrive == {"deadLetterTargetArn": dead_letters, "maxReceiveCount": 5}


def test_no_subscription_exists_without_the_results_queue() -> None:
    resources = deployed()
    assert not of_type(resources, "AWS::SNS::Subscription")
    assert not [name for name in resources if name.startswith("Results") and "Queue" in name]


def test_only_the_topic_sends_to_the_results_queue() -> None:
    policy = deployed(**EVERYTHING)["ResultsQueuePolicy"]["Properties"]["PolicyDocument"]
    allowed, denied = policy["Statement"]
    assert allowed["Effect"] == "Allow"
    assert allowed["Principal"] == {"Service": "sns.amazonaws.com"}
    assert as_list(allowed["Action"]) == ["sqs:SendMessage"]
    assert allowed["Condition"] == {"ArnEquals": {"aws:SourceArn": {"Ref": "NotificationTopic"}}}
    assert denied["Effect"] == "Deny"


@pytest.mark.parametrize("triggers", [{}, TRIGGERS, TRIGGERS | WEBHOOKS], ids=["none", "triggers", "all"])
def test_only_the_rules_of_the_stack_send_to_the_dead_letter_queue(triggers: dict[str, str]) -> None:
    resources = deployed(**triggers)
    policy = resources["DeadLetterQueuePolicy"]["Properties"]
    allowed, denied = policy["PolicyDocument"]["Statement"]
    assert policy["Queues"] == [{"Ref": "DeadLetterQueue"}]
    assert allowed["Effect"] == "Allow"
    assert allowed["Principal"] == {"Service": "events.amazonaws.com"}
    assert as_list(allowed["Action"]) == ["sqs:SendMessage"]
    senders = allowed["Condition"]["ArnEquals"]["aws:SourceArn"]
    assert {named(arn) for arn in senders} == {
        f"{rule}.Arn" for rule in of_type(resources, "AWS::Events::Rule")
    }
    assert denied["Effect"] == "Deny"


@pytest.mark.parametrize("kind", ["AWS::SNS::TopicPolicy", "AWS::SQS::QueuePolicy", "AWS::S3::BucketPolicy"])
def test_each_resource_policy_denies_requests_without_tls_from_all_addresses(kind: str) -> None:
    for policy in of_type(deployed(**EVERYTHING), kind).values():
        denials = [
            statement["Condition"]
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]
            if statement["Effect"] == "Deny"
            and statement["Principal"] == "*"
            and "Bool" in statement["Condition"]
        ]
        assert denials == [{"Bool": {"aws:SecureTransport": "false"}}]
