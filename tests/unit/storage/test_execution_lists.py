"""Pages of the executions of one caller or of all, on an index in memory and on the simulated DynamoDB."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.aws import FailingClient, Table, client_error
from tests.fakes.clock import NOW
from tests.fakes.index import FakeIndex
from tests.support.builders import final_attributes, record, running_record
from waterhook.domain.execution_list import Entry, ListFilter, Position
from waterhook.domain.status import Status
from waterhook.errors import RecordUnavailableError
from waterhook.storage import execution_lists
from waterhook.storage.execution_lists import ExecutionLists
from waterhook.storage.execution_record import shard_of
from waterhook.timestamps import to_rfc3339

CALLERS = ("ada", "bob", None)
STATUSES = ("COMPLETED", "FAILED")
type Page = tuple[list[Entry], Position | None]
type ReadPage = Callable[[Position | None], Page]


def entry(number: int, second: int, caller: str | None = "ada", status: str = "COMPLETED") -> Entry:
    """Return an entry whose id and shard depend on the number, and whose time on the second."""
    execution_id = f"{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}"
    return {
        "execution_id": execution_id,
        "status": status,
        "created_at": to_rfc3339(NOW + second),
        "source": "api" if caller else "events",
        "caller": caller,
        "shard": shard_of(execution_id),
    }


def lists_of(index: Any) -> ExecutionLists:
    return ExecutionLists("executions", index)


def listed(entries: list[Entry]) -> list[str]:
    return [one["execution_id"] for one in entries]


def in_order(entries: list[Entry]) -> list[str]:
    return listed(sorted(entries, key=lambda one: (one["created_at"], one["execution_id"]), reverse=True))


def all_pages(read: ReadPage, after_page: Callable[[], object] = lambda: None) -> list[Page]:
    """Return every page. `after_page` is called after each one."""
    pages: list[Page] = [read(None)]
    after_page()
    while (position := pages[-1][1]) is not None:
        assert len(pages) < 2000
        pages.append(read(position))
        after_page()
    return pages


# So many entries of so few times that most examples have several pages, and several entries of one time.
arrivals = st.tuples(st.integers(0, 6), st.sampled_from(CALLERS), st.sampled_from(STATUSES))


@settings(max_examples=200)
@given(
    history=st.lists(arrivals, min_size=25, max_size=60),
    arriving=st.lists(arrivals, max_size=20),
    limit=st.integers(1, 7),
    filtered_reads=st.integers(1, 9),
    caller=st.sampled_from(["ada", None]),
    status=st.sampled_from([None, *STATUSES]),
    times=st.sampled_from([(None, None), (None, None), (None, 5), (1, None), (1, 5), (2, 2), (5, 1)]),
)
def test_pages_lose_and_repeat_nothing_though_entries_arrive_and_times_are_equal(
    *,
    history: list[tuple[int, str | None, str]],
    arriving: list[tuple[int, str | None, str]],
    limit: int,
    filtered_reads: int,
    caller: str | None,
    status: str | None,
    times: tuple[int | None, int | None],
) -> None:
    index = FakeIndex()
    index.items = [entry(number, *values) for number, values in enumerate(history, start=1)]
    first, last = (None if second is None else to_rfc3339(NOW + second) for second in times)
    filters = ListFilter(status=status, first=first, last=last)
    late = [entry(number, *values) for number, values in enumerate(arriving, start=1000)]

    def is_listed(one: Entry) -> bool:
        created_at = one["created_at"]
        is_in_time = (first is None or first <= created_at) and (last is None or created_at <= last)
        return is_in_time and status in {None, one["status"]} and caller in {None, one["caller"]}

    def read(position: Position | None) -> Page:
        if caller is None:
            return lists_of(index).of_all(filters, limit, position)
        return lists_of(index).of_caller(caller, filters, limit, position)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execution_lists, "_FILTERED_READS", filtered_reads)
        pages = all_pages(read, lambda: index.items.append(late.pop()) if late else None)
    shown = [one for entries, _ in pages for one in entries]
    ids = listed(shown)
    assert ids == in_order(shown)
    assert len(set(ids)) == len(ids)
    there_at_first = [entry(number, *values) for number, values in enumerate(history, start=1)]
    assert {*listed(list(filter(is_listed, there_at_first)))} <= {*ids}
    assert {*ids} <= {*listed(list(filter(is_listed, index.items)))}
    assert all(len(entries) <= limit for entries, _ in pages)
    if status is None:
        assert all(len(entries) == limit for entries, position in pages if position is not None)


@pytest.mark.parametrize("limit", [1, 20])
def test_a_page_of_all_reads_little_more_than_a_page_of_each_shard(limit: int) -> None:
    index = FakeIndex()
    index.items = [entry(number, number) for number in range(1, 400)]
    entries, position = lists_of(index).of_all(ListFilter(), limit, None)
    assert (len(entries), position is None) == (limit, False)
    assert index.read_counts == [limit + 1] * 4


def test_a_page_with_a_filter_stops_after_a_bounded_number_of_entries() -> None:
    index = FakeIndex()
    index.items = [entry(number, number) for number in range(1, 6000)]
    pages = all_pages(partial(lists_of(index).of_all, ListFilter(status="FAILED"), 20))
    assert [entries for entries, _ in pages] == [[]] * len(pages)
    assert max(index.read_counts) == 500
    assert len(pages) <= 4
    index.items.append(entry(6000, 0, status="FAILED"))
    index.read_counts.clear()
    pages = all_pages(partial(lists_of(index).of_all, ListFilter(status="FAILED"), 20))
    assert [len(entries) for entries, _ in pages] == [0] * (len(pages) - 1) + [1]


def test_a_thousand_entries_of_one_time_are_listed() -> None:
    index = FakeIndex()
    index.items = [entry(number, 0) for number in range(1, 1001)]
    for filters in (ListFilter(), ListFilter(status="COMPLETED")):
        pages = all_pages(partial(lists_of(index).of_all, filters, 100))
        assert listed([one for entries, _ in pages for one in entries]) == in_order(index.items)


def test_a_position_outside_of_the_times_is_the_beginning_or_the_end() -> None:
    index = FakeIndex()
    index.items = [entry(number, number) for number in range(1, 9)]
    filters = ListFilter(first=to_rfc3339(NOW + 3), last=to_rfc3339(NOW + 5))
    for caller in ("ada", None):
        found = []
        for second in (99, 0):
            position = Position(to_rfc3339(NOW + second) or "", "f" * 32)
            lists = lists_of(index)
            page = (
                lists.of_all(filters, 20, position)
                if caller is None
                else lists.of_caller(caller, filters, 20, position)
            )
            found.append((len(page[0]), page[1]))
        assert found == [(3, None), (0, None)]


def test_the_ids_of_executions_are_distributed_evenly_over_the_shards() -> None:
    counts = dict.fromkeys("0123", 0)
    for digit in "0123456789abcdef":
        counts[shard_of(digit + "0" * 31)] += 1
    assert set(counts.values()) == {4}


# On the simulated DynamoDB


def put_records(table: Table, count: int, caller: str | None = "ada") -> None:
    for number in range(count):
        execution_id = f"{number:x}{(caller or 'none').encode().hex()[:6]:0<31}"
        table.put(
            record(
                execution_id=execution_id,
                shard=shard_of(execution_id),
                caller=caller,
                source="api" if caller else "events",
                chatbot_id="odd" if number % 2 else "even",
                created_at=to_rfc3339(NOW + number),
                status=Status.COMPLETED if number % 3 == 0 else Status.RUNNING,
            )
        )


def numbers(pages: list[Page]) -> list[int]:
    return [int(one["execution_id"][0], 16) for entries, _ in pages for one in entries]


FILTERS = {
    "none": (ListFilter(), [6, 5, 4, 3, 2, 1, 0]),
    "completed": (ListFilter(status="COMPLETED"), [6, 3, 0]),
    "lost": (ListFilter(status="LOST"), []),
    "chatbot": (ListFilter(chatbot_id="odd"), [5, 3, 1]),
    "chatbot and status": (ListFilter(chatbot_id="odd", status="COMPLETED"), [3]),
    "after": (ListFilter(first=to_rfc3339(NOW + 4)), [6, 5, 4]),
    "before": (ListFilter(last=to_rfc3339(NOW + 2)), [2, 1, 0]),
    "between": (ListFilter(first=to_rfc3339(NOW + 2), last=to_rfc3339(NOW + 4)), [4, 3, 2]),
    "all": (
        ListFilter("RUNNING", "odd", "api", to_rfc3339(NOW + 1), to_rfc3339(NOW + 4)),
        [1],
    ),
    "an empty interval": (ListFilter(first=to_rfc3339(NOW + 4), last=to_rfc3339(NOW + 2)), []),
}


@pytest.mark.parametrize("limit", [1, 3, 100])
@pytest.mark.parametrize(("filters", "expected"), FILTERS.values(), ids=FILTERS)
def test_the_pages_list_all_matching_executions_newest_first(
    table: Table, limit: int, filters: ListFilter, expected: list[int]
) -> None:
    put_records(table, 7)
    lists = table.lists_over(table.client)
    pages = all_pages(partial(lists.of_caller, "ada", filters, limit))
    assert numbers(pages) == expected
    pages = all_pages(partial(lists.of_all, filters, limit))
    assert numbers(pages) == expected


def test_the_list_of_all_has_the_executions_of_every_caller_and_trigger(table: Table) -> None:
    for caller in ("ada", "bob", None):
        put_records(table, 3, caller)
    lists = table.lists_over(table.client)
    entries, _ = lists.of_all(ListFilter(), 100, None)
    assert [one.get("caller") for one in entries].count(None) == 3
    assert len(entries) == 9
    assert len(lists.of_caller("ada", ListFilter(), 100, None)[0]) == 3


def test_an_entry_has_only_the_summary_attributes(table: Table) -> None:
    table.put(running_record(caller="ada", **final_attributes(final_output_json="{}")))
    fields = {"execution_id", "status", "chatbot_id", "created_at", "finished_at", "source", "caller"}
    for entries, _ in (
        table.lists_over(table.client).of_caller("ada", ListFilter(), 1, None),
        table.lists_over(table.client).of_all(ListFilter(), 1, None),
    ):
        assert set(entries[0]) == fields


def test_a_record_of_a_version_without_the_index_is_listed_when_it_ends(table: Table) -> None:
    stored = table.put(running_record(shard=None))
    lists = table.lists_over(table.client)
    assert lists.of_all(ListFilter(), 100, None) == ([], None)
    table.records.conclude(stored, final_attributes())
    assert len(lists.of_all(ListFilter(), 100, None)[0]) == 1


@pytest.mark.parametrize("code", ["ThrottlingException", "ProvisionedThroughputExceededException"])
def test_a_failing_table_is_reported_without_the_caller(table: Table, code: str) -> None:
    lists = table.lists_over(FailingClient(table.client, {"query": client_error(code)}))
    with pytest.raises(RecordUnavailableError) as caught:
        lists.of_caller("arn:aws:iam::123456789012:user/ada", ListFilter(), 1, None)
    assert str(caught.value) == f"index by_caller: the table failed: {code}"
    with pytest.raises(RecordUnavailableError):
        lists.of_all(ListFilter(), 1, None)
