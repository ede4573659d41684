"""DynamoDB and S3: the executions table, its index of unfinished records, its slots, and the results bucket."""
