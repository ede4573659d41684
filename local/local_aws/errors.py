"""The error that local commands report to their user."""


class ToolError(Exception):
    """A local command, the smoke test or a benchmark failed. The user gets the message only."""
