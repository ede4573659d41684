"""One line and one set of figures per invocation, whatever becomes of it."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from tests.fakes.clock import NOW, Clock
from tests.fakes.lambda_context import CONTEXT
from tests.support.builders import ID, SOURCE, UPSTREAM_ID, history, job, running_record
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

type Act = Callable[[Telemetry], None]
type Speak = Callable[..., CapturedLogs]


@pytest.fixture
def speak(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Speak:
    """Let a function do some things in an invocation, and return what it said."""
    monkeypatch.setenv("WATERHOOK_SOURCE", SOURCE)

    def run(*acts: Act) -> CapturedLogs:
        telemetry = Telemetry("poll", correlation_id_path="execution.arn", clock=Clock())

        @telemetry.observe
        def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
            for act in acts:
                act(telemetry)
            return {}

        with log_into(telemetry) as log, suppress(ZeroDivisionError):
            handler(EVENT, CONTEXT)
        return CapturedLogs.read(log.getvalue() + capsys.readouterr().out)

    return run


def failed(
    code: str, status: int | None = None, kind: type[UpstreamError] = UpstreamUnavailableError
) -> UpstreamError:
    return kind(code, "it failed", status=status)


def call(error: UpstreamError | None = None, asked: RequestKind = RequestKind.STATUS) -> UpstreamCall:
    return UpstreamCall(asked, 12.34, error)


def finished(status: Status = Status.COMPLETED, **changes: Any) -> ExecutionRecord:
    return running_record(
        status=status,
        finished_at=to_rfc3339(NOW - 1),
        created_at=to_rfc3339(NOW - 61),
        **{"timing": {"completed_at": to_rfc3339(NOW - 2)}, "usage": {"polls": 3, "follow_seconds": 41.5}}
        | changes,
    )


def test_an_invocation_is_one_line_that_names_its_execution_and_is_bound_to_others(speak: Speak) -> None:
    said = speak(lambda telemetry: telemetry.add_fields(job(chatbot_id="support-chat").to_dict()))
    (line,) = said.lines
    assert line["message"] == "poll"
    assert (line["execution_id"], line["waterflai_execution_id"]) == (ID, UPSTREAM_ID)
    assert (line["chatbot_id"], line["outcome"], line["next"]) == ("support-chat", "RUNNING", "poll")
    assert (line["wait_seconds"], line["correlation_id"]) == (0, ARN)
    assert said.blobs == []


def test_a_line_has_no_field_but_the_known_ones(speak: Speak) -> None:
    everything = dict.fromkeys(
        (*LOG_FIELDS, "input_data", "final_output_json", "metadata", "history"), "secret"
    )
    (line,) = speak(lambda telemetry: telemetry.add_fields(everything)).lines
    assert line.keys() == {*LOG_FIELDS, *ADDED_BY_POWERTOOLS}


def test_no_variable_in_the_environment_has_events_logged(
    speak: Speak, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Powertools would write the whole event, input and all, where this one is set."""
    monkeypatch.setenv("POWERTOOLS_LOGGER_LOG_EVENT", "true")
    (line,) = speak(lambda telemetry: telemetry.add_fields(execution_id=ID)).lines
    assert line["message"] == "poll"


def test_a_field_is_short_and_on_one_line_whatever_it_is_given(speak: Speak) -> None:
    (line,) = speak(
        lambda telemetry: telemetry.add_fields(chatbot_id="a\nb" * 1000, event_id={"a": [1]})
    ).lines
    assert len(line["chatbot_id"]) == MAX_ID_CHARS
    assert "\n" not in line["chatbot_id"]
    assert line["event_id"] == "{'a': [1]}"


def test_an_invocation_that_raises_has_its_line_and_its_figures_all_the_same(speak: Speak) -> None:
    def act(telemetry: Telemetry) -> None:
        telemetry.add_fields(execution_id=ID)
        telemetry.record_call(call())
        raise ZeroDivisionError("card k4711")

    said = speak(act)
    (line,) = said.lines
    assert (line["level"], line["execution_id"], line["fault"]) == ("ERROR", ID, "ZeroDivisionError")
    assert said.figures[Metric.UPSTREAM_ERRORS] == [0]
    assert "k4711" not in said.text


def test_nothing_of_an_invocation_is_left_for_the_next(
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
    said = CapturedLogs.read(log.getvalue() + capsys.readouterr().out)
    assert [line.get("execution_id") for line in said.lines] == [ID, None]
    assert "correlation_id" not in said.lines[1]
    assert [blob[Metric.STARTED] for blob in said.blobs] == [[1], [1]]


def test_figures_that_are_switched_off_do_not_pile_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POWERTOOLS_METRICS_DISABLED", "true")
    telemetry = Telemetry("poll", correlation_id_path="execution.arn")

    @telemetry.observe
    def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
        telemetry.record_call(call())
        return {}

    for _ in range(101):  # Powertools prints a hundred of a kind by itself
        handler(EVENT, CONTEXT)
    assert "_aws" not in capsys.readouterr().out


def test_outside_an_invocation_nobody_listens(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry = Telemetry("poll", correlation_id_path="execution.arn")
    telemetry.record_call(call())
    telemetry.add_metric(Metric.STARTED)
    telemetry.add_fields(execution_id=ID)
    assert capsys.readouterr().out == ""


def test_the_figures_are_one_valid_set_of_the_stack_s(speak: Speak) -> None:
    said = speak(*[lambda telemetry: telemetry.record_call(call())] * 2)
    (blob,) = said.blobs
    assert blob["stack"] == "tests"
    assert dict(metrics_of(blob)) == {"UpstreamErrors": "Count", "UpstreamLatency": "Milliseconds"}
    assert said.figures == {"UpstreamErrors": [0, 0], "UpstreamLatency": [12.34, 12.34]}
    (line,) = said.lines
    assert (line["latency_ms"], line["upstream_calls"]) == (24.7, 2)


def test_a_hundred_calls_in_one_invocation_keep_their_dimension(speak: Speak) -> None:
    """Powertools prints what it has at the hundredth value of a metric."""
    said = speak(*[lambda telemetry: telemetry.record_call(call())] * 150)
    assert said.figures[Metric.UPSTREAM_ERRORS] == [0] * 150
    assert len(said.figures[Metric.UPSTREAM_LATENCY]) == 150


# The error of a call, the kind it is counted as, and whether it was the upstream that failed.
FAILURES: dict[str, tuple[UpstreamError | None, set[str], int]] = {
    "none": (None, set(), 0),
    "unreachable": (failed("unreachable"), {"UpstreamUnreachable"}, 1),
    "429": (failed("unavailable", 429), {"UpstreamUnavailable"}, 1),
    "timeout": (failed("no_answer", kind=PerhapsAcceptedError), {"UpstreamNoAnswer"}, 1),
    "500": (failed("server_error", 500, PerhapsAcceptedError), {"UpstreamServerErrors"}, 1),
    "garbage": (failed("unusable_answer", 200, PerhapsAcceptedError), {"UpstreamUnusable"}, 1),
    "401": (failed("refused", 401, UpstreamRefusedError), {"UpstreamUnauthorized"}, 0),
    "404": (failed("refused", 404, UpstreamRefusedError), {"UpstreamRefusals"}, 0),
    "302": (failed("redirected", 302, UpstreamRefusedError), {"UpstreamRefusals"}, 0),
}


@pytest.mark.parametrize(("error", "kind", "errors"), FAILURES.values(), ids=FAILURES)
def test_a_failed_call_is_counted_by_its_kind(
    speak: Speak, error: UpstreamError | None, kind: set[str], errors: int
) -> None:
    said = speak(lambda telemetry: telemetry.record_call(call(error)))
    assert said.figures.keys() == {"UpstreamErrors", "UpstreamLatency"} | kind
    assert said.figures[Metric.UPSTREAM_ERRORS] == [errors]
    (line,) = said.lines
    assert line.get("upstream_error") == (error.code if error else None)
    assert line.get("upstream_status") == (error.status if error else None)


def test_of_a_stream_only_a_refusal_counts(speak: Speak) -> None:
    """How long it was open is no latency, and one that was open and broke off has done its work."""
    broke_off = failed("no_answer", 200, PerhapsAcceptedError)
    said = speak(lambda telemetry: telemetry.record_call(call(broke_off, RequestKind.STREAM)))
    assert said.figures == {"UpstreamErrors": [0]}
    refused = failed("no_answer", kind=PerhapsAcceptedError)
    said = speak(lambda telemetry: telemetry.record_call(call(refused, RequestKind.STREAM)))
    assert said.figures == {"UpstreamErrors": [1], "UpstreamNoAnswer": [1]}


@pytest.mark.parametrize(
    ("error", "figure"),
    [
        (None, "Started"),
        (failed("unavailable", 503), "StartsDelayed"),
        (failed("server_error", 502, PerhapsAcceptedError), "UncertainStarts"),
    ],
    ids=["202", "503", "502"],
)
def test_a_start_is_counted_by_what_came_of_it(
    speak: Speak, error: UpstreamError | None, figure: str
) -> None:
    said = speak(lambda telemetry: telemetry.record_call(call(error, RequestKind.START)))
    assert {"Started", "StartsDelayed", "UncertainStarts"} & said.figures.keys() == {figure}


def test_a_delivered_outcome_is_counted_and_timed(speak: Speak) -> None:
    said = speak(lambda telemetry: telemetry.record_delivery(finished()))
    assert said.figures == {
        "OutcomeCompleted": [1],
        "NotifyLag": [2],
        "TimeToComplete": [60],
        "Polls": [3],
        "FollowSeconds": [41.5],
    }
    assert said.lines[0]["outcome"] == "COMPLETED"


def test_what_an_execution_is_estimated_to_have_cost_is_a_figure_too(speak: Speak) -> None:
    usage = {"polls": 1, "follow_seconds": 0.0, "estimated_cost_usd": 0.0002}
    said = speak(lambda telemetry: telemetry.record_delivery(finished(usage=usage)))
    assert said.figures[Metric.ESTIMATED_COST] == [0.0002]


@pytest.mark.parametrize("status", [status for status in Status if status.is_final])
def test_every_outcome_is_a_figure_of_its_own(speak: Speak, status: Status) -> None:
    said = speak(lambda telemetry: telemetry.record_delivery(finished(status)))
    outcomes = [name for name in said.figures if name.startswith("Outcome")]
    assert [name.removeprefix("Outcome").upper() for name in outcomes] == [status.replace("_", "")]
    # Only a job that was done says how long one takes.
    assert ("TimeToComplete" in said.figures) is (status is Status.COMPLETED)


def test_an_upstream_whose_clock_is_ahead_makes_no_negative_lag(speak: Speak) -> None:
    ahead = finished(timing={"completed_at": to_rfc3339(NOW + 60)})
    assert speak(lambda telemetry: telemetry.record_delivery(ahead)).figures[Metric.NOTIFY_LAG] == [0]


def test_an_outcome_nobody_dated_has_no_lag(speak: Speak) -> None:
    said = speak(lambda telemetry: telemetry.record_delivery(finished(Status.LOST, timing=None, usage=None)))
    assert said.figures == {"OutcomeLost": [1]}


def test_a_job_that_shows_progress_is_watched_for_standing_still(speak: Speak) -> None:
    still = job(history=history(progress=40.0, progress_at=NOW - 1900))
    assert speak(lambda telemetry: telemetry.record_staleness(still)).figures == {
        "SecondsWithoutProgress": [1900]
    }


def test_a_job_that_never_shows_progress_or_has_ended_is_not(speak: Speak) -> None:
    silent = job(history=history())
    ended = job(history=history(progress=40.0, progress_at=NOW - 1900)).ended(Status.COMPLETED)
    for one in (silent, ended):
        assert speak(lambda telemetry, one=one: telemetry.record_staleness(one)).blobs == []


def test_every_figure_has_a_unit_that_cloudwatch_knows(speak: Speak) -> None:
    said = speak(*[lambda telemetry, figure=figure: telemetry.add_metric(figure) for figure in Metric])
    units = {name: unit for blob in said.blobs for name, unit in metrics_of(blob)}
    assert units == {str(figure): figure.unit for figure in Metric}


def test_the_figures_are_on_a_line_of_their_own(speak: Speak) -> None:
    said = speak(lambda telemetry: telemetry.add_metric(Metric.STARTED))
    assert [set(json.loads(line)) & {"_aws", "level"} for line in said.text.splitlines()] == [
        {"level"},
        {"_aws"},
    ]
