"""The samples in events/ have the form of the functions' real inputs."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from aws_lambda_powertools.utilities.parser.models import EventBridgeModel, SnsModel, SqsModel

from tests.contract.markdown import table
from tests.contract.template import ROOT
from tests.fakes.clock import NOW
from tests.support import samples
from tests.support.builders import SOURCE
from tests.support.outcomes import final_record
from tests.support.write_samples import to_text, written
from waterhook.api.routes import ROUTES
from waterhook.domain.loop_state import LoopState
from waterhook.domain.request import Request, RequestDefaults
from waterhook.domain.trigger_input import TriggerInput
from waterhook.domain.webhook import url_problem
from waterhook.domain.webhook_url import WebhookRules
from waterhook.notifications import notification_events
from waterhook.notifications.webhook_requests import WebhookRequests
from waterhook.steps.webhook_test import WebhookTester
from waterhook.webhooks.sender import Attempt

DEFAULTS = RequestDefaults(timeout_s=60, deliver_to=("sns",))
FUNCTIONS = {path.parent.name for path in (ROOT / "functions").glob("*/app.py")}
ARN = "arn:aws:states:us-east-1:123456789012:execution:waterhook:any"


def sample(name: str) -> Any:
    return json.loads((ROOT / "events" / f"{name}.json").read_text(encoding="utf-8"))


def test_each_function_has_a_sample() -> None:
    names = {path.stem.partition("-")[0] for path in (ROOT / "events").glob("*.json")}
    assert names >= FUNCTIONS


@pytest.mark.parametrize("name", ["follow", "poll", "cancel", "notify"])
def test_the_sample_of_a_step_has_a_valid_loop_state(name: str) -> None:
    event = sample(name)
    assert LoopState.from_dict(event["state"]).to_dict() == event["state"]
    assert set(event["execution"]) == {"arn", "started_at"}


@pytest.mark.parametrize(
    ("event", "source"),
    [
        (sample("request"), "states"),
        (sample("start")["input"], "states"),
        (sample("eventbridge"), "events"),
        (sample("schedule"), "schedule"),
    ],
    ids=["request", "start", "eventbridge", "schedule"],
)
def test_the_sample_of_a_trigger_is_a_valid_request(event: Any, source: str) -> None:
    read = TriggerInput.read(event, execution_arn=ARN, started_at="2026-01-01T00:00:00Z", defaults=DEFAULTS)
    assert (read.problem, read.source) == (None, source)
    assert read.request is not None
    assert read.request.chatbot_id == "support-chat"


def test_the_detail_of_the_event_bus_sample_is_a_valid_request() -> None:
    (entry,) = sample("bus")
    assert entry["DetailType"] == "Waterflai Execution Requested"
    assert Request.from_dict(json.loads(entry["Detail"]), DEFAULTS).chatbot_id == "support-chat"


def test_the_sample_of_reconcile_has_only_arn_status_and_event_id() -> None:
    assert set(sample("reconcile")) == {"arn", "status", "event_id"}


def test_the_sample_of_deliver_has_one_message_with_ids_only() -> None:
    (message,) = sample("deliver")["Records"]
    assert message["eventSource"] == "aws:sqs"
    body = json.loads(message["body"])
    assert body.keys() == {"execution_id", "event_id"}
    assert body["event_id"].partition("/")[0] == body["execution_id"]
    assert sample("deliver-sweep") == {"sweep": {}}


def test_the_samples_of_operators_have_the_fields_that_deliver_reads() -> None:
    resend, test = sample("deliver-resend"), sample("deliver-test")
    assert (resend.keys(), resend["resend"].keys()) == ({"resend"}, {"execution_id"})
    assert (test.keys(), test["test"].keys()) == ({"test"}, {"url"})
    assert url_problem(test["test"]["url"], WebhookRules(("hooks.example.com",))) is None


@pytest.mark.parametrize("name", ["api-start", "api-read", "api-list", "api-cancel"])
def test_the_sample_of_an_api_request_has_a_route(name: str) -> None:
    event = sample(name)
    assert (event["httpMethod"], event["resource"]) in ROUTES


def test_each_sample_is_listed() -> None:
    document = (ROOT / "events" / "README.md").read_text(encoding="utf-8")
    listed = [
        name
        for heading in ("Sample", "Notification")
        for row in table(document, heading)
        for name in row[0].split(", ")
    ]
    files = [path for path in (ROOT / "events").rglob("*.*") if path.name != "README.md"]
    assert sorted(listed) == sorted(path.name for path in files)


# What subscribers and receivers get


def test_the_samples_of_notifications_are_up_to_date() -> None:
    expected = {f"{name}.json": to_text(event) for name, event in written().items()}
    found = {path.name: path.read_text(encoding="utf-8") for path in samples.FOLDER.iterdir()}
    assert found == expected, "run `make schemas`"


def test_the_sample_of_a_webhook_test_equals_what_is_sent() -> None:
    requests = WebhookRequests(Keys(), lambda _ref: "", SOURCE, lambda: NOW)
    sender = Sender()
    rules = WebhookRules(("hooks.example.com",))
    WebhookTester(rules, requests, sender, SOURCE, lambda: NOW + 60).test(sample("deliver-test")["test"])
    (body,) = sender.bodies
    assert samples.read("webhook-test") == body | {"id": samples.read("webhook-test")["id"]}


def test_the_envelopes_have_the_form_that_powertools_reads() -> None:
    text = notification_events.outcome_event(final_record("completed"), SOURCE)
    (delivered,) = SnsModel.model_validate(samples.read("sns-lambda")).Records
    assert delivered.Sns.Message == text
    (received,) = SqsModel.model_validate(samples.read("sqs-lambda")).Records
    assert received.body == text
    event = EventBridgeModel.model_validate(samples.read("eventbridge"))
    assert event.detail == samples.read("completed")
    assert (event.source, event.detail_type) == ("waterhook", samples.read("completed")["type"])


class Keys:
    """The key of any host."""

    def keys_for(self, host: str) -> list[bytes]:
        return [host.encode()]


class Sender:
    """Keeps the body of each request."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []

    def prepare(self) -> None:
        """Read nothing."""

    def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> Attempt:
        self.bodies.append(json.loads(body))
        return Attempt(200)
