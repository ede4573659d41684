"""The Waterflai API key is only in its secret, also after a rotation. No log contains customer data."""

import uuid
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from local.local_aws import aws_resources
from local.local_aws.stack_client import StackClient
from tests.e2e.account import aws_client, physical_id
from tests.e2e.conftest import home_of
from tests.e2e.executions import (
    LONG_JOB,
    NO_STREAM,
    finish_job,
    is_started,
    job_of,
    owner_arn,
    starts_of,
)
from tests.e2e.traces import Trace, everything
from tests.support.waiting import until

pytestmark = pytest.mark.e2e

ECHO = {"on": "status", "kind": "echo_key"}
# The status fails while the job runs. After the third failure the job is polled from the Wait state.
DOWN = {"on": "status", "kind": "status_code", "code": 503, "when": "running"}
# All except LOST, which takes a minute of 404.
OUTCOMES = {"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT", "REJECTED", "UNCERTAIN", "ERROR"}


def rotate(stack: StackClient, key: str) -> None:
    """Store the key in the secret, then have the upstream accept this key only."""
    secrets = aws_client(stack, "secretsmanager")
    secrets.put_secret_value(SecretId=aws_resources.SECRET_NAME, SecretString=key)
    stack.waterflai("key", {"api_key": key})


def count_401(stack: StackClient, operation: str) -> int:
    """Return how many responses of the upstream were 401."""
    return int(stack.waterflai("requests")["responses"][operation].get("401", 0))


@contextmanager
def broken_start(stack: StackClient) -> Iterator[None]:
    """The start function uses a table that does not exist inside the block, so each start fails."""
    functions, name = aws_client(stack, "lambda"), physical_id(stack, "StartFunction")
    before = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    wrong = {**before, "WATERHOOK_TABLE": "no-such-table"}
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": wrong})
    try:
        yield
    finally:
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": before})


@contextmanager
def key_echoed(stack: StackClient, key: str) -> Iterator[None]:
    """Inside the block, the upstream refuses each start with a message that contains the key."""
    echo = {"on": "start", "kind": "status_code", "code": 422, "detail": f"the key is {key}"}
    stack.waterflai("faults", {"faults": [echo]})
    try:
        yield
    finally:
        stack.waterflai("faults", {"faults": []})


def end_with_each_outcome(stack: StackClient, key: str, data: str) -> dict[str, str]:
    """Run executions with `data` in each field of the customer. Returns the outcome of each by its id."""
    metadata = {"note": data}

    def submit(chatbot_id: str, simulate: dict[str, Any] | None = None, **more: Any) -> str:
        return stack.submit(
            chatbot_id, {"question": data, "simulate": simulate or {}}, metadata=metadata, **more
        )

    ids = [submit("endless", timeout_seconds=12)]
    # It starts first: on a loaded machine, ten cold starts at the same time outlast a short deadline.
    until(lambda: is_started(stack, ids[0]))
    polled = submit("support-chat", {"seconds": 2, "output": {"answer": data}, "faults": [NO_STREAM, ECHO]})
    ids += [polled, submit("instant", {"output": {"answer": data}, "faults": [{**ECHO, "form": "escaped"}]})]
    ids += [submit("always-fails", {"faults": [ECHO]}), submit("no-such-chatbot")]
    large = {"output": {"answer": [data] * 2000}, "faults": [{**ECHO, "form": "base64"}]}
    ids.append(submit("big-output", large))
    ids += [submit("cancelled-upstream"), submit("answer-lost")]
    until(lambda: all(is_started(stack, execution_id) for execution_id in ids))
    with key_echoed(stack, key):
        ids.append(submit("support-chat"))
        stack.wait_for_notification(ids[-1])
    with broken_start(stack):
        # A start that cannot read the table is repeated until the deadline.
        ids.append(submit("support-chat", timeout_seconds=6))
        stack.wait_for_notification(ids[-1])
    return {execution_id: stack.wait_for_notification(execution_id)["data"]["status"] for execution_id in ids}


def places(traces: list[Trace], text: str) -> Counter[str]:
    """Count the traces that contain the text, by place."""
    return Counter(place for place, content in traces if text in content)


def test_a_key_rotated_while_jobs_run_ends_none_of_them(strict: StackClient, marker: str) -> None:
    polled = strict.submit(
        "support-chat", {"marker": marker, "simulate": {**LONG_JOB, "faults": [NO_STREAM, DOWN]}}
    )
    followed = strict.submit("support-chat", {"marker": marker, "simulate": LONG_JOB})
    # Both use the old key: one is polled from the Wait state, the other is followed.
    arn = owner_arn(strict, polled)
    until(lambda: (states := strict.states(arn)).count("Poll") and states[-1] == "Wait")
    until(lambda: job_of(strict, followed)["received"]["stream"])
    before = {operation: count_401(strict, operation) for operation in ("start", "status")}
    rotate(strict, f"rotated-{marker}")
    # The start function has used the old key before.
    later = strict.submit("instant", {"marker": marker})
    for execution_id in (polled, followed):
        finish_job(strict, execution_id)

    for execution_id in (polled, followed, later):
        assert strict.wait_for_notification(execution_id)["data"]["status"] == "COMPLETED"
        assert len(strict.peek(execution_id)) == 1
    assert starts_of(strict, marker) == 3
    # One 401 for each container: poll, follow, perhaps an earlier follow.
    assert 2 <= count_401(strict, "status") - before["status"] <= 3
    assert count_401(strict, "start") == before["start"] + 1


def test_the_key_is_only_in_its_secret_and_customer_data_in_no_log(strict: StackClient, marker: str) -> None:
    key, data = f"canary-{uuid.uuid4().hex}", f"data-{marker}"
    rotate(strict, key)
    outcomes = end_with_each_outcome(strict, key, data)
    assert set(outcomes.values()) == OUTCOMES

    traces = list(everything(strict, home_of("-strict")))
    data_places = places(traces, data)
    characters = sum(len(content) for _, content in traces)
    print(f"\n{len(traces)} traces, {characters} characters; the data is in {dict(data_places)}")
    assert places(traces, key) == {}
    # The key in base64, as a part of `key=…`.
    assert places(traces, b64encode(f"key={key}".encode()).decode()[8:40]) == {}
    # The same search finds the data in each place that docs/security.md lists, so the search works.
    assert data_places.keys() - {"file ministack.log"} == {
        "history",
        "record",
        "notification",
        "object",
        "answer of the API",
    }
    # It has also read the logs of the executions, faults included.
    assert all(places(traces, execution_id)["log NotifyLogs"] for execution_id in outcomes)
    assert places(traces, "RecordUnavailableError")["log StartLogs"]
    assert not any(place.startswith("log ") for place in data_places)
