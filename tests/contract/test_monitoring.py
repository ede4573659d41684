"""Alarms and dashboard: each metric in them is published, and each alarm has a page in the runbook."""

import json
import re
from typing import Any

import pytest

from tests.contract.markdown import names, table
from tests.contract.template import (
    EVERYTHING,
    FUNCTIONS,
    KMS_KEY_ARN,
    ROOT,
    WEBHOOKS,
    deployed,
    named,
    of_type,
    source,
)
from waterhook.domain import polling_policy
from waterhook.observability.metrics import DIMENSION, NAMESPACE, Metric
from waterhook.steps.sweep import SWEEP_INTERVAL_S

RUNBOOK = ROOT / "docs" / "runbook"
INDEX = (RUNBOOK / "README.md").read_text(encoding="utf-8")
ALARM = "AWS::CloudWatch::Alarm"
ALARMS = of_type(deployed(**EVERYTHING), ALARM)
# Metrics of AWS services in alarms and dashboard, with their dimension.
AWS_METRICS = {
    ("AWS/Lambda", "Errors"): "FunctionName",
    ("AWS/Lambda", "Throttles"): "FunctionName",
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible"): "QueueName",
    ("AWS/States", "ExecutionsStarted"): "StateMachineArn",
    ("AWS/States", "ExecutionsSucceeded"): "StateMachineArn",
    ("AWS/States", "ExecutionsFailed"): "StateMachineArn",
    ("AWS/States", "ExecutionsTimedOut"): "StateMachineArn",
    ("AWS/States", "ExecutionsAborted"): "StateMachineArn",
}
# Names in the runbook that are not in the template: errors, a policy and a metric of AWS.
OTHER_NAMES = {
    # Error codes of EventBridge.
    "AccessDeniedException",
    "ThrottlingException",
    "MalformedDetail",
    "AmazonAPIGatewayPushToCloudWatchLogs",
    "SettingsError",
    "RecordUnavailableError",
    "KeyUnavailableError",
    "ResultsUnavailableError",
    "SigningKeysUnavailableError",
    "AccessDenied",
    "ConcurrentExecutions",
}
EACH = pytest.mark.parametrize("name", ALARMS)


def properties(name: str) -> dict[str, Any]:
    found: dict[str, Any] = ALARMS[name]["Properties"]
    return found


def is_published(namespace: str, metric: str, dimension: str) -> bool:
    """Return whether something publishes the metric."""
    if namespace == NAMESPACE:
        return metric in set(Metric) and dimension == DIMENSION
    return AWS_METRICS.get((namespace, metric)) == dimension


@EACH
def test_an_alarm_names_its_page_of_the_runbook(name: str) -> None:
    description = properties(name)["AlarmDescription"]
    assert re.fullmatch(rf".+\. See docs/runbook/{name}\.md", description), description
    assert (RUNBOOK / f"{name}.md").is_file()


def test_the_runbook_lists_each_alarm_and_has_a_page_for_nothing_else() -> None:
    rows = table(INDEX, "Alarm")
    assert [row[0] for row in rows] == list(ALARMS)
    assert all(f"({row[0]}.md)" in row[2] for row in rows)
    assert {path.stem for path in RUNBOOK.glob("*Alarm.md")} == ALARMS.keys()


def metrics(name: str) -> list[dict[str, Any]]:
    """Return each metric of an alarm, with Namespace, MetricName and Dimensions."""
    alarm = properties(name)
    parts = [query["MetricStat"] for query in alarm.get("Metrics", []) if "MetricStat" in query]
    return [part["Metric"] for part in parts] or [alarm]


@EACH
def test_an_alarm_uses_published_metrics(name: str) -> None:
    for metric in metrics(name):
        (dimension,) = metric["Dimensions"]
        assert is_published(metric["Namespace"], metric["MetricName"], dimension["Name"])
        if metric["Namespace"] == NAMESPACE:
            # WATERHOOK_SOURCE of the functions ends with it.
            assert dimension["Value"] == {"Ref": "AWS::StackName"}


@EACH
def test_an_alarm_notifies_both_topics_and_missing_data_raises_no_alarm(name: str) -> None:
    alarm = properties(name)
    assert alarm["AlarmActions"] == [{"Ref": "AlarmTopic"}, EVERYTHING["AlarmTopicArn"]]
    assert alarm["TreatMissingData"] == "notBreaching"
    assert 1 <= alarm.get("DatapointsToAlarm", 1) <= alarm["EvaluationPeriods"]
    stats = [query["MetricStat"] for query in alarm.get("Metrics", []) if "MetricStat" in query]
    (period,) = {part["Period"] for part in stats or [alarm]}
    assert period % 60 == 0
    # CloudWatch evaluates at most one day.
    assert period * alarm["EvaluationPeriods"] <= 86_400


def test_every_outcome_that_needs_attention_has_an_alarm() -> None:
    watched = {metric["MetricName"] for name in ALARMS for metric in metrics(name)}
    assert watched >= {"OutcomeError", "OutcomeUncertain", "OutcomeLost", "UpstreamUnauthorized"}


def test_a_parameter_sets_the_threshold_of_the_late_alarm() -> None:
    late = of_type(deployed(**EVERYTHING | {"LateAlarmSeconds": "600"}), ALARM)["LateAlarm"]["Properties"]
    assert (late["MetricName"], late["ExtendedStatistic"], late["Threshold"]) == ("NotifyLag", "p95", "600")
    # A single slow notification affects one period only.
    assert (late["DatapointsToAlarm"], late["EvaluationPeriods"]) == (2, 3)


def test_the_longest_polling_interval_is_below_the_threshold_of_the_late_alarm() -> None:
    """Steady progress and failed status requests both lengthen it."""
    parameters = source()["Parameters"]
    longest_s = parameters["LongestWaitSeconds"]["Default"]
    wait_s = longest_s * polling_policy.STRETCH_PER_LONGEST
    wait_s += max(polling_policy.ERROR_JITTER_S, polling_policy.ERROR_JITTER * wait_s)
    assert wait_s < parameters["LateAlarmSeconds"]["Default"] == 4 * longest_s


def test_the_throttles_alarm_adds_up_all_functions_except_follow() -> None:
    watched = metrics("ThrottlesAlarm")
    assert {metric["MetricName"] for metric in watched} == {"Throttles"}
    functions = [named(metric["Dimensions"][0]["Value"]) for metric in watched]
    assert sorted(functions) == sorted(set(FUNCTIONS) - {"FollowFunction"})
    # Only the expression is compared with the threshold. The other queries are its input.
    (total,) = (query for query in properties("ThrottlesAlarm")["Metrics"] if "Expression" in query)
    assert total["Expression"] == "SUM(METRICS())"
    others = [query for query in properties("ThrottlesAlarm")["Metrics"] if query is not total]
    assert all(query["ReturnData"] is False for query in others)


def test_exhausted_follow_concurrency_raises_no_alarm() -> None:
    watched = {metric["MetricName"] for name in ALARMS for metric in metrics(name)}
    assert Metric.FOLLOW_REFUSED not in watched
    assert of_type(deployed(**EVERYTHING | {"FollowConcurrency": "50"}), ALARM).keys() == ALARMS.keys()


def test_each_dead_letter_queue_has_an_alarm() -> None:
    watched = {
        named(metric["Dimensions"][0]["Value"])
        for name in ALARMS
        for metric in metrics(name)
        if metric["Namespace"] == "AWS/SQS"
    }
    assert watched == {
        "DeadLetterQueue.QueueName",
        "ResultsDeadLetterQueue.QueueName",
        "WebhookDeadLetterQueue.QueueName",
    }


def test_optional_parts_have_alarms_only_if_they_are_deployed() -> None:
    optional = {"ResultsDeadLettersAlarm", "WebhookDeadLettersAlarm", "DeliverAlarm"}
    without = of_type(deployed(AlarmEmail="ops@example.com"), ALARM)
    assert ALARMS.keys() - without.keys() == optional
    assert "DeliverFunction" not in json.dumps(without)


def test_one_crash_of_the_deliver_function_raises_no_alarm_and_failing_sweeps_do() -> None:
    alarm = properties("DeliverAlarm")
    assert (alarm["MetricName"], alarm["Statistic"], alarm["Threshold"]) == ("Errors", "Sum", 1)
    assert alarm["DatapointsToAlarm"] == 2
    # Two sweeps are in the evaluated time. SQS repeats a message within one period.
    assert alarm["Period"] * alarm["EvaluationPeriods"] >= 2 * SWEEP_INTERVAL_S
    assert deployed(**EVERYTHING)["WebhookQueue"]["Properties"]["VisibilityTimeout"] < alarm["Period"]


def test_there_is_no_alarm_and_no_dashboard_without_a_topic_or_an_email() -> None:
    kinds = {entry["Type"] for entry in deployed().values()}
    assert not kinds & {ALARM, "AWS::CloudWatch::Dashboard"}


def test_alarms_go_to_the_users_topic_without_a_topic_of_the_stack() -> None:
    resources = deployed(AlarmTopicArn=EVERYTHING["AlarmTopicArn"])
    assert not {"AlarmTopic", "AlarmTopicPolicy"} & resources.keys()
    assert resources["ErrorAlarm"]["Properties"]["AlarmActions"] == [EVERYTHING["AlarmTopicArn"]]


def test_cloudwatch_may_publish_to_the_alarm_topic_for_this_account_only() -> None:
    for parameters in ({"AlarmEmail": "ops@example.com"}, EVERYTHING):
        resources = deployed(**parameters)
        topic = resources["AlarmTopic"]["Properties"]
        # The policy of alias/aws/sns does not allow CloudWatch, and no error would show it.
        assert topic.get("KmsMasterKeyId") == (KMS_KEY_ARN if "KmsKeyArn" in parameters else None)
        assert topic["Subscription"] == [{"Protocol": "email", "Endpoint": "ops@example.com"}]
        allowed, _ = resources["AlarmTopicPolicy"]["Properties"]["PolicyDocument"]["Statement"]
        assert allowed["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
        assert (allowed["Effect"], allowed["Action"]) == ("Allow", "sns:Publish")
        assert allowed["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


def dashboard(**parameters: str) -> dict[str, Any]:
    """Return the dashboard, with each reference replaced by its name."""
    (board,) = of_type(deployed(**parameters), "AWS::CloudWatch::Dashboard").values()
    body, variables = board["Properties"]["DashboardBody"]["Fn::Sub"]
    widgets = variables["WebhookWidgets"]
    body = body.replace("${WebhookWidgets}", widgets["Fn::Sub"] if widgets else "")
    document: dict[str, Any] = json.loads(re.sub(r"\$\{([^}]+)\}", r"\1", body))
    return document


def dashboard_metrics(**parameters: str) -> list[tuple[str, str, str]]:
    """Return namespace, name and dimension of each metric. A "." repeats the value of the metric before."""
    found = []
    for widget in dashboard(**parameters)["widgets"]:
        before: list[str] = []
        for metric in widget["properties"]["metrics"]:
            words = [word for word in metric if isinstance(word, str)]
            before = [before[at] if word == "." else word for at, word in enumerate(words)]
            namespace, name, dimension, _ = before
            found.append((namespace, name, dimension))
    return found


def test_the_dashboard_shows_each_published_metric() -> None:
    shown = dashboard_metrics(**EVERYTHING)
    assert all(is_published(*metric) for metric in shown)
    assert {name for namespace, name, _ in shown if namespace == NAMESPACE} == set(Metric)


def test_the_dashboard_shows_webhooks_only_if_they_are_on() -> None:
    on, off = (
        dashboard_metrics(**{"AlarmEmail": "ops@example.com"} | parameters) for parameters in (WEBHOOKS, {})
    )
    assert on[: len(off)] == off
    assert {name for namespace, name, _ in on[len(off) :] if namespace == NAMESPACE} == {
        "WebhooksDelivered",
        "WebhookAttemptsFailed",
        "WebhooksFailed",
        "WebhooksPostponed",
        "WebhookLatency",
        "WebhookLag",
    }
    assert not any("Webhook" in name for _, name, _ in off)


def test_each_widget_has_a_title_and_its_own_place() -> None:
    taken: set[tuple[int, int]] = set()
    for widget in dashboard(**EVERYTHING)["widgets"]:
        assert widget["properties"]["title"]
        place = {
            (x, y)
            for x in range(widget["x"], widget["x"] + widget["width"])
            for y in range(widget["y"], widget["y"] + widget["height"])
        }
        assert not place & taken
        assert max(x for x, _ in place) < 24  # the width of a dashboard
        taken |= place
    references = re.findall(r"\$\{([^}]+)\}", json.dumps(of_type(deployed(**EVERYTHING), ALARM)))
    assert references == []


def test_the_runbook_names_only_existing_alarms_metrics_parameters_and_resources() -> None:
    outer = source()
    known = {*ALARMS, *Metric, *outer["Parameters"], *outer["Outputs"], *deployed(**EVERYTHING), *OTHER_NAMES}
    pages = [*RUNBOOK.glob("*.md"), ROOT / "docs" / "operations.md"]
    found = {name for page in pages for name in names(page.read_text(encoding="utf-8"))}
    words = {word for word in found if re.fullmatch(r"[A-Z][a-z]+([A-Z][A-Za-z]*)+", word)}
    assert words <= known


@pytest.mark.parametrize(
    ("kind", "traced"),
    [
        ("AWS::Lambda::Function", {"TracingConfig": {"Mode": "Active"}}),
        ("AWS::StepFunctions::StateMachine", {"TracingConfiguration": {"Enabled": True}}),
        ("AWS::ApiGateway::Stage", {"TracingEnabled": True}),
    ],
)
def test_tracing_is_on_everywhere_or_nowhere(kind: str, traced: dict[str, Any]) -> None:
    ((key, value),) = traced.items()
    for entry in of_type(deployed(Tracing="ON"), kind).values():
        assert entry["Properties"][key] == value
    for entry in of_type(deployed(), kind).values():
        assert entry["Properties"][key] in (False, {"Enabled": False}, {"Mode": "PassThrough"})
