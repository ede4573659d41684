"""`make soak` uses only faults of the simulator, and detects wrong outputs and leaked keys."""

from typing import Any

import pytest

from local.local_aws.servers import SIMULATOR_API_KEY
from local.simulator.chatbots import CHATBOTS, job_script
from local.simulator.executions import FOREIGN_OUTPUT
from tests.soak.fault_cases import FAULT_CASES
from tests.soak.run import SoakRequest, leaked_keys, wrong_outputs


def test_the_simulator_has_each_fault_and_each_case_is_used() -> None:
    requests = SoakRequest.all(2_000, seed=1)
    assert {request.case.name for request in requests} == {case.name for case in FAULT_CASES}
    assert len({case.name for case in FAULT_CASES}) == len(FAULT_CASES)
    for request in requests:
        script = job_script(CHATBOTS["support-chat"], request.body["input_data"])
        assert len(script.faults) == len(request.case.faults)


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
def test_the_output_of_another_execution_is_detected(status: str, output: Any, *, is_wrong: bool) -> None:
    (request,) = SoakRequest.all(1, seed=1)
    assert bool(wrong_outputs(request, status, [{"data": {"final_output": output}}])) == is_wrong


@pytest.mark.parametrize("text", ["a", f"it is {SIMULATOR_API_KEY}"])
def test_the_key_in_a_notification_or_a_record_is_detected(text: str) -> None:
    (request,) = SoakRequest.all(1, seed=1)
    expected = 0 if text == "a" else 2
    assert len(leaked_keys(request, [{"data": {"final_output": text}}], {"error": text})) == expected
