"""The check of webhooks: hosts that fail, failed and overdue deliveries, and the parameters."""

from typing import Any

import pytest

from tests.fakes.aws import FailingClient, WebhookTable, client_error
from tests.fakes.clock import NOW
from tests.unit.waterhook_cli.checks.helpers import NOTE, OK, PROBLEM, UNKNOWN, WARNING, only
from tests.unit.waterhook_cli.webhook_items import HOST, store
from waterhook.domain.webhook_delivery import DeliveryStatus
from waterhook.storage.webhook_deliveries import WebhookDeliveries
from waterhook.storage.webhook_hosts import WebhookHosts
from waterhook_cli.checks.finding import Check, Finding
from waterhook_cli.checks.webhooks import check_rules, check_webhooks

PENDING, DELIVERED, FAILED, GONE = DeliveryStatus
ALLOWED = {"WebhookAllowedHosts": "hooks.example.com"}


def findings(
    table: WebhookTable, *, now: float = NOW, client: Any = None, parameters: dict[str, str] | None = None
) -> list[Finding]:
    client = client or table.client
    check = check_webhooks(
        WebhookDeliveries(table.name, client),
        WebhookHosts(table.name, client, limit=1),
        now,
        parameters or ALLOWED,
        " --stack shop",
    )
    return list(check)


def fail(table: WebhookTable, times: int, host: str = HOST, error: str = "timeout") -> None:
    """Let attempts at a host fail, a second after the other."""
    hosts = WebhookHosts(table.name, table.client, limit=100)
    for number in range(times):
        hosts.enter(host, f"token {number}", NOW, held_back_s=0)
    for number in range(times):
        hosts.leave(host, f"token {number}", NOW + number, host_failed=True, error=error)


def test_delivered_webhooks_are_fine(webhook_table: WebhookTable) -> None:
    for number, status in enumerate([PENDING, DELIVERED, GONE]):
        store(webhook_table, number, status, has_cleanup=True)
    fail(webhook_table, 1)
    hosts = WebhookHosts(webhook_table.name, webhook_table.client, limit=1)
    hosts.enter(HOST, "last", NOW + 10, held_back_s=0)
    hosts.leave(HOST, "last", NOW + 11, host_failed=False, error=None)
    assert only(findings(webhook_table)).level == OK


def test_a_host_whose_breaker_is_open_is_a_warning_with_its_end(webhook_table: WebhookTable) -> None:
    fail(webhook_table, 5)
    finding = only(findings(webhook_table, now=NOW + 10))
    assert finding.level == WARNING
    assert finding.message == (
        f"the host {HOST} failed 5 times in a row, the last time at 2026-01-01T00:00:04Z (timeout). "
        "Its webhooks wait until 2026-01-01T00:01:04Z"
    )
    assert finding.hint.endswith(f"waterhook deliveries --host {HOST} --stack shop")
    assert "docs/runbook/WebhookDeadLettersAlarm.md" in finding.hint
    assert "One attempt at a time" in only(findings(webhook_table, now=NOW + 100)).message


def test_a_host_that_failed_less_often_is_a_note(webhook_table: WebhookTable) -> None:
    fail(webhook_table, 1, error="tls")
    finding = only(findings(webhook_table))
    assert (finding.level, "failed 1 time, the last time" in finding.message) == (NOTE, True)


def test_the_hosts_with_the_most_failures_are_named_and_the_others_counted(
    webhook_table: WebhookTable,
) -> None:
    for number in range(12):
        fail(webhook_table, 2 if number == 11 else 1, host=f"host-{number}.example.com")
    found = findings(webhook_table)
    assert (len(found), "host-11" in found[0].message) == (11, True)
    assert found[-1].message == "2 more hosts fail"


def test_failed_deliveries_are_counted_with_the_newest(webhook_table: WebhookTable) -> None:
    store(webhook_table, 1, FAILED, at=NOW + 60, has_cleanup=True, host="new.example.com")
    store(webhook_table, 2, FAILED)
    finding = only(findings(webhook_table, now=NOW + 10**6))
    assert finding.level == WARNING
    assert finding.message == (
        "webhooks that failed permanently: 2, the newest at 2026-01-01T00:01:00Z to new.example.com"
    )
    assert finding.hint.endswith("waterhook resend --failed --stack shop")


def test_an_overdue_delivery_is_a_problem(webhook_table: WebhookTable) -> None:
    store(webhook_table, 1, PENDING)  # due after 5 minutes
    assert only(findings(webhook_table, now=NOW + 300 + 1799)).level == OK
    finding = only(findings(webhook_table, now=NOW + 300 + 7200))
    assert finding.level == PROBLEM
    assert finding.message == "webhooks that are overdue: 1, the oldest for 2 h"


@pytest.mark.parametrize(
    ("hosts", "networks", "level"),
    [
        ("10.0.0.5", "", WARNING),
        ("10.0.0.5", "10.1.0.0/16", WARNING),
        ("hooks.example.com,10.0.0.5", "10.0.0.0/16", None),
        ("169.254.169.254", "169.254.0.0/16", WARNING),
        ("*", "", None),
        ("hooks.example.com,*.example.org,8.8.8.8,2606:4700::1111", "", None),
        ("*", "10.0.0.1/8", PROBLEM),
        ("", "", None),
    ],
)
def test_an_allowed_address_that_is_refused_is_reported(hosts: str, networks: str, level: str | None) -> None:
    found = list(check_rules({"WebhookAllowedHosts": hosts, "WebhookAllowedNetworks": networks}))
    assert [finding.level for finding in found] == ([level] if level else [])


@pytest.mark.parametrize(
    ("host", "parameter"),
    [("10.0.0.5", "WebhookAllowedNetworks=NETWORKS"), ("169.254.169.254", "WebhookAllowedHosts=HOSTS")],
)
def test_the_hint_names_the_parameter_to_change(host: str, parameter: str) -> None:
    assert parameter in only(check_rules({"WebhookAllowedHosts": host})).hint


def test_without_permission_the_webhooks_are_not_checked(webhook_table: WebhookTable) -> None:
    denied = FailingClient(webhook_table.client, {"query": client_error("AccessDeniedException")})
    finding = only(Check("webhooks", lambda: findings(webhook_table, client=denied)).findings())
    assert finding.level == UNKNOWN
    assert "webhooks: not checked, you are not allowed to (AnyOperation)" in finding.message
    broken = FailingClient(webhook_table.client, {"query": client_error("InternalServerError", 500)})
    finding = next(Check("webhooks", lambda: findings(webhook_table, client=broken)).findings())
    assert (finding.level, "InternalServerError" in finding.message) == (UNKNOWN, True)
