"""Places of waiting requests."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest

from tests.fakes.aws import FailingClient, Table, client_error
from tests.fakes.clock import NOW
from waterhook.errors import RecordUnavailableError
from waterhook.storage.unfinished_index import UnfinishedIndex
from waterhook.storage.waiting_places import WAITERS_ID, WaitingPlaces

LIMIT = 5
END = NOW + 20


class CountingClient:
    """A client that applies one call after the other, as DynamoDB does for one item, and counts them."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self._lock = threading.Lock()
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        def call(**arguments: Any) -> Any:
            with self._lock:
                self.calls += 1
                return getattr(self._real, name)(**arguments)

        return call


@pytest.fixture
def client(table: Table) -> CountingClient:
    return CountingClient(table.client)


@pytest.fixture
def places(table: Table, client: Any) -> WaitingPlaces:
    return WaitingPlaces(table.name, client, limit=LIMIT)


def take(places: WaitingPlaces, expires_at: float = END, now: float = NOW) -> str | None:
    """Return a place, or None if none is free."""
    place = places.new(expires_at)
    return place if places.take(place, now) else None


def item(table: Table) -> dict[str, Any]:
    answer = table.client.get_item(TableName=table.name, Key={"execution_id": {"S": WAITERS_ID}})
    return dict(answer.get("Item", {}))


def test_there_are_as_many_places_as_the_limit(places: WaitingPlaces) -> None:
    taken = [take(places) for _ in range(LIMIT + 1)]
    assert None not in taken[:-1]
    assert taken[-1] is None
    assert len(set(taken)) == LIMIT + 1


def test_a_place_that_is_given_back_is_free_again(places: WaitingPlaces) -> None:
    first, *_ = [take(places) for _ in range(LIMIT)]
    assert first
    places.give_back(first)
    places.give_back(first)
    assert take(places)
    assert take(places) is None


def test_a_hundred_callers_at_the_same_time_get_exactly_the_places(
    places: WaitingPlaces, client: CountingClient
) -> None:
    start = threading.Barrier(100)

    def take_one(_: int) -> str | None:
        start.wait()
        return take(places)

    with ThreadPoolExecutor(100) as pool:
        taken = [place for place in pool.map(take_one, range(100)) if place]
    assert len(taken) == len(set(taken)) == LIMIT
    # One request of each caller, also of those without a place.
    assert client.calls == 100


def test_the_places_are_never_exceeded_while_callers_come_and_go(places: WaitingPlaces) -> None:
    lock, held, most = threading.Lock(), 0, 0

    def use(_: int) -> None:
        nonlocal held, most
        if (place := take(places)) is None:
            return
        with lock:
            held += 1
            most = max(most, held)
        with lock:
            held -= 1
        places.give_back(place)

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(use, range(200)))
    assert 1 <= most <= LIMIT
    assert all(take(places) for _ in range(LIMIT))


def test_places_of_crashed_requests_are_used_again_after_they_have_expired(
    places: WaitingPlaces, client: CountingClient
) -> None:
    for number in range(LIMIT):
        take(places, END + number, NOW)
    assert take(places, END + 90, END - 1) is None
    assert take(places, END + 90, END + 1)  # two have expired
    assert take(places, END + 90, END + 1)
    client.calls = 0
    assert take(places, END + 90, END + 1) is None
    assert client.calls == 1


def test_callers_that_find_the_same_expired_place_do_not_share_it(places: WaitingPlaces) -> None:
    for _ in range(LIMIT):
        take(places)
    start = threading.Barrier(20)

    def take_one(_: int) -> str | None:
        start.wait()
        return take(places, END + 90, END + 1)

    with ThreadPoolExecutor(20) as pool:
        taken = [place for place in pool.map(take_one, range(20)) if place]
    assert len(taken) == LIMIT


def test_the_item_without_places_expires(table: Table, places: WaitingPlaces) -> None:
    place = take(places)
    assert place
    places.give_back(place)
    assert item(table) == {"execution_id": {"S": WAITERS_ID}, "expires_at": {"N": str(int(END) + 3600)}}


def test_a_lower_limit_applies_to_the_next_request(table: Table, places: WaitingPlaces) -> None:
    for _ in range(3):
        take(places)
    assert take(WaitingPlaces(table.name, table.client, limit=2)) is None


def test_the_item_is_no_record_and_no_unfinished_execution(table: Table, places: WaitingPlaces) -> None:
    take(places)
    assert table.records.get(WAITERS_ID, NOW) is None
    assert table.records.status(WAITERS_ID) is None
    assert list(UnfinishedIndex(table.name, table.client).accepted_before("9999")) == []


def test_a_place_that_is_taken_twice_is_one_place(places: WaitingPlaces) -> None:
    place = places.new(END)
    for _ in range(LIMIT - 1):
        take(places)
    assert places.take(place, NOW)
    assert places.take(place, NOW)
    assert take(places) is None


def test_a_table_that_fails_gives_no_place_and_takes_one_back_without_an_error(table: Table) -> None:
    failing: Any = FailingClient(table.client, {"update_item": client_error("ThrottlingException")})
    tokens = count()
    places = WaitingPlaces(table.name, failing, limit=LIMIT, token=lambda: str(next(tokens)))
    with pytest.raises(RecordUnavailableError):
        take(places)
    places.give_back("1767225620 0")


def test_a_full_set_of_1000_places_is_far_below_the_limit_of_an_item(table: Table) -> None:
    places = WaitingPlaces(table.name, table.client, limit=1000)
    place = take(places)
    assert place
    assert len(place) * 1000 < 100_000
