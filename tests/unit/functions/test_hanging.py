"""Each function with an AWS service that accepts connections and never answers: its result and its duration.

The test uses the timeouts of the product, so a row takes seconds. Several rows run at the same time, each in a forked
process with its own copy of the simulated AWS.
"""

import gc
import json
import multiprocessing
import socket
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Semaphore
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from functions.api import app as api
from functions.cancel import app as cancel
from functions.deliver import app as deliver
from functions.follow import app as follow
from functions.notify import app as notify
from functions.poll import app as poll
from functions.reconcile import app as reconcile
from functions.start import app as start
from tests.contract import markdown, template
from tests.fakes.aws import Machine, Queue, Secret, Table, WebhookTable
from tests.fakes.clock import NOW
from tests.fakes.lambda_context import Context
from tests.fakes.scripted_server import ScriptedServer, Step, reply, sse
from tests.support.builders import (
    CALLER,
    ID,
    OWNER,
    STARTED_AT,
    UPSTREAM_ID,
    final_record,
    request_dict,
    running_record,
    running_state,
)
from tests.support.invoke import Invoke
from waterhook.domain.loop_state import LoopState
from waterhook.domain.poll_history import PollHistory
from waterhook.domain.status import Status
from waterhook.domain.webhook import EVENTS, Webhook
from waterhook.domain.webhook_delivery import Delivery, DeliveryStatus
from waterhook.errors import DependencyUnavailableError
from waterhook.notifications import notification_events
from waterhook.steps import state_machine_executions, sweep
from waterhook.timestamps import to_rfc3339

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

FAR = 9_000_000_000
LARGE = {"status": "COMPLETED", "final_output": "x" * 40_000}
WEBHOOK = Webhook("https://127.0.0.1/", EVENTS)
WITH_BUS = {"WATERHOOK_RESULT_EVENT_BUS": "results"}
TO_BUS = ("sns", "dynamodb", "eventbridge")
# botocore repeats a call once.
ATTEMPTS = 2
RUNNING = reply(200, {"status": "RUNNING", "progress": 50.0})
# Service names in botocore's events.
SERVICES = {
    "table": "dynamodb",
    "topic": "sns",
    "queue": "sqs",
    "event bus": "eventbridge",
    "bucket": "s3",
    "secret": "secrets-manager",
    "Step Functions": "sfn",
}


class Short(Context):
    """A context with little time left, so that a follow ends after one slow poll."""

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 42_000


class Scene:
    """A function in a simulated AWS of which one service may stop answering."""

    def __init__(
        self,
        invoke: Invoke,
        table: Table,
        machine: Machine,
        hole: socket.socket,
        webhooks: WebhookTable,
        queue: Queue,
        keys: Secret,
    ) -> None:
        self.table, self.machine, self.webhooks, self.queue, self.keys = table, machine, webhooks, queue, keys
        self.attempts = 0
        self._invoke = invoke
        self._hanging: set[str] = set()
        self._hole = hole
        session: Any = boto3.DEFAULT_SESSION
        session.events.register("request-created", self._redirect)

    def hang(self, dependency: str) -> None:
        self._hanging.add(SERVICES[dependency])

    def hang_after(self, operation: str, dependency: str) -> None:
        """Let a service hang after the first call of an operation, such as `dynamodb.GetItem`."""
        session: Any = boto3.DEFAULT_SESSION
        session.events.register(f"after-call.{operation}", lambda **_: self.hang(dependency))

    def _redirect(self, request: Any, event_name: str, **_: Any) -> None:
        if event_name.split(".")[1] in self._hanging:
            self.attempts += 1
            request.url = f"http://127.0.0.1:{self._hole.getsockname()[1]}/"

    def call(self, app: Any, event: dict[str, Any], *steps: Step, **kwargs: Any) -> Any:
        """Return the result of the handler, or the name of the exception that it raises."""
        with ScriptedServer(list(steps) or [RUNNING], streams=kwargs.pop("streams", None)) as server:
            try:
                return self._invoke(app, event, WATERFLAI_BASE_URL=server.url, **kwargs)
            except DependencyUnavailableError:
                return "DependencyUnavailableError"
            except Exception as error:  # noqa: BLE001 - rows expect the name of the exception
                return type(error).__name__

    def step(self, app: Any, state: LoopState, *steps: Step, **kwargs: Any) -> Any:
        event = {"state": state.to_dict(), "execution": {"arn": OWNER, "started_at": STARTED_AT}}
        return self.call(app, event, *steps, **kwargs)

    def http(
        self, method: str, resource: str, id_: str, *steps: Step, body: object = None, **kwargs: Any
    ) -> tuple[int, str]:
        path = resource.replace("{id}", id_)
        headers, query = kwargs.pop("headers", {}), kwargs.pop("query", None)
        event = {
            "resource": resource,
            "path": path,
            "pathParameters": {"id": id_},
            "httpMethod": method,
            "headers": headers,
            "queryStringParameters": query,
            "requestContext": {
                "path": f"/live{path}",
                "domainName": "api.test",
                "identity": {"userArn": CALLER},
            },
            "body": None if body is None else json.dumps(body),
            "isBase64Encoded": False,
        }
        answer = self.call(api, event, *steps, **kwargs)
        return answer["statusCode"], json.loads(answer["body"]).get("detail", "")

    def with_webhooks(self) -> dict[str, str]:
        """Return the environment variables that switch webhooks on."""
        return {
            "WATERHOOK_WEBHOOK_ALLOWED_HOSTS": "127.0.0.1",
            "WATERHOOK_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
            "WATERHOOK_WEBHOOK_QUEUE_URL": self.queue.url,
            "WATERHOOK_WEBHOOK_DEAD_LETTER_QUEUE_URL": self.queue.url,
            "WATERHOOK_WEBHOOK_TABLE": self.webhooks.name,
            "WATERHOOK_WEBHOOK_SECRET_ARN": self.keys.arn,
            "WATERHOOK_WEBHOOK_CA_BUNDLE_ARN": "",
            "WATERHOOK_WEBHOOK_CONCURRENCY": "10",
        }

    def deliver(self, on_connection: Callable[[], object] = lambda: None) -> tuple[Any, Delivery | None]:
        """Deliver an outcome to a receiver that closes each connection. Return the result and the delivery."""
        receiver = socket.create_server(("127.0.0.1", 0))

        def close_connections() -> None:
            while True:
                connection, _ = receiver.accept()
                on_connection()
                connection.close()

        threading.Thread(target=close_connections, daemon=True).start()
        webhook = Webhook(f"https://127.0.0.1:{receiver.getsockname()[1]}/")
        record = final_record(webhook=webhook, notified_at=to_rfc3339(NOW), expires_at=FAR)
        self.table.put(record)
        event_id = notification_events.event_id(record)
        body = json.dumps({"execution_id": ID, "event_id": event_id})
        result = self.call(deliver, {"Records": [{"messageId": "m", "body": body}]}, **self.with_webhooks())
        return result, self.webhooks.deliveries.get(ID, event_id)


def young(**changes: Any) -> LoopState:
    now = time.time()
    return running_state(deadline=now + 3600, history=PollHistory(now), **changes)


def is_retried_later(result: Any) -> bool:
    """Return whether the step is repeated after a wait."""
    return bool(
        result["next"] in {"wait", "start"} and result["wait_seconds"] and result["outcome"] == "RUNNING"
    )


# One function for each kind of row. It returns whether the result is that of the table in docs/internals.md.


def start_before_the_post(scene: Scene, dependency: str) -> bool:
    scene.hang(dependency)
    event = {"input": request_dict(), "execution": {"arn": OWNER, "started_at": to_rfc3339(time.time())}}
    return is_retried_later(scene.call(start, event))


def start_after_the_post(scene: Scene, dependency: str) -> bool:
    def accepted(connection: socket.socket) -> None:
        scene.hang(dependency)
        reply(202, {"execution_id": UPSTREAM_ID})(connection)

    event = {"input": request_dict(), "execution": {"arn": OWNER, "started_at": STARTED_AT}}
    state = scene.call(start, event, accepted)
    return bool(
        state["unsaved"] and state["outcome"] == "RUNNING" and state["waterflai_execution_id"] == UPSTREAM_ID
    )


def poll_once(scene: Scene, dependency: str) -> bool:
    scene.hang(dependency)
    return is_retried_later(scene.step(poll, young()))


def poll_with_an_unsaved_id(scene: Scene, dependency: str) -> bool:
    scene.table.put(running_record(expires_at=FAR))
    scene.hang(dependency)
    state = scene.step(poll, young(unsaved=True))
    return bool(state["unsaved"] and state["next"] == "wait" and state["outcome"] == "RUNNING")


def poll_a_completed_job(scene: Scene, dependency: str) -> bool:
    scene.hang(dependency)
    state = scene.step(poll, young(), reply(200, LARGE))
    return bool(state["outcome"] == "RUNNING" and state["next"] == "wait")


def poll_with_progress(scene: Scene, dependency: str) -> bool:
    scene.table.put(running_record(expires_at=FAR, progress_events=True, deliver_to=TO_BUS))
    scene.hang(dependency)
    state = scene.step(poll, young(progress_events=True), **WITH_BUS if dependency == "event bus" else {})
    return bool(
        state["outcome"] == "RUNNING" and state["next"] == "wait" and not state["history"].get("errors")
    )


def poll_with_progress_of_a_webhook(scene: Scene, dependency: str) -> bool:
    scene.table.put(running_record(expires_at=FAR, webhook=WEBHOOK))
    scene.hang(dependency)
    state = scene.step(poll, young(progress_events=True), **scene.with_webhooks())
    return bool(
        state["outcome"] == "RUNNING" and state["next"] == "wait" and not state["history"].get("errors")
    )


def follow_once(scene: Scene, dependency: str) -> bool:
    scene.hang(dependency)
    return is_retried_later(
        scene.step(follow, young(), WATERHOOK_FOLLOW_CONCURRENCY="50", WATERHOOK_FOLLOW_S="30")
    )


def follow_a_completed_job(scene: Scene, dependency: str) -> bool:
    scene.hang(dependency)
    stream = sse({"type": "execution_completed"})
    kwargs = {"WATERHOOK_FOLLOW_CONCURRENCY": "50", "WATERHOOK_FOLLOW_S": "30"}
    state = scene.step(follow, young(), reply(200, LARGE), streams=[stream], **kwargs)
    return bool(state["outcome"] == "RUNNING" and state["next"] in {"wait", "follow"})


def follow_with_progress(scene: Scene, dependency: str) -> bool:
    scene.table.put(running_record(expires_at=FAR, progress_events=True, deliver_to=TO_BUS))
    scene.hang(dependency)
    nodes = [{"type": "node_started", "node_id": node, "progress": 10.0} for node in "abc"]

    def slowly(connection: socket.socket) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
        connection.sendall(head)
        for node in nodes:
            connection.sendall(f"data: {json.dumps(node)}\n\n".encode())
            time.sleep(1.2)
        over.set()
        connection.sendall(b'data: {"type": "execution_completed"}\n\n')

    def document(connection: socket.socket) -> None:
        body = {"status": "COMPLETED", "final_output": {"n": 1}} if over.is_set() else {"status": "RUNNING"}
        reply(200, body)(connection)

    over = threading.Event()
    kwargs = {"WATERHOOK_FOLLOW_CONCURRENCY": "50", "WATERHOOK_FOLLOW_S": "30"}
    kwargs |= WITH_BUS if dependency == "event bus" else {}
    state = scene.step(follow, young(progress_events=True), document, streams=[slowly], **kwargs)
    return bool(state["outcome"] == "COMPLETED" and scene.attempts == ATTEMPTS)


def cancel_once(scene: Scene, dependency: str) -> bool:
    scene.hang(dependency)
    return is_retried_later(scene.step(cancel, young(), reply(200, {"cancelled": True})))


def cancel_a_completed_job(scene: Scene, dependency: str) -> bool:
    scene.hang(dependency)
    state = scene.step(cancel, young(), reply(200, {"cancelled": False}), reply(200, LARGE))
    return bool(state["outcome"] == "RUNNING" and state["next"] == "wait")


def notify_once(scene: Scene, dependency: str) -> bool:
    scene.table.put(running_record(expires_at=FAR))
    scene.hang(dependency)
    result = scene.step(notify, young().ended(Status.COMPLETED, final_output_json="{}"))
    return result in ("DependencyUnavailableError", "ReadTimeoutError")


def notify_with_a_webhook(scene: Scene, dependency: str) -> bool:
    scene.table.put(running_record(expires_at=FAR, webhook=WEBHOOK))
    scene.hang(dependency)
    state = young().ended(Status.COMPLETED, final_output_json="{}")
    result = scene.step(notify, state, **scene.with_webhooks())
    record = scene.table.get(ID)
    return result == "ReadTimeoutError" and (record.published_to, record.notified_at) == (("sns",), None)


def notify_with_the_bus(scene: Scene, dependency: str) -> bool:
    scene.table.put(running_record(expires_at=FAR, deliver_to=TO_BUS))
    scene.hang(dependency)
    result = scene.step(notify, young().ended(Status.COMPLETED, final_output_json="{}"), **WITH_BUS)
    record = scene.table.get(ID)
    return result == "ReadTimeoutError" and (record.published_to, record.notified_at) == (("sns",), None)


def deliver_once(scene: Scene, dependency: str) -> bool:
    scene.hang(dependency)
    return scene.deliver() == ("DependencyUnavailableError", None)


def deliver_after_a_failed_attempt(scene: Scene, dependency: str) -> bool:
    scene.hang(dependency)
    result, delivery = scene.deliver()
    assert delivery is not None
    return (result, delivery.queued, delivery.claim, delivery.attempts) == ("ReadTimeoutError", True, None, 1)


def deliver_after_an_attempt(scene: Scene, dependency: str) -> bool:
    result, delivery = scene.deliver(on_connection=lambda: scene.hang(dependency))
    assert delivery is not None
    assert delivery.last_error is None
    return (result, delivery.status) == ("DependencyUnavailableError", DeliveryStatus.PENDING)


def deliver_in_a_sweep(scene: Scene, dependency: str) -> bool:
    due = Delivery.new(ID, f"{ID}/1/COMPLETED", host="127.0.0.1", now=NOW, expires_at=FAR)
    scene.webhooks.deliveries.postpone(due, exists=False, next_at=NOW, queued=False)
    scene.hang(dependency)
    result = scene.call(deliver, {"sweep": {}}, **scene.with_webhooks())
    return result in ("DependencyUnavailableError", "ReadTimeoutError")


def reconcile_once(scene: Scene, dependency: str) -> bool:
    client = scene.machine.client
    execution_input = json.dumps({"execution_id": ID, "request": request_dict()})
    arn = client.start_execution(stateMachineArn=scene.machine.arn, name="one", input=execution_input)[
        "executionArn"
    ]
    client.stop_execution(executionArn=arn)
    stored = scene.table.put(
        running_record(owner_execution_arn=arn, deadline=FAR, expires_at=FAR, deliver_to=TO_BUS)
    )
    scene.hang(dependency)
    steps = (
        [reply(200, {"cancelled": False}), reply(200, LARGE)]
        if dependency == "bucket"
        else [reply(200, {"cancelled": True})]
    )
    kwargs = WITH_BUS if dependency == "event bus" else {}
    result = scene.call(reconcile, {"arn": arn, "status": "ABORTED"}, *steps, **kwargs)
    raised = result in ("DependencyUnavailableError", "ReadTimeoutError")
    # With a topic or a bus that hangs the outcome has already been written.
    return raised and (dependency in {"table", "topic", "event bus"} or scene.table.get(ID) == stored)


def sweep_once(scene: Scene, dependency: str) -> bool:
    arn = scene.machine.arn.replace(":stateMachine:", ":execution:") + ":gone"
    scene.table.put(
        running_record(
            owner_execution_arn=arn, deadline=FAR, expires_at=FAR, unfinished="0", created_at=to_rfc3339(NOW)
        )
    )
    scene.hang(dependency)
    result = scene.call(reconcile, {"sweep": {}}, reply(200, {"cancelled": True}))
    if dependency in {"secret", "topic"}:
        return bool(result["failed"] == 1)
    return result in ("DependencyUnavailableError", "ReadTimeoutError")


def api_start(scene: Scene, dependency: str) -> bool:
    scene.hang(dependency)
    status, detail = scene.http("POST", "/v1/executions/{id}/async", "support-chat", body={"input_data": {}})
    return status == 503 and "same Idempotency-Key" in detail


def api_read(scene: Scene, dependency: str) -> bool:
    scene.table.put(running_record(caller=CALLER, expires_at=FAR))
    scene.hang(dependency)
    status, detail = scene.http("GET", "/v1/executions/{id}", ID)
    return status == 200 if dependency == "secret" else status == 503 and "is unavailable" in detail


def api_list_of_all(scene: Scene, dependency: str) -> bool:
    scene.hang(dependency)
    status, detail = scene.http("GET", "/v1/executions", ID, WATERHOOK_OPERATOR_PRINCIPALS=CALLER)
    # The shards hang at the same time, not one after the other.
    return status == 503 and "is unavailable" in detail and scene.attempts > ATTEMPTS


def api_start_and_wait(scene: Scene, dependency: str) -> bool:
    scene.hang_after("sfn.StartExecution", dependency)
    status, _ = scene.http(
        "POST",
        "/v1/executions/{id}/async",
        "support-chat",
        body={"input_data": {}},
        headers={"Prefer": "wait=20"},
    )
    return status == 202


def api_read_and_wait(scene: Scene, dependency: str) -> bool:
    scene.table.put(running_record(caller=CALLER, expires_at=FAR))
    scene.hang_after("dynamodb.GetItem", dependency)
    status, _ = scene.http("GET", "/v1/executions/{id}", ID, query={"wait": "20"})
    return status == 200


def api_cancel(scene: Scene, dependency: str) -> bool:
    scene.table.put(running_record(caller=CALLER, deadline=FAR, expires_at=FAR))
    scene.hang(dependency)
    steps = [reply(200, {"cancelled": dependency != "bucket"}), reply(200, LARGE)]
    status, detail = scene.http("DELETE", "/v1/executions/{id}", ID, *steps)
    return status == 503 and "is unavailable" in detail


def api_cancel_with_a_webhook(scene: Scene, dependency: str) -> bool:
    scene.table.put(running_record(caller=CALLER, deadline=FAR, expires_at=FAR, webhook=WEBHOOK))
    scene.hang(dependency)
    cancelled = reply(200, {"cancelled": True})
    status, _ = scene.http("DELETE", "/v1/executions/{id}", ID, cancelled, **scene.with_webhooks())
    return status == 503 and scene.table.get(ID).published_to == ("sns",)


def api_cancel_with_the_bus(scene: Scene, dependency: str) -> bool:
    scene.table.put(running_record(caller=CALLER, deadline=FAR, expires_at=FAR, deliver_to=TO_BUS))
    scene.hang(dependency)
    status, detail = scene.http(
        "DELETE", "/v1/executions/{id}", ID, reply(200, {"cancelled": True}), **WITH_BUS
    )
    is_published = scene.table.get(ID).published_to == ("sns",)
    return status == 503 and "is unavailable" in detail and is_published


@dataclass(frozen=True)
class Row:
    """A row of the table in docs/internals.md: the function, the service that hangs, and when."""

    function: str
    dependency: str
    when: str
    run: Callable[[Scene, str], bool]

    def __str__(self) -> str:
        return f"{self.function}: {self.dependency} {self.when}".strip()


TABLE = [
    Row("start", "table", "before the POST", start_before_the_post),
    Row("start", "secret", "", start_before_the_post),
    Row("start", "table", "after the POST", start_after_the_post),
    Row("poll", "secret", "", poll_once),
    Row("poll", "table", "with an id that is not saved", poll_with_an_unsaved_id),
    Row("poll", "bucket", "with a completed job", poll_a_completed_job),
    Row("poll", "topic", "with progress", poll_with_progress),
    Row("poll", "table", "with progress", poll_with_progress),
    Row("poll", "queue", "with progress", poll_with_progress_of_a_webhook),
    Row("poll", "event bus", "with progress", poll_with_progress),
    Row("follow", "secret", "", follow_once),
    Row("follow", "bucket", "with a completed job", follow_a_completed_job),
    Row("follow", "topic", "with progress", follow_with_progress),
    Row("follow", "table", "with progress", follow_with_progress),
    Row("follow", "event bus", "with progress", follow_with_progress),
    Row("cancel", "secret", "", cancel_once),
    Row("cancel", "bucket", "with a completed job", cancel_a_completed_job),
    Row("notify", "table", "", notify_once),
    Row("notify", "topic", "", notify_once),
    Row("notify", "queue", "with a webhook", notify_with_a_webhook),
    Row("notify", "event bus", "", notify_with_the_bus),
    Row("deliver", "table", "", deliver_once),
    Row("deliver", "secret", "", deliver_once),
    Row("deliver", "queue", "after a failed attempt", deliver_after_a_failed_attempt),
    Row("deliver", "table", "after an attempt", deliver_after_an_attempt),
    Row("deliver", "table", "in a sweep", deliver_in_a_sweep),
    Row("deliver", "queue", "in a sweep", deliver_in_a_sweep),
    Row("reconcile", "Step Functions", "", reconcile_once),
    Row("reconcile", "table", "", reconcile_once),
    Row("reconcile", "secret", "", reconcile_once),
    Row("reconcile", "bucket", "with a completed job", reconcile_once),
    Row("reconcile", "topic", "", reconcile_once),
    Row("reconcile", "event bus", "", reconcile_once),
    Row("reconcile", "Step Functions", "in a sweep", sweep_once),
    Row("reconcile", "table", "in a sweep", sweep_once),
    Row("reconcile", "secret", "in a sweep", sweep_once),
    Row("reconcile", "topic", "in a sweep", sweep_once),
    Row("api", "table", "at a POST", api_start),
    Row("api", "Step Functions", "at a POST", api_start),
    Row("api", "table", "at a GET", api_read),
    Row("api", "table", "at a list of an operator", api_list_of_all),
    Row("api", "secret", "at a GET", api_read),
    Row("api", "table", "while a POST waits", api_start_and_wait),
    Row("api", "table", "while a GET waits", api_read_and_wait),
    Row("api", "table", "at a DELETE", api_cancel),
    Row("api", "secret", "at a DELETE", api_cancel),
    Row("api", "bucket", "at a DELETE", api_cancel),
    Row("api", "topic", "at a DELETE", api_cancel),
    Row("api", "queue", "at a DELETE", api_cancel_with_a_webhook),
    Row("api", "event bus", "at a DELETE", api_cancel_with_the_bus),
]

# Limit of a row beside Lambda's timeout, because the test lasts at least as long as its slowest row.
LONGEST_S = 25.0
# With more rows on two cores, the time that a row waits for a processor would count as its duration.
SIMULTANEOUS_ROWS = 16


def timeouts_s() -> dict[str, int]:
    """Return the Lambda timeout of each function."""
    resources = template.deployed(**template.WEBHOOKS)
    return {
        name.removesuffix("Function").lower(): resources[name]["Properties"]["Timeout"]
        for name in template.FUNCTIONS
    }


def play(row: Row, make_scene: Callable[[], Scene], places: Semaphore, answer: Connection) -> None:
    """Run a row in this forked process and send its result, its duration and the number of attempts."""
    try:
        with places:
            scene = make_scene()
            began = time.monotonic()
            outcome = row.run(scene, row.dependency)
            answer.send((outcome, time.monotonic() - began, scene.attempts))
    except BaseException:  # noqa: BLE001 - the parent process reports it
        answer.send((traceback.format_exc(), 0.0, 0))


def test_a_function_returns_its_fallback_in_time_while_a_service_hangs(
    invoke: Invoke,
    table: Table,
    machine: Machine,
    webhook_table: WebhookTable,
    queue: Queue,
    secretsmanager: "SecretsManagerClient",
    monkeypatch: pytest.MonkeyPatch,
    subtests: pytest.Subtests,
) -> None:
    monkeypatch.setattr("tests.support.invoke.CONTEXT", Short())
    for module in (sweep, state_machine_executions):
        monkeypatch.setattr(module, "RESERVE_S", 0.0)
    created = secretsmanager.create_secret(Name="signing keys", SecretString='{"key": "k"}')
    keys = Secret(created["ARN"], secretsmanager)
    context = multiprocessing.get_context("fork")
    running = []
    # The kernel accepts the connections; no thread ever reads from them.
    hole = socket.create_server(("127.0.0.1", 0), backlog=1024)
    places = context.Semaphore(SIMULTANEOUS_ROWS)

    # Load the service definitions before the forks. Each process would otherwise spend its measured time on them.
    boto3.setup_default_session()
    for service in ("dynamodb", "sns", "sqs", "s3", "secretsmanager", "stepfunctions", "events"):
        boto3.client(service)

    # A collection in a fork would visit, and thereby copy, all objects of the test run so far.
    gc.collect()
    gc.freeze()

    def scene() -> Scene:
        return Scene(invoke, table, machine, hole, webhook_table, queue, keys)

    for row in TABLE:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=play, args=(row, scene, places, sender), daemon=True)
        with warnings.catch_warnings():
            # The forked processes need no thread of this process.
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        sender.close()
        running.append((row, receiver, process))
    gc.unfreeze()
    limits_s, ends_at = timeouts_s(), time.monotonic() + 120
    for row, receiver, process in running:
        outcome, seconds, attempts = (
            receiver.recv() if receiver.poll(max(ends_at - time.monotonic(), 0.0)) else ("no answer", 0.0, 0)
        )
        process.kill()
        process.join()
        process.close()
        receiver.close()
        with subtests.test(msg=str(row)):
            assert outcome is True, f"{row}: {outcome}, {attempts} attempts"
            assert attempts > 0, "the service was not called"
            assert seconds < min(limits_s[row.function], LONGEST_S)
    hole.close()


def test_the_table_in_the_operations_guide_has_the_same_rows() -> None:
    document = (template.ROOT / "docs" / "internals.md").read_text(encoding="utf-8")
    lines = {(line[0], f"{line[1]} {line[2]}".strip()) for line in markdown.table(document, "Function")}
    assert lines == {(row.function, f"{row.dependency} {row.when}".strip()) for row in TABLE}
