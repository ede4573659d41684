"""A client that is generated from openapi.yaml starts, reads, lists and cancels executions, with typed results."""

from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from local.local_aws.stack_client import StackClient
from tests.contract.markdown import fences
from tests.e2e.executions import LONG_JOB
from tests.support import generated_client
from tests.support.waiting import until

TOO_MANY = HTTPStatus.TOO_MANY_REQUESTS


class Client:
    """The generated package, with a connected client of the deployed API."""

    def __init__(self, connected: Any) -> None:
        self.models: Any = generated_client.module(".models")
        self._client = connected

    def call(self, operation: str, *arguments: str, **parameters: Any) -> Any:
        """Return the answer of an operation. 429 is repeated: all functions are busy with other tests."""
        module = generated_client.module(f".api.executions.{operation}")

        def answer() -> Any:
            found = module.sync_detailed(*arguments, client=self._client, **parameters)
            return None if found.status_code == TOO_MANY else found

        return until(answer, pause_s=0.5)

    def start(self, chatbot_id: str, input_data: dict[str, Any], **fields: Any) -> Any:
        body = self.models.Request(input_data=self.models.InputData.from_dict(input_data), **fields)
        return self.call("start_execution", chatbot_id, body=body)

    def read(self, execution_id: str) -> Any:
        return self.call("read_execution", execution_id).parsed


@pytest.fixture
def client(stack: StackClient) -> Iterator[Client]:
    with generated_client.module().AuthenticatedClient(
        base_url=stack.outputs.api_url,
        token=stack.outputs.api_key,
        prefix="",
        auth_header_name="x-api-key",
        # Without proxies, because the API is on the loopback interface.
        httpx_args={"trust_env": False},
    ) as connected:
        yield Client(connected)


def test_the_example_of_the_recipe_starts_an_execution(
    stack: StackClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipes = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
    (example,) = (fence.text for fence in fences(recipes, "python") if "waterhook_client" in fence.text)
    generated_client.module()
    environment = {"API_URL": stack.outputs.api_url, "API_KEY": stack.outputs.api_key, "NO_PROXY": "*"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    exec(example, {})  # noqa: S102 - the text of the document
    assert stack.item(capsys.readouterr().out.strip()) is not None


def test_a_generated_client_uses_the_api(client: Client, marker: str) -> None:
    models = client.models
    metadata = models.Metadata.from_dict({"marker": marker})
    accepted = client.start(
        "instant", {"query": "why?"}, metadata=metadata, deliver_to=[models.DeliveryTarget.DYNAMODB]
    ).parsed
    assert isinstance(accepted, models.Accepted)

    def final() -> Any:
        execution = client.read(accepted.execution_id)
        return execution if execution.completed_at else None

    execution = until(final)
    assert isinstance(execution, models.Execution)
    assert (execution.status, execution.chatbot_id) == (models.Status.COMPLETED, "instant")
    assert execution.metadata.to_dict() == {"marker": marker}
    assert execution.final_output is not None
    assert isinstance(execution.usage, models.Usage)

    assert accepted.execution_id in listed(client)

    running = client.start("support-chat", {"simulate": LONG_JOB}, timeout_seconds=60).parsed.execution_id
    until(lambda: client.read(running).status is models.Status.RUNNING)
    cancelled = client.call("cancel_execution", running)
    assert (cancelled.status_code, cancelled.parsed.cancelled) == (HTTPStatus.OK, True)
    assert isinstance(cancelled.parsed, models.Cancelled)
    assert client.read(running).error.code == "cancelled"

    missing = client.call("read_execution", "0" * 32)
    assert (missing.status_code, type(missing.parsed)) == (HTTPStatus.NOT_FOUND, models.Error)
    wrong = client.start("instant", {}, timeout_seconds=0)
    assert (wrong.status_code, type(wrong.parsed)) == (HTTPStatus.BAD_REQUEST, models.Error)
    assert wrong.parsed.detail.startswith("timeout_seconds: ")


def listed(client: Client) -> set[str]:
    """Return the ids of the newest executions. Other tests start some with the same key."""
    ids: set[str] = set()
    more: dict[str, str] = {}
    for _ in range(3):
        page = client.call("list_executions", limit=100, **more).parsed
        assert isinstance(page, client.models.ExecutionPage)
        ids |= {entry.execution_id for entry in page.executions}
        more = {"next_": page.next_} if page.next_ else more
    return ids
