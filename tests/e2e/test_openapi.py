"""The API does what its openapi.yaml says: asked by schemathesis, on the deployed stack."""

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
def test_the_api_keeps_its_word(stack: StackClient, case: Case) -> None:
    if isinstance(case.body, dict):
        # A job that ends by itself, and soon: the next tests need the machine too.
        case.body["timeout_seconds"] = 2
    # Assigned as a whole: a key set in it, schemathesis replaces by one that it made up. The stack takes API keys,
    # and a signature that was made up would be checked first.
    own = {name: value for name, value in case.headers.items() if name.lower() != "authorization"}
    case.headers = CaseInsensitiveDict({**own, "x-api-key": stack.outputs.api_key})

    def response() -> Response | None:
        # The local AWS runs so many functions at once and no more, and other tests need theirs.
        found = case.call(base_url=stack.outputs.api_url)
        return None if found.status_code == TOO_MANY else found

    case.validate_response(until(response, pause_s=0.5), checks=CHECKS)
