"""The webhook of a request: its checks at intake, and what it receives."""

from ipaddress import ip_network
from typing import Any

import pytest

from tests.support.builders import DEFAULTS, request_dict
from waterhook.domain.request import Request, RequestDefaults
from waterhook.domain.status import Status
from waterhook.domain.webhook import EVENTS, TERMINAL_EVENTS, Webhook, webhook_problem
from waterhook.domain.webhook_url import WebhookRules
from waterhook.errors import InvalidRequestError

URL = "https://hooks.example.com/waterhook?token=s3cret"
RULES = WebhookRules(("*.example.com", "10.1.2.3"), (ip_network("10.0.0.0/8"),))
DEFAULT = Webhook("https://default.example.com/", is_default=True)
ON = RequestDefaults(DEFAULTS.timeout_s, DEFAULTS.deliver_to, webhook_rules=RULES, webhook=DEFAULT)


def webhook_of(value: Any, defaults: RequestDefaults = ON) -> Webhook | None:
    return Request.from_dict(request_dict(webhook=value), defaults).webhook


def test_a_webhook_receives_every_outcome_in_full_by_default() -> None:
    assert webhook_of({"url": URL}) == Webhook(URL, TERMINAL_EVENTS, "full")
    assert webhook_of({"url": URL, "events": None, "payload": None}) == Webhook(URL)


def test_a_request_chooses_events_and_payload() -> None:
    chosen = webhook_of({"url": URL, "events": ["progress", "completed", "progress"], "payload": "thin"})
    assert chosen == Webhook(URL, ("progress", "completed"), "thin")
    assert chosen.wants_progress
    assert chosen.wants(Status.COMPLETED)
    assert not chosen.wants(Status.FAILED)


def test_each_outcome_has_an_event_and_progress_is_not_a_default() -> None:
    assert {status for status in Status if Webhook(URL).wants(status)} == {
        status for status in Status if status.is_final
    }
    assert set(EVENTS) - set(TERMINAL_EVENTS) == {"progress"}
    assert not Webhook(URL).wants_progress


def test_a_request_without_a_webhook_gets_that_of_the_deployment() -> None:
    assert Request.from_dict(request_dict(), ON).webhook == DEFAULT
    assert webhook_of(None) == DEFAULT
    assert Request.from_dict(request_dict(), DEFAULTS).webhook is None


def test_false_opts_out_of_the_webhook_of_the_deployment() -> None:
    assert webhook_of(False) is None  # noqa: FBT003 - the value of the field
    assert webhook_of(False, DEFAULTS) is None  # noqa: FBT003


def test_a_webhook_does_not_change_the_hash_of_a_request() -> None:
    with_webhook = Request.from_dict(request_dict(webhook={"url": URL}), ON)
    assert with_webhook.sha256 == Request.from_dict(request_dict(), ON).sha256


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (True, "webhook: expected object or false, got boolean"),
        ("https://hooks.example.com/", "webhook: expected object or false, got string"),
        ([URL], "webhook: expected object or false, got list"),
        ({}, "webhook.url: missing, expected string"),
        ({"url": None}, "webhook.url: missing, expected string"),
        ({"url": 5}, "webhook.url: expected string, got number"),
        ({"url": "http://hooks.example.com/"}, "webhook.url: expected https://"),
        ({"url": "https://ada:pw@hooks.example.com/"}, "webhook.url: a user name or password is not allowed"),
        ({"url": URL + "#part"}, "webhook.url: a fragment (#) is not allowed"),
        ({"url": URL + "x" * 2000}, "webhook.url: longer than 2,000 characters"),
        ({"url": "https://example.org/"}, "the host example.org is not in WebhookAllowedHosts"),
        (
            {"url": URL, "event": ["completed"]},
            "webhook: unknown field event; known are url, events, payload",
        ),
        ({"url": URL, "events": []}, "webhook.events: expected a list of one or more of completed, failed"),
        (
            {"url": URL, "events": ["done"]},
            "webhook.events: expected a list of one or more of completed, failed",
        ),
        ({"url": URL, "events": "completed"}, "webhook.events: expected a list of one or more of"),
        ({"url": URL, "events": [["completed"]]}, "webhook.events: expected a list of one or more of"),
        ({"url": URL, "payload": "small"}, "webhook.payload: expected full or thin"),
        ({"url": URL, "payload": ["full"]}, "webhook.payload: expected full or thin"),
    ],
)
def test_an_invalid_webhook_is_refused_with_its_reason_and_without_its_url(value: Any, problem: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        webhook_of(value)
    assert problem in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert "pw@" not in str(caught.value)


def test_a_webhook_is_refused_where_webhooks_are_off() -> None:
    with pytest.raises(InvalidRequestError, match="webhooks are off in this deployment"):
        webhook_of({"url": URL}, DEFAULTS)


def test_a_private_address_needs_an_allowed_host_and_an_allowed_network() -> None:
    assert webhook_problem({"url": "https://10.1.2.3/"}, RULES) is None
    without_networks = WebhookRules(RULES.allowed_hosts)
    assert "not public" in str(webhook_problem({"url": "https://10.1.2.3/"}, without_networks))


def test_the_representation_of_a_webhook_has_no_url() -> None:
    assert "s3cret" not in repr(Webhook(URL))
    assert "s3cret" not in repr(Request.from_dict(request_dict(webhook={"url": URL}), ON))


def test_a_webhook_survives_its_form_in_a_record() -> None:
    webhook = Webhook(URL, ("failed", "progress"), "thin")
    assert Webhook.from_mapping(webhook.to_mapping()) == webhook
    assert Webhook.from_mapping(DEFAULT.to_mapping()) == DEFAULT


def test_the_host_of_a_url_that_an_earlier_version_accepted_is_invalid() -> None:
    assert Webhook("ftp://hooks.example.com/").host == "invalid"
    assert Webhook(URL).host == "hooks.example.com"
