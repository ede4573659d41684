"""Who sent a request: from an event of API Gateway to a caller."""

import hashlib
from dataclasses import dataclass

from waterhook.api.api_settings import ApiSettings, CallerIdentity
from waterhook.api.gateway_event import Event, header
from waterhook.domain.principal import OperatorPrincipals, RoleSession


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request."""

    identity: str
    """An IAM principal, or `key/` and the id of an API key. Records and idempotency keys belong to it."""
    is_operator: bool = False
    """Whether it sees the executions of every caller and trigger."""

    def started(self, caller: str | None) -> bool:
        """Return whether this is the caller of a record. Records of other triggers than the API have None."""
        return caller == self.identity


class Callers:
    """Recognizes callers, as the parameters CallerIdentity and OperatorPrincipalArns define them."""

    def __init__(self, settings: ApiSettings) -> None:
        self._identity = settings.caller_identity
        self._operators = OperatorPrincipals(settings.operators)

    def of(self, event: Event) -> Caller:
        """Return the caller: the IAM principal, else the id of the API key, else a hash of the API key.

        Only an IAM principal can be an operator.
        """
        identity = (event.get("requestContext") or {}).get("identity") or {}
        if identity.get("userArn"):
            arn = str(identity["userArn"])
            is_operator = self._operators.include(arn)
            session = RoleSession.read(arn)
            if session is not None and self._identity is CallerIdentity.ROLE:
                # A later session of the role finds the executions of an earlier one.
                arn = session.role_arn
            return Caller(arn, is_operator)
        if identity.get("apiKeyId"):
            return Caller(f"key/{identity['apiKeyId']}")
        key = header(event, "x-api-key") or ""
        return Caller("key/" + hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:16])
