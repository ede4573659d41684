"""Events of API Gateway, as the API function receives them."""

import json
from typing import Any

from tests.support.builders import CALLER, ID

BODY = {"input_data": {"question": "why?"}}
START = "/v1/executions/support-chat/async"


def matched(path: str) -> tuple[str, dict[str, str] | None]:
    """Return the resource and the path parameters of a path. API Gateway leaves the parameters encoded."""
    match path.split("/"):
        case ["", "v1", "executions"]:
            return "/v1/executions", None
        case ["", "v1", "executions", id_] if id_:
            return "/v1/executions/{id}", {"id": id_}
        case ["", "v1", "executions", id_, "async"] if id_:
            return "/v1/executions/{id}/async", {"id": id_}
    return "/{proxy+}", {"proxy": path[1:]}


def event(
    method: str,
    path: str,
    body: str | None = None,
    headers: dict[str, str] | None = None,
    *,
    caller: str | None = CALLER,
    **changes: Any,
) -> dict[str, Any]:
    """Return the event of a REST API with Lambda proxy integration: the fields that the function reads.

    For a path that the template does not have, API Gateway answers 403 without calling the function.
    """
    resource, parameters = matched(path)
    return {
        "resource": resource,
        "path": path,
        "httpMethod": method,
        "headers": {"Host": "abc.execute-api.test", "Content-Type": "application/json"} | (headers or {}),
        "multiValueHeaders": {},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": parameters,
        "stageVariables": None,
        "requestContext": {
            "apiId": "abc",
            "path": f"/live{path}",
            "resourcePath": resource,
            "stage": "live",
            "domainName": "abc.execute-api.test",
            "httpMethod": method,
            "identity": {"userArn": caller, "sourceIp": "127.0.0.1"},
        },
        "body": body,
        "isBase64Encoded": False,
    } | changes


def post(body: object = BODY, headers: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
    text = body if isinstance(body, str) else json.dumps(body)
    return event("POST", changes.pop("path", START), text, headers, **changes)


def get(execution_id: str = ID, **changes: Any) -> dict[str, Any]:
    return event("GET", f"/v1/executions/{execution_id}", **changes)
