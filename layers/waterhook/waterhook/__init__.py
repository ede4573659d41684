"""Waterhook: webhooks for Waterflai's asynchronous executions, the package behind every function."""

__version__ = "0.1.0"
