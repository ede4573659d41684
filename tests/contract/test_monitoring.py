"""Alarms and dashboard: each metric in them is published, and each alarm has a page in the runbook."""

import json
import re
from typing import Any

import pytest

from tests.contract.markdown import names, table
from tests.contract.template import EVERYTHING, FUNCTIONS, KMS_KEY_ARN, ROOT, deployed, named, of_type, source
from waterhook.domain import polling_policy
from waterhook.observability.metrics import DIMENSION, NAMESPACE, Metric

RUNBOOK = ROOT / "docs" / "runbook"
INDEX = (RUNBOOK / "README.md").read_text(encoding="utf-8")
ALARM = "AWS::CloudWatch::Alarm"
ALARMS = of_type(deployed(**EVERYTHING), ALARM)
# Metrics of AWS's own that are watched, and the dimension that names whose they are.
OF_AWS = {
    ("AWS/Lambda", "Errors"): "FunctionName",
    ("AWS/Lambda", "Throttles"): "FunctionName",
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible"): "QueueName",
    ("AWS/States", "ExecutionsStarted"): "StateMachineArn",
    ("AWS/States", "ExecutionsSucceeded"): "StateMachineArn",
    ("AWS/States", "ExecutionsFailed"): "StateMachineArn",
    ("AWS/States", "ExecutionsTimedOut"): "StateMachineArn",
    ("AWS/States", "ExecutionsAborted"): "StateMachineArn",
}
# Errors, a policy of AWS, and a metric that the runbook looks up on a page of AWS.
OF_OTHERS = {
    "AmazonAPIGatewayPushToCloudWatchLogs",
    "SettingsError",
    "RecordUnavailableError",
    "KeyUnavailableError",
    "ResultsUnavailableError",
    "AccessDenied",
    "ConcurrentExecutions",
}
EACH = pytest.mark.parametrize("name", ALARMS)


def properties(name: str) -> dict[str, Any]:
    found: dict[str, Any] = ALARMS[name]["Properties"]
    return found


def is_measured(namespace: str, metric: str, dimension: str) -> bool:
    """Whether there is such a metric."""
    if namespace == NAMESPACE:
        return metric in set(Metric) and dimension == DIMENSION
    return OF_AWS.get((namespace, metric)) == dimension


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
def test_an_alarm_watches_what_is_measured(name: str) -> None:
    for metric in metrics(name):
        (dimension,) = metric["Dimensions"]
        assert is_measured(metric["Namespace"], metric["MetricName"], dimension["Name"])
        if metric["Namespace"] == NAMESPACE:
            # As a function's WATERHOOK_SOURCE ends.
            assert dimension["Value"] == {"Ref": "AWS::StackName"}


@EACH
def test_an_alarm_is_sent_to_both_topics_and_missing_data_raises_none(name: str) -> None:
    alarm = properties(name)
    assert alarm["AlarmActions"] == [{"Ref": "AlarmTopic"}, EVERYTHING["AlarmTopicArn"]]
    assert alarm["TreatMissingData"] == "notBreaching"
    assert 1 <= alarm.get("DatapointsToAlarm", 1) <= alarm["EvaluationPeriods"]
    stats = [query["MetricStat"] for query in alarm.get("Metrics", []) if "MetricStat" in query]
    (period,) = {part["Period"] for part in stats or [alarm]}
    assert period % 60 == 0
    # CloudWatch looks back a day at most.
    assert period * alarm["EvaluationPeriods"] <= 86_400


def test_every_outcome_that_needs_attention_has_an_alarm() -> None:
    watched = {metric["MetricName"] for name in ALARMS for metric in metrics(name)}
    assert watched >= {"OutcomeError", "OutcomeUncertain", "OutcomeLost", "UpstreamUnauthorized"}


def test_the_alarm_on_late_notifications_has_its_threshold_from_the_template() -> None:
    late = of_type(deployed(**EVERYTHING | {"LateAlarmSeconds": "600"}), ALARM)["LateAlarm"]["Properties"]
    assert (late["MetricName"], late["ExtendedStatistic"], late["Threshold"]) == ("NotifyLag", "p95", "600")
    # A single slow notification is one period.
    assert (late["DatapointsToAlarm"], late["EvaluationPeriods"]) == (2, 3)


def test_no_wait_of_the_policy_alone_makes_a_notification_late_by_default() -> None:
    """The longest one: steady progress stretches it, and failed status requests lengthen it once more."""
    parameters = source()["Parameters"]
    longest_s = parameters["LongestWaitSeconds"]["Default"]
    wait_s = longest_s * polling_policy.STRETCH_PER_LONGEST
    wait_s += max(polling_policy.ERROR_JITTER_S, polling_policy.ERROR_JITTER * wait_s)
    assert wait_s < parameters["LateAlarmSeconds"]["Default"] == 4 * longest_s


def test_one_alarm_adds_up_the_throttles_of_every_function_but_follow() -> None:
    watched = metrics("ThrottlesAlarm")
    assert {metric["MetricName"] for metric in watched} == {"Throttles"}
    functions = [named(metric["Dimensions"][0]["Value"]) for metric in watched]
    assert sorted(functions) == sorted(set(FUNCTIONS) - {"FollowFunction"})
    # One expression is compared with the threshold, and it reads every other query.
    (total,) = (query for query in properties("ThrottlesAlarm")["Metrics"] if "Expression" in query)
    assert total["Expression"] == "SUM(METRICS())"
    others = [query for query in properties("ThrottlesAlarm")["Metrics"] if query is not total]
    assert all(query["ReturnData"] is False for query in others)


def test_an_exhausted_follow_concurrency_raises_no_alarm_since_the_executions_are_polled() -> None:
    watched = {metric["MetricName"] for name in ALARMS for metric in metrics(name)}
    assert Metric.FOLLOW_REFUSED not in watched
    assert of_type(deployed(**EVERYTHING | {"FollowConcurrency": "50"}), ALARM).keys() == ALARMS.keys()


def test_both_queues_of_dead_letters_are_watched() -> None:
    watched = {
        named(metric["Dimensions"][0]["Value"])
        for name in ALARMS
        for metric in metrics(name)
        if metric["Namespace"] == "AWS/SQS"
    }
    assert watched == {"DeadLetterQueue.QueueName", "ResultsDeadLetterQueue.QueueName"}
    without = of_type(deployed(AlarmEmail="ops@example.com"), ALARM)
    assert ALARMS.keys() - without.keys() == {"ResultsDeadLettersAlarm"}


def test_there_is_no_alarm_and_no_dashboard_without_a_topic_or_an_email() -> None:
    kinds = {entry["Type"] for entry in deployed().values()}
    assert not kinds & {ALARM, "AWS::CloudWatch::Dashboard"}


def test_a_topic_of_the_user_receives_the_alarms_without_another_topic() -> None:
    resources = deployed(AlarmTopicArn=EVERYTHING["AlarmTopicArn"])
    assert not {"AlarmTopic", "AlarmTopicPolicy"} & resources.keys()
    assert resources["ErrorAlarm"]["Properties"]["AlarmActions"] == [EVERYTHING["AlarmTopicArn"]]


def test_cloudwatch_can_publish_to_the_topic_and_for_this_account_only() -> None:
    for parameters in ({"AlarmEmail": "ops@example.com"}, EVERYTHING):
        resources = deployed(**parameters)
        topic = resources["AlarmTopic"]["Properties"]
        # Under alias/aws/sns it could not, and no error would show it.
        assert topic.get("KmsMasterKeyId") == (KMS_KEY_ARN if "KmsKeyArn" in parameters else None)
        assert topic["Subscription"] == [{"Protocol": "email", "Endpoint": "ops@example.com"}]
        allowed, _ = resources["AlarmTopicPolicy"]["Properties"]["PolicyDocument"]["Statement"]
        assert allowed["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
        assert (allowed["Effect"], allowed["Action"]) == ("Allow", "sns:Publish")
        assert allowed["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


def dashboard() -> dict[str, Any]:
    """Return the dashboard as CloudWatch gets it: every reference as a word."""
    (board,) = of_type(deployed(**EVERYTHING), "AWS::CloudWatch::Dashboard").values()
    body, _ = board["Properties"]["DashboardBody"]["Fn::Sub"]
    document: dict[str, Any] = json.loads(re.sub(r"\$\{([^}]+)\}", r"\1", body))
    return document


def shown() -> list[tuple[str, str, str]]:
    """Namespace, name and dimension of every metric on it; a point repeats what stood in its place before."""
    found = []
    for widget in dashboard()["widgets"]:
        before: list[str] = []
        for metric in widget["properties"]["metrics"]:
            words = [word for word in metric if isinstance(word, str)]
            before = [before[at] if word == "." else word for at, word in enumerate(words)]
            namespace, name, dimension, _ = before
            found.append((namespace, name, dimension))
    return found


def test_the_dashboard_shows_what_is_measured_and_leaves_nothing_out() -> None:
    assert all(is_measured(*metric) for metric in shown())
    assert {name for namespace, name, _ in shown() if namespace == NAMESPACE} == set(Metric)


def test_every_widget_has_a_title_a_place_of_its_own_and_no_reference_left_over() -> None:
    taken: set[tuple[int, int]] = set()
    for widget in dashboard()["widgets"]:
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


def test_the_runbook_names_only_alarms_metrics_parameters_and_resources_that_there_are() -> None:
    outer = source()
    known = {*ALARMS, *Metric, *outer["Parameters"], *outer["Outputs"], *deployed(**EVERYTHING), *OF_OTHERS}
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
