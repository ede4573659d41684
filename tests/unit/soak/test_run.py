"""`make soak`: what it asks for is what the simulator can do, and it notices the output of another execution."""

from typing import Any

import pytest

from local.local_aws.servers import SIMULATOR_API_KEY
from local.simulator.chatbots import CHATBOTS, job_script
from local.simulator.executions import FOREIGN_OUTPUT
from tests.soak.run import TROUBLES, Request, leaked_keys, wrong_outputs


def test_every_trouble_is_one_that_the_simulator_knows_and_is_drawn() -> None:
    requests = Request.all(2_000, seed=1)
    assert {request.trouble.name for request in requests} == {trouble.name for trouble in TROUBLES}
    assert len({trouble.name for trouble in TROUBLES}) == len(TROUBLES)
    for request in requests:
        script = job_script(CHATBOTS["support-chat"], request.body["input_data"])
        assert len(script.faults) == len(request.trouble.faults)


@pytest.mark.parametrize(
    ("status", "output", "is_wrong"),
    [
        ("COMPLETED", CHATBOTS["support-chat"].output, False),
        ("COMPLETED", FOREIGN_OUTPUT, True),
        ("COMPLETED", None, True),
        ("UNCERTAIN", None, False),
        ("TIMED_OUT", FOREIGN_OUTPUT, True),
    ],
)
def test_the_output_of_another_execution_is_noticed(status: str, output: Any, *, is_wrong: bool) -> None:
    (request,) = Request.all(1, seed=1)
    assert bool(wrong_outputs(request, status, [{"data": {"final_output": output}}])) == is_wrong


@pytest.mark.parametrize("text", ["a", f"it is {SIMULATOR_API_KEY}"])
def test_the_key_in_a_notification_or_a_record_is_noticed(text: str) -> None:
    (request,) = Request.all(1, seed=1)
    expected = 0 if text == "a" else 2
    assert len(leaked_keys(request, [{"data": {"final_output": text}}], {"error": text})) == expected
