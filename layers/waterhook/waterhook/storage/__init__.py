"""DynamoDB and S3: the executions table, its index and limits, and the bucket of large outputs."""
