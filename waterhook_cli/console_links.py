"""Links to one execution in the console of AWS."""

from collections.abc import Iterable
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from waterhook.timestamps import to_epoch_s
from waterhook_cli.execution_records import RecordSummary

_DOMAINS = {
    "aws": "{region}.console.aws.amazon.com",
    "aws-cn": "{region}.console.amazonaws.cn",
    "aws-us-gov": "{region}.console.amazonaws-us-gov.com",
}
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_MARGIN_S = 60
# After the outcome, the attempts of a webhook continue for three days.
_AFTER_END_S = 4 * 86_400
_MAX_GROUPS = 50  # of one query


def console_links(
    record: RecordSummary, *, region: str, table: str, log_groups: Iterable[str], now: float
) -> dict[str, str]:
    """Return the links by what they show: `state_machine_execution`, `logs`, `record`, and `output` if it is in S3."""
    _, _, partition_and_rest = record.owner_execution_arn.partition(":")
    partition = partition_and_rest.partition(":")[0]
    domain = _DOMAINS.get(partition, _DOMAINS["aws"]).format(region=region)

    def link(path: str, fragment: str) -> str:
        return f"https://{domain}/{path}?region={region}{fragment}"

    links = {
        "state_machine_execution": link(
            "states/home", f"#/v2/executions/details/{quote(record.owner_execution_arn, safe=':')}"
        ),
        "logs": link("cloudwatch/home", f"#logsV2:logs-insights{_query(record, log_groups, now)}"),
        "record": link(
            "dynamodbv2/home",
            f"#edit-item?itemMode=2&pk={record.execution_id}&route=ROUTE_ITEM_EXPLORER&sk=&table={quote(table)}",
        ),
    }
    if record.output_ref:
        location = urlsplit(record.output_ref)
        key = quote(location.path.removeprefix("/"))
        links["output"] = link(f"s3/object/{location.netloc}", f"&prefix={key}")
    return links


def insights_query(record: RecordSummary) -> str:
    """Return the query of Logs Insights that shows the lines of an execution."""
    texts = dict.fromkeys([record.execution_id, record.execution_name])
    condition = " or ".join(f'@message like "{text}"' for text in texts)
    return f"fields @timestamp, @log, @message\n| filter {condition}\n| sort @timestamp asc\n| limit 1000"


def _query(record: RecordSummary, log_groups: Iterable[str], now: float) -> str:
    """Return the part of a link that opens Logs Insights with the query, the period and the log groups."""
    start = (to_epoch_s(record.created_at) or now) - _MARGIN_S
    ended_at = to_epoch_s(record.finished_at)
    end = min(ended_at + _AFTER_END_S, now + _MARGIN_S) if ended_at else now + 3600
    groups = "".join(f"~'{_escaped(group)}" for group in [*log_groups][:_MAX_GROUPS])
    detail = (
        f"~(end~'{_escaped(_to_text(end))}~start~'{_escaped(_to_text(start))}~timeType~'ABSOLUTE~tz~'UTC"
        f"~editorString~'{_escaped(insights_query(record))}~source~({groups}))"
    )
    return f"$3FqueryDetail$3D{detail}"


def _escaped(text: str) -> str:
    """Return a text in the notation of the console: `*2f` for `/`."""
    return "".join(one if one in _SAFE else f"*{ord(one):02x}" for one in text)


def _to_text(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
