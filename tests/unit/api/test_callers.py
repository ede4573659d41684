"""Who sent a request, and whether it is an operator."""

from typing import Any

import pytest

from tests.support.builders import api_settings
from waterhook.api.api_settings import CallerIdentity
from waterhook.api.callers import Caller, Callers

ACCOUNT = "111122223333"
ROLE = f"arn:aws:sts::{ACCOUNT}:assumed-role/ops"
SSO = "AWSReservedSSO_Ops_0123456789abcdef"
SSO_ROLE = f"arn:aws:iam::{ACCOUNT}:role/aws-reserved/sso.amazonaws.com/eu-west-1/{SSO}"
# Of the key "" and of the key "a-secret-key".
NO_KEY, A_KEY = "key/e3b0c44298fc1c14", "key/bf8061f00bac730c"


def event(identity: dict[str, Any] | None, **headers: str) -> dict[str, Any]:
    return {"requestContext": {"identity": identity}, "headers": headers}


def caller(
    arn: str | None, *operators: str, identity: CallerIdentity = CallerIdentity.ROLE, **more: Any
) -> Caller:
    settings = api_settings(caller_identity=identity, operators=operators)
    return Callers(settings).of(event({"userArn": arn} | more))


# The principal, and the caller with CallerIdentity ROLE.
IDENTITIES = {
    "user": (f"arn:aws:iam::{ACCOUNT}:user/ada", None),
    "user with a path": (f"arn:aws:iam::{ACCOUNT}:user/team/ada", None),
    "root": (f"arn:aws:iam::{ACCOUNT}:root", None),
    "federated user": (f"arn:aws:sts::{ACCOUNT}:federated-user/ada", None),
    "session of a role": (f"{ROLE}/eve", ROLE),
    "session with an address as its name": (f"{ROLE}/eve@example.com", ROLE),
    "instance": (f"{ROLE}/i-0123456789abcdef0", ROLE),
    "session of a role of SSO": (
        f"arn:aws:sts::{ACCOUNT}:assumed-role/{SSO}/eve",
        f"arn:aws:sts::{ACCOUNT}:assumed-role/{SSO}",
    ),
    "session in China": (
        f"arn:aws-cn:sts::{ACCOUNT}:assumed-role/ops/eve",
        f"arn:aws-cn:sts::{ACCOUNT}:assumed-role/ops",
    ),
    "session in GovCloud": (
        f"arn:aws-us-gov:sts::{ACCOUNT}:assumed-role/ops/eve",
        f"arn:aws-us-gov:sts::{ACCOUNT}:assumed-role/ops",
    ),
    # A session can't have such names, but the caller must be right if one has.
    "session with slashes": (f"{ROLE}/a/b/c", ROLE),
    "session with colons": (f"{ROLE}/a:b:assumed-role/c/d", ROLE),
    "session without a name": (f"{ROLE}/", None),
    "role without a session": (ROLE, None),
    # The path of an IAM user may contain any visible character.
    "user whose path looks like a session": (f"arn:aws:iam::{ACCOUNT}:user/:assumed-role/ops/eve", None),
    "user whose path looks like an ARN": (f"arn:aws:iam::{ACCOUNT}:user/{ROLE}/eve", None),
    "garbage": ("arn:assumed-role/ops/eve", None),
    "more garbage": (":assumed-role/ops/eve", None),
}


@pytest.mark.parametrize(("arn", "of_role"), IDENTITIES.values(), ids=IDENTITIES)
def test_the_sessions_of_a_role_are_one_caller_or_each_is_its_own(arn: str, of_role: str | None) -> None:
    assert caller(arn) == Caller(of_role or arn)
    assert caller(arn, identity=CallerIdentity.SESSION) == Caller(arn)


@pytest.mark.parametrize("identity", CallerIdentity)
@pytest.mark.parametrize(
    ("request_event", "expected"),
    [
        (event({"userArn": None, "apiKeyId": "k1"}), "key/k1"),
        (event({"userArn": "", "apiKeyId": "k1"}), "key/k1"),
        (event({"apiKeyId": ROLE}), f"key/{ROLE}"),
        (event({}), NO_KEY),
        (event(None), NO_KEY),
        ({}, NO_KEY),
        ({"requestContext": None, "headers": None}, NO_KEY),
        (event(None, **{"X-Api-Key": "a-secret-key"}), A_KEY),
    ],
    ids=["key", "empty ARN", "id like an ARN", "empty", "none", "no context", "nulls", "key without id"],
)
def test_a_request_without_a_principal_is_that_of_its_key_and_never_of_an_operator(
    identity: CallerIdentity, request_event: dict[str, Any], expected: str
) -> None:
    operators = (f"arn:aws:iam::{ACCOUNT}:role/ops", f"arn:aws:iam::{ACCOUNT}:user/ada")
    callers = Callers(api_settings(caller_identity=identity, operators=operators))
    assert callers.of(request_event) == Caller(expected)


def test_a_principal_counts_more_than_a_key() -> None:
    assert caller(f"{ROLE}/eve", apiKeyId="k1") == Caller(ROLE)


# The entry of OperatorPrincipalArns, the principal of the request, and whether it is an operator.
OPERATORS = {
    "role": (f"arn:aws:iam::{ACCOUNT}:role/ops", f"{ROLE}/eve", True),
    "another session": (f"arn:aws:iam::{ACCOUNT}:role/ops", f"{ROLE}/mallory", True),
    "role with a path": (f"arn:aws:iam::{ACCOUNT}:role/a/b/ops", f"{ROLE}/eve", True),
    "role of SSO": (SSO_ROLE, f"arn:aws:sts::{ACCOUNT}:assumed-role/{SSO}/eve", True),
    "user": (f"arn:aws:iam::{ACCOUNT}:user/ops", f"arn:aws:iam::{ACCOUNT}:user/ops", True),
    "user with a path": (f"arn:aws:iam::{ACCOUNT}:user/a/ops", f"arn:aws:iam::{ACCOUNT}:user/a/ops", True),
    "role in China": (
        f"arn:aws-cn:iam::{ACCOUNT}:role/ops",
        f"arn:aws-cn:sts::{ACCOUNT}:assumed-role/ops/eve",
        True,
    ),
    "role in another partition": (
        f"arn:aws-cn:iam::{ACCOUNT}:role/ops",
        f"{ROLE}/eve",
        False,
    ),
    "role in another account": ("arn:aws:iam::444455556666:role/ops", f"{ROLE}/eve", False),
    "account that begins alike": (
        f"arn:aws:iam::{ACCOUNT}:role/ops",
        f"arn:aws:sts::{ACCOUNT}0:assumed-role/ops/eve",
        False,
    ),
    "role whose name begins alike": (
        f"arn:aws:iam::{ACCOUNT}:role/ops",
        f"arn:aws:sts::{ACCOUNT}:assumed-role/ops2/eve",
        False,
    ),
    "role in another case": (f"arn:aws:iam::{ACCOUNT}:role/Ops", f"{ROLE}/eve", False),
    "role named like the user": (f"arn:aws:iam::{ACCOUNT}:user/ops", f"{ROLE}/eve", False),
    "user named like the role": (
        f"arn:aws:iam::{ACCOUNT}:role/ops",
        f"arn:aws:iam::{ACCOUNT}:user/ops",
        False,
    ),
    "session named like the role": (
        f"arn:aws:iam::{ACCOUNT}:role/ops",
        f"arn:aws:sts::{ACCOUNT}:assumed-role/other/ops",
        False,
    ),
    "session with the role in its name": (
        f"arn:aws:iam::{ACCOUNT}:role/ops",
        f"arn:aws:sts::{ACCOUNT}:assumed-role/other/x:assumed-role/ops/eve",
        False,
    ),
    "last part of the path": (
        f"arn:aws:iam::{ACCOUNT}:role/a/ops",
        f"arn:aws:sts::{ACCOUNT}:assumed-role/a/ops",
        False,
    ),
    "user with another path": (
        f"arn:aws:iam::{ACCOUNT}:user/ops",
        f"arn:aws:iam::{ACCOUNT}:user/a/ops",
        False,
    ),
    "user whose path has the session": (
        f"arn:aws:iam::{ACCOUNT}:role/ops",
        f"arn:aws:iam::{ACCOUNT}:user/{ROLE}/eve",
        False,
    ),
    "root": (f"arn:aws:iam::{ACCOUNT}:user/root", f"arn:aws:iam::{ACCOUNT}:root", False),
    "federated user": (
        f"arn:aws:iam::{ACCOUNT}:user/ada",
        f"arn:aws:sts::{ACCOUNT}:federated-user/ada",
        False,
    ),
    "the role itself": (f"arn:aws:iam::{ACCOUNT}:role/ops", f"arn:aws:iam::{ACCOUNT}:role/ops", False),
    "role without a session": (f"arn:aws:iam::{ACCOUNT}:role/ops", ROLE, False),
}


@pytest.mark.parametrize("identity", CallerIdentity)
@pytest.mark.parametrize(("operator", "arn", "is_operator"), OPERATORS.values(), ids=OPERATORS)
def test_an_operator_is_a_listed_user_or_a_session_of_a_listed_role(
    identity: CallerIdentity, operator: str, arn: str, *, is_operator: bool
) -> None:
    assert caller(arn, operator, identity=identity).is_operator is is_operator
    assert not caller(arn, identity=identity).is_operator


def test_each_listed_principal_is_an_operator() -> None:
    operators = (f"arn:aws:iam::{ACCOUNT}:user/ada", f"arn:aws:iam::{ACCOUNT}:role/x/ops", SSO_ROLE)
    for arn in (operators[0], f"{ROLE}/eve", f"arn:aws:sts::{ACCOUNT}:assumed-role/{SSO}/eve"):
        assert caller(arn, *operators).is_operator
