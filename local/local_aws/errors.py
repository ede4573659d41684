"""The error that local commands report to their user."""


class CommandError(Exception):
    """A command failed for a reason that the user can act on. Only the message is printed."""
