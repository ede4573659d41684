"""Completes the commands in hints, so that they can be pasted."""

import re
from dataclasses import dataclass

# A command of `waterhook` is at the end of a line of a hint.
_WATERHOOK_COMMAND = re.compile(r"(?:^|(?<= ))waterhook [a-z][a-z-]*(?: .*)?$", re.MULTILINE)
# A command of the AWS CLI has a service and an operation: `aws sns subscribe`. `aws configure` needs no account.
_AWS_COMMAND = re.compile(r"\baws (?!configure )(?=[a-z0-9-]+ [a-z-]+)")
_SAM_DEPLOY = re.compile(r"\bsam deploy ")


@dataclass(frozen=True, slots=True)
class CommandOptions:
    """Options that the commands in hints need, and a command to run before those of `aws` and `sam`."""

    aws: str = ""
    sam: str = ""
    setup: str = ""
    waterhook: str = ""

    def complete(self, hint: str) -> str:
        """Return the hint with the options in its commands. Those of `waterhook` are not added twice."""
        if self.aws:
            hint = _AWS_COMMAND.sub(lambda match: f"{match[0]}{self.aws} ", hint)
        if self.sam:
            hint = _SAM_DEPLOY.sub(lambda match: f"{match[0]}{self.sam} ", hint)
        if options := self.waterhook.strip():
            hint = _WATERHOOK_COMMAND.sub(
                lambda match: match[0] if options in match[0] else f"{match[0]} {options}", hint
            )
        return hint

    def needs_setup(self, hint: str) -> bool:
        """Return whether the hint has a command that works only after `setup`."""
        return bool(self.setup and (_AWS_COMMAND.search(hint) or _SAM_DEPLOY.search(hint)))


def has_sam_command(hint: str) -> bool:
    """Return whether the hint has a command that deploys."""
    return bool(_SAM_DEPLOY.search(hint))
