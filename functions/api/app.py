"""API: answers the requests of the REST API. It has the paths and shapes of Waterflai's API where possible."""

import os
from typing import Any

from aws_lambda_powertools.logging.correlation_paths import API_GATEWAY_REST
from aws_lambda_powertools.utilities.typing import LambdaContext

from waterhook.dependencies import Dependencies
from waterhook.observability.telemetry import Telemetry

telemetry = Telemetry("api", correlation_id_path=API_GATEWAY_REST)
dependencies = Dependencies(telemetry)


@telemetry.observe
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer one HTTP request."""
    response = dependencies.routes.answer(event, lambda: context.get_remaining_time_in_millis() / 1000)
    # The path of the template, because the path of the request may contain anything and is not logged.
    route = f"{event.get('httpMethod')} {event.get('resource')}"
    telemetry.add_fields(route=route, http_status=response["statusCode"])
    return response


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    # Built while the container initializes.
    _ = dependencies.routes, dependencies.service, dependencies.status_documents
