"""The execution service: acceptance, idempotency keys, the executions of a caller, and lists."""

import re
import uuid
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from tests.fakes.aws import FailingClient, Machine, Table, client_error
from tests.fakes.clock import NOW, Clock
from tests.fakes.crashes import CountedClient, Killed, StepCounter
from tests.support.build import build_execution_service
from tests.support.builders import (
    CALLER,
    ID,
    SUCCESS_AND_FAILURE,
    final_attributes,
    record,
    request_dict,
    running_record,
)
from waterhook import aws_config
from waterhook.api.callers import Caller
from waterhook.api.list_query import ListQuery
from waterhook.domain.status import Status
from waterhook.domain.trigger_input import TRIGGERS
from waterhook.errors import ApiError, InvalidRequestError, RecordUnavailableError
from waterhook.storage.execution_record import ExecutionRecord, shard_of
from waterhook.timestamps import to_rfc3339

KEYED = request_dict(idempotency_key="order-7")
ADA = Caller(CALLER)
OPERATOR = Caller("arn:aws:sts::123456789012:assumed-role/ops", is_operator=True)
THROTTLED = client_error("ThrottlingException")


def problem(caught: "pytest.ExceptionInfo[ApiError]") -> tuple[int, str]:
    return caught.value.status, caught.value.detail


def test_an_accepted_request_has_a_record_and_a_state_machine_execution(
    table: Table, machine: Machine
) -> None:
    result = build_execution_service(table, machine).accept(request_dict(metadata={"order": 7}), CALLER)
    assert table.only() == result
    assert (result.status, result.source, result.caller, result.metadata) == (
        Status.ACCEPTED,
        "api",
        CALLER,
        {"order": 7},
    )
    ((name, started_with),) = machine.executions().items()
    assert started_with == {
        "execution_id": result.execution_id,
        "request": request_dict(metadata={"order": 7}),
    }
    assert result.owner_execution_arn == machine.arn.replace(":stateMachine:", ":execution:") + f":{name}"


def test_the_name_of_the_execution_is_valid_for_step_functions(table: Table, machine: Machine) -> None:
    build_execution_service(table, machine, clock=Clock(NOW + 0.9996)).accept(
        request_dict(idempotency_key="a/b c:🙂" + "x" * 190), 'arn:aws:iam::1:user/"<>'
    )
    (name,) = machine.executions()
    assert re.fullmatch(r"[0-9A-Za-z_-]{1,80}", name)


def test_two_requests_without_a_key_are_two_executions(table: Table, machine: Machine) -> None:
    one = build_execution_service(table, machine).accept(request_dict(), CALLER)
    other = build_execution_service(table, machine).accept(request_dict(), CALLER)
    assert one.execution_id != other.execution_id
    assert len(machine.executions()) == 2


def test_the_same_request_with_the_same_key_is_the_same_execution(table: Table, machine: Machine) -> None:
    one = build_execution_service(table, machine).accept(KEYED, CALLER)
    other = build_execution_service(table, machine, clock=Clock(NOW + 50)).accept(KEYED, CALLER)
    assert replace(other, repeated=None) == one
    assert len(machine.executions()) == 1
    assert len(table.all()) == 1


def test_a_repeated_request_may_have_a_different_timeout(table: Table, machine: Machine) -> None:
    one = build_execution_service(table, machine).accept(KEYED, CALLER)
    other = build_execution_service(table, machine, clock=Clock(NOW + 9)).accept(
        KEYED | {"timeout_seconds": 9}, CALLER
    )
    assert replace(other, repeated=None) == one


def test_the_conflict_of_a_key_reveals_nothing_of_the_first_request(table: Table, machine: Machine) -> None:
    build_execution_service(table, machine).accept(KEYED | {"input_data": {"card": "k4711"}}, CALLER)
    with pytest.raises(ApiError) as caught:
        build_execution_service(table, machine).accept(KEYED, CALLER)
    status, detail = problem(caught)
    assert status == 409
    assert "k4711" not in detail
    assert len(machine.executions()) == 1


def test_the_same_key_of_two_callers_is_two_executions(table: Table, machine: Machine) -> None:
    one = build_execution_service(table, machine).accept(KEYED, CALLER)
    other = build_execution_service(table, machine).accept(KEYED | {"input_data": {}}, CALLER + "2")
    assert one.execution_id != other.execution_id


@pytest.mark.parametrize("status", SUCCESS_AND_FAILURE)
def test_a_key_whose_execution_has_ended_starts_no_other_execution(
    table: Table, machine: Machine, status: Status
) -> None:
    first = build_execution_service(table, machine).accept(KEYED, CALLER)
    table.records.conclude(first, final_attributes(status))
    again = build_execution_service(table, machine, clock=Clock(NOW + 100)).accept(KEYED, CALLER)
    assert (again.execution_id, again.status) == (first.execution_id, status)
    assert len(machine.executions()) == 1


@pytest.mark.parametrize(
    "stored",
    [running_record(), running_record(**final_attributes(Status.REJECTED), waterflai_execution_id=None)],
    ids=["under way", "ended before it began"],
)
def test_a_key_whose_execution_has_started_does_not_call_step_functions(
    table: Table, machine: Machine, stored: ExecutionRecord
) -> None:
    """Step Functions accepts a name again after 90 days and would start a second execution."""
    first = build_execution_service(table, machine).accept(KEYED, CALLER)
    table.put(replace(stored, execution_id=first.execution_id, caller=CALLER))
    refusing = FailingClient(machine.client, {"start_execution": AssertionError("started again")})
    again = build_execution_service(table, machine, states=refusing).accept(KEYED, CALLER)
    assert (again.execution_id, again.status) == (first.execution_id, stored.status)


def test_a_key_can_be_used_again_once_its_record_has_expired(table: Table, machine: Machine) -> None:
    first = build_execution_service(table, machine).accept(KEYED, CALLER)
    table.records.conclude(first, final_attributes(expires_at=int(NOW) + 100))
    later = build_execution_service(table, machine, clock=Clock(NOW + 200)).accept(
        KEYED | {"input_data": {"n": 2}}, CALLER
    )
    assert later.execution_id == first.execution_id
    assert later.owner_execution_arn != first.owner_execution_arn
    assert len(machine.executions()) == 2


@pytest.mark.parametrize("raw", [None, request_dict(input_data=[])])
def test_an_invalid_request_creates_neither_record_nor_execution(
    table: Table, machine: Machine, raw: object
) -> None:
    with pytest.raises(InvalidRequestError):
        build_execution_service(table, machine).accept(raw, CALLER)
    assert (table.all(), machine.executions()) == ([], {})


# Faults of Step Functions


@pytest.mark.parametrize(
    "code",
    ["ThrottlingException", "AccessDeniedException"],
)
def test_the_record_of_an_execution_that_step_functions_refused_is_deleted(
    table: Table, machine: Machine, code: str
) -> None:
    refusing = FailingClient(machine.client, {"start_execution": client_error(code)})
    with pytest.raises(ApiError) as caught:
        build_execution_service(table, machine, states=refusing).accept(KEYED, CALLER)
    assert problem(caught)[0] == 503
    assert table.all() == []


def test_a_throttled_start_execution_is_repeated(table: Table, machine: Machine) -> None:
    class Throttling:
        def __init__(self) -> None:
            self.refusals = 2

        def start_execution(self, **arguments: Any) -> Any:
            self.refusals -= 1
            if self.refusals >= 0:
                raise THROTTLED
            return machine.client.start_execution(**arguments)

    result = build_execution_service(table, machine, states=Throttling()).accept(KEYED, CALLER)
    assert table.only() == result
    assert len(machine.executions()) == 1


@pytest.mark.parametrize("fault", [THROTTLED, ReadTimeoutError(endpoint_url="https://states.test")])
def test_a_start_execution_that_always_fails_is_given_up_before_the_timeout_of_api_gateway(
    table: Table, machine: Machine, fault: Exception
) -> None:
    clock = Clock()
    longest_s = aws_config.longest_call_s(aws_config.ONE_ATTEMPT)

    class Hanging:
        def start_execution(self, **_: object) -> None:
            clock.advance(longest_s)
            raise fault

    with pytest.raises(ApiError):
        build_execution_service(table, machine, states=Hanging(), clock=clock).accept(KEYED, CALLER)
    # The three calls of the table before it may take their longest too.
    assert clock.now - NOW + 3 * aws_config.longest_call_s() <= 28


def test_a_denied_start_execution_is_not_repeated(table: Table, machine: Machine) -> None:
    clock = Clock()
    denying = FailingClient(machine.client, {"start_execution": client_error("AccessDeniedException")})
    with pytest.raises(ApiError):
        build_execution_service(table, machine, states=denying, clock=clock).accept(KEYED, CALLER)
    assert clock.now == NOW


def test_a_request_repeated_after_a_refusal_is_started(table: Table, machine: Machine) -> None:
    refusing = FailingClient(machine.client, {"start_execution": THROTTLED})
    with pytest.raises(ApiError):
        build_execution_service(table, machine, states=refusing).accept(KEYED, CALLER)
    result = build_execution_service(table, machine, clock=Clock(NOW + 5)).accept(KEYED, CALLER)
    assert table.only() == result
    assert len(machine.executions()) == 1


@pytest.mark.parametrize(
    "fault",
    [
        ReadTimeoutError(endpoint_url="https://states.test"),
        client_error("InternalFailure", 500),
    ],
    ids=["read timeout", "500"],
)
@pytest.mark.parametrize("started", [True, False])
def test_a_request_repeated_after_a_lost_answer_is_one_execution(
    table: Table, machine: Machine, fault: Exception, *, started: bool
) -> None:
    """The execution may have been started, so its record stays."""
    states = FailingClient(machine.client, {"start_execution": fault}, after=started)
    with pytest.raises(ApiError) as caught:
        build_execution_service(table, machine, states=states).accept(KEYED, CALLER)
    assert problem(caught)[0] == 503
    result = build_execution_service(table, machine, clock=Clock(NOW + 5)).accept(KEYED, CALLER)
    assert table.only() == result
    (name,) = machine.executions()
    assert result.owner_execution_arn.endswith(f":{name}")


def test_an_execution_that_exists_already_is_accepted(table: Table, machine: Machine) -> None:
    exists = FailingClient(machine.client, {"start_execution": client_error("ExecutionAlreadyExists")})
    result = build_execution_service(table, machine, states=exists).accept(KEYED, CALLER)
    assert table.only() == result


def test_the_record_of_a_refused_request_is_not_deleted_once_it_is_starting(
    table: Table, machine: Machine
) -> None:
    class Late:
        def start_execution(self, **_: object) -> None:
            # The same request came twice, and the execution of the other one has started.
            if table.only().status is Status.ACCEPTED:
                table.records.begin_start(table.only())
            raise THROTTLED

    with pytest.raises(ApiError):
        build_execution_service(table, machine, states=Late()).accept(KEYED, CALLER)
    assert table.only().status is Status.STARTING


def test_a_refused_request_whose_record_cannot_be_deleted_is_503(table: Table, machine: Machine) -> None:
    states = FailingClient(machine.client, {"start_execution": THROTTLED})
    client = FailingClient(table.client, {"delete_item": THROTTLED})
    with pytest.raises(ApiError) as caught:
        build_execution_service(table, machine, states=states, client=client).accept(KEYED, CALLER)
    assert problem(caught)[0] == 503
    # The record stays, and the same key starts its execution.
    build_execution_service(table, machine, clock=Clock(NOW + 5)).accept(KEYED, CALLER)
    assert len(machine.executions()) == 1


def test_a_request_that_is_killed_at_any_step_and_repeated_is_one_execution(
    table: Table, machine: Machine
) -> None:
    def accept(counter: StepCounter, key: str, now: float) -> ExecutionRecord:
        client, states = CountedClient(table.client, counter), CountedClient(machine.client, counter)
        return build_execution_service(table, machine, client=client, states=states, clock=Clock(now)).accept(
            KEYED | {"idempotency_key": key}, CALLER
        )

    rehearsal = StepCounter()
    accept(rehearsal, "rehearsal", NOW)
    assert rehearsal.steps.count("before start_execution") == 1
    for at, _ in enumerate(rehearsal.steps):
        before = set(machine.executions())
        with pytest.raises(Killed):
            accept(StepCounter(kill_at=at), f"key-{at}", NOW)
        result = accept(StepCounter(), f"key-{at}", NOW + 30)
        (name,) = set(machine.executions()) - before
        assert table.get(result.execution_id).owner_execution_arn.endswith(f":{name}")


def test_a_table_that_fails_starts_nothing(table: Table, machine: Machine) -> None:
    client = FailingClient(table.client, {"put_item": THROTTLED})
    with pytest.raises(RecordUnavailableError):
        build_execution_service(table, machine, client=client).accept(KEYED, CALLER)
    assert machine.executions() == {}


def test_a_record_that_is_deleted_between_write_and_read_is_503(table: Table, machine: Machine) -> None:
    client = FailingClient(table.client, {"put_item": client_error("ConditionalCheckFailedException")})
    with pytest.raises(ApiError) as caught:
        build_execution_service(table, machine, client=client).accept(KEYED, CALLER)
    assert problem(caught)[0] == 503
    assert machine.executions() == {}


# Find


def test_a_caller_finds_its_own_execution(table: Table, machine: Machine) -> None:
    mine = table.put(record(caller=CALLER))
    assert build_execution_service(table, machine).find(ID, Caller(CALLER)) == mine


@pytest.mark.parametrize(
    ("caller", "execution_id"),
    [
        ("another caller", ID),
        ("", ID),
        (CALLER, "f" * 32),
        (CALLER, ""),
        (CALLER, "x" * 5000),
        (CALLER, "\ud800"),
        (CALLER, "../" + ID),
    ],
)
def test_an_execution_of_another_caller_is_not_found(
    table: Table, machine: Machine, caller: str, execution_id: str
) -> None:
    table.put(record(caller=CALLER))
    with pytest.raises(ApiError) as caught:
        build_execution_service(table, machine).find(execution_id, Caller(caller))
    status, detail = problem(caught)
    assert status == 404
    assert len(detail) <= 200


def test_an_execution_from_another_trigger_is_not_found_by_the_api(table: Table, machine: Machine) -> None:
    table.put(record(caller=None))
    for caller in ("", "None", CALLER):
        with pytest.raises(ApiError):
            build_execution_service(table, machine).find(ID, Caller(caller))


def test_an_expired_record_is_not_found(table: Table, machine: Machine) -> None:
    table.put(record(caller=CALLER, expires_at=int(NOW) - 1))
    with pytest.raises(ApiError):
        build_execution_service(table, machine).find(ID, Caller(CALLER))


@pytest.mark.parametrize(("age_s", "seconds"), [(0, 4), (100, 8), (3000, 60), (3599, 1), (4000, 1)])
def test_a_running_execution_has_a_retry_after(
    table: Table, machine: Machine, age_s: int, seconds: int
) -> None:
    assert (
        build_execution_service(table, machine, clock=Clock(NOW + age_s)).retry_after_s(running_record())
        == seconds
    )


def test_a_finished_execution_has_no_retry_after(table: Table, machine: Machine) -> None:
    ended = running_record(status=Status.COMPLETED)
    assert build_execution_service(table, machine).retry_after_s(ended) is None


def test_following_does_not_shorten_the_retry_after(table: Table, machine: Machine) -> None:
    following = build_execution_service(table, machine, clock=Clock(NOW + 100), follow_concurrency=50)
    polling = build_execution_service(table, machine, clock=Clock(NOW + 100))
    assert following.retry_after_s(running_record()) == polling.retry_after_s(running_record())


# Lists


def put_many(table: Table, count: int, caller: str | None = CALLER, **changes: Any) -> None:
    for number in range(count):
        name = uuid.uuid5(uuid.NAMESPACE_OID, f"{caller}{number}").hex
        created_at = to_rfc3339(NOW + number)
        stored = record(execution_id=name, caller=caller, created_at=created_at, shard=shard_of(name))
        table.put(replace(stored, **({"source": "api" if caller else "events"} | changes)))


def page(table: Table, machine: Machine, sender: Caller = ADA, **parameters: str) -> dict[str, Any]:
    return build_execution_service(table, machine).page(ListQuery.read(parameters, sender), sender)


def test_a_cursor_leads_through_all_pages(table: Table, machine: Machine) -> None:
    put_many(table, 5)
    first = page(table, machine, limit="2")
    second = page(table, machine, limit="2", next=first["next"])
    third = page(table, machine, limit="2", next=second["next"])
    times = [entry["created_at"] for result in (first, second, third) for entry in result["executions"]]
    assert times == [to_rfc3339(NOW + number) for number in (4, 3, 2, 1, 0)]
    assert third["next"] is None


def test_the_cursor_of_another_caller_returns_none_of_its_executions(table: Table, machine: Machine) -> None:
    put_many(table, 5, caller="bob")
    for owner in (Caller("bob"), OPERATOR):
        cursor = page(table, machine, owner, limit="2")["next"]
        assert page(table, machine, next=cursor) == {"executions": [], "next": None}


def test_an_entry_shows_its_trigger_and_only_an_operator_sees_its_caller(
    table: Table, machine: Machine
) -> None:
    put_many(table, 1)
    put_many(table, 1, caller=None)
    (own,) = page(table, machine)["executions"]
    assert set(own) == {"execution_id", "status", "chatbot_id", "trigger", "created_at"}
    seen = {entry["trigger"]: entry["caller"] for entry in page(table, machine, OPERATOR)["executions"]}
    assert seen == {"api": CALLER, "eventbridge": None}
    assert own["trigger"] == "api"


def test_an_operator_lists_its_own_executions_or_those_of_a_caller(table: Table, machine: Machine) -> None:
    for caller, count in (("bob", 2), (OPERATOR.identity, 1), (None, 3)):
        put_many(table, count, caller=caller)
    counts = {
        caller: len(page(table, machine, OPERATOR, caller=caller)["executions"])
        for caller in ("bob", "me", "carl")
    }
    assert counts == {"bob": 2, "me": 1, "carl": 0}
    assert len(page(table, machine, OPERATOR)["executions"]) == 6
    (mine,) = page(table, machine, OPERATOR, caller="me")["executions"]
    assert mine["caller"] == OPERATOR.identity


@pytest.mark.parametrize("trigger", ["api", "eventbridge", "schedule", "state_machine"])
def test_a_caller_has_only_executions_from_the_api(table: Table, machine: Machine, trigger: str) -> None:
    put_many(table, 2)
    put_many(table, 2, caller=None)
    listed = page(table, machine, trigger=trigger)
    assert (len(listed["executions"]), listed["next"]) == (2 if trigger == "api" else 0, None)


def test_an_operator_lists_the_executions_of_one_trigger(table: Table, machine: Machine) -> None:
    for source, name in TRIGGERS.items():
        put_many(table, 1, caller=name, source=source)
    for name in TRIGGERS.values():
        (entry,) = page(table, machine, OPERATOR, trigger=name)["executions"]
        assert entry["trigger"] == name


# Operators


@pytest.mark.parametrize("source", TRIGGERS)
def test_an_operator_reads_an_execution_of_every_trigger(table: Table, machine: Machine, source: str) -> None:
    caller = "another caller" if source == "api" else None
    stored = table.put(record(source=source, caller=caller))
    assert build_execution_service(table, machine).find(ID, OPERATOR) == stored


def test_an_id_that_no_execution_has_is_404_for_an_operator(table: Table, machine: Machine) -> None:
    with pytest.raises(ApiError) as caught:
        build_execution_service(table, machine).find(ID, OPERATOR)
    assert problem(caught) == (404, f"execution_id: there is no execution {ID}; it may have expired")


def test_an_operator_and_a_caller_with_the_same_key_are_two_executions(
    table: Table, machine: Machine
) -> None:
    service = build_execution_service(table, machine)
    ids = {service.accept(KEYED, caller.identity).execution_id for caller in (ADA, OPERATOR)}
    assert len(ids) == 2
