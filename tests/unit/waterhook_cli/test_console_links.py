"""Links into the console of AWS."""

import pytest

from tests.support.builders import ID
from waterhook_cli.console_links import console_links, insights_query
from waterhook_cli.execution_records import RecordSummary

ENDED = 1_767_225_609.0


def record(partition: str = "aws", region: str = "eu-west-1", **changes: str) -> RecordSummary:
    values = {
        "execution_id": ID,
        "status": "COMPLETED",
        "created_at": "2026-01-01T00:00:00.000Z",
        "finished_at": "2026-01-01T00:00:09.000Z",
        "owner_execution_arn": f"arn:{partition}:states:{region}:123456789012:execution:shop:{ID}-1",
    }
    return RecordSummary(**values | changes)


def links(of: RecordSummary, region: str = "eu-west-1", now: float = ENDED + 60) -> dict[str, str]:
    groups = ["/aws/lambda/a_b", "/aws/vendedlogs/states/shop-executions"]
    return console_links(of, region=region, table="shop-Table.1", log_groups=groups, now=now)


def test_each_link_shows_one_execution() -> None:
    base = "https://eu-west-1.console.aws.amazon.com"
    assert links(record(output_ref=f"s3://bucket/executions/{ID}/1.json")) == {
        "state_machine_execution": (
            f"{base}/states/home?region=eu-west-1#/v2/executions/details/"
            f"arn:aws:states:eu-west-1:123456789012:execution:shop:{ID}-1"
        ),
        "logs": (
            f"{base}/cloudwatch/home?region=eu-west-1#logsV2:logs-insights$3FqueryDetail$3D"
            "~(end~'2026-01-01T00*3a02*3a09.000Z~start~'2025-12-31T23*3a59*3a00.000Z~timeType~'ABSOLUTE~tz~'UTC"
            "~editorString~'fields*20*40timestamp*2c*20*40log*2c*20*40message*0a*7c*20filter*20*40message*20like*20"
            f"*22{ID}*22*20or*20*40message*20like*20*22{ID}-1*22*0a*7c*20sort*20*40timestamp*20asc*0a*7c*20limit"
            "*201000~source~(~'*2faws*2flambda*2fa_b~'*2faws*2fvendedlogs*2fstates*2fshop-executions))"
        ),
        "record": (
            f"{base}/dynamodbv2/home?region=eu-west-1#edit-item?itemMode=2&pk={ID}&route=ROUTE_ITEM_EXPLORER&sk="
            "&table=shop-Table.1"
        ),
        "output": f"{base}/s3/object/bucket?region=eu-west-1&prefix=executions/{ID}/1.json",
    }
    assert "output" not in links(record())


@pytest.mark.parametrize(
    ("partition", "region", "domain"),
    [
        ("aws", "us-east-1", "us-east-1.console.aws.amazon.com"),
        ("aws-cn", "cn-north-1", "cn-north-1.console.amazonaws.cn"),
        ("aws-us-gov", "us-gov-west-1", "us-gov-west-1.console.amazonaws-us-gov.com"),
    ],
)
def test_each_partition_has_its_domain(partition: str, region: str, domain: str) -> None:
    for link in links(record(partition, region), region).values():
        assert link.startswith(f"https://{domain}/")


def test_the_query_of_a_running_execution_ends_later_and_that_of_an_old_one_after_its_webhooks() -> None:
    running = record(finished_at="")
    assert "~(end~'2026-01-01T01*3a01*3a09.000Z" in links(running)["logs"]
    assert "~(end~'2026-01-05T00*3a00*3a09.000Z" in links(record(), now=ENDED + 90 * 86_400)["logs"]


def test_the_query_finds_the_name_of_an_execution_of_an_event() -> None:
    named = record(owner_execution_arn="arn:aws:states:eu-west-1:123456789012:execution:shop:a_name")
    assert f'filter @message like "{ID}" or @message like "a_name"' in insights_query(named)
