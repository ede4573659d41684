"""Decisions and data of an execution: pure functions and values, without I/O, boto3 or urllib3."""
