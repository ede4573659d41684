"""Telemetry: one log line and one set of metrics for each invocation, also for one that fails."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from tests.fakes.clock import NOW, Clock
from tests.fakes.lambda_context import CONTEXT
from tests.support.builders import ID, SOURCE, UPSTREAM_ID, history, running_record, running_state
from tests.support.captured_logs import CapturedLogs, metrics_of
from tests.support.invoke import log_into
from waterhook.domain.status import Status
from waterhook.errors import (
    PerhapsAcceptedError,
    UpstreamError,
    UpstreamRefusedError,
    UpstreamUnavailableError,
)
from waterhook.observability.metrics import Metric, RequestKind, UpstreamCall
from waterhook.observability.telemetry import LOG_FIELDS, Telemetry
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.text import MAX_ID_CHARS
from waterhook.timestamps import to_rfc3339

ARN = "arn:aws:states:us-east-1:123456789012:execution:waterhook:one"
EVENT = {"execution": {"arn": ARN}}
ADDED_BY_POWERTOOLS = {
    "level",
    "message",
    "timestamp",
    "service",
    "cold_start",
    "function_name",
    "function_memory_size",
    "function_arn",
    "function_request_id",
    "correlation_id",
}

type Action = Callable[[Telemetry], None]
type Invoke = Callable[..., CapturedLogs]


@pytest.fixture
def invoke(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Call actions inside one invocation of a function, and return its output."""
    monkeypatch.setenv("WATERHOOK_SOURCE", SOURCE)

    def run(*actions: Action) -> CapturedLogs:
        telemetry = Telemetry("poll", correlation_id_path="execution.arn", clock=Clock())

        @telemetry.observe
        def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
            for action in actions:
                action(telemetry)
            return {}

        with log_into(telemetry) as log, suppress(ZeroDivisionError):
            handler(EVENT, CONTEXT)
        return CapturedLogs.read(log.getvalue() + capsys.readouterr().out)

    return run


def failed(
    code: str, status: int | None = None, kind: type[UpstreamError] = UpstreamUnavailableError
) -> UpstreamError:
    return kind(code, "it failed", status=status)


def upstream_call(
    error: UpstreamError | None = None, request: RequestKind = RequestKind.STATUS
) -> UpstreamCall:
    return UpstreamCall(request, 12.34, error)


def finished(status: Status = Status.COMPLETED, **changes: Any) -> ExecutionRecord:
    return running_record(
        status=status,
        finished_at=to_rfc3339(NOW - 1),
        created_at=to_rfc3339(NOW - 61),
        **{"timing": {"completed_at": to_rfc3339(NOW - 2)}, "usage": {"polls": 3, "follow_seconds": 41.5}}
        | changes,
    )


def test_an_invocation_logs_one_line_with_the_ids_of_its_execution(invoke: Invoke) -> None:
    logs = invoke(lambda telemetry: telemetry.add_fields(running_state(chatbot_id="support-chat").to_dict()))
    (line,) = logs.lines
    assert line["message"] == "poll"
    assert (line["execution_id"], line["waterflai_execution_id"]) == (ID, UPSTREAM_ID)
    assert (line["chatbot_id"], line["outcome"], line["next"]) == ("support-chat", "RUNNING", "poll")
    assert (line["wait_seconds"], line["correlation_id"]) == (0, ARN)
    assert logs.emf_lines == []


def test_a_log_line_has_only_the_listed_fields(invoke: Invoke) -> None:
    everything = dict.fromkeys(
        (*LOG_FIELDS, "input_data", "final_output_json", "metadata", "history"), "secret"
    )
    (line,) = invoke(lambda telemetry: telemetry.add_fields(everything)).lines
    assert line.keys() == {*LOG_FIELDS, *ADDED_BY_POWERTOOLS}


def test_no_environment_variable_makes_powertools_log_the_event(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With this variable, Powertools would log the whole event, which contains the input data."""
    monkeypatch.setenv("POWERTOOLS_LOGGER_LOG_EVENT", "true")
    (line,) = invoke(lambda telemetry: telemetry.add_fields(execution_id=ID)).lines
    assert line["message"] == "poll"


def test_a_log_field_is_a_short_text_on_one_line(invoke: Invoke) -> None:
    (line,) = invoke(
        lambda telemetry: telemetry.add_fields(chatbot_id="a\nb" * 1000, event_id={"a": [1]})
    ).lines
    assert len(line["chatbot_id"]) == MAX_ID_CHARS
    assert "\n" not in line["chatbot_id"]
    assert line["event_id"] == "{'a': [1]}"


def test_an_invocation_that_raises_logs_its_line_and_its_metrics(invoke: Invoke) -> None:
    def fail(telemetry: Telemetry) -> None:
        telemetry.add_fields(execution_id=ID)
        telemetry.record_call(upstream_call())
        raise ZeroDivisionError("card k4711")

    logs = invoke(fail)
    (line,) = logs.lines
    assert (line["level"], line["execution_id"], line["fault"]) == ("ERROR", ID, "ZeroDivisionError")
    assert logs.metrics[Metric.UPSTREAM_ERRORS] == [0]
    assert "k4711" not in logs.text


def test_the_fields_and_metrics_of_an_invocation_are_cleared_before_the_next(
    capsys: pytest.CaptureFixture[str],
) -> None:
    telemetry = Telemetry("poll", correlation_id_path="execution.arn")

    @telemetry.observe
    def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
        telemetry.add_fields(event)
        telemetry.add_metric(Metric.STARTED)
        return {}

    with log_into(telemetry) as log:
        handler({"execution_id": ID, "execution": {"arn": ARN}}, CONTEXT)
        handler({}, CONTEXT)
    logs = CapturedLogs.read(log.getvalue() + capsys.readouterr().out)
    assert [line.get("execution_id") for line in logs.lines] == [ID, None]
    assert "correlation_id" not in logs.lines[1]
    assert [emf[Metric.STARTED] for emf in logs.emf_lines] == [[1], [1]]


def test_disabled_metrics_are_not_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POWERTOOLS_METRICS_DISABLED", "true")
    telemetry = Telemetry("poll", correlation_id_path="execution.arn")

    @telemetry.observe
    def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
        telemetry.record_call(upstream_call())
        return {}

    for _ in range(101):  # Powertools prints a metric when it has a hundred values
        handler(EVENT, CONTEXT)
    assert "_aws" not in capsys.readouterr().out


def test_outside_of_an_invocation_nothing_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry = Telemetry("poll", correlation_id_path="execution.arn")
    telemetry.record_call(upstream_call())
    telemetry.add_metric(Metric.STARTED)
    telemetry.add_fields(execution_id=ID)
    assert capsys.readouterr().out == ""


def test_the_metrics_of_an_invocation_are_one_valid_emf_line(invoke: Invoke) -> None:
    logs = invoke(*[lambda telemetry: telemetry.record_call(upstream_call())] * 2)
    (emf,) = logs.emf_lines
    assert emf["stack"] == "tests"
    assert dict(metrics_of(emf)) == {"UpstreamErrors": "Count", "UpstreamLatency": "Milliseconds"}
    assert logs.metrics == {"UpstreamErrors": [0, 0], "UpstreamLatency": [12.34, 12.34]}
    (line,) = logs.lines
    assert (line["latency_ms"], line["upstream_calls"]) == (24.7, 2)


def test_metrics_with_more_than_a_hundred_values_keep_their_dimension(invoke: Invoke) -> None:
    """Powertools prints its metrics at the hundredth value of one of them."""
    logs = invoke(*[lambda telemetry: telemetry.record_call(upstream_call())] * 150)
    assert logs.metrics[Metric.UPSTREAM_ERRORS] == [0] * 150
    assert len(logs.metrics[Metric.UPSTREAM_LATENCY]) == 150


# The error of a call, the metric of its kind, and the value of UpstreamErrors.
FAILURES: dict[str, tuple[UpstreamError | None, set[str], int]] = {
    "none": (None, set(), 0),
    "unreachable": (failed("unreachable"), {"UpstreamUnreachable"}, 1),
    "429": (failed("unavailable", 429), {"UpstreamUnavailable"}, 1),
    "timeout": (failed("no_answer", kind=PerhapsAcceptedError), {"UpstreamNoAnswer"}, 1),
    "500": (failed("server_error", 500, PerhapsAcceptedError), {"UpstreamServerErrors"}, 1),
    "garbage": (failed("unusable_answer", 200, PerhapsAcceptedError), {"UpstreamUnusable"}, 1),
    "401": (failed("refused", 401, UpstreamRefusedError), {"UpstreamUnauthorized"}, 0),
    "404": (failed("refused", 404, UpstreamRefusedError), {"UpstreamRefusals"}, 0),
}


@pytest.mark.parametrize(("error", "kind", "errors"), FAILURES.values(), ids=FAILURES)
def test_a_failed_call_is_counted_by_its_kind(
    invoke: Invoke, error: UpstreamError | None, kind: set[str], errors: int
) -> None:
    logs = invoke(lambda telemetry: telemetry.record_call(upstream_call(error)))
    assert logs.metrics.keys() == {"UpstreamErrors", "UpstreamLatency"} | kind
    assert logs.metrics[Metric.UPSTREAM_ERRORS] == [errors]
    (line,) = logs.lines
    assert line.get("upstream_error") == (error.code if error else None)
    assert line.get("upstream_status") == (error.status if error else None)


def test_a_stream_counts_as_an_error_only_if_it_was_refused(invoke: Invoke) -> None:
    """The time that a stream is open is not a latency. A stream that was open and broke off is not an error."""
    broke_off = failed("no_answer", 200, PerhapsAcceptedError)
    logs = invoke(lambda telemetry: telemetry.record_call(upstream_call(broke_off, RequestKind.STREAM)))
    assert logs.metrics == {"UpstreamErrors": [0]}
    refused = failed("no_answer", kind=PerhapsAcceptedError)
    logs = invoke(lambda telemetry: telemetry.record_call(upstream_call(refused, RequestKind.STREAM)))
    assert logs.metrics == {"UpstreamErrors": [1], "UpstreamNoAnswer": [1]}


@pytest.mark.parametrize(
    ("error", "metric"),
    [
        (None, "Started"),
        (failed("unavailable", 503), "StartsDelayed"),
        (failed("server_error", 502, PerhapsAcceptedError), "UncertainStarts"),
    ],
    ids=["202", "503", "502"],
)
def test_a_start_is_counted_by_its_result(invoke: Invoke, error: UpstreamError | None, metric: str) -> None:
    logs = invoke(lambda telemetry: telemetry.record_call(upstream_call(error, RequestKind.START)))
    assert {"Started", "StartsDelayed", "UncertainStarts"} & logs.metrics.keys() == {metric}


def test_a_delivered_outcome_is_counted_and_timed(invoke: Invoke) -> None:
    logs = invoke(lambda telemetry: telemetry.record_delivery(finished()))
    assert logs.metrics == {
        "OutcomeCompleted": [1],
        "NotifyLag": [2],
        "TimeToComplete": [60],
        "Polls": [3],
        "FollowSeconds": [41.5],
    }
    assert logs.lines[0]["outcome"] == "COMPLETED"


def test_the_estimated_cost_of_an_execution_is_a_metric(invoke: Invoke) -> None:
    usage = {"polls": 1, "follow_seconds": 0.0, "estimated_cost_usd": 0.0002}
    logs = invoke(lambda telemetry: telemetry.record_delivery(finished(usage=usage)))
    assert logs.metrics[Metric.ESTIMATED_COST] == [0.0002]


@pytest.mark.parametrize("status", [status for status in Status if status.is_final])
def test_every_outcome_has_a_metric_of_its_own(invoke: Invoke, status: Status) -> None:
    logs = invoke(lambda telemetry: telemetry.record_delivery(finished(status)))
    outcomes = [name for name in logs.metrics if name.startswith("Outcome")]
    assert [name.removeprefix("Outcome").upper() for name in outcomes] == [status.replace("_", "")]
    # The duration of jobs with another outcome is not comparable.
    assert ("TimeToComplete" in logs.metrics) is (status is Status.COMPLETED)


def test_the_lag_is_not_negative_if_the_clock_of_the_upstream_is_ahead(invoke: Invoke) -> None:
    ahead = finished(timing={"completed_at": to_rfc3339(NOW + 60)})
    assert invoke(lambda telemetry: telemetry.record_delivery(ahead)).metrics[Metric.NOTIFY_LAG] == [0]


def test_an_outcome_without_a_completion_time_has_no_lag(invoke: Invoke) -> None:
    logs = invoke(lambda telemetry: telemetry.record_delivery(finished(Status.LOST, timing=None, usage=None)))
    assert logs.metrics == {"OutcomeLost": [1]}


def test_the_seconds_without_progress_of_a_job_are_a_metric(invoke: Invoke) -> None:
    stalled = running_state(history=history(progress=40.0, progress_at=NOW - 1900))
    assert invoke(lambda telemetry: telemetry.record_staleness(stalled)).metrics == {
        "SecondsWithoutProgress": [1900]
    }


def test_a_job_without_progress_or_with_an_outcome_has_no_seconds_without_progress(invoke: Invoke) -> None:
    silent = running_state(history=history())
    ended = running_state(history=history(progress=40.0, progress_at=NOW - 1900)).ended(Status.COMPLETED)
    for state in (silent, ended):
        assert invoke(lambda telemetry, state=state: telemetry.record_staleness(state)).emf_lines == []


def test_every_metric_is_logged_with_its_unit(invoke: Invoke) -> None:
    logs = invoke(*[lambda telemetry, metric=metric: telemetry.add_metric(metric) for metric in Metric])
    units = {name: unit for emf in logs.emf_lines for name, unit in metrics_of(emf)}
    assert units == {str(metric): metric.unit for metric in Metric}


def test_the_metrics_are_on_a_line_of_their_own(invoke: Invoke) -> None:
    logs = invoke(lambda telemetry: telemetry.add_metric(Metric.STARTED))
    assert [set(json.loads(line)) & {"_aws", "level"} for line in logs.text.splitlines()] == [
        {"level"},
        {"_aws"},
    ]
