"""Deletion of the record of a refused request: only if no other request with the same key was accepted."""

from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from tests.fakes.aws import Machine, Table, client_error
from tests.support.build import build_execution_service
from tests.support.builders import CALLER, request_dict
from waterhook.domain.status import Status
from waterhook.errors import ApiError

KEYED = request_dict(idempotency_key="order-7")


def test_a_refused_request_does_not_delete_a_record_that_a_repeated_request_uses(
    table: Table, machine: Machine
) -> None:
    class Slow:
        def start_execution(self, **_: object) -> None:
            # The same request comes again meanwhile, and its execution is started.
            build_execution_service(table, machine).accept(KEYED, CALLER)
            raise client_error("ThrottlingException")

    with pytest.raises(ApiError):
        build_execution_service(table, machine, states=Slow()).accept(KEYED, CALLER)
    (name,) = machine.executions()
    assert table.only().owner_execution_arn.endswith(f":{name}")


def test_a_refusal_after_a_lost_answer_deletes_nothing(table: Table, machine: Machine) -> None:
    """The earlier attempt may have started the execution."""

    class Losing:
        def __init__(self) -> None:
            self.faults: list[Exception] = [
                ReadTimeoutError(endpoint_url="x"),
                *[client_error("ThrottlingException")] * 5,
            ]

        def start_execution(self, **_: object) -> None:
            raise self.faults.pop(0)

    states = Losing()
    with pytest.raises(ApiError):
        build_execution_service(table, machine, states=states).accept(KEYED, CALLER)
    assert len(states.faults) < 5
    assert table.only().status is Status.ACCEPTED


@pytest.mark.parametrize("withdrawn", [True, False])
def test_the_record_of_a_repeated_request_is_read_again_after_a_change(
    table: Table, machine: Machine, *, withdrawn: bool
) -> None:
    """If the record was deleted, the request was not accepted: 503. If it is starting, the request was."""
    first = build_execution_service(table, machine).accept(KEYED, CALLER)

    class Overtaken:
        def __getattr__(self, name: str) -> Any:
            return getattr(table.client, name)

        def update_item(self, **arguments: Any) -> Any:
            if withdrawn:
                table.delete(first)
            else:
                table.records.begin_start(first)
            return table.client.update_item(**arguments)

    again = build_execution_service(table, machine, client=Overtaken())
    if withdrawn:
        with pytest.raises(ApiError) as caught:
            again.accept(KEYED, CALLER)
        assert caught.value.status == 503
    else:
        assert again.accept(KEYED, CALLER).status is Status.STARTING
