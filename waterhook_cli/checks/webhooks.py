"""Checks the webhooks: hosts that fail, deliveries that failed or are late, and the parameters."""

from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network

from waterhook.domain.webhook_delivery import DeliveryStatus
from waterhook.domain.webhook_host import OPEN_AFTER, HostState
from waterhook.domain.webhook_url import DEFAULT_PORT, WebhookRules, WebhookUrl
from waterhook.storage.webhook_deliveries import DUE_SHARDS, WebhookDeliveries
from waterhook.storage.webhook_hosts import WebhookHosts
from waterhook.timestamps import to_rfc3339
from waterhook_cli.checks.finding import Finding, deploy_hint
from waterhook_cli.output import format_age, format_time

# Two sweeps have not sent a delivery that is due for this long.
_OVERDUE_S = 1800.0
_MAX_HOSTS_SHOWN = 10
_RUNBOOK = "docs/runbook/WebhookDeadLettersAlarm.md"


def check_webhooks(
    deliveries: WebhookDeliveries,
    hosts: WebhookHosts,
    now: float,
    parameters: Mapping[str, str],
    stack_options: str = "",
) -> Iterator[Finding]:
    """Check that no host fails, that no delivery failed or is overdue, and that each allowed address can be used.

    `stack_options`: options of a `waterhook` command that uses the same stack. Raises RecordUnavailableError.
    """
    findings = [
        *check_rules(parameters),
        *_host_findings(hosts.all(), now, stack_options),
        *_overdue_finding(deliveries, now),
        *_failed_finding(deliveries, stack_options),
    ]
    yield from findings or [Finding.ok("no webhook failed or is overdue, and no host fails")]


def check_rules(parameters: Mapping[str, str]) -> Iterator[Finding]:
    """Check that the parameters allow each address in WebhookAllowedHosts. Names are not resolved."""
    allowed_hosts = tuple(filter(None, parameters.get("WebhookAllowedHosts", "").split(",")))
    try:
        networks = tuple(
            map(ip_network, filter(None, parameters.get("WebhookAllowedNetworks", "").split(",")))
        )
    except ValueError as error:
        yield Finding.problem(
            f"WebhookAllowedNetworks is not valid: {error}. The functions fail",
            deploy_hint("WebhookAllowedNetworks=NETWORKS", "such as 10.0.0.0/16,fd00:1::/64"),
        )
        return
    rules = WebhookRules(allowed_hosts, networks)
    for host in allowed_hosts:
        try:
            ip_address(host)
        except ValueError:
            continue
        if problem := rules.host_problem(WebhookUrl(host, DEFAULT_PORT, "/")):
            yield Finding.warning(
                f"{host} is in WebhookAllowedHosts, but no webhook is sent to it: {problem}",
                deploy_hint("WebhookAllowedHosts=HOSTS", "without this address")
                if "never allowed" in problem
                else deploy_hint("WebhookAllowedNetworks=NETWORKS", "with the network of this address"),
            )


def _host_findings(states: list[tuple[str, HostState]], now: float, stack_options: str) -> Iterator[Finding]:
    """Yield a finding for each host that fails, those with the most failures in a row first."""
    failing = sorted((entry for entry in states if entry[1].failures), key=lambda entry: -entry[1].failures)
    for host, state in failing[:_MAX_HOSTS_SHOWN]:
        times = "time" if state.failures == 1 else "times in a row"
        last = f", the last time at {_time(state.last_failed_at)}" if state.last_failed_at else ""
        message = f"the host {host} failed {state.failures} {times}{last} ({state.last_error})"
        hint = f"See {_RUNBOOK}. List its webhooks: waterhook deliveries --host {host}"
        if now < state.open_until:
            yield Finding.warning(
                f"{message}. Its webhooks wait until {_time(state.open_until)}", hint + stack_options
            )
        elif state.failures >= OPEN_AFTER:
            yield Finding.warning(f"{message}. One attempt at a time is made", hint + stack_options)
        else:
            yield Finding.note(message, hint + stack_options)
    if rest := failing[_MAX_HOSTS_SHOWN:]:
        yield Finding.warning(
            f"{len(rest)} more host{'s fail' if len(rest) > 1 else ' fails'}",
            f"List the webhooks that are not delivered: waterhook deliveries{stack_options}",
        )


def _overdue_finding(deliveries: WebhookDeliveries, now: float) -> Iterator[Finding]:
    times = [
        entry.next_at
        for shard in DUE_SHARDS
        for entry in deliveries.due(shard, now - _OVERDUE_S)
        if entry.status is DeliveryStatus.PENDING
    ]
    if times:
        yield Finding.problem(
            f"webhooks that are overdue: {len(times)}, the oldest for {format_age(now - min(times))}",
            "The deliver function or its sweep fails. See docs/runbook/DeliverAlarm.md.",
        )


def _failed_finding(deliveries: WebhookDeliveries, stack_options: str) -> Iterator[Finding]:
    failed = list(deliveries.failed())
    if failed:
        newest = max(failed, key=lambda entry: entry.next_at)
        yield Finding.warning(
            f"webhooks that failed permanently: {len(failed)}, the newest at {_time(newest.next_at)} to {newest.host}",
            f"Find the cause with {_RUNBOOK}. Then send them again: waterhook resend --failed{stack_options}",
        )


def _time(epoch_s: float | None) -> str:
    return format_time(to_rfc3339(epoch_s))
