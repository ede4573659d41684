"""What the template keeps and sends: how long, under which key, to whom."""

from typing import Any

import pytest

from tests.infra import template
from tests.infra.template import EVERYTHING, as_list, deployed, of_type, one

# A resource of one of these types holds data of the customer's, or the only copy of something.
KEEPS_DATA = {"AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::SQS::Queue"}
PARAMETERS: dict[str, dict[str, Any]] = template.source()["Parameters"]


def test_what_holds_data_stays_when_the_stack_goes() -> None:
    kept = {name: entry for name, entry in deployed(**EVERYTHING).items() if entry["Type"] in KEEPS_DATA}
    assert kept.keys() == {"ExecutionsTable", "ResultsBucket", "ResultsQueue", "ResultsDeadLetterQueue"}
    for entry in kept.values():
        assert entry["DeletionPolicy"] == "RetainExceptOnCreate"
        assert entry["UpdateReplacePolicy"] == "Retain"


def test_a_record_is_kept_on_demand_recoverable_and_expires() -> None:
    table = one("AWS::DynamoDB::Table")
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["KeySchema"] == [{"AttributeName": "execution_id", "KeyType": "HASH"}]
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_a_bucket_s_object_is_private_and_outlasts_its_record() -> None:
    bucket = one("AWS::S3::Bucket")
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    assert "VersioningConfiguration" not in bucket
    (expiry,) = (rule for rule in bucket["LifecycleConfiguration"]["Rules"] if "ExpirationInDays" in rule)
    assert expiry == {
        "Status": "Enabled",
        "ExpirationInDays": str(PARAMETERS["RecordRetentionDays"]["Default"]),
    }
    assert any("AbortIncompleteMultipartUpload" in rule for rule in bucket["LifecycleConfiguration"]["Rules"])


@pytest.mark.parametrize("parameters", [{}, EVERYTHING], ids=["with AWS's keys", "with the customer's key"])
def test_everything_at_rest_is_encrypted(parameters: dict[str, str]) -> None:
    key = parameters.get("KmsKeyArn")
    resources = deployed(**parameters)
    sse = resources["ExecutionsTable"]["Properties"]["SSESpecification"]
    assert sse == {"SSEEnabled": True, "SSEType": "KMS"} | ({"KMSMasterKeyId": key} if key else {})
    assert resources["NotificationTopic"]["Properties"]["KmsMasterKeyId"] == (key or "alias/aws/sns")
    (rule,) = resources["ResultsBucket"]["Properties"]["BucketEncryption"][
        "ServerSideEncryptionConfiguration"
    ]
    with_key = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
    assert rule["ServerSideEncryptionByDefault"] == (with_key if key else {"SSEAlgorithm": "AES256"})
    machine = resources["ExecutionStateMachine"]["Properties"].get("EncryptionConfiguration")
    assert machine == ({"Type": "CUSTOMER_MANAGED_KMS_KEY", "KmsKeyId": key} if key else None)
    for queue in of_type(resources, "AWS::SQS::Queue").values():
        assert queue["Properties"]["SqsManagedSseEnabled"] is True


def test_a_queue_receives_the_cloudevent_itself_and_loses_none() -> None:
    resources = deployed(**EVERYTHING)
    subscription = one("AWS::SNS::Subscription")
    dead_letters = {"Fn::GetAtt": ["ResultsDeadLetterQueue", "Arn"]}
    assert subscription["RawMessageDelivery"] is True
    assert subscription["RedrivePolicy"] == {"deadLetterTargetArn": dead_letters}
    redrive = resources["ResultsQueue"]["Properties"]["RedrivePolicy"]
    assert redrive == {"deadLetterTargetArn": dead_letters, "maxReceiveCount": 5}


def test_without_a_results_queue_there_is_none_of_it() -> None:
    resources = deployed()
    for kind in ("AWS::SQS::Queue", "AWS::SQS::QueuePolicy", "AWS::SNS::Subscription"):
        assert not of_type(resources, kind)


def test_only_the_topic_sends_to_the_queues() -> None:
    allowed, denied = one("AWS::SQS::QueuePolicy")["PolicyDocument"]["Statement"]
    assert allowed["Effect"] == "Allow"
    assert allowed["Principal"] == {"Service": "sns.amazonaws.com"}
    assert as_list(allowed["Action"]) == ["sqs:SendMessage"]
    assert allowed["Condition"] == {"ArnEquals": {"aws:SourceArn": {"Ref": "NotificationTopic"}}}
    assert denied["Effect"] == "Deny"


@pytest.mark.parametrize("kind", ["AWS::SNS::TopicPolicy", "AWS::SQS::QueuePolicy", "AWS::S3::BucketPolicy"])
def test_nothing_is_sent_in_the_clear_except_over_loopback(kind: str) -> None:
    denials = [
        statement["Condition"]
        for statement in one(kind)["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Deny"
        and statement["Principal"] == "*"
        and "Bool" in statement["Condition"]
    ]
    loopback = {"NotIpAddress": {"aws:SourceIp": "127.0.0.0/8"}}
    assert denials == [{"Bool": {"aws:SecureTransport": "false"}} | loopback]
