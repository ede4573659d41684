"""The one error a user of the runner sees."""


class RunnerError(Exception):
    """Something the user can act on: the message is all that is printed."""
