"""The API function, invoked with events of API Gateway."""

import base64
import json
import re
from typing import Any
from urllib.parse import quote

import pytest

from functions.api import app
from tests.fakes.aws import Bucket, FailingClient, Machine, Table, Topic, client_error
from tests.fakes.lambda_context import CONTEXT
from tests.fakes.scripted_server import ScriptedServer, reply
from tests.support.api_events import BODY, START, event, get, post
from tests.support.build import build_execution_service, build_status_documents
from tests.support.builders import (
    CALLER,
    ID,
    UPSTREAM_ID,
    api_settings,
    final_attributes,
    record,
    running_record,
)
from tests.support.invoke import Invoke, log_of
from waterhook.api.service import ExecutionService
from waterhook.dependencies import Dependencies
from waterhook.domain.request import MAX_REQUEST_BYTES
from waterhook.domain.status import Status
from waterhook.domain.status_document import MAX_INLINE_BYTES
from waterhook.domain.trigger_input import TRIGGERS
from waterhook.settings import ConcurrencyLimits
from waterhook.storage.concurrency_limiter import ConcurrencyLimiter
from waterhook.storage.results_bucket import ResultsBucket

FAR = 9_000_000_000


class Api:
    """The API function. A call returns the status code and the parsed body."""

    def __init__(self, invoke: Invoke) -> None:
        self._invoke = invoke

    def __call__(self, request: dict[str, Any]) -> tuple[int, Any]:
        answer = self.raw(request)
        assert json.loads(json.dumps(answer)) == answer
        assert self.header(answer, "Content-Type") == "application/json"
        return answer["statusCode"], json.loads(answer["body"])

    def raw(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._invoke(app, request)

    @staticmethod
    def header(answer: dict[str, Any], name: str) -> str | None:
        value: str | None = answer["headers"].get(name)
        return value


@pytest.fixture
def api(invoke: Invoke) -> Api:
    return Api(invoke)


# 202


def test_an_accepted_request_is_202_with_its_id_and_urls(api: Api, table: Table, machine: Machine) -> None:
    status, response = api(post())
    stored = table.only()
    url = f"https://abc.execute-api.test/live/v1/executions/{stored.execution_id}"
    assert status == 202
    assert response == {
        "execution_id": stored.execution_id,
        "status": "ACCEPTED",
        "status_url": url,
        "cancel_url": url,
    }
    ((name, started),) = machine.executions().items()
    assert started == {
        "execution_id": stored.execution_id,
        "parameters": {"chatbot_id": "support-chat"},
        "request": BODY,
    }
    assert stored.owner_execution_arn.endswith(f":{name}")


def test_an_accepted_execution_can_be_read_immediately(api: Api) -> None:
    _, accepted = api(post())
    status, response = api(get(accepted["execution_id"]))
    assert (status, response["status"], response["chatbot_id"]) == (200, "ACCEPTED", "support-chat")


def test_every_field_of_a_request_is_stored(api: Api, table: Table) -> None:
    api(post(BODY | {"metadata": {"order": 7}, "timeout_seconds": 60, "deliver_to": ["sns"]}))
    stored = table.only()
    assert (stored.metadata, stored.deliver_to) == ({"order": 7}, ("sns",))
    assert stored.expires_at - stored.deadline == 30 * 24 * 3600


@pytest.mark.parametrize(
    "request_event",
    [
        post(BODY, {"idempotency-key": "k"}),
        post(BODY | {"idempotency_key": "k"}),
        post(BODY | {"idempotency_key": "k"}, {"Idempotency-Key": "k"}),
        post(BODY | {"idempotency_key": None}, {"Idempotency-Key": "k"}),
        post(BODY | {"idempotency_key": "k", "chatbot_id": "support-chat"}),
        post(BODY | {"idempotency_key": "k", "chatbot_id": None}),
    ],
    ids=[
        "header in small letters",
        "body",
        "both",
        "header and null",
        "chatbot too",
        "null chatbot",
    ],
)
def test_an_idempotency_key_is_the_same_in_the_header_and_in_the_body(
    api: Api, table: Table, machine: Machine, request_event: dict[str, Any]
) -> None:
    _, first = api(post(BODY, {"Idempotency-Key": "k"}))
    status, again = api(request_event)
    assert (status, again) == (202, first)
    assert len(table.all()) == len(machine.executions()) == 1


def test_a_different_request_with_the_same_key_is_409(api: Api, machine: Machine) -> None:
    api(post(BODY, {"Idempotency-Key": "k"}))
    status, response = api(post({"input_data": {}}, {"Idempotency-Key": "k"}))
    assert (status, list(response)) == (409, ["detail"])
    assert len(machine.executions()) == 1


def test_a_request_for_another_chatbot_with_the_same_key_is_409(api: Api) -> None:
    api(post(BODY, {"Idempotency-Key": "k"}))
    assert api(post(BODY, {"Idempotency-Key": "k"}, path="/v1/executions/other/async"))[0] == 409


def test_a_body_that_api_gateway_encoded_is_decoded(api: Api, table: Table) -> None:
    encoded = base64.b64encode(json.dumps(BODY | {"metadata": {"ß": "🙂"}}).encode()).decode()
    assert api(post(encoded, isBase64Encoded=True))[0] == 202
    assert table.only().metadata == {"ß": "🙂"}


@pytest.mark.parametrize("chatbot_id", ["a/b", "a%2Fb", "🙂", "a+b"])
def test_a_percent_encoded_chatbot_id_is_decoded(api: Api, table: Table, chatbot_id: str) -> None:
    status, _ = api(post(path=f"/v1/executions/{quote(chatbot_id, safe='')}/async"))
    assert (status, table.only().chatbot_id) == (202, chatbot_id)


@pytest.mark.parametrize("chatbot_id", ["🙂", "{id}", "^|`", "a?b#c"])
def test_a_chatbot_id_that_is_not_percent_encoded_is_not_changed(
    api: Api, table: Table, chatbot_id: str
) -> None:
    status, _ = api(post(path=f"/v1/executions/{chatbot_id}/async"))
    assert (status, table.only().chatbot_id) == (202, chatbot_id)


# How the caller reached the API: https://docs.aws.amazon.com/apigateway/latest/developerguide/how-to-custom-domains.html
REACHED = {
    "stage URL": ("", "/live", "abc.execute-api.test"),
    "custom domain": ("", "", "jobs.example.com"),
    "custom domain with a base path of several levels": ("/a/b", "/a/b", "jobs.example.com"),
    "custom domain with a base path like ours": ("/v1", "/v1", "jobs.example.com"),
    "custom domain mapped to all stages": ("/v2/live", "/v2/live", "jobs.example.com"),
}


@pytest.mark.parametrize(("before_path", "before_context_path", "domain"), REACHED.values(), ids=REACHED)
@pytest.mark.parametrize("chatbot_id", ["🙂", "v1%2Fexecutions%2Fx"])
def test_every_route_and_the_returned_urls_work_with_each_kind_of_domain(
    api: Api, before_path: str, before_context_path: str, domain: str, chatbot_id: str
) -> None:
    def reached(request: dict[str, Any]) -> dict[str, Any]:
        path = request["path"]
        request["requestContext"] |= {"path": before_context_path + path, "domainName": domain}
        return request | {"path": before_path + path}

    answer = api.raw(reached(post(path=f"/v1/executions/{chatbot_id}/async")))
    response = json.loads(answer["body"])
    assert answer["statusCode"] == 202
    assert response["status_url"] == response["cancel_url"] == api.header(answer, "Location")
    assert (
        response["status_url"]
        == f"https://{domain}{before_context_path}/v1/executions/{response['execution_id']}"
    )
    assert api(reached(get(response["execution_id"])))[1]["status"] == "ACCEPTED"
    assert len(api(reached(event("GET", "/v1/executions")))[1]["executions"]) == 1
    assert api(reached(event("DELETE", f"/v1/executions/{response['execution_id']}")))[1]["cancelled"] is True


# 400, 404, 413


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ("", "body: empty. Send a JSON object such as"),
        (
            '{"input_data":}',
            'body: invalid JSON at line 1, column 15. Send a JSON object such as {"input_data": {}}.',
        ),
        ('{\n  "input_data": {},\n}', "body: invalid JSON at line 2, column "),
        ('{"input_data":{}} {}', "body: invalid JSON at line 1, column 19"),
        ("[]", "body: expected object, got list. Send a JSON object such as"),
        ("null", "body: expected object, got null"),
        ("{}", "input_data: missing, expected object"),
        ('{"input_data":null}', "input_data: expected object, got null"),
        ('{"input_data":{},"x":1}', "x: unknown field; known are chatbot_id, deliver_to,"),
        ('{"input_data":{},"chatbot_id":"other"}', "chatbot_id: body and path differ; send it in one"),
        ('{"input_data":{},"chatbot_id":["a"]}', "chatbot_id: body and path differ; send it in one"),
        (
            '{"input_data":{},"input_data":{"a":1}}',
            "body: input_data occurs twice in one object; send it once",
        ),
        (
            '{"input_data":{"q":[{"a":1,"b":2,"\\u0061":1}]}}',
            "body: a occurs twice in one object; send it once",
        ),
        ('{"input_data":{"n":1e400}}', "request: contains a number that JSON can't carry"),
        ('{"input_data":{"n":NaN}}', "request: contains a number that JSON can't carry"),
        ('{"input_data":{"t":"\\ud800"}}', "request: contains half of a surrogate pair"),
        ('{"input_data":{},"timeout_seconds":' + "9" * 400 + "}", "timeout_seconds: expected whole number"),
        ('{"input_data":{},"timeout_seconds":' + "9" * 5000 + "}", "body: a number has too many digits"),
        *(
            (
                '{"input_data":{"a":' + "[" * depth + "]" * depth + "}}",
                "request: nested too deeply, more than 200 levels",
            )
            for depth in (199, 100_000)
        ),
        (
            '{"input_data":' + '{"a":' * 1000 + "1" + "}" * 1001,
            "request: nested too deeply, more than 200 levels",
        ),
    ],
    ids=lambda value: value[:30],
)
def test_the_response_to_an_invalid_body_names_the_field_and_the_fault(
    api: Api, table: Table, machine: Machine, body: str, detail: str
) -> None:
    status, response = api(post(body))
    assert (status, list(response)) == (400, ["detail"])
    assert response["detail"].startswith(detail)
    assert (table.all(), machine.executions()) == ([], {})


@pytest.mark.parametrize(
    "headers", [{"Idempotency-Key": ""}, {"Idempotency-Key": "x" * 201}, {"Idempotency-Key": "a\x00b"}]
)
def test_an_invalid_idempotency_key_is_400(api: Api, headers: dict[str, str]) -> None:
    status, response = api(post(BODY, headers))
    assert status == 400
    assert response["detail"].startswith("idempotency_key: expected 1 to 200")


@pytest.mark.parametrize("other", ["a", "", 5, [], {"k": 1}, True])
def test_different_keys_in_header_and_body_are_400(api: Api, other: object) -> None:
    assert api(post(BODY | {"idempotency_key": other}, {"Idempotency-Key": "b"}))[0] == 400


@pytest.mark.parametrize("chatbot_id", ["%20", "a%0Ab", "..", "%2e%2e", "%00", "%E2%80%8B", "x" * 201])
def test_an_invalid_chatbot_id_is_400(api: Api, chatbot_id: str) -> None:
    status, response = api(post(path=f"/v1/executions/{chatbot_id}/async"))
    assert status == 400
    assert response["detail"].startswith("chatbot_id: expected 1 to 200")


@pytest.mark.parametrize("chatbot_id", ["%FF", "a%E2%80", "%FF%FE%0A"])
def test_a_chatbot_id_that_is_not_utf_8_is_400(api: Api, chatbot_id: str) -> None:
    status, response = api(post(path=f"/v1/executions/{chatbot_id}/async"))
    assert (status, response["detail"]) == (400, "chatbot_id: expected percent-encoded UTF-8 in the path")


def body_of(size_bytes: int, filler: str = "x") -> str:
    """Return a body of exactly that size in UTF-8."""
    count, rest = divmod(size_bytes - len('{"input_data":{"t":""}}'), len(filler.encode()))
    return '{"input_data":{"t":"' + filler * count + "x" * rest + '"}}'


@pytest.mark.parametrize("filler", ["x", "🦆"])
def test_a_body_of_240_kib_in_utf_8_is_accepted_and_one_byte_more_is_413(
    api: Api, table: Table, machine: Machine, filler: str
) -> None:
    body = body_of(MAX_REQUEST_BYTES, filler)
    assert (
        api(post(body, {"Idempotency-Key": "k" * 200}, path=f"/v1/executions/{quote('🦆' * 200)}/async"))[0]
        == 202
    )
    assert len(machine.inputs()[0].encode()) < 256 * 1024
    status, response = api(post(body_of(MAX_REQUEST_BYTES + 1, filler)))
    assert status == 413
    assert (
        response["detail"] == f"body: {MAX_REQUEST_BYTES + 1} bytes, at most {MAX_REQUEST_BYTES} are allowed"
    )
    assert len(table.all()) == 1


def numbers(count: int, number: str) -> str:
    return '{"input_data":{"n":[' + ",".join([number] * count) + "]}}"


@pytest.mark.parametrize(
    "body",
    [
        numbers(40_900, "12345"),
        '{ "input_data" : {"f":1.0,"n":12345678901234567890,"e":1E-5,"t":"ß\\u00df\\/🙂"},\r\n\t"metadata":{} }',
    ],
    ids=["40,900 numbers", "numbers and escapes"],
)
def test_the_state_machine_gets_the_body_as_unchanged_text(api: Api, machine: Machine, body: str) -> None:
    status, accepted = api(post(body, {"Idempotency-Key": "ß"}))
    assert status == 202
    (started_with,) = machine.inputs()
    assert started_with == (
        f'{{"execution_id":"{accepted["execution_id"]}",'
        '"parameters":{"chatbot_id":"support-chat","idempotency_key":"\\u00df"},'
        f'"request":{body}}}'
    )


def test_numbers_that_step_functions_may_expand_beyond_its_limit_are_413(api: Api, table: Table) -> None:
    body = numbers(60_000, "1e5")
    status, response = api(post(body))
    assert status == 413
    assert len(body) < MAX_REQUEST_BYTES
    assert response["detail"].startswith("request: 540050 bytes, at most 258048 are allowed, counted as JSON")
    assert table.all() == []


def test_an_input_that_step_functions_refuses_is_400_and_leaves_no_record(
    served: Any, table: Table, machine: Machine
) -> None:
    states = FailingClient(machine.client, {"start_execution": client_error("InvalidExecutionInput")})
    status, response = served(build_execution_service(table, machine, states=states), post())
    assert status == 400
    assert re.fullmatch(
        r"request: Step Functions refuses it as an execution input of \d{3} bytes: .+", response["detail"]
    )
    assert table.all() == []


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", None])
def test_a_body_is_read_as_json_with_any_content_type(api: Api, content_type: str | None) -> None:
    request = post()
    request["headers"]["Content-Type"] = content_type
    assert api(request)[0] == 202


def test_a_byte_order_mark_is_removed(api: Api, machine: Machine) -> None:
    assert api(post("\ufeff" + json.dumps(BODY)))[0] == 202
    assert "\ufeff" not in machine.inputs()[0]


@pytest.mark.parametrize("body", ["/w==", "e30"], ids=["no UTF-8", "no padding"])
def test_a_base64_body_that_is_not_utf_8_is_400(api: Api, body: str) -> None:
    status, response = api(post(body, isBase64Encoded=True))
    assert (status, response["detail"]) == (400, "body: not UTF-8. Send a JSON object in UTF-8.")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/executions"),
        ("PUT", f"/v1/executions/{ID}"),
        ("DELETE", START),
        ("POST", "/v1/executions/a/b/async"),
        ("POST", "/v1/executions//async"),
    ],
)
def test_an_unknown_route_is_404(api: Api, method: str, path: str) -> None:
    status, response = api(event(method, path, "{}"))
    assert (status, list(response)) == (404, ["detail"])


# Faults of Step Functions and of the table


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that answers a request with the service that it gets."""

    def serve(service: ExecutionService, request: dict[str, Any]) -> tuple[int, Any]:
        monkeypatch.setattr(app, "dependencies", Dependencies(app.telemetry))
        app.dependencies.service = service
        app.dependencies.status_documents = build_status_documents()
        app.dependencies.api_settings = api_settings()
        answer = app.handler(request, CONTEXT)
        return answer["statusCode"], json.loads(answer["body"])

    return serve


def test_botocore_does_not_repeat_start_execution(invoke: Invoke, machine: Machine) -> None:
    assert invoke(app, post())["statusCode"] == 202
    states: Any = app.dependencies.service._states  # noqa: SLF001 - the configuration of its client
    assert states.meta.config.retries["total_max_attempts"] == 1
    assert len(machine.executions()) == 1


@pytest.mark.parametrize("operation", ["put_item", "get_item"])
def test_a_table_that_fails_is_503(served: Any, table: Table, machine: Machine, operation: str) -> None:
    client = FailingClient(table.client, {operation: client_error("ThrottlingException")})
    request = post() if operation == "put_item" else get()
    status, response = served(build_execution_service(table, machine, client=client), request)
    assert (status, list(response)) == (503, ["detail"])
    assert "ThrottlingException" not in response["detail"]
    assert machine.executions() == {}


# 200


def test_a_running_execution_has_a_retry_after(api: Api, table: Table) -> None:
    table.put(running_record(caller=CALLER, expires_at=FAR, deadline=FAR - 1))
    answer = api.raw(get())
    assert answer["statusCode"] == 200
    assert 1 <= int(api.header(answer, "Retry-After") or "") <= 60


def test_a_finished_execution_has_no_retry_after(api: Api, table: Table) -> None:
    table.put(running_record(**final_attributes(expires_at=FAR), caller=CALLER))
    answer = api.raw(get())
    assert api.header(answer, "Retry-After") is None
    assert json.loads(answer["body"])["status"] == "COMPLETED"


def test_an_output_is_returned_as_unchanged_text(api: Api, table: Table) -> None:
    output = '{ "n":12345678901234567890,"f":1.0,"e" : 1e400,"t":"\\ud83d 🙂 \u2028"}'
    table.put(running_record(**final_attributes(expires_at=FAR), caller=CALLER, final_output_json=output))
    assert f'"final_output":{output},' in api.raw(get())["body"]


def test_a_large_output_has_a_presigned_url(api: Api, table: Table, bucket: Bucket) -> None:
    stored_output = ResultsBucket(bucket.name, lambda: bucket.client).store(ID, "1" * (MAX_INLINE_BYTES + 1))
    table.put(running_record(**final_attributes(expires_at=FAR), **stored_output, caller=CALLER))
    _, response = api(get())
    assert response["final_output"] is None
    assert response["final_output_url"].startswith("https://")
    assert f"executions/{ID}/final_output.json" in response["final_output_url"]
    assert "X-Amz-Signature" in response["final_output_url"]


def test_another_caller_gets_no_presigned_url(api: Api, table: Table, bucket: Bucket) -> None:
    stored_output = ResultsBucket(bucket.name, lambda: bucket.client).store(ID, "1" * (MAX_INLINE_BYTES + 1))
    table.put(running_record(**final_attributes(expires_at=FAR), **stored_output, caller="another caller"))
    status, response = api(get())
    assert (status, list(response)) == (404, ["detail"])


@pytest.mark.parametrize(
    "execution_id", ["f" * 32, "x" * 5000, "%00", "%FF", "..", "%2e%2e", f"{ID}%20", quote("🙂"), "a%2Fb"]
)
def test_an_unknown_id_is_404(api: Api, table: Table, execution_id: str) -> None:
    table.put(record(caller=CALLER, expires_at=FAR))
    status, response = api(get(execution_id))
    assert (status, list(response)) == (404, ["detail"])


# The caller


@pytest.mark.parametrize(
    ("identity", "headers", "caller"),
    [
        ({"userArn": "arn:aws:iam::1:user/a"}, {}, "arn:aws:iam::1:user/a"),
        ({"userArn": "arn:aws:sts::1:assumed-role/r/session-1"}, {}, "arn:aws:sts::1:assumed-role/r"),
        ({"userArn": "arn:aws:iam::1:user/a", "apiKeyId": "k1"}, {}, "arn:aws:iam::1:user/a"),
        ({"userArn": None, "apiKeyId": "k1"}, {"x-api-key": "secret"}, "key/k1"),
    ],
)
def test_the_caller_is_the_identity_that_api_gateway_reports(
    api: Api, table: Table, identity: dict[str, Any], headers: dict[str, str], caller: str
) -> None:
    request = post(BODY, headers)
    request["requestContext"]["identity"] = identity
    api(request)
    assert table.only().caller == caller


def test_a_key_without_an_id_is_stored_as_its_fingerprint(api: Api, table: Table) -> None:
    request = post(BODY, {"X-Api-Key": "a-secret-key"})
    request["requestContext"]["identity"] = None
    api(request)
    caller = table.only().caller or ""
    assert caller.startswith("key/")
    assert "secret" not in caller


def test_two_keys_without_ids_are_two_callers(api: Api, table: Table) -> None:
    for key in ("one-key", "other-key"):
        request = post(BODY, {"x-api-key": key, "Idempotency-Key": "k"})
        request["requestContext"]["identity"] = None
        assert api(request)[0] == 202
    assert len({one.caller for one in table.all()}) == 2


def test_a_forged_header_does_not_change_the_caller(api: Api, table: Table) -> None:
    table.put(record(caller="arn:aws:iam::1:user/victim", expires_at=FAR))
    forged = {"X-Forwarded-User": "arn:aws:iam::1:user/victim", "x-api-key": "arn:aws:iam::1:user/victim"}
    assert api(get(headers=forged))[0] == 404


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        ({"Host": "127.0.0.1:4566"}, "http://127.0.0.1:4566/live"),
        ({"host": "[::1]:4566"}, "http://[::1]:4566/live"),
        ({"Host": "stand-in.test", "X-Forwarded-Proto": "https"}, "https://stand-in.test/live"),
        ({"Host": "stand-in.test", "X-Forwarded-Proto": "javascript"}, "http://stand-in.test/live"),
        ({"Host": "user@stand-in.test/x"}, "/live"),
    ],
)
def test_without_a_domain_name_the_urls_start_with_the_host_header(
    api: Api, headers: dict[str, str], base: str
) -> None:
    request = post() | {"headers": headers}
    del request["requestContext"]["domainName"]
    _, response = api(request)
    assert response["status_url"] == f"{base}/v1/executions/{response['execution_id']}"


def test_a_configured_path_prefix_is_part_of_the_urls(invoke: Invoke) -> None:
    request = post() | {"headers": {"Host": "127.0.0.1:4566"}}
    del request["requestContext"]["domainName"]
    response = json.loads(invoke(app, request, WATERHOOK_API_PATH_PREFIX="/_aws/execute-api")["body"])
    base = "http://127.0.0.1:4566/_aws/execute-api/abc/live"
    assert response["status_url"] == f"{base}/v1/executions/{response['execution_id']}"


# DELETE


def delete(execution_id: str = ID, **changes: Any) -> dict[str, Any]:
    return event("DELETE", f"/v1/executions/{execution_id}", **changes)


def answered(answer: dict[str, Any]) -> tuple[int, Any]:
    return answer["statusCode"], json.loads(answer["body"])


def test_a_running_job_is_cancelled_at_the_upstream(invoke: Invoke, table: Table, topic: Topic) -> None:
    table.put(running_record(caller=CALLER, expires_at=FAR))
    with ScriptedServer([reply(200, {"cancelled": True, "previous_status": "RUNNING"})]) as server:
        result = answered(invoke(app, delete(), WATERFLAI_BASE_URL=server.url))
    assert result == (
        200,
        {"execution_id": ID, "cancelled": True, "message": "cancelled", "previous_status": "RUNNING"},
    )
    assert [(one.method, one.target) for one in server.requests] == [
        ("DELETE", f"/v1/executions/{UPSTREAM_ID}")
    ]
    (message,) = topic.messages()
    assert json.loads(message)["type"] == "waterhook.execution.cancelled"
    assert table.only().notified_at is not None


def test_a_repeated_cancel_during_the_start_is_202(invoke: Invoke, table: Table, topic: Topic) -> None:
    table.put(record(caller=CALLER, status=Status.STARTING, expires_at=FAR))
    for _ in range(2):
        status, response = answered(invoke(app, delete()))
        assert (status, response["cancelled"], response["previous_status"]) == (202, False, "STARTING")
    assert topic.messages() == []


def test_a_cancel_by_another_caller_is_404_and_changes_nothing(
    invoke: Invoke, table: Table, topic: Topic
) -> None:
    stored = table.put(running_record(caller="arn:aws:iam::123456789012:user/bob", expires_at=FAR))
    status, response = answered(invoke(app, delete()))
    assert (status, list(response)) == (404, ["detail"])
    assert (table.only(), topic.messages()) == (stored, [])


def test_an_upstream_that_does_not_cancel_is_502_and_changes_nothing(
    invoke: Invoke, table: Table, topic: Topic
) -> None:
    stored = table.put(running_record(caller=CALLER, expires_at=FAR))
    with ScriptedServer([reply(503)]) as server:
        status, response = answered(invoke(app, delete(), WATERFLAI_BASE_URL=server.url))
    assert (status, list(response)) == (502, ["detail"])
    assert (table.only(), topic.messages()) == (stored, [])


def test_a_topic_that_fails_at_a_cancel_is_503(invoke: Invoke, table: Table, topic: Topic) -> None:
    table.put(record(caller=CALLER, expires_at=FAR))
    topic.sns.delete_topic(TopicArn=topic.arn)
    status, response = answered(invoke(app, delete()))
    assert (status, list(response)) == (503, ["detail"])


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("execution_id", ["capacity", "capacity%2Fsupport-chat"])
def test_an_item_that_is_not_an_execution_is_404(
    api: Api, table: Table, method: str, execution_id: str
) -> None:
    ConcurrencyLimiter(table.name, ConcurrencyLimits(stack=1, chatbot=1), table.client).acquire(
        ID, "support-chat"
    )
    status, response = api(event(method, f"/v1/executions/{execution_id}"))
    assert (status, list(response)) == (404, ["detail"])


# Live progress


def test_two_gets_within_two_seconds_cause_one_status_request(invoke: Invoke, table: Table) -> None:
    table.put(running_record(caller=CALLER, expires_at=FAR, deadline=FAR))
    with ScriptedServer([reply(200, {"status": "RUNNING", "progress": 40.0, "current_node": "b"})]) as server:
        first = answered(invoke(app, get(), WATERFLAI_BASE_URL=server.url))
        again = answered(app.handler(get(), CONTEXT))
    assert first == again
    assert (first[1]["progress"], first[1]["current_node"], first[1]["status"]) == (40.0, "b", "RUNNING")
    assert len(server.requests) == 1


def test_a_get_while_the_upstream_fails_returns_the_record_alone(invoke: Invoke, table: Table) -> None:
    table.put(running_record(caller=CALLER, expires_at=FAR, deadline=FAR, progress=10.0))
    with ScriptedServer([reply(500)]) as server:
        status, response = answered(invoke(app, get(), WATERFLAI_BASE_URL=server.url))
    assert (status, response["status"], response["progress"]) == (200, "RUNNING", 10.0)


# The list


def listing(**parameters: str) -> dict[str, Any]:
    return event("GET", "/v1/executions", queryStringParameters=parameters or None)


def test_the_list_has_the_executions_of_its_caller_newest_first(api: Api, table: Table) -> None:
    for number in range(3):
        table.put(
            record(
                execution_id=f"{number:032x}",
                caller=CALLER,
                created_at=f"2026-01-0{number + 1}T00:00:00.000Z",
            )
        )
    table.put(record(execution_id="f" * 32, caller="bob"))
    status, response = api(listing(limit="2"))
    assert status == 200
    assert [one["execution_id"] for one in response["executions"]] == [f"{2:032x}", f"{1:032x}"]
    status, response = api(listing(limit="2", next=response["next"]))
    assert ([one["execution_id"] for one in response["executions"]], response["next"]) == (
        [f"{0:032x}"],
        None,
    )


@pytest.mark.parametrize(
    "parameters",
    [
        {"limit": "1.5"},
        {"status": "DONE"},
        {"trigger": "events"},
        {"accepted_after": "yesterday"},
        {"caller": "another"},
        {"next": "garbage"},
        {"x": "y"},
    ],
    ids=str,
)
def test_a_list_with_invalid_parameters_is_400(api: Api, parameters: dict[str, str]) -> None:
    status, response = api(listing(**parameters))
    assert (status, list(response)) == (400, ["detail"])
    assert response["detail"].startswith(f"{next(iter(parameters))}: ")


def test_a_parameter_that_occurs_twice_is_400(api: Api) -> None:
    twice = listing(trigger="schedule") | {
        "multiValueQueryStringParameters": {"trigger": ["api", "schedule"]}
    }
    assert api(twice) == (400, {"detail": "trigger: occurs 2 times; send it once"})


# Operators

OPS = "arn:aws:sts::123456789012:assumed-role/ops/eve"
OPERATORS = {"WATERHOOK_OPERATOR_PRINCIPALS": "arn:aws:iam::123456789012:role/team/ops"}


def operated(invoke: Invoke, request: dict[str, Any], **env: str) -> tuple[int, Any, dict[str, Any]]:
    """Return the status code, the body and the log line of a request of an operator."""
    with log_of(app) as log:
        answer = invoke(app, request, **OPERATORS, **env)
    return answer["statusCode"], json.loads(answer["body"]), json.loads(log.getvalue().splitlines()[-1])


@pytest.mark.parametrize(
    ("source", "caller"),
    [("api", CALLER), ("events", None), ("schedule", None), ("states", None)],
)
def test_an_operator_reads_lists_and_cancels_an_execution_of_every_trigger(
    invoke: Invoke, table: Table, topic: Topic, source: str, caller: str | None
) -> None:
    table.put(record(source=source, caller=caller, expires_at=FAR))
    status, document, line = operated(invoke, get(caller=OPS))
    assert (status, document["trigger"], document["caller"]) == (200, TRIGGERS[source], caller)
    assert line["operator"] is True
    status, page, line = operated(invoke, listing() | {"requestContext": get(caller=OPS)["requestContext"]})
    (entry,) = page["executions"]
    assert (status, entry["execution_id"], entry["caller"]) == (200, ID, caller)
    assert (line["operator"], "arn:" in json.dumps(line).replace(line["function_arn"], "")) == (True, False)
    status, cancelled, line = operated(invoke, delete(caller=OPS))
    assert (status, cancelled["cancelled"], line["operator"]) == (200, True, True)
    (message,) = topic.messages()
    assert json.loads(message)["data"]["error"]["message"].startswith("cancelled by an operator")


def test_a_request_of_an_operator_for_its_own_execution_is_logged_as_any_callers(
    invoke: Invoke, table: Table
) -> None:
    table.put(record(source="api", caller=OPS.rpartition("/")[0], expires_at=FAR))
    context = {"requestContext": get(caller=OPS)["requestContext"]}
    for request in (get(caller=OPS), listing(caller="me") | context, post(caller=OPS), delete(caller=OPS)):
        status, _, line = operated(invoke, request)
        assert status in {200, 202}
        assert "operator" not in line
    error = table.get(ID).error
    assert error is not None
    assert error["message"] == "cancelled before the job was started"


def test_another_principal_or_a_key_is_no_operator(invoke: Invoke, table: Table) -> None:
    stored = table.put(record(source="events", caller=None, expires_at=FAR))
    for caller in (CALLER, "arn:aws:sts::999999999999:assumed-role/ops/eve", None):
        for request in (get(caller=caller), delete(caller=caller)):
            status, response, _ = operated(invoke, request)
            assert (status, list(response)) == (404, ["detail"])
    assert table.only() == stored


def test_with_sessions_as_callers_another_session_of_the_role_finds_nothing(
    invoke: Invoke, table: Table
) -> None:
    env = {"WATERHOOK_CALLER_IDENTITY": "SESSION"}
    role = "arn:aws:sts::123456789012:assumed-role/apps"
    accepted = json.loads(invoke(app, post(caller=f"{role}/one"), **env)["body"])
    assert table.only().caller == f"{role}/one"
    codes = [
        invoke(app, get(accepted["execution_id"], caller=f"{role}/{session}"), **env)["statusCode"]
        for session in ("one", "two")
    ]
    assert codes == [200, 404]


@pytest.mark.parametrize(
    "principals", ["ops", "arn:aws:iam::123456789012:role/*", "arn:aws:iam::123456789012:root"]
)
def test_a_malformed_operator_is_503_for_everyone(invoke: Invoke, principals: str) -> None:
    assert invoke(app, post(), WATERHOOK_OPERATOR_PRINCIPALS=principals)["statusCode"] == 503
