"""Hosts in the deliveries table: concurrent attempts, repeated writes, and failures of the table."""

from typing import Any

import pytest

from tests.fakes.aws import FailingClient, RepeatingClient, WebhookTable, client_error
from tests.fakes.clock import NOW
from tests.fakes.crashes import CountedClient, Killed, StepCounter
from waterhook.domain.webhook_host import (
    FIRST_OPEN_S,
    MAX_HELD_BACK_S,
    OPEN_AFTER,
    PLACE_S,
    Admission,
    HostState,
)
from waterhook.errors import RecordUnavailableError
from waterhook.storage.webhook_hosts import HOST_KEPT_S, Entry, WebhookHosts

HOST = "hooks.example.com"


def no_sleep(_seconds: float) -> None:
    """Return immediately."""


def hosts(table: WebhookTable, *, client: Any = None, limit: int = 2, sleep: Any = no_sleep) -> WebhookHosts:
    return WebhookHosts(table.name, client or table.client, limit=limit, sleep=sleep)


def enter(of: WebhookHosts, token: str, now: float = NOW, *, held_back_s: float = 0.0) -> Admission:
    return of.enter(HOST, token, now, held_back_s=held_back_s).admission


def fail(of: WebhookHosts, token: str, now: float = NOW) -> None:
    of.leave(HOST, token, now, host_failed=True, error="timeout")


def open_breaker(table: WebhookTable) -> None:
    for number in range(OPEN_AFTER):
        enter(hosts(table), str(number))
        fail(hosts(table), str(number))


def state(table: WebhookTable) -> HostState:
    return dict(hosts(table).all())[HOST]


def test_attempts_enter_a_host_until_its_share_is_used(webhook_table: WebhookTable) -> None:
    entered = [enter(hosts(webhook_table), token) for token in "abc"]
    assert entered == [Admission.ADMITTED, Admission.ADMITTED, Admission.FULL]
    assert state(webhook_table) == HostState(places={"a": NOW + PLACE_S, "b": NOW + PLACE_S})
    assert hosts(webhook_table).enter("other.example.com", "c", NOW, held_back_s=0).admission is (
        Admission.ADMITTED
    )


def test_a_place_is_free_after_its_attempt_and_after_a_minute(webhook_table: WebhookTable) -> None:
    for token in "ab":
        enter(hosts(webhook_table), token)
    hosts(webhook_table).leave(HOST, "a", NOW + 1, host_failed=False, error=None)
    assert enter(hosts(webhook_table), "c", NOW + 1) is Admission.ADMITTED
    assert enter(hosts(webhook_table), "d", NOW + PLACE_S - 1) is Admission.FULL
    assert enter(hosts(webhook_table), "d", NOW + PLACE_S) is Admission.ADMITTED


def test_the_state_of_the_breaker_is_stored(webhook_table: WebhookTable) -> None:
    open_breaker(webhook_table)
    assert hosts(webhook_table).enter(HOST, "t", NOW + 1, held_back_s=0) == Entry(
        Admission.OPEN, NOW + FIRST_OPEN_S
    )
    assert enter(hosts(webhook_table), "old", held_back_s=MAX_HELD_BACK_S + 1) is Admission.ADMITTED
    hosts(webhook_table).leave(HOST, "old", NOW + 2, host_failed=False, error=None)
    assert state(webhook_table) == HostState(last_error="timeout", last_failed_at=NOW)
    assert enter(hosts(webhook_table), "t", NOW + 3) is Admission.ADMITTED


def test_a_host_that_is_not_admitted_is_not_written(webhook_table: WebhookTable) -> None:
    open_breaker(webhook_table)
    before = webhook_table.items()
    enter(hosts(webhook_table), "t", NOW + 1)
    assert webhook_table.items() == before


def test_a_host_expires_a_week_after_its_last_change(webhook_table: WebhookTable) -> None:
    enter(hosts(webhook_table), "a")
    hosts(webhook_table).leave(HOST, "a", NOW + 100.5, host_failed=False, error=None)
    (item,) = webhook_table.items()
    assert item["expires_at"] == {"N": str(int(NOW) + 100 + HOST_KEPT_S)}


class RacingClient:
    """A client before whose first `count` writes another attempt changes the item."""

    def __init__(self, table: WebhookTable, count: int) -> None:
        self._table = table
        self.left = count
        self.names = iter("vwxyz0123456789")

    def put_item(self, **arguments: Any) -> Any:
        if self.left:
            self.left -= 1
            name = next(self.names)
            other = hosts(self._table, limit=99)
            enter(other, name)
            other.leave(HOST, name, NOW, host_failed=False, error=None)
        return self._table.client.put_item(**arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._table.client, name)


@pytest.mark.parametrize("conflicts", [1, 5])
def test_a_conflict_with_another_attempt_is_retried_with_growing_pauses(
    webhook_table: WebhookTable, conflicts: int
) -> None:
    pauses = list[float]()
    racing = hosts(webhook_table, client=RacingClient(webhook_table, conflicts), sleep=pauses.append)
    assert enter(racing, "a") is Admission.ADMITTED
    assert set(state(webhook_table).places) == {"a"}
    assert len(pauses) == conflicts
    assert pauses == sorted(pauses)
    assert sum(pauses) < 2


def test_a_conflict_that_continues_is_reported_as_full(webhook_table: WebhookTable) -> None:
    racing = hosts(webhook_table, client=RacingClient(webhook_table, 6))
    assert enter(racing, "a") is Admission.FULL
    assert dict(state(webhook_table).places) == {}


def test_two_attempts_do_not_take_the_last_place_at_the_same_time(webhook_table: WebhookTable) -> None:
    enter(hosts(webhook_table), "a")

    class Meanwhile(RacingClient):
        def put_item(self, **arguments: Any) -> Any:
            enter(hosts(webhook_table), "b")
            return self._table.client.put_item(**arguments)

    assert enter(hosts(webhook_table, client=Meanwhile(webhook_table, 0)), "c") is Admission.FULL
    assert set(state(webhook_table).places) == {"a", "b"}


def test_a_conflict_while_an_attempt_leaves_is_retried(webhook_table: WebhookTable) -> None:
    enter(hosts(webhook_table), "a")
    fail(hosts(webhook_table, client=RacingClient(webhook_table, 2)), "a")
    assert (state(webhook_table).failures, dict(state(webhook_table).places)) == (1, {})


def test_a_conflict_that_continues_while_an_attempt_leaves_is_ignored(webhook_table: WebhookTable) -> None:
    enter(hosts(webhook_table), "a")
    fail(hosts(webhook_table, client=RacingClient(webhook_table, 6)), "a")
    assert state(webhook_table).places == {"a": NOW + PLACE_S}


def test_writes_that_botocore_repeats_count_once(webhook_table: WebhookTable) -> None:
    repeating = hosts(webhook_table, client=RepeatingClient(webhook_table.client))
    assert enter(repeating, "a") is Admission.ADMITTED
    assert set(state(webhook_table).places) == {"a"}
    fail(repeating, "a")
    assert (state(webhook_table).failures, dict(state(webhook_table).places)) == (1, {})


def test_a_result_that_is_written_again_after_another_failure_counts_once(
    webhook_table: WebhookTable,
) -> None:
    def meanwhile() -> None:
        fail(hosts(webhook_table), "b")

    for token in "ab":
        enter(hosts(webhook_table), token)
    fail(hosts(webhook_table, client=RepeatingClient(webhook_table.client, meanwhile)), "a")
    assert state(webhook_table).failures == 2


@pytest.mark.parametrize("step", range(4))
def test_after_a_crash_while_an_attempt_enters_it_can_enter_again(
    webhook_table: WebhookTable, step: int
) -> None:
    crashing = CountedClient(webhook_table.client, StepCounter(kill_at=step))
    with pytest.raises(Killed):
        enter(hosts(webhook_table, client=crashing, limit=1), "a")
    assert enter(hosts(webhook_table, limit=1), "a") is Admission.ADMITTED
    assert set(state(webhook_table).places) == {"a"}


@pytest.mark.parametrize("operation", ["get_item", "put_item"])
def test_a_failure_of_the_table_is_raised_when_an_attempt_enters(
    webhook_table: WebhookTable, operation: str
) -> None:
    failing = FailingClient(webhook_table.client, {operation: client_error("ThrottlingException")})
    with pytest.raises(RecordUnavailableError):
        enter(hosts(webhook_table, client=failing), "a")


@pytest.mark.parametrize("operation", ["get_item", "put_item"])
def test_a_failure_of_the_table_is_ignored_when_an_attempt_leaves(
    webhook_table: WebhookTable, operation: str
) -> None:
    enter(hosts(webhook_table), "a")
    failing = FailingClient(webhook_table.client, {operation: client_error("ThrottlingException")})
    fail(hosts(webhook_table, client=failing), "a")
    assert state(webhook_table).places == {"a": NOW + PLACE_S}


def test_a_place_whose_response_was_lost_is_taken_again(webhook_table: WebhookTable) -> None:
    lost = FailingClient(webhook_table.client, {"put_item": client_error("InternalServerError")}, after=True)
    with pytest.raises(RecordUnavailableError):
        enter(hosts(webhook_table, client=lost, limit=1), "a")
    assert enter(hosts(webhook_table, limit=1), "a") is Admission.ADMITTED


def test_all_hosts_are_listed_page_by_page(webhook_table: WebhookTable) -> None:
    names = [f"{letter}.example.com" for letter in "abcde"]
    for name in names:
        hosts(webhook_table).enter(name, "t", NOW, held_back_s=0)

    class ShortPages:
        def query(self, **arguments: Any) -> Any:
            return webhook_table.client.query(**arguments | {"Limit": 2})

    assert [name for name, _ in hosts(webhook_table, client=ShortPages()).all()] == names


def test_a_failure_of_the_table_is_raised_when_hosts_are_listed(webhook_table: WebhookTable) -> None:
    failing = FailingClient(webhook_table.client, {"query": client_error("ThrottlingException")})
    with pytest.raises(RecordUnavailableError):
        hosts(webhook_table, client=failing).all()


def test_hosts_are_not_read_as_deliveries(webhook_table: WebhookTable) -> None:
    enter(hosts(webhook_table), "a")
    assert webhook_table.deliveries.get("hosts", f"hosts/{HOST}") is None
    assert webhook_table.deliveries.of_execution("hosts") == []
