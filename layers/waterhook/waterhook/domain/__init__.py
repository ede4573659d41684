"""Decisions and values of an execution. Everything here is pure: no I/O, no boto3, no urllib3."""
