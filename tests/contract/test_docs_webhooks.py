"""docs/webhooks.md and the parts of docs/contract.md about webhooks agree with the code, and the examples work."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import fields
from typing import Any

import pytest
import yaml
from standardwebhooks import WebhookVerificationError

from benchmarks import webhook_cost
from tests.contract.markdown import fences, names, table
from tests.contract.template import ROOT, source
from tests.fakes.clock import NOW
from tests.support.builders import DEFAULTS, ID, SOURCE, final_record, request_dict
from tests.support.node import NODE, NODE_PACKAGES
from tests.support.waiting import until
from waterhook.api import webhook_status
from waterhook.domain import webhook_host, webhook_retries
from waterhook.domain.request import Request
from waterhook.domain.webhook import EVENTS, FULL, TERMINAL_EVENTS, THIN, Webhook, webhook_problem
from waterhook.domain.webhook_delivery import Delivery, DeliveryStatus
from waterhook.domain.webhook_host import HostState
from waterhook.domain.webhook_url import WebhookRules
from waterhook.notifications.notification_events import outcome_event
from waterhook.notifications.webhook_requests import UnsignedRequest, WebhookRequests
from waterhook.steps import deliver_progress, delivered
from waterhook.storage import webhook_deliveries
from waterhook.storage.webhook_deliveries import WebhookDeliveries
from waterhook.storage.webhook_hosts import WebhookHosts
from waterhook.webhooks import signing_keys
from waterhook.webhooks.cached_secret import CACHE_S
from waterhook.webhooks.sender import Attempt, AttemptError
from waterhook.webhooks.signature import derive_key, shown_secret
from waterhook_cli.forward import Forwarding, LoopbackSender, LoopbackUrl, SessionKey
from waterhook_cli.notification import Notification

CONTRACT = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "webhooks.md").read_text(encoding="utf-8")
SCHEMAS = yaml.safe_load((ROOT / "openapi.yaml").read_text(encoding="utf-8"))["components"]["schemas"]
URL = "https://hooks.example.com/waterhook"
RULES = WebhookRules(("hooks.example.com",))
UNITS_S = {"s": 1, "min": 60, "h": 3600}


def first_cells(heading: str) -> list[str]:
    return [row[0] for row in table(CONTRACT, heading)]


def seconds(text: str) -> int:
    """Return the seconds of a text such as `2 h 35 min`."""
    return sum(int(number) * UNITS_S[unit] for number, unit in re.findall(r"(\d+) (\w+)", text))


class Keys:
    """The key of a host."""

    def keys_for(self, host: str) -> list[bytes]:
        return [derive_key("key", host)]


def signed_request(body: dict[str, Any]) -> tuple[dict[str, str], str]:
    """Return the headers and the body of a request that is sent now."""
    text = json.dumps(body)
    requests = WebhookRequests(Keys(), lambda _ref: "", SOURCE, time.time)
    return requests.headers(UnsignedRequest(body["id"], text.encode()), "hooks.example.com"), text


# ---- The request --------------------------------------------------------------------------------------------------


def test_the_fields_of_a_webhook_are_listed() -> None:
    problem = webhook_problem({"nonsense": 1}, RULES) or ""
    listed = first_cells("Webhook field")
    assert listed == problem.partition("known are ")[2].split(", ")
    assert listed == [*SCHEMAS["Webhook"]["properties"]]
    assert SCHEMAS["Webhook"]["required"] == ["url"]


def test_the_events_and_payloads_are_listed() -> None:
    rows = {row[0]: row for row in table(CONTRACT, "Webhook field")}
    properties = SCHEMAS["Webhook"]["properties"]
    assert tuple(names(rows["events"][3])) == tuple(properties["events"]["items"]["enum"]) == EVENTS
    assert names(rows["payload"][3]) == properties["payload"]["enum"] == [FULL, THIN]
    default = Webhook(URL)
    assert (rows["events"][2], default.events) == ("all except `progress`", TERMINAL_EVENTS)
    assert names(rows["payload"][2]) == [properties["payload"]["default"]] == [default.payload]


def test_each_example_of_a_request_is_valid() -> None:
    found = [
        json.loads(text if text.lstrip().startswith("{") else f"{{{text}}}")
        for document in (CONTRACT, GUIDE)
        for text in (fence.text for fence in fences(document, "json"))
        if '"webhook": {"url"' in text
    ]
    assert len(found) == 3
    for example in found:
        assert webhook_problem(example["webhook"], RULES) is None, example


@pytest.mark.parametrize("value", [False, None])
def test_a_request_may_have_no_webhook_although_webhooks_are_off(value: object) -> None:
    assert Request.from_dict(request_dict(webhook=value), DEFAULTS).webhook is None


# ---- What is sent, and what its answers mean ----------------------------------------------------------------------


def test_the_parameters_of_the_guide_have_the_defaults_of_the_template() -> None:
    parameters = source()["Parameters"]
    for name, default, _ in table(GUIDE, "Parameter"):
        assert default.strip("`") == (str(parameters[name]["Default"]) or "none"), name


def test_the_headers_are_listed() -> None:
    headers, _ = signed_request({"id": f"{ID}/1/COMPLETED"})
    assert first_cells("Header") == [*headers]
    (example,) = (fence.text for fence in fences(GUIDE, "http"))
    assert {line.partition(":")[0] for line in example.splitlines()[1:]} == {"Host", *headers}
    for name in ("Content-Type", "User-Agent"):
        assert f"{name}: {headers[name]}\n" in example
        assert f"| `{name}` | `{headers[name]}` |" in CONTRACT


def test_the_delays_between_the_attempts_are_listed() -> None:
    rows = table(GUIDE, "Attempt")
    assert [int(row[0]) for row in rows] == [*range(1, webhook_retries.MAX_ATTEMPTS + 1)]
    assert tuple(seconds(row[1]) for row in rows[1:]) == webhook_retries.DELAYS_S
    for number, row in enumerate(rows):
        assert abs(seconds(row[2]) - sum(webhook_retries.DELAYS_S[:number])) < 60


def test_the_numbers_in_the_text_about_retries_are_those_of_the_code() -> None:
    texts = f"{CONTRACT}{GUIDE}".replace("\n", " ")
    assert (webhook_retries.JITTER, webhook_retries.LAST_ATTEMPT_AGE_S) == (0.1, 73 * 3600)
    assert webhook_retries.MAX_AGE_S == 5 * 86_400
    assert webhook_retries.KEPT_AFTER_S == 86_400
    assert webhook_host.OPEN_AFTER == 5
    assert (webhook_host.FIRST_OPEN_S, webhook_host.LONGEST_OPEN_S) == (60, 15 * 60)
    assert webhook_host.MAX_HELD_BACK_S == 3 * 86_400
    assert (webhook_host.FULL_WAIT_S, webhook_host.LONGEST_FULL_WAIT_S) == (1, 16)
    default = source()["Parameters"]["WebhookConcurrency"]["Default"]
    assert (
        f"The default, {default}, sends {['', 'one', 'two'][webhook_host.share_of(default)]} requests"
        in texts
    )
    assert [webhook_host.share_of(number) for number in (2, 16, 40)] == [1, 4, 10]
    assert deliver_progress.MAX_ATTEMPTS == 3
    assert (CACHE_S, signing_keys.OVERLAP_S, signing_keys.MAX_KEYS) == (5 * 60, 86_400, 3)


def test_the_errors_of_an_attempt_are_listed() -> None:
    rows = {row[0]: row[2] for row in table(CONTRACT, "Error of an attempt")}
    assert [*rows] == [*AttemptError]
    assert (rows.pop("http_status"), rows.pop("no_result")) == ("for 408, 429 and 5xx", "no")
    assert rows == {
        error: "yes" if Attempt(error=error).host_failed else "no" for error in map(AttemptError, rows)
    }
    failing = {code for code in range(300, 600) if Attempt(code, "http_status").host_failed}
    assert failing == {408, 429, *range(500, 600)}


def test_the_statuses_of_a_webhook_are_listed() -> None:
    statuses = [webhook_status.WAITING, webhook_status.NOT_SENT, *DeliveryStatus]
    assert first_cells("Webhook status") == statuses
    assert SCHEMAS["WebhookState"]["properties"]["status"]["enum"] == statuses


def test_the_fields_of_the_webhook_in_a_status_document_are_listed() -> None:
    public = webhook_status.public_webhook(final_record(webhook=Webhook(URL)), None)
    schema = SCHEMAS["WebhookState"]
    assert first_cells("Webhook") == [*(public or {})] == [*schema["properties"]] == schema["required"]


def test_each_result_of_a_message_is_listed() -> None:
    (row,) = (row for row in table(CONTRACT, "Log field") if row[0] == "webhook_result")
    assert names(row[1]) == ["deliver", *delivered.DeliverResult]


def test_the_costs_are_those_that_the_benchmark_prints() -> None:
    document = (ROOT / "docs" / "cost.md").read_text(encoding="utf-8")
    listed = [(row[0], row[1]) for row in table(document, "Webhook")]
    assert listed == [(text, f"{micro_usd:.1f}") for text, micro_usd in webhook_cost.rows()]
    idle = (
        f"${webhook_cost.idle_queue_usd():.2f} for the polls",
        f"${webhook_cost.idle_sweeps_usd():.2f} for the",
    )
    assert all(text in document for text in idle)


# ---- The table of deliveries --------------------------------------------------------------------------------------


class EmptyTable:
    """A client of a table without items. It keeps the attributes of the last written item."""

    def __init__(self) -> None:
        self.kinds: dict[str, str] = {}

    def get_item(self, **_: Any) -> dict[str, Any]:
        return {}

    def put_item(self, **arguments: Any) -> None:
        self.kinds = {name: next(iter(value)) for name, value in arguments["Item"].items()}

    def update_item(self, **arguments: Any) -> None:
        values = arguments["ExpressionAttributeValues"]
        written = {
            name: values[f":{place.removeprefix('#')}"]
            for place, name in arguments["ExpressionAttributeNames"].items()
            if place != "#s"
        }
        self.kinds = {name: next(iter(value)) for name, value in (arguments["Key"] | written).items()}


def test_the_attributes_of_a_delivery_are_listed() -> None:
    attributes = {entry.name for entry in fields(Delivery)} - {"execution_id", "event_id"}
    assert set(first_cells("Delivery attribute")) == attributes | {"pk", "sk", "undelivered"}
    new = Delivery.new(ID, f"{ID}/1/COMPLETED", host="hooks.example.com", now=NOW, expires_at=int(NOW) + 9)
    client: Any = EmptyTable()
    WebhookDeliveries("deliveries", client).claim(new, exists=False, token="t", now=NOW)
    kinds = {row[0]: row[1] for row in table(CONTRACT, "Delivery attribute")}
    assert client.kinds.items() <= kinds.items()
    assert {"pk", "sk", "status", "claim", "undelivered"} <= client.kinds.keys()
    (row,) = (row for row in table(CONTRACT, "Delivery attribute") if row[0] == "status")
    assert names(row[2]) == [*DeliveryStatus]
    assert webhook_deliveries.UNDELIVERED_INDEX == "undelivered"


def test_the_attributes_of_a_host_are_listed() -> None:
    attributes = {entry.name for entry in fields(HostState)}
    kinds = {row[0]: row[1] for row in table(CONTRACT, "Host attribute")}
    assert kinds.keys() == attributes | {"pk", "sk", "version", "expires_at"}
    client: Any = EmptyTable()
    WebhookHosts("deliveries", client, limit=2).enter("a.example", "t", NOW, held_back_s=0)
    assert client.kinds.items() <= kinds.items()
    assert {"pk", "sk", "places", "version"} <= client.kinds.keys()


# ---- The examples of verification ---------------------------------------------------------------------------------


def example(language: str) -> str:
    (found,) = (fence.text for fence in fences(GUIDE, language) if fence.heading == "Verify it")
    return found


def requests_to_verify() -> list[tuple[dict[str, str], str]]:
    """Return a valid request, and one whose body was changed on its way."""
    headers, body = signed_request({"id": f"{ID}/1/COMPLETED", "data": {"final_output": "Größe"}})
    return [(headers, body), (headers, body.replace("COMPLETED", "FAILED"))]


def test_the_example_in_python_accepts_a_signed_request_and_refuses_another() -> None:
    secret = shown_secret(derive_key("key", "hooks.example.com"))
    (headers, body), (_, changed) = requests_to_verify()
    scope: dict[str, Any] = {"secret": secret, "headers": headers, "body": body.encode()}
    exec(example("python"), scope)  # noqa: S102 - the text of the document
    assert scope["event"]["id"] == f"{ID}/1/COMPLETED"
    with pytest.raises(WebhookVerificationError):
        exec(example("python"), scope | {"body": changed.encode()})  # noqa: S102
    with pytest.raises(ValueError, match="not enough values"):
        exec(example("python"), scope | {"headers": headers | {"webhook-signature": "v1"}})  # noqa: S102


def test_the_receiver_on_a_laptop_accepts_what_listen_forwards() -> None:
    (text,) = (
        fence.text for fence in fences(GUIDE, "python") if fence.heading == "Build a receiver on your laptop"
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    secret = shown_secret(b"k" * 32)
    event = Notification.parse(outcome_event(final_record(), SOURCE))
    assert event is not None
    requests = WebhookRequests(SessionKey(secret), str, "", time.time)
    forwarding = Forwarding(requests, LoopbackSender(LoopbackUrl.parse(f"localhost:{port}/hook")), "", str)
    with subprocess.Popen(
        [sys.executable, "-u", "-c", text.replace("3000", str(port))],
        env={"WATERHOOK_WEBHOOK_SECRET": secret},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as receiver:
        code = until(lambda: forwarding.send(event).code, 30, pause_s=0.05)
        receiver.kill()
        assert code == 204
        assert receiver.stdout is not None
        assert receiver.stdout.read().startswith(f"{event.type} {{'execution_id': '{ID}'")


def test_the_example_in_node_accepts_a_signed_request_and_refuses_another() -> None:
    if not NODE_PACKAGES.is_dir():
        pytest.skip("the npm packages are not installed: `make setup` installs them from the npm registry")
    program = f"""
        const secret = process.env.WEBHOOK_SECRET;
        function verify(headers, body) {{
            {example("js")}
            return event.id;
        }}
        for (const [headers, body] of JSON.parse(require("node:fs").readFileSync(0, "utf8")))
            try {{ console.log(verify(headers, Buffer.from(body))); }} catch {{ console.log("refused"); }}
    """
    done = subprocess.run(
        [NODE, "-e", program],
        input=json.dumps(requests_to_verify()),
        env={
            "PATH": os.defpath,
            "NODE_PATH": str(NODE_PACKAGES),
            "WEBHOOK_SECRET": shown_secret(derive_key("key", "hooks.example.com")),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{ID}/1/COMPLETED", "refused"]
