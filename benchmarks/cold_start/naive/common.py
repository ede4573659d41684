"""Code that all naive functions share. It creates every client at import."""

import os
from typing import Any

import boto3
import requests
from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.utilities import parameters
from pydantic import BaseModel, Field

logger = Logger()
tracer = Tracer()
metrics = Metrics(namespace="Waterhook")

session = requests.Session()
sns = boto3.client("sns")
stepfunctions = boto3.client("stepfunctions")
s3 = boto3.client("s3")
table = boto3.resource("dynamodb").Table(os.environ["WATERHOOK_TABLE"])

BASE_URL = os.environ["WATERFLAI_BASE_URL"]
TIMEOUT_S = 12


class Request(BaseModel):
    """The request of an execution."""

    chatbot_id: str
    input_data: dict[str, Any]
    idempotency_key: str | None = None
    timeout_seconds: int = Field(default=3600, ge=1, le=2_592_000)
    metadata: dict[str, Any] = Field(default_factory=dict)
    deliver_to: list[str] = Field(default=["sns", "dynamodb"])


class Document(BaseModel):
    """The status document of an execution at Waterflai."""

    execution_id: str
    status: str
    progress: float | None = None
    final_output: Any = None
    error: Any = None


class State(BaseModel):
    """The state of the loop."""

    execution_id: str
    waterflai_execution_id: str | None = None
    deadline: float = 0
    outcome: str = "RUNNING"
    next: str = "poll"
    wait_seconds: int = 5
    result: dict[str, Any] = Field(default_factory=dict)


class Step(BaseModel):
    """The input of a step of the state machine."""

    state: State


def headers() -> dict[str, str]:
    """Return the headers for Waterflai."""
    return {"X-API-Key": str(parameters.get_secret(os.environ["WATERFLAI_API_KEY_SECRET_ARN"]))}


def status(execution_id: str) -> Document:
    """Return the status document of an execution."""
    response = session.get(f"{BASE_URL}/v1/executions/{execution_id}", headers=headers(), timeout=TIMEOUT_S)
    response.raise_for_status()
    return Document.model_validate(response.json())


def polled(state: State) -> dict[str, Any]:
    """Return the state after a poll."""
    document = status(state.waterflai_execution_id or "")
    if document.status == "COMPLETED":
        state.outcome, state.next = document.status, "notify"
        state.result = {"final_output": document.final_output}
    return state.model_dump(mode="json")
