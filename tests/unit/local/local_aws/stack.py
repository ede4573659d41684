"""The outputs of a stack, for tests that need some."""

from local.local_aws.stack_outputs import StackOutputs

OUTPUTS = StackOutputs(
    endpoint_url="http://127.0.0.1:4566",
    region="us-east-1",
    api_url="http://127.0.0.1:4566/_aws/execute-api/abc/live",
    api_key="key",
    state_machine_arn="arn:machine",
    topic_arn="arn:topic",
    results_queue_url="http://127.0.0.1:4566/000000000000/queue",
    table_name="table",
    waterflai_base_url="http://127.0.0.1:8000",
    webhook_queue_url="http://127.0.0.1:4566/000000000000/webhooks",
    webhook_dead_letter_queue_url="http://127.0.0.1:4566/000000000000/webhooks-dead",
    webhook_table_name="deliveries",
    webhook_secret_arn="arn:webhooks",
    authority_path="/state/authority",
)
