"""The Waterflai API key is only in its secret, also after a rotation. No log contains customer data."""

import uuid
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Any

import pytest

from local.local_aws import aws_resources
from local.local_aws.stack_client import StackClient
from local.webhook_receiver import RESET, status
from local.webhook_receiver.stack_receiver import receiver_for
from tests.e2e.account import aws_client, changed_environment
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
from tests.e2e.webhooks import deliveries, queue_webhooks, shown_webhook
from tests.support.waiting import until
from waterhook.domain.webhook_retries import MAX_ATTEMPTS

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
def key_echoed(stack: StackClient, key: str) -> Iterator[None]:
    """Inside the block, the upstream refuses each start with a message that contains the key."""
    echo = {"on": "start", "kind": "status_code", "code": 422, "detail": f"the key is {key}"}
    stack.waterflai("faults", {"faults": [echo]})
    try:
        yield
    finally:
        stack.waterflai("faults", {"faults": []})


def end_with_each_outcome(
    stack: StackClient, key: str, data: str, webhook_urls: Iterable[str]
) -> dict[str, str]:
    """Run executions with `data` in each field of the customer. Returns the outcome of each by its id.

    They use the URLs of webhooks in turns.
    """
    metadata, urls = {"note": data}, cycle(webhook_urls)

    def submit(chatbot_id: str, simulate: dict[str, Any] | None = None, **more: Any) -> str:
        input_data = {"question": data, "simulate": simulate or {}}
        return stack.submit(chatbot_id, input_data, metadata=metadata, webhook={"url": next(urls)}, **more)

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
    with changed_environment(stack, "StartFunction", {"WATERHOOK_TABLE": "no-such-table"}):
        # A start that cannot read the table is repeated until the deadline.
        ids.append(submit("support-chat", timeout_seconds=6))
        stack.wait_for_notification(ids[-1])
    return {execution_id: stack.wait_for_notification(execution_id)["data"]["status"] for execution_id in ids}


def give_up_delivery(stack: StackClient, execution_ids: Iterable[str]) -> None:
    """Let one of the executions' deliveries use up its attempts, and wait for its message in the dead letters."""
    delivery = until(
        lambda: next(
            (
                delivery
                for execution_id in execution_ids
                for delivery in deliveries(stack).of_execution(execution_id)
                if delivery.attempts and delivery.claim is None and not delivery.status.is_final
            ),
            None,
        )
    )
    stack.dynamodb.update_item(
        TableName=stack.outputs.webhook_table_name,
        Key={
            "pk": {"S": delivery.execution_id},
            "sk": {"S": delivery.event_id.removeprefix(f"{delivery.execution_id}/")},
        },
        UpdateExpression="SET attempts = :all, next_at = :past",
        ExpressionAttributeValues={":all": {"N": str(MAX_ATTEMPTS)}, ":past": {"N": "0"}},
    )
    queue_webhooks(stack, [{"execution_id": delivery.execution_id, "event_id": delivery.event_id}])
    until(lambda: shown_webhook(stack, delivery.execution_id)["status"] == "failed")


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
    key, data, token = f"canary-{uuid.uuid4().hex}", f"data-{marker}", f"token-{marker}"
    rotate(strict, key)
    with (
        receiver_for(strict.outputs) as receiver,
        receiver_for(strict.outputs, host="127.0.0.2") as failing,
    ):
        failing.answers.for_path("/in", status(500), RESET)
        target = f"/in?token={token}"
        outcomes = end_with_each_outcome(strict, key, data, [receiver.url_of(target), failing.url_of(target)])
        invalid = {"chatbot_id": "instant", "webhook": {"url": f"https://another.example{target}"}}
        refused = strict.wait_for_end(strict.start_execution(invalid))
        give_up_delivery(strict, outcomes)
        received = receiver.wait_for(len(outcomes) // 2)
    assert set(outcomes.values()) == OUTCOMES
    assert refused["error"] == "Waterhook.Rejected"
    assert all(webhook.verified for webhook in received), [webhook.verification for webhook in received]

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
    # The URL of a webhook may contain a token. It is only where its owner, operators and deliver need it.
    assert places(traces, token).keys() - {"file ministack.log"} == {"history", "record", "answer of the API"}
    assert not any(key in sent.body.decode() + sent.target for sent in received)
    # The search has read the logs, deliveries and dead letters of these executions. A webhook may still wait.
    for place in ("log DeliverLogs", "delivery", "dead letter"):
        assert any(places(traces, execution_id)[place] for execution_id in outcomes)
    assert all(places(traces, execution_id)["log NotifyLogs"] for execution_id in outcomes)
    assert places(traces, "RecordUnavailableError")["log StartLogs"]
    assert not any(place.startswith("log ") for place in data_places)
