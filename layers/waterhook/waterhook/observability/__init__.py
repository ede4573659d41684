"""Structured log lines and CloudWatch metrics."""
