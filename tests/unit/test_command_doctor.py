"""What doctor says: each fault in words, with what to do; and what it could not look at."""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from uuid import uuid4

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError

from tests.support.aws import Failing, Secret, Table, Topic, client_error
from tests.support.aws_commands import refused
from tests.support.builders import KEY, REGION, record, running_record, verdict
from tests.support.clock import NOW
from tests.support.server import Server, Step, closed_port, hang_up, raw, reply, stall
from waterhook.domain.status import Status
from waterhook.storage.execution_record import to_attribute
from waterhook.timestamps import to_rfc3339
from waterhook_cli.api import Api, sender
from waterhook_cli.checks_records import records as examine_records
from waterhook_cli.checks_stack import alarms, concurrency, state
from waterhook_cli.checks_stack import api as look_at_api
from waterhook_cli.checks_topic import alarm_mail, dead_letters, subscriptions
from waterhook_cli.checks_upstream import secret as look_at_secret
from waterhook_cli.checks_upstream import upstream
from waterhook_cli.doctor import checks, examine
from waterhook_cli.errors import ExitCode, Problem
from waterhook_cli.findings import Check, Finding, Level
from waterhook_cli.output import Output
from waterhook_cli.target import Account, Resource, Stack

OK, NOTE, WARNING, PROBLEM, UNKNOWN = Level
FOLLOW = Resource("FollowFunction", "AWS::Lambda::Function", "shop-Follow")


def said(findings: Iterable[Finding]) -> list[tuple[Level, str]]:
    return [(finding.level, finding.what) for finding in findings]


def only(findings: Iterable[Finding]) -> Finding:
    (finding,) = findings
    # Whatever is not well comes with what to do.
    assert finding.do or finding.level in {OK, NOTE}
    return finding


# ---- The stack ----


@pytest.mark.parametrize(
    ("status", "level"),
    [
        ("CREATE_COMPLETE", OK),
        ("UPDATE_COMPLETE", OK),
        ("UPDATE_IN_PROGRESS", NOTE),
        ("UPDATE_ROLLBACK_COMPLETE", WARNING),
        ("ROLLBACK_COMPLETE", PROBLEM),
        ("UPDATE_ROLLBACK_FAILED", PROBLEM),
        ("DELETE_FAILED", PROBLEM),
        ("DELETE_COMPLETE", PROBLEM),
    ],
)
def test_a_deployment_that_failed_is_seen(status: str, level: Level) -> None:
    account = Account(boto3.Session(region_name=REGION))
    finding = only(state(Stack("shop", account, status, {}, {})))
    assert finding.level == level
    assert status in finding.what or "rolled back" in finding.what


def door(*answers: Step) -> list[Finding]:
    with Server(list(answers)) as server:
        api = Api(server.url, lambda request: None, sender(server.url, 1), pause=lambda seconds: None)
        return list(look_at_api(api))


def test_an_api_that_answers_is_well() -> None:
    assert only(door(reply(200, {"executions": [], "next": None}))).level == OK


def test_an_api_that_lets_its_user_not_in_is_no_fault_of_the_stack() -> None:
    finding = only(door(reply(403, {"message": "Missing Authentication Token"})))
    assert (finding.level, "ApiInvokeArn" in finding.do) == (WARNING, True)


@pytest.mark.parametrize("answer", [reply(500, {"message": "Internal server error"}), hang_up])
def test_an_api_that_fails_is_seen(answer: Step) -> None:
    assert only(door(answer)).level == PROBLEM


class Functions:
    """Lambda with a quota, what the follow function reserves of it, and what others do."""

    def __init__(self, quota: int, reserved: int | None = None, *, by_others: int = 0) -> None:
        self._quota, self._reserved, self._by_others = quota, reserved, by_others

    def get_account_settings(self) -> dict[str, Any]:
        unreserved = self._quota - (self._reserved or 0) - self._by_others
        return {
            "AccountLimit": {
                "ConcurrentExecutions": self._quota,
                "UnreservedConcurrentExecutions": unreserved,
            }
        }

    def get_function_concurrency(self, **asked: str) -> dict[str, int]:
        assert asked == {"FunctionName": FOLLOW.physical}
        return {} if self._reserved is None else {"ReservedConcurrentExecutions": self._reserved}


def room(functions: Any, follow_concurrency: str = "50", *, local: bool = False) -> list[Finding]:
    return list(concurrency(functions, [FOLLOW], {"FollowConcurrency": follow_concurrency}, local=local))


def test_a_stack_that_reserves_what_its_parameter_says_is_well() -> None:
    finding = only(room(Functions(1000, 50)))
    assert (finding.level, "1000 in this account" in finding.what) == (OK, True)
    assert finding.what.endswith("950 unreserved")


@pytest.mark.parametrize(("quota", "by_others"), [(1000, 0), (150, 0), (1000, 850)])
def test_following_is_recommended_where_the_quota_allows_it(quota: int, by_others: int) -> None:
    fine, advice = room(Functions(quota, by_others=by_others), "0")
    assert (fine.level, advice.level) == (OK, NOTE)
    assert "executions are polled" in advice.what
    assert "FollowConcurrency=50" in advice.do
    assert "service-quotas" not in advice.do


@pytest.mark.parametrize(
    ("quota", "by_others", "enough"), [(10, 0, 1000), (149, 0, 1000), (1000, 851, 1001), (2000, 1900, 2050)]
)
def test_a_quota_too_low_to_follow_is_reported_with_the_one_to_request(
    quota: int, by_others: int, enough: int
) -> None:
    fine, advice = room(Functions(quota, by_others=by_others), "0")
    # A recommendation: the stack works without.
    assert (fine.level, advice.level) == (OK, NOTE)
    assert "quota is too low to reserve 50" in advice.what
    assert advice.do.endswith(f"--service-code lambda --quota-code L-B99A9384 --desired-value {enough}")


@pytest.mark.parametrize("reserved", [None, 0, 7])
def test_a_reservation_that_was_changed_outside_the_stack_is_seen(reserved: int | None) -> None:
    fine, changed = room(Functions(1000, reserved))
    assert (fine.level, changed.level) == (OK, WARNING)
    assert f"reserves {'nothing' if reserved is None else reserved}" in changed.what
    assert changed.do.endswith("--function-name shop-Follow --reserved-concurrent-executions 50")


class RolledBack(Functions):
    """Lambda after a deployment that was rolled back: the stack lists the follow function, and it is gone."""

    def get_function_concurrency(self, **asked: str) -> dict[str, int]:
        raise client_error("ResourceNotFoundException", 404)


@pytest.mark.parametrize("functions", [RolledBack(120), Functions(120)], ids=["rolled back", "deployed"])
def test_a_quota_too_low_for_follow_concurrency_is_a_problem_with_its_numbers(functions: Functions) -> None:
    fine, finding = room(functions)
    assert (fine.level, finding.level) == (OK, PROBLEM)
    assert finding.what == (
        "FollowConcurrency is 50, but nothing is reserved and 20 can be: Lambda keeps 100 unreserved"
    )
    assert "FollowConcurrency=20" in finding.do
    assert finding.do.endswith("--desired-value 1000")


def test_a_rolled_back_stack_whose_reservation_fits_has_no_fault_of_concurrency() -> None:
    assert only(room(RolledBack(1000))).level == OK


def test_the_quota_is_the_first_check_and_a_denied_call_stops_no_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[str] = []

    class Denying:
        def client(self, service: str) -> Any:
            asked.append(service)
            raise client_error("AccessDeniedException", 403)

    account: Any = Denying()
    outputs = {"TopicArn": "arn:of:a:topic", "TableName": "table", "ApiUrl": "https://api.test/live"}
    first, second, *_ = checks(Stack("shop", account, "CREATE_COMPLETE", outputs, {}))
    assert (first.about, second.about) == ("concurrency", "the stack")
    stack_is_fine = Check("the stack", lambda: [Finding.ok("fine")])
    assert examine([first, stack_is_fine], Output()) == ExitCode.OK
    assert asked == ["lambda"]
    marks = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line[0] != " "]
    assert marks == ["unknown", "ok"]


@pytest.mark.parametrize("follow_concurrency", ["0", "12"])
def test_a_local_aws_has_a_quota_of_its_own(follow_concurrency: str) -> None:
    assert only(room(Functions(32, 12), follow_concurrency, local=True)).level == OK


ALARM = Resource("Stalled", "AWS::CloudWatch::Alarm", "shop-Stalled-1")


class Alarms:
    """CloudWatch with these alarms."""

    def __init__(self, *found: dict[str, str]) -> None:
        self._found = found

    def get_paginator(self, name: str) -> "Alarms":
        return self

    def paginate(self, *, AlarmNames: list[str], AlarmTypes: list[str]) -> list[dict[str, Any]]:  # noqa: N803
        assert AlarmNames == [ALARM.physical]
        return [{"MetricAlarms": list(self._found)}]


def test_an_alarm_that_rings_is_seen_with_its_reason() -> None:
    fine = {"AlarmName": "a", "StateValue": "OK"}
    rings = {
        "AlarmName": ALARM.physical,
        "StateValue": "ALARM",
        "StateReason": "1 > 0",
        "AlarmDescription": "See Stalled.",
    }
    cloudwatch: Any = Alarms(fine, rings)
    finding = only(alarms(cloudwatch, [ALARM]))
    assert finding == Finding.problem("Stalled rings: 1 > 0", "See Stalled.")
    cloudwatch = Alarms(fine)
    assert only(alarms(cloudwatch, [FOLLOW, ALARM])).level == OK
    assert only(alarms(cloudwatch, [FOLLOW])).level == NOTE


LATER = NOW + 2 * 3600
CAPS = {"MaxRunning": "2", "MaxRunningPerChatbot": "0"}


def records(client: Any, table: str, now: float) -> Iterable[Finding]:
    return examine_records(client, table, now, CAPS, " --stack shop")


def test_records_that_are_well_are_left_alone(table: Table) -> None:
    told = table.put(running_record(**verdict()))
    table.records.mark_notified(told, NOW + 61)
    table.put(running_record(execution_id="1e" * 16, deadline=int(LATER)))
    assert only(records(table.client, table.name, LATER)).level == OK


def test_a_record_that_left_the_index_late_is_no_problem(table: Table) -> None:
    table.put(running_record(**verdict(), notified_at=to_rfc3339(NOW + 61)))
    assert only(records(table.client, table.name, LATER)).level == OK


def test_an_outcome_that_was_never_published_is_seen(table: Table) -> None:
    table.put(running_record(**verdict(Status.FAILED)))
    finding = only(records(table.client, table.name, LATER))
    assert finding.level == PROBLEM
    assert finding.what.startswith("the outcome of 1 execution (0f0f")
    assert finding.do == "waterhook redeliver --undelivered --stack shop"


@pytest.mark.parametrize(("ago_s", "level"), [(290, OK), (310, WARNING), (1790, WARNING), (1810, PROBLEM)])
def test_an_outcome_that_is_not_published_minutes_after_the_end_is_seen(
    table: Table, ago_s: int, level: Level
) -> None:
    table.put(running_record(**verdict(finished_at=to_rfc3339(LATER - ago_s))))
    assert only(records(table.client, table.name, LATER)).level == level


def wait(table: Table, digit: str, **waiting: str) -> None:
    """Put a record that waits to start, in the form in which the functions write it."""
    accepted = record(execution_id=digit * 32, deadline=int(LATER), unfinished=digit)
    more = {"waiting": to_attribute(waiting)} if waiting else {}
    table.client.put_item(TableName=table.name, Item=accepted.to_item() | more)


def test_executions_that_wait_to_start_are_counted_by_their_reason(table: Table) -> None:
    wait(table, "a", reason="queued", since="2026-01-01T00:10:00.000Z")
    wait(
        table, "b", reason="queued", since="2026-01-01T00:05:00.000Z", next_attempt_at="2026-01-01T02:01:00Z"
    )
    wait(table, "c", reason="upstream_busy", since="2026-01-01T00:20:00.000Z", detail="it answered 429")
    busy, queued = sorted(records(table.client, table.name, LATER), key=lambda finding: finding.what)
    assert (busy.level, queued.level) == (WARNING, WARNING)
    assert busy.what == (
        f"1 execution ({'c' * 32}) waits for Waterflai, which takes no more jobs now, "
        "the oldest since 2026-01-01T00:20:00Z (it answered 429)"
    )
    assert queued.what.startswith("2 executions (")
    assert queued.what.endswith(
        ") wait for a free slot (MaxRunning is 2, MaxRunningPerChatbot is 0), "
        "the oldest since 2026-01-01T00:05:00Z, next attempt at 2026-01-01T02:01:00Z"
    )


@pytest.mark.parametrize("waiting", [{}, {"reason": "of another version"}])
def test_an_execution_that_waits_for_no_known_reason_is_seen(table: Table, waiting: dict[str, str]) -> None:
    wait(table, "a", **waiting)
    finding = only(records(table.client, table.name, LATER))
    assert finding.level == WARNING
    assert finding.what.endswith(") waits for their start, the oldest since 2026-01-01T00:00:00Z")


def test_an_execution_that_was_just_accepted_is_no_backlog(table: Table) -> None:
    wait(table, "a", reason="queued")
    assert only(records(table.client, table.name, NOW + 299)).level == OK


class Busy:
    """DynamoDB that answers for the first half of a batch only, until one key is left."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.get_paginator = real.get_paginator

    def batch_get_item(self, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803
        ((table, asked),) = RequestItems.items()
        half = (len(asked["Keys"]) + 1) // 2
        answer: dict[str, Any] = self._real.batch_get_item(
            RequestItems={table: asked | {"Keys": asked["Keys"][:half]}}
        )
        left = asked["Keys"][half:]
        return answer | ({"UnprocessedKeys": {table: asked | {"Keys": left}}} if left else {})


def test_many_executions_are_read_in_batches_and_the_rest_is_named(table: Table) -> None:
    for number in range(104):
        table.put(running_record(execution_id=f"{number:032x}", deadline=int(LATER), unfinished="0"))
    client: Any = Busy(table.client)
    running, rest = examine_records(client, table.name, LATER, CAPS, most=103)
    assert (running.level, rest.level) == (OK, NOTE)
    assert "; 103 have been running for more than 5 minutes" in running.what
    assert rest.what == "only the oldest 103 of 104 executions were examined"


# ---- The secret, and Waterflai ----


@pytest.mark.parametrize(
    ("text", "level", "what"),
    [
        (KEY, OK, "holds a key"),
        (json.dumps({"api_key": KEY}), OK, "holds a key"),
        (f"{KEY}\n", WARNING, "white space around"),
        (f" {KEY}", WARNING, "white space around"),
        (json.dumps({"api_key": f"{KEY}\n"}), WARNING, "white space around"),
        (" \n", PROBLEM, "is empty"),
        (json.dumps({"key": KEY}), PROBLEM, "neither a key"),
        ("{", PROBLEM, "neither a key"),
        ("two\nlines", PROBLEM, "neither a key"),
        ("schlüssel", PROBLEM, "neither a key"),
    ],
)
def test_a_secret_that_the_functions_can_t_use_is_seen(
    secret: Secret, text: str, level: Level, what: str
) -> None:
    secret.rotate(text)
    finding = only(look_at_secret(secret.client, secret.arn, REGION))
    assert (finding.level, what in finding.what) == (level, True)
    assert text.strip() not in finding.what + finding.do or not text.strip() or text == "{"


def test_bytes_are_no_key(secret: Secret) -> None:
    secret.client.put_secret_value(SecretId=secret.arn, SecretBinary=b"key")
    assert "bytes" in only(look_at_secret(secret.client, secret.arn, REGION)).what


def test_a_secret_that_is_gone_is_seen(secret: Secret) -> None:
    secret.client.delete_secret(SecretId=secret.arn)
    assert "marked for deletion" in only(look_at_secret(secret.client, secret.arn, REGION)).what
    secret.client.delete_secret(SecretId=secret.arn, ForceDeleteWithoutRecovery=True)
    assert "does not exist" in only(look_at_secret(secret.client, secret.arn, REGION)).what


def test_a_secret_of_another_region_is_seen(secret: Secret) -> None:
    first, *_ = look_at_secret(secret.client, secret.arn, "eu-west-1")
    assert "another region" in first.what


NOT_FOUND = reply(404, {"detail": "Execution not found"})


@pytest.mark.parametrize(
    ("answer", "level", "what"),
    [
        (NOT_FOUND, OK, "answers and takes the key"),
        (reply(401, {"detail": "invalid"}), PROBLEM, "refuses the key (401)"),
        (reply(403, b"<html>"), PROBLEM, "refuses the key (403)"),
        (reply(404, b"<html>", {"Content-Type": "text/html"}), WARNING, "answers 404, and not as Waterflai"),
        (reply(200, {}), WARNING, "answers 200, and not as Waterflai"),
        (reply(503, b"", {"Retry-After": "1"}), WARNING, "has trouble: it answers 503"),
        (reply(429), WARNING, "has trouble: it answers 429"),
        (reply(302, b"", {"Location": "http://127.0.0.1:1/"}), PROBLEM, "redirects elsewhere (302)"),
        (raw(b"SSH-2.0-OpenSSH_9.6\r\n"), PROBLEM, "does not answer"),
        (stall(), PROBLEM, "does not answer"),
    ],
)
def test_what_waterflai_answers_is_told(secret: Secret, answer: Any, level: Level, what: str) -> None:
    with Server([answer]) as server:
        finding = only(upstream(server.url, sender(server.url, 1), secret.client, secret.arn))
    assert (finding.level, what in finding.what) == (level, True), finding
    assert KEY not in finding.what + finding.do
    assert server.received[0].headers["x-api-key"] == KEY
    assert server.received[0].method == "GET"


def test_without_a_key_it_is_only_seen_whether_anybody_answers(secret: Secret) -> None:
    secret.rotate(" ")
    with Server([reply(401)]) as server:
        finding = only(upstream(server.url, sender(server.url, 1), secret.client, secret.arn))
    assert finding.level == NOTE


def test_an_address_where_nobody_is_is_seen(secret: Secret) -> None:
    with closed_port() as port:
        url = f"http://127.0.0.1:{port}"
        finding = only(upstream(url, sender(url, 1), secret.client, secret.arn))
    assert finding.level == PROBLEM
    assert "nobody takes the connection" in finding.what


def test_a_name_without_an_address_is_seen(secret: Secret) -> None:
    url = "http://nowhere.invalid"
    finding = only(upstream(url, sender(url, 1), secret.client, secret.arn))
    assert finding.what == "nowhere.invalid has no address: DNS does not know the name"


# ---- The topic, and the dead letters ----


def test_a_topic_nobody_listens_to_is_seen(topic: Topic) -> None:
    arn = topic.sns.create_topic(Name="silent")["TopicArn"]
    assert only(subscriptions(topic.sns, arn, "BOTH")).level == WARNING
    assert only(subscriptions(topic.sns, arn, "DYNAMODB")).level == NOTE


def test_a_subscription_without_a_dead_letter_queue_is_seen(topic: Topic) -> None:
    finding = only(subscriptions(topic.sns, topic.arn, "BOTH"))
    assert finding.level == WARNING
    assert "no dead-letter queue" in finding.what
    (entry,) = topic.sns.list_subscriptions_by_topic(TopicArn=topic.arn)["Subscriptions"]
    topic.sns.set_subscription_attributes(
        SubscriptionArn=entry["SubscriptionArn"],
        AttributeName="RedrivePolicy",
        AttributeValue=json.dumps({"deadLetterTargetArn": entry["Endpoint"]}),
    )
    assert only(subscriptions(topic.sns, topic.arn, "BOTH")).level == OK


class Pending:
    """SNS with a subscription that nobody has confirmed."""

    def get_paginator(self, name: str) -> "Pending":
        return self

    def paginate(self, **asked: str) -> list[dict[str, Any]]:
        entry = {"SubscriptionArn": "PendingConfirmation", "Protocol": "email", "Endpoint": "a@example.com"}
        return [{"Subscriptions": [entry]}]


def test_a_subscription_that_was_not_confirmed_is_seen() -> None:
    sns: Any = Pending()
    finding = only(subscriptions(sns, "arn", "BOTH"))
    assert "email a@example.com has not confirmed" in finding.what


def test_alarms_that_nobody_hears_are_seen(topic: Topic) -> None:
    resource = Resource("AlarmTopic", "AWS::SNS::Topic", topic.arn)
    assert only(alarm_mail(topic.sns, [FOLLOW, resource])).level == OK
    sns: Any = Pending()
    finding = only(alarm_mail(sns, [resource]))
    assert finding.level == WARNING
    assert finding.what == "nobody hears the alarms: a@example.com has not confirmed"
    assert list(alarm_mail(sns, [FOLLOW])) == []


def redrive(topic: Topic, queue_arn: str) -> None:
    """Name a dead-letter queue for the topic's subscription."""
    (entry,) = topic.sns.list_subscriptions_by_topic(TopicArn=topic.arn)["Subscriptions"]
    topic.sns.set_subscription_attributes(
        SubscriptionArn=entry["SubscriptionArn"],
        AttributeName="RedrivePolicy",
        AttributeValue=json.dumps({"deadLetterTargetArn": queue_arn}),
    )


def queue(topic: Topic, name: str, messages: int = 0) -> tuple[str, str]:
    """Make a queue of a name that no other test has; return its URL and ARN."""
    url = topic.sqs.create_queue(QueueName=f"{name}-{uuid4().hex}")["QueueUrl"]
    for _ in range(messages):
        topic.sqs.send_message(QueueUrl=url, MessageBody="{}")
    attributes = topic.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    return url, attributes["QueueArn"]


def letters(topic: Topic, *urls: str, sqs: Any = None, sns: Any = None) -> list[Finding]:
    resources = [Resource("DeadLetterQueue", "AWS::SQS::Queue", url) for url in urls]
    resources.append(Resource("ResultsQueue", "AWS::SQS::Queue", "never looked at"))
    return list(dead_letters(sqs or topic.sqs, sns or topic.sns, topic.arn, resources))


def test_dead_letters_are_seen(topic: Topic) -> None:
    url, _ = queue(topic, "dead")
    assert only(letters(topic, url)).level == OK
    topic.sqs.send_message(QueueUrl=url, MessageBody="{}")
    topic.sqs.send_message(QueueUrl=url, MessageBody="{}")
    topic.sqs.receive_message(QueueUrl=url)
    finding = only(letters(topic, url))
    assert (finding.level, finding.what[:20]) == (PROBLEM, "2 in DeadLetterQueue")


def test_dead_letters_of_a_subscription_are_seen_in_the_queue_that_it_names(topic: Topic) -> None:
    own, _ = queue(topic, "own")
    full, arn = queue(topic, "of-a-subscriber", messages=3)
    redrive(topic, arn)
    problem, fine = letters(topic, own)
    assert (problem.level, fine.level) == (PROBLEM, OK)
    assert problem.what.startswith("3 in of-a-subscriber-")
    assert f"the dead-letter queue of the subscription of sqs {topic_queue(topic)}" in problem.what
    assert full in problem.do
    assert fine.what == "1 of 2 dead-letter queues are empty"


def test_a_dead_letter_queue_of_stack_and_subscription_is_counted_once(topic: Topic) -> None:
    url, arn = queue(topic, "results", messages=1)
    redrive(topic, arn)
    assert only(letters(topic, url)).what.startswith("1 in DeadLetterQueue")


@pytest.mark.parametrize("where", ["us-east-1:210987654321", "eu-west-1:123456789012"])
def test_a_dead_letter_queue_of_another_account_or_region_is_named(topic: Topic, where: str) -> None:
    own, _ = queue(topic, "own")
    redrive(topic, f"arn:aws:sqs:{where}:theirs")
    unknown, fine = letters(topic, own)
    region, account = where.split(":")
    assert (unknown.level, fine.level) == (UNKNOWN, OK)
    assert f"theirs, the dead-letter queue of the subscription of sqs {topic_queue(topic)}" in unknown.what
    assert unknown.what.endswith(f"not looked at, it is in account {account}, {region}")


def topic_queue(topic: Topic) -> str:
    (entry,) = topic.sns.list_subscriptions_by_topic(TopicArn=topic.arn)["Subscriptions"]
    return entry["Endpoint"]


def test_a_dead_letter_queue_that_is_gone_is_a_problem(topic: Topic) -> None:
    own, _ = queue(topic, "own")
    url, arn = queue(topic, "gone")
    redrive(topic, arn)
    topic.sqs.delete_queue(QueueUrl=url)
    problem, fine = letters(topic, own)
    assert (problem.level, fine.level) == (PROBLEM, OK)
    assert "does not exist: a notification that can't be delivered is lost" in problem.what


def test_a_queue_that_may_not_be_read_keeps_no_other_from_being_read(topic: Topic) -> None:
    own, _ = queue(topic, "own", messages=1)
    redrive(topic, queue(topic, "secret")[1])
    sqs = Failing(topic.sqs, {"get_queue_url": client_error("AccessDenied", 403)})
    problem, unknown = letters(topic, own, sqs=sqs)
    assert (problem.level, unknown.level) == (PROBLEM, UNKNOWN)
    assert "you are not allowed to" in unknown.what


class Foreign:
    """SNS with a topic whose subscription is of another account."""

    def __init__(self, sns: Any) -> None:
        self.get_paginator = sns.get_paginator

    def get_subscription_attributes(self, **asked: str) -> None:
        raise client_error("AuthorizationError", 403)


def test_a_subscription_that_only_its_owner_may_read_is_named(topic: Topic) -> None:
    sns: Any = Foreign(topic.sns)
    finding = only(subscriptions(sns, topic.arn, "BOTH"))
    assert finding.level == UNKNOWN
    assert "of account 123456789012: not looked at" in finding.what
    own, _ = queue(topic, "own")
    assert only(letters(topic, own, sns=sns)).level == OK


# ---- All of it ----


def test_a_command_in_a_hint_ends_it_and_is_one_that_the_aws_cli_accepts(
    topic: Topic, secret: Secret
) -> None:
    account = Account(boto3.Session(region_name=REGION))
    silent = topic.sns.create_topic(Name="silent-too")["TopicArn"]
    full, _ = queue(topic, "full", messages=1)
    secret.rotate(" key")
    with Server([reply(401)]) as server:
        found = [
            *state(Stack("shop", account, "ROLLBACK_COMPLETE", {}, {})),
            *room(Functions(1000, 7)),
            *room(Functions(10), "0"),
            *subscriptions(topic.sns, silent, "BOTH"),
            *subscriptions(topic.sns, topic.arn, "BOTH"),
            *letters(topic, full),
            *look_at_secret(secret.client, secret.arn, REGION),
            *upstream(server.url, sender(server.url, 1), secret.client, secret.arn),
        ]
    secret.client.delete_secret(SecretId=secret.arn)
    found += look_at_secret(secret.client, secret.arn, REGION)
    commands = [finding.do[finding.do.index("aws ") :] for finding in found if "aws " in finding.do]
    assert len(commands) == 9
    assert refused(commands) == {}


def raising(error: Exception) -> Callable[[], list[Finding]]:
    def look() -> list[Finding]:
        raise error

    return look


def test_what_it_may_not_see_it_says_and_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    def half_way() -> Iterator[Finding]:
        yield Finding.ok("one is well")
        raise client_error("AuthorizationError", 403)

    to_do = [
        Check("subscriptions", half_way),
        Check("alarms", raising(client_error("Throttling"))),
        Check("concurrency", raising(EndpointConnectionError(endpoint_url="http://lambda"))),
        Check("dead letters", raising(Problem(ExitCode.NOT_FOUND, "it has no output"))),
        Check("records", lambda: [Finding.ok("all is there")]),
    ]
    assert examine(to_do, Output()) == ExitCode.OK
    printed = capsys.readouterr()
    marks = [line.split()[0] for line in printed.out.splitlines() if line[0] != " "]
    assert marks == ["ok", "unknown", "unknown", "unknown", "unknown", "ok"]
    assert "subscriptions: not looked at, you are not allowed to (AnyOperation)" in printed.out
    assert "concurrency: not looked at, http://lambda can't be reached" in printed.out
    assert printed.err == "4 not looked at\n"


def test_a_problem_decides_how_it_ends_and_a_warning_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    warning = Check("a", lambda: [Finding.warning("so so " * 29 + "so so", "do " * 39 + "do")])
    problem = Check("b", lambda: [Finding.problem("bad", "mend it")])
    assert examine([warning], Output()) == ExitCode.OK
    assert examine([warning, problem], Output()) == ExitCode.PROBLEMS
    printed = capsys.readouterr()
    assert printed.err == "1 warning\n1 problem, 1 warning\n"
    # A line each, however long: what is to be done is a command, often.
    assert printed.out.splitlines()[:2] == [
        "warning  " + "so so " * 29 + "so so",
        "         -> " + "do " * 39 + "do",
    ]
    fix = Check("c", lambda: [Finding.warning("odd", "aws sns subscribe")])
    assert examine([warning], Output(), "--region eu-west-1") == ExitCode.OK
    assert examine([fix], Output(), "--region eu-west-1") == ExitCode.OK
    assert capsys.readouterr().err == (
        "1 warning\nThe aws commands above need: --region eu-west-1\n1 warning\n"
    )
    assert examine([warning, problem], Output(as_json=True)) == ExitCode.PROBLEMS
    told = json.loads(capsys.readouterr().out)
    assert told["findings"][1] == {"check": "b", "level": "problem", "what": "bad", "do": "mend it"}
    assert told["count"] == {"ok": 0, "note": 0, "warning": 1, "problem": 1, "unknown": 0}
