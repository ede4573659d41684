"""Waterhook: webhooks for Waterflai's asynchronous executions, the package behind every function."""

__version__ = "0.2.0"
