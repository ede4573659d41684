"""The samples in events/ have the form of the functions' real inputs."""

import json
from typing import Any

import pytest

from tests.contract.template import ROOT
from waterhook.api.routes import ROUTES
from waterhook.domain.loop_state import LoopState
from waterhook.domain.request import Request, RequestDefaults
from waterhook.domain.trigger_input import TriggerInput
from waterhook.domain.webhook import url_problem
from waterhook.domain.webhook_url import WebhookRules

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
