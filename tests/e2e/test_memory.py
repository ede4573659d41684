"""Peak memory of each function with the largest inputs, compared with its memory size."""

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from local.local_aws import environment, sam
from local.local_aws.files import locked
from local.local_aws.servers import SIMULATOR_API_KEY
from local.local_aws.stack_client import StackClient
from local.webhook_receiver import WebhookReceiver, huge
from tests.e2e.account import aws_client, physical_id
from tests.e2e.webhooks import receiver_at
from tests.fakes.scripted_server import ScriptedServer, Step, reply
from tests.support.waiting import PATIENCE_S
from waterhook.domain.loop_state import LoopState, NextStep
from waterhook.domain.poll_history import PollHistory
from waterhook.domain.request import MAX_METADATA_BYTES, MAX_REQUEST_BYTES, Request, RequestDefaults
from waterhook.domain.status import Status
from waterhook.domain.status_document import MAX_INLINE_BYTES, MAX_OUTPUT_BYTES, MAX_SHORT_STATUS_BYTES
from waterhook.domain.webhook import Webhook
from waterhook.notifications import notification_events
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.timestamps import to_rfc3339
from waterhook.upstream.sse import MAX_EVENT_BYTES, MAX_LINE_BYTES

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the high-water mark from /proc"),
]

MAX_SHARE = 0.7
ONE_CALL = Path(__file__).with_name("one_call.py")
DEFAULTS = RequestDefaults(timeout_s=3600, deliver_to=("sns", "dynamodb", "eventbridge"), has_result_bus=True)
# The follow function reads status documents up to this size. The poll function reads larger ones.
MAX_FOLLOWED_BYTES = 256 * 1024
EVENT_LIMIT_BYTES = 6 * 1024 * 1024  # of a synchronous invocation of Lambda


def dense_json(size_bytes: int) -> str:
    """Return JSON that needs most memory per byte: empty lists, and a character that makes all text four bytes wide."""
    filler = ",".join(["[]"] * ((size_bytes - 20) // 3))
    return f'["\N{GRINNING FACE}",{filler}]'


def status_document(size_bytes: int) -> bytes:
    """Return a status document of a completed job of this size."""
    overhead_bytes = len('{"status":"COMPLETED","final_output":}')
    return f'{{"status":"COMPLETED","final_output":{dense_json(size_bytes - overhead_bytes)}}}'.encode()


LARGEST = reply(200, status_document(MAX_OUTPUT_BYTES))
SHORT = reply(200, status_document(MAX_SHORT_STATUS_BYTES - 1024))
DONE = b'{"status":"COMPLETED","final_output":'


def text_output(key: str = "") -> bytes:
    """Return a status document with the longest output: one text that begins with the key."""
    ducks = "\N{DUCK}".encode() * ((MAX_OUTPUT_BYTES - len(key) - 2) // 4)
    return DONE + b'"' + key.encode() + ducks + b'"}'


TOO_LATE = reply(200, {"cancelled": False, "previous_status": "COMPLETED"})
STREAM = reply(
    200,
    b"data: "
    + b" " * (MAX_LINE_BYTES - 200)
    + b'{"type":"node_completed","progress":50}\n\n'
    + b"data:x\n" * (MAX_EVENT_BYTES // 2 - 10)
    + b"\n"
    + b'data: {"type":"execution_completed"}\n\n',
    {"Content-Type": "text/event-stream"},
    close=True,
)


@dataclass(frozen=True)
class RunningJob:
    """A running job's record in the table of the deployed stack, and events for it."""

    stack: StackClient
    record: ExecutionRecord
    webhook_url: str

    @property
    def execution(self) -> dict[str, str]:
        return {"arn": self.record.owner_execution_arn, "started_at": self.record.created_at}

    def state(self, **changes: Any) -> dict[str, Any]:
        job = LoopState(self.record.execution_id, self.record.deadline, PollHistory(time.time()), "job")
        return replace(job, **changes).to_dict()

    def step(self, **changes: Any) -> dict[str, Any]:
        return {"state": self.state(**changes), "execution": self.execution}

    def http(self, method: str, path: str, body: str | None = None) -> dict[str, Any]:
        identity = {"userArn": self.record.caller}
        id_ = path.split("/")[3]
        return {
            "resource": path.replace(id_, "{id}"),
            "httpMethod": method,
            "path": path,
            "pathParameters": {"id": id_},
            "headers": {},
            "body": body,
            "isBase64Encoded": False,
            "requestContext": {"identity": identity, "path": path},
        }


def request_text(size_bytes: int) -> str:
    overhead_bytes = len('{"chatbot_id":"instant","input_data":{"a":}}')
    return f'{{"input_data":{{"a":{dense_json(size_bytes - overhead_bytes)}}}}}'


def start(running: RunningJob) -> Any:
    request = {"chatbot_id": "instant", **json.loads(request_text(MAX_REQUEST_BYTES))}
    return {
        "input": request,
        "execution": {**running.execution, "arn": running.record.owner_execution_arn + "-2"},
    }


def poll(running: RunningJob) -> Any:
    return running.step()


def follow(running: RunningJob) -> Any:
    # Old enough that the first poll reads the record.
    return running.step(progress_events=True, history=PollHistory(time.time() - 60))


def notify(running: RunningJob) -> Any:
    output = {"final_output_json": dense_json(MAX_INLINE_BYTES)}
    return running.step(outcome=Status.COMPLETED, next=NextStep.NOTIFY, result=output)


def reconcile(running: RunningJob) -> Any:
    return {"arn": running.record.owner_execution_arn, "status": "ABORTED"}


def accept(running: RunningJob) -> Any:
    return running.http("POST", "/v1/executions/instant/async", request_text(MAX_REQUEST_BYTES))


def accept_too_much(running: RunningJob) -> Any:
    return running.http("POST", "/v1/executions/instant/async", request_text(EVENT_LIMIT_BYTES))


def cancel_by_api(running: RunningJob) -> Any:
    return running.http("DELETE", f"/v1/executions/{running.record.execution_id}")


def deliver(running: RunningJob) -> Any:
    now = to_rfc3339(time.time())
    record = replace(
        running.record,
        status=Status.COMPLETED,
        final_output_json=dense_json(MAX_INLINE_BYTES),
        webhook=Webhook(running.webhook_url),
        finished_at=now,
        notified_at=now,
    )
    running.stack.dynamodb.put_item(TableName=running.stack.outputs.table_name, Item=record.to_item())
    message = {"execution_id": record.execution_id, "event_id": notification_events.event_id(record)}
    return {"Records": [{"messageId": "1", "body": json.dumps(message)}]}


@dataclass(frozen=True)
class Case:
    """A call of a function, the responses of the upstream, and a check of the result."""

    function: str
    name: str
    event: Callable[[RunningJob], Any]
    answers: list[Step]
    succeeded: Callable[[Any], bool]


def has_stored_output(state: Any) -> bool:
    return state["outcome"] == "COMPLETED" and "output_ref" in state["result"]


def has_status(code: int) -> Callable[[Any], bool]:
    return lambda answer: answer["statusCode"] == code


CASES = [
    Case(
        "start",
        "240 KiB of request",
        start,
        [reply(200, {"execution_id": "job"})],
        lambda state: state["outcome"] == "RUNNING",
    ),
    Case(
        "follow",
        "256 KiB of status, the longest line and event, progress published, the record read",
        follow,
        # On a loaded machine the first poll comes before the stream is open.
        [reply(200, {"status": "RUNNING"}), reply(200, status_document(MAX_FOLLOWED_BYTES - 1024))],
        has_stored_output,
    ),
    Case("poll", "50 MiB of output: empty lists", poll, [LARGEST], has_stored_output),
    Case(
        "poll",
        "50 MiB of output: one text of four-byte characters",
        poll,
        [reply(200, text_output())],
        has_stored_output,
    ),
    Case(
        "poll",
        "50 MiB of output with the key in it",
        poll,
        [reply(200, text_output(SIMULATOR_API_KEY))],
        has_stored_output,
    ),
    Case(
        "poll",
        "60 MiB of output",
        poll,
        [reply(200, status_document(60 * 1024 * 1024))],
        lambda state: state["result"]["output_error"] == "too_large",
    ),
    Case("cancel", "too late: 6 MiB of status", poll, [TOO_LATE, SHORT], has_stored_output),
    Case(
        "notify",
        "32 KiB of output, 4 KiB of metadata",
        notify,
        [LARGEST],
        lambda answer: answer["status"] == "COMPLETED",
    ),
    Case(
        "reconcile",
        "too late: 50 MiB of output",
        reconcile,
        [TOO_LATE, LARGEST],
        lambda answer: answer["closed"],
    ),
    # The answer is larger than what the function reads of it.
    Case(
        "deliver",
        "32 KiB of output, 4 KiB of metadata, 100 MB of answer",
        deliver,
        [LARGEST],
        lambda answer: answer == {},
    ),
    Case("api", "240 KiB of request", accept, [LARGEST], has_status(202)),
    Case("api", "6 MiB of request", accept_too_much, [LARGEST], has_status(413)),
    Case("api", "DELETE, too late: 6 MiB of status", cancel_by_api, [TOO_LATE, SHORT], has_status(200)),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the build, as `sam build` of another stack may be changing the original."""
    copy = tmp_path_factory.mktemp("built") / "build"
    with locked(sam.SAM_WORKDIR / "lock"):
        shutil.copytree(sam.BUILD, copy)
    return copy


@pytest.fixture
def receiver(stack: StackClient) -> Iterator[WebhookReceiver]:
    """A receiver with a very large answer."""
    with receiver_at(stack, 58) as receiver:
        receiver.answers.for_path("/", huge())
        yield receiver


@pytest.fixture
def running_jobs(stack: StackClient, receiver: WebhookReceiver) -> Iterator[list[RunningJob]]:
    """Records of running jobs, one for each case, owned by executions that have ended. Deleted after the test."""
    machine = stack.stepfunctions.create_state_machine(
        name=f"ends-immediately-{uuid.uuid4().hex[:8]}",
        definition=json.dumps({"StartAt": "End", "States": {"End": {"Type": "Pass", "End": True}}}),
        roleArn="arn:aws:iam::000000000000:role/any",
    )["stateMachineArn"]
    running_jobs = []
    for _ in CASES:
        execution_id = uuid.uuid4().hex
        metadata = {"note": "m" * (MAX_METADATA_BYTES - 20)}
        request = {"chatbot_id": "instant", "input_data": {}, "metadata": metadata}
        input_ = {"execution_id": execution_id, "request": request}
        owner = stack.stepfunctions.start_execution(stateMachineArn=machine, input=json.dumps(input_))
        record = ExecutionRecord.accepted(
            execution_id,
            Request.from_dict(request, DEFAULTS),
            time.time(),
            owner=owner["executionArn"],
            source="api",
            defaults=DEFAULTS,
            caller="arn:aws:iam::000000000000:user/measured",
        )
        record = replace(
            record,
            status=Status.RUNNING,
            start_attempts=1,
            waterflai_execution_id="job",
            progress_events=True,
        )
        stack.dynamodb.put_item(TableName=stack.outputs.table_name, Item=record.to_item())
        running_jobs.append(RunningJob(stack, record, receiver.url))
    yield running_jobs
    for running in running_jobs:
        delete_record(stack, running.record.execution_id)


def delete_record(stack: StackClient, execution_id: str) -> None:
    stack.dynamodb.delete_item(TableName=stack.outputs.table_name, Key={"execution_id": {"S": execution_id}})


def measure(case: Case, running: RunningJob, built: Path, configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Call the function in a separate process. Returns its answer and the peak memory."""
    with ScriptedServer(list(case.answers), streams=[STREAM]) as upstream:
        env = {
            **environment.CREDENTIALS,
            **configuration["Environment"]["Variables"],
            "PATH": os.defpath,
            "PYTHONPATH": os.pathsep.join(
                [str(built / f"{case.function.title()}Function"), str(built / "WaterhookLayer" / "python")]
            ),
            "AWS_LAMBDA_FUNCTION_NAME": "measured",
            "AWS_REGION": environment.REGION,
            "AWS_DEFAULT_REGION": environment.REGION,
            "AWS_ENDPOINT_URL": running.stack.outputs.endpoint_url,
            "WATERFLAI_BASE_URL": upstream.url,
        }
        run = subprocess.run(
            [sys.executable, str(ONE_CALL)],
            input=json.dumps(case.event(running), ensure_ascii=False),
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * PATIENCE_S,
        )
    assert run.returncode == 0, run.stderr
    answer: dict[str, Any] = json.loads(run.stdout)
    return answer


# Thirteen calls that need the processor for seconds each, on a loaded machine for much longer.
@pytest.mark.timeout(900, func_only=True)
def test_each_function_needs_less_than_70_percent_of_its_memory_for_the_largest_inputs(
    stack: StackClient, running_jobs: list[RunningJob], receiver: WebhookReceiver, built: Path
) -> None:
    functions = aws_client(stack, "lambda")
    configurations = {
        case.function: functions.get_function_configuration(
            FunctionName=physical_id(stack, f"{case.function.title()}Function")
        )
        for case in CASES
    }

    def result_of(case: Case, running: RunningJob) -> dict[str, Any]:
        # A busy local AWS may interrupt an upload of 50 MB. The function then answers that it will try again.
        attempts = 3
        while True:
            result = measure(case, running, built, configurations[case.function])
            attempts -= 1
            if case.succeeded(result["answer"]) or not attempts:
                return result

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(result_of, CASES, running_jobs))
    print(f"\n{'function':10} {'peak MiB':>8} {'of MiB':>6} {'share':>5}  at")
    shares = []
    for case, result in zip(CASES, results, strict=True):
        memory_mib, peak_mib = configurations[case.function]["MemorySize"], result["peak_kib"] / 1024
        shares.append(peak_mib / memory_mib)
        print(f"{case.function:10} {peak_mib:8.0f} {memory_mib:6} {shares[-1]:5.0%}  {case.name}")
        assert case.succeeded(result["answer"]), (case.function, case.name, str(result["answer"])[:500])
        if case.event is start:
            delete_record(stack, result["answer"]["execution_id"])
    assert max(shares) < MAX_SHARE
    assert [webhook.verified for webhook in receiver.requests] == [True]


def test_each_function_has_a_case() -> None:
    apps = (environment.ROOT / "functions").glob("*/app.py")
    assert {case.function for case in CASES} == {app.parent.name for app in apps}
