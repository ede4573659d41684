"""ARNs of IAM principals: the one that sent a request, and those that OperatorPrincipalArns lists."""

import re
from dataclasses import dataclass
from typing import Self

# Without commas, which separate the entries of OperatorPrincipalArns.
_ROLE_OR_USER = re.compile(
    r"arn:(aws[a-z-]*):iam::([0-9]{12}):(role|user)/((?:[A-Za-z0-9_+=.@-]+/)*[A-Za-z0-9_+=.@-]{1,64})"
)
_ASSUMED_ROLE = "assumed-role/"


@dataclass(frozen=True, slots=True)
class RoleSession:
    """A session of an IAM role: what the ARN of an assumed role contains. It has no path, unlike the role's ARN."""

    partition: str
    account: str
    role: str
    session: str

    @classmethod
    def read(cls, arn: str) -> Self | None:
        """Read an ARN that ends with `:assumed-role/` and the names of role and session, or return None."""
        fields = arn.split(":", 5)
        if len(fields) < 6:  # noqa: PLR2004 - the number of fields of an ARN
            return None
        scheme, partition, service, region, account, resource = fields
        # The path of an IAM user may contain any visible character, so the text alone proves nothing.
        if (scheme, service, region) != ("arn", "sts", "") or not resource.startswith(_ASSUMED_ROLE):
            return None
        role, _, session = resource.removeprefix(_ASSUMED_ROLE).partition("/")
        return cls(partition, account, role, session) if role and session else None

    @property
    def role_arn(self) -> str:
        """The ARN of the assumed role without its session, the same for all sessions of the role."""
        return f"arn:{self.partition}:sts::{self.account}:{_ASSUMED_ROLE}{self.role}"


class OperatorPrincipals:
    """The IAM roles and users that see the executions of every caller and trigger."""

    def __init__(self, arns: tuple[str, ...]) -> None:
        """Read the ARNs. Raises ValueError for one that is neither of a role nor of a user."""
        self._users: set[str] = set()
        self._roles: set[tuple[str, str, str]] = set()
        for arn in arns:
            found = _ROLE_OR_USER.fullmatch(arn)
            if found is None:
                raise ValueError(arn)
            partition, account, kind, name = found.groups()
            if kind == "user":
                self._users.add(arn)
            else:
                # The name of a role is unique in its account, whatever its path.
                self._roles.add((partition, account, name.rpartition("/")[2]))

    def include(self, arn: str) -> bool:
        """Return whether the ARN of a request's principal is one of them: a user, or any session of a role."""
        session = RoleSession.read(arn)
        if session is None:
            return arn in self._users
        return (session.partition, session.account, session.role) in self._roles
