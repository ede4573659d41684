"""The error that ends a local command."""


class ToolError(Exception):
    """Raised when a local command, the smoke test or a benchmark fails. Only the message is printed."""
