"""AWS clients: their timeouts, and how long a function may take when AWS hangs."""

from types import SimpleNamespace
from typing import Any

import pytest

from tests.contract.template import deployed
from tests.fakes.placeholders import TELEMETRY
from tests.support.builders import environment
from waterhook import aws_config
from waterhook.dependencies import Dependencies
from waterhook.steps import job_canceller
from waterhook.upstream import client


@pytest.fixture
def dependencies(monkeypatch: pytest.MonkeyPatch) -> Dependencies:
    for name, value in environment(AWS_DEFAULT_REGION="us-east-1").items():
        monkeypatch.setenv(name, value)
    return Dependencies(TELEMETRY)


def limits_of(client: Any) -> tuple[float, float, int]:
    config = client.meta.config
    return config.connect_timeout, config.read_timeout, config.retries["total_max_attempts"]


def test_every_client_has_timeouts_and_a_retry_budget(dependencies: Any) -> None:
    clients = [
        dependencies._dynamodb,  # noqa: SLF001 - the test is about the configuration of the clients
        dependencies._sns,  # noqa: SLF001
        dependencies._api_key._client,  # noqa: SLF001
        dependencies._step_functions(),  # noqa: SLF001
    ]
    assert [limits_of(client) for client in clients] == [(1, 2, 2)] * 4
    # The service counts each attempt to start an execution, so botocore must not repeat it.
    assert limits_of(dependencies.service._states) == (1, 2, 1)  # noqa: SLF001


def test_a_wait_makes_one_short_attempt_per_call(dependencies: Any) -> None:
    webhooks = SimpleNamespace(table="webhooks")
    dependencies.settings = SimpleNamespace(table="executions", bucket="results", webhooks=webhooks)
    wait: Any = dependencies.outcome_wait
    users = [wait._records, wait._places, wait._documents._deliveries()]  # noqa: SLF001
    assert [limits_of(user._client) for user in users] == [(0.5, 1.5, 1)] * 3  # noqa: SLF001


def test_the_client_for_uploads_has_longer_timeouts_and_signs_with_s3v4(dependencies: Any) -> None:
    uploader = dependencies._s3  # noqa: SLF001 - the test is about its configuration
    assert limits_of(uploader) == (3, 6, 2)
    assert uploader.meta.config.signature_version == "s3v4"


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
def test_a_link_to_an_output_has_the_host_of_its_region(
    dependencies: Any, monkeypatch: pytest.MonkeyPatch, region: str
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    link = dependencies._bucket.presign("s3://the-bucket/executions/x/output.json")  # noqa: SLF001
    assert link.startswith(f"https://the-bucket.s3.{region}.amazonaws.com/executions/x/output.json?")


def test_the_longest_call_includes_all_attempts_and_the_pauses_between_them() -> None:
    assert (
        aws_config.longest_call_s(),
        aws_config.longest_call_s(aws_config.UPLOADS),
        aws_config.longest_call_s(aws_config.ONE_ATTEMPT),
        aws_config.longest_call_s(aws_config.SHORT),
    ) == (7, 19, 3, 2)


@pytest.mark.parametrize(
    ("function", "seconds"),
    [
        # From the POST on: the response, and the write of the job's id.
        ("Start", client.CALL_BUDGET_S + aws_config.longest_call_s()),
        # Read a status document and store its output.
        (
            "Poll",
            client.CALL_BUDGET_S
            + aws_config.longest_call_s(aws_config.UPLOADS)
            + aws_config.longest_call_s(),
        ),
        (
            "Cancel",
            2 * job_canceller.CALL_BUDGET_S
            + aws_config.longest_call_s(aws_config.UPLOADS)
            + aws_config.longest_call_s(),
        ),
        # Read the record, write the outcome, publish, set notified_at, release two slots, write the index.
        ("Notify", 7 * aws_config.longest_call_s()),
        # Write the record and store the output, after a fast response to the DELETE.
        ("Api", aws_config.longest_call_s(aws_config.UPLOADS) + aws_config.longest_call_s()),
    ],
)
def test_the_longest_calls_of_a_function_fit_its_timeout(function: str, seconds: float) -> None:
    assert seconds < deployed()[f"{function}Function"]["Properties"]["Timeout"]
