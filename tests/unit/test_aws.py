"""Clients of AWS: they talk to the hosts that any other boto3 would talk to, and know less to find them."""

import re
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.loaders import JSONFileLoader

from tests.infra.template import ROOT, deployed
from waterhook import aws_clients
from waterhook.steps import job_canceller
from waterhook.storage.results_bucket import ResultsBucket
from waterhook.upstream import client

CALLS: dict[str, Callable[[Any, str], Any]] = {
    "dynamodb": lambda client, _: client.get_item(TableName="executions", Key={"execution_id": {"S": "x"}}),
    "secretsmanager": lambda client, _: client.get_secret_value(SecretId="key"),
    "sns": lambda client, region: client.publish(TopicArn=f"arn:aws:sns:{region}:1:results", Message="{}"),
    "stepfunctions": lambda client, region: client.start_execution(
        stateMachineArn=f"arn:aws:states:{region}:123456789012:stateMachine:waterhook", input="{}"
    ),
    "s3": lambda client, _: client.put_object(
        Bucket="the-bucket", Key="executions/x/output.json", Body=b"{}"
    ),
}
PLAIN = boto3.Session()
REGIONS = [
    region
    for partition in PLAIN.get_available_partitions()
    for region in PLAIN.get_available_regions("dynamodb", partition)
    if region != "local"
]


class NotSent(Exception):
    """The request was looked at, and goes nowhere."""


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[boto3.Session]:
    """A session as a function has it, where nothing says another place to look for AWS."""
    for name in ("AWS_ENDPOINT_URL", "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    aws_clients.session.cache_clear()
    yield aws_clients.session()
    aws_clients.session.cache_clear()


def sent(session: boto3.Session, service: str, region: str) -> tuple[str, str]:
    """The address of a call, and the region and service that it is signed for."""
    config = Config(signature_version="s3v4") if service == "s3" else None
    client: Any = session.client(
        service,  # type: ignore[call-overload]
        region_name=region,
        config=config,
        aws_access_key_id="AKIA",
        aws_secret_access_key="none",
    )
    seen = []

    def look(request: Any, **_: Any) -> None:
        [scope] = re.findall(r"Credential=AKIA/\d+/([^,]+),", request.headers["Authorization"].decode())
        seen.append((request.url, scope))
        raise NotSent

    client.meta.events.register("before-send", look)
    with pytest.raises(NotSent):
        CALLS[service](client, region)
    return seen[0]


def test_every_service_is_called_in_every_region_where_any_boto3_would_call_it(
    session: boto3.Session,
) -> None:
    assert len(REGIONS) > 30
    for service, region in product(CALLS, REGIONS):
        assert sent(session, service, region) == sent(PLAIN, service, region)


def test_a_region_that_is_newer_than_the_rule_is_called_by_it(session: boto3.Session) -> None:
    assert sent(session, "dynamodb", "nz-north-1") == (
        "https://dynamodb.nz-north-1.amazonaws.com/",
        "nz-north-1/dynamodb/aws4_request",
    )


def test_every_service_that_the_functions_call_is_among_them() -> None:
    files = [
        *(ROOT / "layers" / "waterhook" / "waterhook").rglob("*.py"),
        *(ROOT / "functions").glob("*/*.py"),
    ]
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    assert set(re.findall(r'session\(\)\.client\(\s*"(\w+)"', text)) == set(CALLS)
    assert "boto3.client(" not in text


def test_a_link_to_an_output_is_to_the_host_of_its_region(session: boto3.Session) -> None:
    client = session.client(
        "s3", region_name="eu-central-1", aws_access_key_id="AKIA", aws_secret_access_key="none"
    )
    link = client.generate_presigned_url("get_object", Params={"Bucket": "the-bucket", "Key": "x"})
    assert urlsplit(link).hostname == "the-bucket.s3.eu-central-1.amazonaws.com"


def test_of_all_endpoints_only_the_rule_is_read(
    session: boto3.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    load = JSONFileLoader.load_file

    def watched(self: JSONFileLoader, file_path: str) -> Any:
        found = load(self, file_path)
        loaded.extend([file_path] if found else [])
        return found

    monkeypatch.setattr(JSONFileLoader, "load_file", watched)
    session.client("dynamodb", region_name="us-east-1")
    assert [path for path in loaded if path.endswith("endpoints")] == [
        str(aws_clients.ENDPOINTS / "endpoints")
    ]
    assert any("dynamodb" in path for path in loaded)


@pytest.mark.parametrize(
    ("flag", "mark"), [("AWS_USE_FIPS_ENDPOINT", "-fips."), ("AWS_USE_DUALSTACK_ENDPOINT", ".api.aws")]
)
@pytest.mark.usefixtures("session")
def test_whoever_wants_special_endpoints_gets_those_of_botocore(
    monkeypatch: pytest.MonkeyPatch, flag: str, mark: str
) -> None:
    monkeypatch.setenv(flag, "true")
    aws_clients.session.cache_clear()
    for service, region in product(CALLS, ["us-east-1", "us-gov-west-1"]):
        assert sent(aws_clients.session(), service, region) == sent(boto3.Session(), service, region)
    assert mark in sent(aws_clients.session(), "dynamodb", "us-east-1")[0]


def limits_of(client: Any) -> tuple[float, float, int]:
    config = client.meta.config
    return config.connect_timeout, config.read_timeout, config.retries["total_max_attempts"]


@pytest.mark.parametrize("service", CALLS)
def test_every_client_has_timeouts_and_a_retry_budget(session: boto3.Session, service: Any) -> None:
    assert limits_of(session.client(service, region_name="us-east-1")) == (1, 2, 2)
    one = session.client(service, region_name="us-east-1", config=aws_clients.ONE_ATTEMPT)
    assert limits_of(one) == (1, 2, 1)


@pytest.mark.usefixtures("session")
def test_an_upload_may_pause_for_longer_and_its_links_keep_their_signature(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    uploader: Any = ResultsBucket("results")._client  # noqa: SLF001 - what it is made with is what matters
    assert limits_of(uploader) == (3, 6, 2)
    assert uploader.meta.config.signature_version == "s3v4"


def test_the_longest_call_is_all_attempts_with_the_pauses_between_them() -> None:
    assert (
        aws_clients.longest_call_s(),
        aws_clients.longest_call_s(aws_clients.UPLOADS),
        aws_clients.longest_call_s(aws_clients.ONE_ATTEMPT),
    ) == (7, 19, 3)


@pytest.mark.parametrize(
    ("function", "seconds"),
    [
        # From its POST on: the answer, and the write of the job's id.
        ("Start", client.CALL_BUDGET_S + aws_clients.longest_call_s()),
        # A status document, and its output.
        (
            "Poll",
            client.CALL_BUDGET_S
            + aws_clients.longest_call_s(aws_clients.UPLOADS)
            + aws_clients.longest_call_s(),
        ),
        (
            "Cancel",
            2 * job_canceller.CALL_BUDGET_S
            + aws_clients.longest_call_s(aws_clients.UPLOADS)
            + aws_clients.longest_call_s(),
        ),
        # Record, outcome, publication, mark, two slots, index.
        ("Notify", 7 * aws_clients.longest_call_s()),
        # A record, and a bucket that hangs after a DELETE that was answered at once.
        ("Api", aws_clients.longest_call_s(aws_clients.UPLOADS) + aws_clients.longest_call_s()),
    ],
)
def test_what_a_function_must_be_able_to_do_fits_its_timeout(function: str, seconds: float) -> None:
    assert seconds < deployed()[f"{function}Function"]["Properties"]["Timeout"]
