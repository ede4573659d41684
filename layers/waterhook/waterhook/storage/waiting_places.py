"""Places of the requests that wait for an outcome, in one item of the executions table.

The item has a set with each place: when it expires, and a token. DynamoDB applies one write of an item after the other,
so a condition on the size of the set is exact. It needs no read and no repetition, as the item of a host with its
version does (`waterhook.storage.webhook_hosts`): a caller that gets no place is answered after one request.
"""

import math
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from waterhook.errors import RecordConflictError, RecordUnavailableError
from waterhook.storage.table_errors import translate_errors

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Key of the item. Execution ids are 32 hexadecimal digits, so no execution has this id.
WAITERS_ID = "waiters"
# Requests to DynamoDB of one `take`: usually one, and two more if expired places are removed.
MAX_TAKE_CALLS = 3
# TTL of the item after its last place has expired.
_KEPT_S = 3600

# A request whose first write was carried out although its answer was lost gets its place again.
free_place = "attribute_not_exists(places) OR contains(places, :place) OR size(places) < :limit"


def _token() -> str:
    return os.urandom(6).hex()


class WaitingPlaces:
    """The places. A place whose request crashed is used again after it has expired."""

    def __init__(
        self, table: str, client: "DynamoDBClient", *, limit: int, token: Callable[[], str] = _token
    ) -> None:
        """`limit` is the number of places. `token` returns a new unique text with each call."""
        self._table = table
        self._client = client
        self._limit = limit
        self._token = token

    def new(self, expires_at: float) -> str:
        """Return a new place, which is not taken yet and expires at `expires_at` (epoch seconds)."""
        return f"{math.ceil(expires_at)} {self._token()}"

    def take(self, place: str, now: float) -> bool:
        """Take the place. Return whether one was free. Taking a place twice has the same effect as once.

        Raises RecordUnavailableError if DynamoDB fails. If the write was carried out, the place then expires.
        """
        taken = self._add(place)
        if taken is None:
            return True
        expired = [each for each in taken if _expires_at(each) <= now]
        if not expired:
            return False
        self._remove(expired)
        return self._add(place) is None

    def give_back(self, place: str) -> None:
        """Give the place back. Best effort: it expires if the table fails."""
        try:
            self._remove([place])
        except RecordUnavailableError:
            return

    def _add(self, place: str) -> Iterable[str] | None:
        """Return None if the place was added, else the places that are taken."""
        try:
            with translate_errors(WAITERS_ID):
                self._client.update_item(
                    TableName=self._table,
                    Key={"execution_id": {"S": WAITERS_ID}},
                    UpdateExpression="ADD places :places SET expires_at = :expires_at",
                    ConditionExpression=free_place,
                    ExpressionAttributeValues={
                        ":place": {"S": place},
                        ":places": {"SS": [place]},
                        ":expires_at": {"N": str(_expires_at(place) + _KEPT_S)},
                        ":limit": {"N": str(self._limit)},
                    },
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
        except RecordConflictError as error:
            refusal: Any = error.__cause__
            taken: list[str] = refusal.response.get("Item", {}).get("places", {}).get("SS", [])
            return taken
        return None

    def _remove(self, places: list[str]) -> None:
        """Remove places. Those that are not in the set are no error. The last one removes the set itself."""
        with translate_errors(WAITERS_ID):
            self._client.update_item(
                TableName=self._table,
                Key={"execution_id": {"S": WAITERS_ID}},
                UpdateExpression="DELETE places :places",
                ExpressionAttributeValues={":places": {"SS": places}},
            )


def _expires_at(place: str) -> int:
    return int(place.partition(" ")[0])
