"""The API key is where it belongs and nowhere else, also when it changes; the customer's data is in no log."""

import uuid
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from local.local_aws import aws_resources
from local.local_aws.stack_client import StackClient
from tests.e2e.account import aws, physical
from tests.e2e.conftest import home_of
from tests.e2e.test_outcomes import starts_of
from tests.e2e.test_triggers import SLOW, finish, started, upstream
from tests.e2e.traces import Trace, everything
from tests.support.waiting import until

pytestmark = pytest.mark.e2e

NO_STREAM = {"on": "stream", "kind": "status_code", "code": 404}
# Whoever polls can't tell from it when the end will be, and goes on asking.
# A status that fails while the job runs: after the third failure the job is polled from the Wait state.
ECHO = {"on": "status", "kind": "echo_key"}
DOWN = {"on": "status", "kind": "status_code", "code": 503, "when": "running"}
# All eight but LOST, which takes a minute of 404.
OUTCOMES = {"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT", "REJECTED", "UNCERTAIN", "ERROR"}


def rotate(stack: StackClient, key: str) -> None:
    """Have the upstream take that key only, as soon as the secret holds it."""
    secrets = aws(stack, "secretsmanager")
    secrets.put_secret_value(SecretId=aws_resources.SECRET_NAME, SecretString=key)
    stack.waterflai("key", {"api_key": key})


def refused(stack: StackClient, operation: str) -> int:
    """How often the upstream has said 401."""
    return int(stack.waterflai("requests")["responses"][operation].get("401", 0))


@contextmanager
def broken_start(stack: StackClient) -> Iterator[None]:
    """Meanwhile each start is a fault of ours: its table is another's."""
    functions, name = aws(stack, "lambda"), physical(stack, "StartFunction")
    before = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    wrong = {**before, "WATERHOOK_TABLE": "no-such-table"}
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": wrong})
    try:
        yield
    finally:
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": before})


@contextmanager
def key_echoed(stack: StackClient, key: str) -> Iterator[None]:
    """Meanwhile the upstream refuses each start and puts the key that it was shown into its answer."""
    echo = {"on": "start", "kind": "status_code", "code": 422, "detail": f"you said {key}"}
    stack.waterflai("faults", {"faults": [echo]})
    try:
        yield
    finally:
        stack.waterflai("faults", {"faults": []})


def ended_in_every_way(stack: StackClient, key: str, data: str) -> dict[str, str]:
    """Executions that carry `data` in every field a customer fills, and the status each has ended with."""
    given: dict[str, Any] = {"metadata": {"note": data}}

    def submit(chatbot_id: str, simulate: dict[str, Any] | None = None, **more: Any) -> str:
        return stack.submit(chatbot_id, {"question": data, "simulate": simulate or {}}, **given, **more)

    ids = [submit("endless", timeout_seconds=12)]
    # Its start comes first: on a busy machine ten cold starts at once outlast a short deadline.
    until(lambda: started(stack, ids[0]))
    polled = submit("support-chat", {"seconds": 2, "output": {"answer": data}, "faults": [NO_STREAM, ECHO]})
    ids += [polled, submit("instant", {"output": {"answer": data}, "faults": [{**ECHO, "form": "escaped"}]})]
    ids += [submit("always-fails", {"faults": [ECHO]}), submit("no-such-chatbot")]
    large = {"output": {"answer": [data] * 2000}, "faults": [{**ECHO, "form": "base64"}]}
    ids.append(submit("big-output", large))
    ids += [submit("cancelled-upstream"), submit("answer-lost")]
    until(lambda: all(started(stack, execution_id) for execution_id in ids))
    with key_echoed(stack, key):
        ids.append(submit("support-chat"))
        stack.wait_for_notification(ids[-1])
    with broken_start(stack):
        # A table that can't be read is waited for until the deadline.
        ids.append(submit("support-chat", timeout_seconds=6))
        stack.wait_for_notification(ids[-1])
    return {execution_id: stack.wait_for_notification(execution_id)["data"]["status"] for execution_id in ids}


def places(traces: list[Trace], text: str) -> Counter[str]:
    return Counter(place for place, said in traces if text in said)


def test_a_key_rotated_while_jobs_run_ends_none_of_them(strict: StackClient, marker: str) -> None:
    polled = strict.submit(
        "support-chat", {"marker": marker, "simulate": {**SLOW, "faults": [NO_STREAM, DOWN]}}
    )
    followed = strict.submit("support-chat", {"marker": marker, "simulate": SLOW})
    # Both have shown the old key: one is polled from the Wait state, the other is followed.
    arn = until(lambda: strict.execution_arn(polled))
    until(lambda: (states := strict.states(arn)).count("Poll") and states[-1] == "Wait")
    until(lambda: upstream(strict, followed)["received"]["stream"])
    before = {operation: refused(strict, operation) for operation in ("start", "status")}
    rotate(strict, f"rotated-{marker}")
    # By a function that has started jobs with the old key.
    later = strict.submit("instant", {"marker": marker})
    for execution_id in (polled, followed):
        finish(strict, execution_id)

    for execution_id in (polled, followed, later):
        assert strict.wait_for_notification(execution_id)["data"]["status"] == "COMPLETED"
        assert len(strict.peek(execution_id)) == 1
    assert starts_of(strict, marker) == 3
    # Each container meets its first 401 once: that of poll, that of the follow, perhaps that of a follow before.
    assert 2 <= refused(strict, "status") - before["status"] <= 3
    assert refused(strict, "start") == before["start"] + 1


def test_the_key_is_in_nothing_that_the_stack_wrote_and_the_customers_data_in_no_log(
    strict: StackClient, marker: str
) -> None:
    key, data = f"canary-{uuid.uuid4().hex}", f"data-{marker}"
    rotate(strict, key)
    endings = ended_in_every_way(strict, key, data)
    assert set(endings.values()) == OUTCOMES

    traces = list(everything(strict, home_of("-strict")))
    kept = places(traces, data)
    print(
        f"\n{len(traces)} texts, {sum(len(text) for _, text in traces)} characters; the data is in {dict(kept)}"
    )
    assert places(traces, key) == {}
    # As it is in the base64 of `key=` and the key, where that begins a group of three bytes after two others.
    assert places(traces, b64encode(f"key={key}".encode()).decode()[8:40]) == {}
    # The same search finds what was put there for it, wherever docs/security.md says, so it is not blind.
    assert kept.keys() - {"file ministack.log"} == {
        "history",
        "record",
        "notification",
        "object",
        "answer of the API",
    }
    # And it has read what the executions said on their way, faults included.
    assert all(places(traces, execution_id)["log NotifyLogs"] for execution_id in endings)
    assert places(traces, "RecordUnavailableError")["log StartLogs"]
    assert not any(place.startswith("log ") for place in kept)
