"""The API function with callers that wait: `Prefer: wait=N` and `?wait=N`."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from functions.api import app
from tests.fakes.aws import FailingClient, Machine, Table, client_error
from tests.fakes.clock import NOW, Clock
from tests.fakes.lambda_context import Context
from tests.fakes.scripted_server import ScriptedServer, reply
from tests.support.api_events import get, post
from tests.support.build import build_execution_service, build_status_documents
from tests.support.builders import CALLER, api_settings, final_record, record, running_record
from tests.support.captured_logs import CapturedLogs
from tests.support.invoke import Invoke, log_of
from waterhook.api.outcome_wait import OutcomeWait
from waterhook.dependencies import Dependencies
from waterhook.domain.status import Status
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.waiting_places import WaitingPlaces

FAR = 9_000_000_000
type During = Callable[[int], object]

KEYED = {"Idempotency-Key": "order-7"}
TEN = {"Prefer": "wait=10"}


class ApiContext(Context):
    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 27_900


class Api:
    """The API function. `during` is called in each pause of a wait with the number of the pause, from 1."""

    def __init__(self, table: Table, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.table = table
        self.clock = Clock()
        client: Any = FailingClient(table.client, {})
        self.client = client
        self.pauses = count(1)
        self.paused = 0
        self.during: During = lambda _pause: None
        self.places = WaitingPlaces(table.name, self.client, limit=2)
        self.documents: Any = build_status_documents()
        self._machine = machine
        self._patch = monkeypatch
        self.deploy()

    def deploy(self, longest_s: int = 20, *, operators: tuple[str, ...] = ()) -> None:
        records = self.table.records_over(self.client)
        wait = OutcomeWait(longest_s, records, self.places, self.documents, self.clock, self._sleep)
        dependencies: Any = Dependencies(app.telemetry)
        dependencies.service = build_execution_service(self.table, self._machine, clock=self.clock)
        dependencies.status_documents, dependencies.outcome_wait = build_status_documents(), wait
        dependencies.api_settings = api_settings(operators=operators)
        self._patch.setattr(app, "dependencies", dependencies)

    def _sleep(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.paused = next(self.pauses)
        self.during(self.paused)

    def __call__(self, request: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        """Return the status code, the parsed body and the headers."""
        answer = app.handler(request, ApiContext())
        return answer["statusCode"], json.loads(answer["body"]), answer["headers"]

    def put(self, stored: ExecutionRecord) -> ExecutionRecord:
        return self.table.put(replace(stored, caller=CALLER))

    def end(self, status: Status = Status.COMPLETED) -> None:
        """Write an outcome, as the state machine does."""
        self.table.put(final_with(self.table.only(), status))

    def end_in_pause(self, number: int, status: Status = Status.COMPLETED) -> None:
        self.during = lambda pause: self.end(status) if pause == number else None


def final_with(stored: ExecutionRecord, status: Status = Status.COMPLETED) -> ExecutionRecord:
    final = final_record(status, final_output_json='{"text": "done"}' if status == "COMPLETED" else None)
    return replace(
        final, execution_id=stored.execution_id, caller=CALLER, request_sha256=stored.request_sha256
    )


@pytest.fixture
def api(table: Table, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Api:
    return Api(table, machine, monkeypatch)


def wait(text: str, **changes: Any) -> dict[str, Any]:
    return get(queryStringParameters={"wait": text}, **changes)


# POST


def test_an_outcome_in_time_is_200_with_the_status_document(api: Api, machine: Machine) -> None:
    api.end_in_pause(3)
    status, document, headers = api(post(headers=TEN))
    stored = api.table.only()
    assert (status, document["execution_id"], document["status"]) == (200, stored.execution_id, "COMPLETED")
    assert document["final_output"] == {"text": "done"}
    assert headers["Preference-Applied"] == "wait=10"
    assert headers["Location"] == f"https://abc.execute-api.test/live/v1/executions/{stored.execution_id}"
    assert "Retry-After" not in headers
    assert (api.clock.now - NOW, len(machine.executions())) == (1.5, 1)


def test_without_an_outcome_in_time_the_answer_is_the_usual_202(api: Api) -> None:
    status, accepted, headers = api(post(headers=TEN))
    assert (status, accepted["status"]) == (202, "ACCEPTED")
    assert accepted.keys() == {"execution_id", "status", "status_url", "cancel_url"}
    assert "Preference-Applied" not in headers
    assert api.clock.now - NOW == 10


@pytest.mark.parametrize(
    ("several", "waited_s"),
    [
        ({"prefer": ["wait=3"]}, 3),
        ({"PREFER": ["respond-async", 'wait="4"; x=y']}, 4),
        ({"Prefer": ["wait=5, wait=9"]}, 5),
        ({"Prefer": ["wait=99999999999999999999"]}, 20),
        ({"Prefer": ["wait=0"]}, 0),
        ({"Prefer": ["wait=1e3"]}, 0),
        ({"Prefer": ["respond-async"]}, 0),
        ({"X-Prefer": ["wait=9"]}, 0),
        (None, 0),
    ],
)
def test_the_preference_may_be_in_any_of_several_headers(
    api: Api, several: dict[str, list[str]] | None, waited_s: float
) -> None:
    status, *_ = api(post(multiValueHeaders=several))
    assert (status, api.clock.now - NOW) == (202, waited_s)


@pytest.mark.parametrize(("longest_s", "deliver_to"), [(0, ["sns", "dynamodb"]), (20, ["sns"])])
def test_a_preference_that_cannot_be_applied_is_ignored(
    api: Api, longest_s: int, deliver_to: list[str]
) -> None:
    api.deploy(longest_s)
    status, _, headers = api(post({"input_data": {}, "deliver_to": deliver_to}, TEN))
    assert (status, api.paused, "Preference-Applied" in headers) == (202, 0, False)


def test_a_repeated_request_whose_execution_is_final_is_200_without_a_place(api: Api) -> None:
    api(post(headers=KEYED))
    api.end(Status.FAILED)
    api.places = WaitingPlaces(api.table.name, api.client, limit=0)
    api.deploy()
    status, document, headers = api(post(headers=KEYED | TEN))
    assert (status, document["status"], headers["Preference-Applied"]) == (200, "FAILED", "wait=10")
    assert api.paused == 0
    assert api(post(headers=KEYED))[0] == 202


def test_a_repeated_request_waits_for_the_same_execution(api: Api, machine: Machine) -> None:
    answers = []

    def repeat(pause: int) -> None:
        if pause == 1:
            answers.append(api(post(headers=KEYED | TEN)))
        if pause == 4:
            api.end()

    api.during = repeat
    answers.append(api(post(headers=KEYED | TEN)))
    assert [(status, document["status"]) for status, document, _ in answers] == [(200, "COMPLETED")] * 2
    assert len(machine.executions()) == 1


def test_an_invalid_request_is_400_without_a_wait(api: Api) -> None:
    assert api(post({"input_data": []}, TEN))[0] == 400
    assert api.paused == 0


# GET


def test_a_get_returns_the_outcome_when_it_is_known(api: Api) -> None:
    api.put(running_record())
    api.end_in_pause(4)
    status, document, headers = api(wait("10"))
    assert (status, document["status"], document["final_output"]) == (200, "COMPLETED", {"text": "done"})
    assert headers.keys() == {"Content-Type"}
    assert api.clock.now - NOW == 2


def test_a_get_without_an_outcome_in_time_returns_the_status_after_the_wait(api: Api) -> None:
    api.put(record())
    api.during = lambda pause: api.put(running_record()) if pause == 2 else None
    status, document, headers = api(wait("3"))
    assert (status, document["status"], "Retry-After" in headers) == (200, "RUNNING", True)
    assert api.clock.now - NOW == 3


@pytest.mark.parametrize("text", ["", "-1", "+5", "1.5", "1e3", "ten", " 5", "²"])
def test_a_wait_that_is_no_whole_number_is_400(api: Api, text: str) -> None:
    api.put(running_record())
    status, error, _ = api(wait(text))
    assert (status, api.paused) == (400, 0)
    assert error["detail"].startswith("wait: expected a whole number of seconds")


@pytest.mark.parametrize(("text", "waited_s"), [("0", 0), ("007", 7), ("9" * 5_000, 20)])
def test_any_whole_number_is_a_wait(api: Api, text: str, waited_s: float) -> None:
    api.put(running_record())
    assert api(wait(text))[0] == 200
    assert api.clock.now - NOW == waited_s


def test_a_wait_of_0_is_answered_where_waiting_is_impossible(api: Api) -> None:
    api.put(running_record(deliver_to=("sns",)))
    api.deploy(0)
    assert api(wait("0"))[0] == 200


@pytest.mark.parametrize(
    ("longest_s", "deliver_to", "reason"),
    [(0, ("sns", "dynamodb"), "MaxWaitSeconds is 0"), (20, ("sns",), "deliver_to")],
)
@pytest.mark.parametrize("stored", [running_record(), final_record()])
def test_a_wait_that_is_impossible_is_400(
    api: Api, stored: ExecutionRecord, longest_s: int, deliver_to: tuple[str, ...], reason: str
) -> None:
    api.put(replace(stored, deliver_to=deliver_to))
    api.deploy(longest_s)
    status, error, _ = api(wait("5"))
    assert (status, api.paused) == (400, 0)
    assert reason in error["detail"]


def test_a_get_of_a_final_execution_does_not_wait(api: Api) -> None:
    api.put(final_record(Status.FAILED))
    status, document, headers = api(wait("10"))
    assert (status, document["status"], list(headers), api.paused) == (200, "FAILED", ["Content-Type"], 0)


def test_an_operator_waits_for_an_execution_of_another_caller(api: Api) -> None:
    operator = "arn:aws:iam::123456789012:user/eve"
    api.deploy(operators=(operator,))
    api.put(running_record())
    status, document, _ = api(wait("1", caller=operator))
    assert (status, document["status"], document["caller"], api.paused > 0) == (200, "RUNNING", CALLER, True)


@pytest.mark.parametrize("caller", ["arn:aws:iam::123456789012:user/eve"])
def test_another_caller_is_404_without_a_wait(api: Api, caller: str) -> None:
    api.put(running_record())
    assert api(wait("10", caller=caller))[0] == 404
    assert api.paused == 0


# Both


def test_a_cancel_ends_the_wait(api: Api) -> None:
    api.end_in_pause(2, Status.CANCELLED)
    status, document, _ = api(post(headers=TEN))
    assert (status, document["status"], api.paused) == (200, "CANCELLED", 2)


def test_a_record_that_is_erased_is_404_for_a_get_and_202_for_a_post(api: Api) -> None:
    erased = api.put(running_record())
    api.during = lambda _pause: api.table.delete(erased)
    assert api(wait("10"))[0] == 404
    api.during = lambda _pause: api.table.delete(api.table.only()) if api.table.all() else None
    assert api(post(headers=TEN))[0] == 202
    assert api.paused == 2


def test_a_table_that_fails_ends_the_wait_with_the_usual_answer(api: Api) -> None:
    def fail(pause: int) -> None:
        if pause == 3:
            api.client.faults = {"get_item": client_error("ThrottlingException")}

    api.during = fail
    assert api(post(headers=TEN))[0] == 202
    assert api.paused == 3 + 4
    api.put(running_record())
    status, document, _ = api(wait("10"))
    assert (status, document["status"], api.paused) == (200, "RUNNING", 7 + 5)


def test_a_table_that_fails_before_the_wait_does_not_refuse_an_accepted_request(api: Api) -> None:
    api.client.faults = {"update_item": client_error("ProvisionedThroughputExceededException")}
    assert api(post(headers=TEN))[0] == 202
    api.put(running_record())
    assert api(wait("10"))[0] == 200
    assert api.paused == 0


def test_without_a_place_the_usual_answer_is_immediate_and_is_counted(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        api.places.take(api.places.new(NOW + 60), NOW)
    with log_of(app) as log:
        status, *_ = api(post(headers=TEN))
    logs = CapturedLogs.read(log.getvalue() + capsys.readouterr().out)
    assert (status, api.paused) == (202, 0)
    assert logs.metrics["WaitersRefused"] == [1]
    assert (logs.lines[0]["wait_result"], logs.lines[0]["waited_s"]) == ("no_place", 0)


def test_the_log_line_has_the_result_of_the_wait(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    api.end_in_pause(3)
    with log_of(app) as log:
        api(post(headers=TEN))
    logs = CapturedLogs.read(log.getvalue() + capsys.readouterr().out)
    (line,) = logs.lines
    assert (line["wait_result"], line["waited_s"], line["outcome"]) == ("final", 1.5, "COMPLETED")
    assert "WaitersRefused" not in logs.metrics


def test_a_document_that_fails_after_the_outcome_is_the_usual_answer(api: Api) -> None:
    class FailingDocuments:
        @staticmethod
        def document(*_: object, **__: object) -> str:
            """Fail, as reading the delivery of a webhook may."""
            raise client_error("ThrottlingException")

    api.documents = FailingDocuments()
    api.deploy()
    api.end_in_pause(2)
    assert api(post(headers=TEN))[0] == 202
    stored = api.put(running_record())
    api.during = lambda _pause: api.table.put(final_with(stored))
    status, document, headers = api(wait("10"))
    assert (status, document["status"], "Retry-After" in headers) == (200, "RUNNING", True)


def test_the_progress_after_a_wait_is_that_of_the_record(
    invoke: Invoke, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.invoke.CONTEXT", ApiContext())
    table.put(running_record(caller=CALLER, progress=30.0, deadline=FAR, expires_at=FAR))
    with ScriptedServer([reply(200, {"status": "RUNNING", "progress": 40.0})]) as server:
        answers = [invoke(app, event, WATERFLAI_BASE_URL=server.url) for event in (wait("1"), get())]
    assert [json.loads(answer["body"])["progress"] for answer in answers] == [30, 40]
