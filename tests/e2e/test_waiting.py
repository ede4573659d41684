"""A caller that waits for the outcome on the deployed stack."""

import time

import httpx
import pytest

from local.local_aws.stack_client import StackClient
from tests.support.waiting import until
from waterhook.timestamps import to_epoch_s

pytestmark = pytest.mark.e2e


def test_a_caller_that_waits_gets_the_outcome_shortly_after_the_end_of_the_job(stack: StackClient) -> None:
    def answer_in_time() -> tuple[httpx.Response, float] | None:
        # On a busy machine the table may not answer in time. Then the answer is a 202.
        answer = stack.post("support-chat", {"input_data": {}}, prefer="respond-async, wait=20")
        return (answer, time.time()) if answer.status_code == httpx.codes.OK else None

    answer, answered_at = until(answer_in_time)
    document = answer.json()
    assert document["status"] == "COMPLETED"
    assert document["final_output"] == {"answer": "Waterflai runs chatflows and workflows."}
    assert answer.headers["Preference-Applied"] == "wait=20"
    assert answer.headers["Location"].endswith(f"/v1/executions/{document['execution_id']}")
    delay_s = answered_at - (to_epoch_s(document["completed_at"]) or 0.0)
    print(f"answered {delay_s:.2f} s after the end of the job")
    assert delay_s < 10
    again = stack.get(document["execution_id"], wait="20")
    assert (again.json()["status"], "Retry-After" in again.headers) == ("COMPLETED", False)
