"""`make soak`: hundreds of concurrent executions with random faults, each checked for its one outcome."""
