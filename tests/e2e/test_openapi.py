"""The API of the deployed stack conforms to openapi.yaml, for the requests that schemathesis generates."""

from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from requests.structures import CaseInsensitiveDict
from schemathesis import Response
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from local.local_aws.stack_client import StackClient
from tests.support.waiting import until

pytestmark = pytest.mark.e2e
schema = schemathesis.openapi.from_path(Path(__file__).parents[2] / "openapi.yaml")
type Case = schemathesis.Case[Any]
TOO_MANY = 429
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@schema.parametrize()
@hypothesis.settings(max_examples=25, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
def test_the_api_conforms_to_its_openapi_document(stack: StackClient, case: Case) -> None:
    if isinstance(case.body, dict):
        # A job that never ends is cancelled soon.
        case.body["timeout_seconds"] = 2
    # A new dictionary, as schemathesis replaces a key that is set in its own. Without Authorization, as the API would
    # check a generated signature first.
    headers = {name: value for name, value in case.headers.items() if name.lower() != "authorization"}
    # A wait without an outcome takes its whole time.
    if "wait" in headers.get("Prefer", "").lower():
        headers["Prefer"] = "wait=1"
    if str(case.query.get("wait", "")).isdecimal():
        case.query["wait"] = min(int(case.query["wait"]), 1)
    case.headers = CaseInsensitiveDict({**headers, "x-api-key": stack.outputs.api_key})

    def response() -> Response | None:
        # 429: all functions are busy with other tests.
        answer = case.call(base_url=stack.outputs.api_url)
        return None if answer.status_code == TOO_MANY else answer

    case.validate_response(until(response, pause_s=0.5), checks=CHECKS)
