"""The environment variables of the functions, read from the template, so that a benchmark uses the shipped values."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from samcli.yamlhelper import yaml_parse

_ROOT = Path(__file__).resolve().parents[1]
_ACCOUNT = "us-east-1:123456789012"
# Values without a default in the template.
_FIXED = {
    "WATERFLAI_API_KEY_SECRET_ARN": f"arn:aws:secretsmanager:{_ACCOUNT}:secret:waterflai-AbCdEf",
    "WATERHOOK_TABLE": "executions",
    "WATERHOOK_TOPIC_ARN": f"arn:aws:sns:{_ACCOUNT}:notifications",
    "WATERHOOK_BUCKET": "outputs",
    "WATERHOOK_SOURCE": "/waterhook/benchmark",
    "WATERHOOK_STATE_MACHINE_ARN": f"arn:aws:states:{_ACCOUNT}:stateMachine:executions",
}


@cache
def environment() -> Mapping[str, str]:
    """Return the variables that the template sets in every function, with the default parameters."""
    template = yaml_parse((_ROOT / "template.yaml").read_text(encoding="utf-8"))
    variables = template["Globals"]["Function"]["Environment"]["Variables"]
    defaults = {
        name: entry["Default"] for name, entry in template["Parameters"].items() if "Default" in entry
    }
    values = {name: _value(value, defaults) for name, value in variables.items()}
    return {name: str(value) for name, value in values.items() if value is not None} | _FIXED


def _value(value: Any, defaults: Mapping[str, Any]) -> Any:
    """Return the value of a variable; None if it refers to a resource."""
    match value:
        case {"Ref": name} | {"Fn::Join": [",", {"Ref": name}]}:
            return defaults.get(name)
        case dict():
            return None
    return value


def environment_at(endpoint: str) -> dict[str, str]:
    """Return the variables with one endpoint for AWS and Waterflai, and with FollowConcurrency 50."""
    own = {"WATERFLAI_BASE_URL": endpoint, "AWS_ENDPOINT_URL": endpoint, "WATERHOOK_FOLLOW_CONCURRENCY": "50"}
    return {**environment(), **own}
