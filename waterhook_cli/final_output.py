"""Prints the final output of an execution, inline or from S3."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError

from waterhook_cli.api_client import http_sender, parse_json
from waterhook_cli.output import Output


def print_final_output(fields: Mapping[str, Any], output: Output) -> None:
    """Print the final output of a status document on standard output, or a warning on standard error."""
    if fields.get("final_output") is not None:
        output.indented_json(fields["final_output"])
    elif url := fields.get("final_output_url"):
        try:
            output.indented_json(_download(url))
        except (BotoCoreError, ValueError, RecursionError):
            output.warning(
                f"The output can't be downloaded. Download it within an hour from this link: {url}"
            )
    elif fields.get("output_error"):
        output.warning(
            f"The execution has no output: {fields['output_error']}. See `output_error` in docs/contract.md."
        )


def _download(url: str) -> Any:
    """Return the JSON value at a presigned URL. Raises BotoCoreError, ValueError or RecursionError."""
    response = http_sender(url)(AWSRequest("GET", url))
    if response.status_code != HTTPStatus.OK:
        raise ValueError(f"status {response.status_code}")
    return parse_json(response.text)
