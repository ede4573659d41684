"""The policies in docs/security.md allow what they are for, and no more."""

import json
import re
from unittest.mock import Mock

from tests.contract.markdown import fences, section, table
from tests.contract.template import ROOT
from waterhook_cli.temporary_queue import TemporaryQueue, name_prefix

DOCUMENT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
(POLICY,) = (one for one in fences(DOCUMENT, "json") if one.heading == "Permissions of listen")
STATEMENTS = json.loads(POLICY.text)["Statement"]
# The exact length: `*` would also match the queues of the stack `waterhook-prod`.
QUEUE = TemporaryQueue(
    "arn:aws:sns:eu-central-1:111122223333:topic", "waterhook", Mock(), Mock(), filter_policy={}
)
RANDOM = QUEUE.name.removeprefix(name_prefix("waterhook"))
QUEUES = f"arn:aws:sqs:eu-central-1:111122223333:{name_prefix('waterhook')}{'?' * len(RANDOM)}"


def actions(statement: dict[str, str | list[str]]) -> set[str]:
    action = statement["Action"]
    return {action} if isinstance(action, str) else set(action)


def test_the_policy_of_listen_has_the_listed_actions() -> None:
    (row,) = [cells for cells in table(DOCUMENT, "Command") if cells[0] == "listen"]
    listed = set(re.findall(r"s[nq]s:\w+", row[1]))
    assert set().union(*map(actions, STATEMENTS)) == listed | {"cloudformation:DescribeStacks"}


def test_the_policy_of_listen_subscribes_only_temporary_queues() -> None:
    """Otherwise a developer could send the notifications of all customers to a server of his own."""
    (subscribe,) = [one for one in STATEMENTS if "sns:Subscribe" in actions(one)]
    assert subscribe["Condition"] == {
        "StringEquals": {"sns:Protocol": "sqs"},
        "StringLike": {"sns:Endpoint": QUEUES},
    }
    # The request of another action has none of these keys.
    assert actions(subscribe) == {"sns:Subscribe"}
    assert QUEUES in {one["Resource"] for one in STATEMENTS}


def test_the_text_states_what_the_permissions_on_all_resources_allow() -> None:
    everywhere = {action for one in STATEMENTS if one["Resource"] == "*" for action in actions(one)}
    assert everywhere == {"sqs:ListQueues", "sns:Unsubscribe"}
    text = " ".join(section(DOCUMENT, "Permissions of listen").split())
    assert "`sns:Unsubscribe` can remove any subscription of the account" in text
