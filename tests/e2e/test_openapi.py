"""The API does what its openapi.yaml says: asked by schemathesis, on the deployed stack."""

from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from local.runner.client import StackClient

pytestmark = pytest.mark.e2e
schema = schemathesis.openapi.from_path(Path(__file__).parents[2] / "openapi.yaml")
type Case = schemathesis.Case[Any]
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
    # Over whatever schemathesis made up for it.
    case.headers["x-api-key"] = stack.outputs.api_key
    case.call_and_validate(base_url=stack.outputs.api_url, checks=CHECKS)
