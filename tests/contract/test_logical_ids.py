"""The logical ids that no version of the template may change.

CloudFormation identifies a resource by its logical id. After a change of the id, an update creates an empty resource.
It deletes the old resource, or leaves it outside the stack if UpdateReplacePolicy is Retain. The losses would be:

- table, bucket: records, outputs and idempotency keys. Running executions would lose their record.
- topic: all subscriptions.
- table of deliveries: the attempts of webhooks, which would begin again.
- signing secret: the secrets of all receivers of webhooks, which would refuse each signature.
- queues: their messages. Consumers would read from a queue that receives nothing.
- state machine: Step Functions stops its running executions. Callers would start a deleted state machine.
- API, API key: the address and the key of all callers.
- alarm topic: the confirmed subscription.

To change an id, make two releases. The first has both resources. Move the data before the second.
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
    "WebhookQueue": "AWS::SQS::Queue",
    "WebhookDeadLetterQueue": "AWS::SQS::Queue",
    "WebhookDeliveriesTable": "AWS::DynamoDB::Table",
    "WebhookSigningSecret": "AWS::SecretsManager::Secret",
    "AlarmTopic": "AWS::SNS::Topic",
}
# The template does not have these types. They would store data too.
OTHER_TYPES = {"AWS::SSM::Parameter", "AWS::KMS::Key"}


def test_resources_with_data_and_with_external_references_keep_their_logical_ids() -> None:
    types = {*KEPT.values(), *OTHER_TYPES}
    found = {name: entry["Type"] for name, entry in deployed(**EVERYTHING).items() if entry["Type"] in types}
    assert found == KEPT
