"""The logical ids that every later version of the template keeps.

CloudFormation recognises a resource by its logical id. Under another one, an update creates an empty resource and
deletes the one that is in use, or abandons it where UpdateReplacePolicy is Retain. A changed id would therefore cost:

- table, bucket: records, outputs and idempotency keys. Executions that run would no longer find their record.
- topic: every subscription.
- queues: the messages in them, and consumers would read from a queue that receives nothing.
- state machine: Step Functions stops the executions that run, and parents would start one that is gone.
- API, API key: the address and the key that callers have.
- topic of the alarms: the confirmation of the subscription.

An id that has to change needs two releases: one that has both resources, and data moved before the second.
"""

from tests.contract.template import EVERYTHING, deployed

KEPT = {
    "Api": "AWS::ApiGateway::RestApi",
    "ApiKey": "AWS::ApiGateway::ApiKey",
    "StateMachine": "AWS::StepFunctions::StateMachine",
    "NotificationTopic": "AWS::SNS::Topic",
    "ResultsQueue": "AWS::SQS::Queue",
    "ResultsDeadLetterQueue": "AWS::SQS::Queue",
    "ExecutionsTable": "AWS::DynamoDB::Table",
    "ResultsBucket": "AWS::S3::Bucket",
    "DeadLetterQueue": "AWS::SQS::Queue",
    "AlarmTopic": "AWS::SNS::Topic",
}
# The template has none of these types yet. A resource of one of them holds data, too.
OTHER_TYPES = {"AWS::SecretsManager::Secret", "AWS::SSM::Parameter", "AWS::KMS::Key"}


def test_what_holds_data_and_what_others_refer_to_keeps_its_logical_id() -> None:
    types = {*KEPT.values(), *OTHER_TYPES}
    found = {name: entry["Type"] for name, entry in deployed(**EVERYTHING).items() if entry["Type"] in types}
    assert found == KEPT
