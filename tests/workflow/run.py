"""A finished state machine execution with its history, and the notifications of its subscribers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import boto3


@dataclass(frozen=True)
class Run:
    """A finished state machine execution."""

    arn: str
    status: str
    error: str | None
    cause: str | None
    output: dict[str, Any] | None

    @cached_property
    def events(self) -> list[Any]:
        """The history. It is read only where a test uses it, because reading is slow."""
        pages = _states().get_paginator("get_execution_history").paginate(executionArn=self.arn)
        return [event for page in pages for event in page["events"]]

    @property
    def result(self) -> dict[str, Any]:
        """The output of a success, or the cause of a failure."""
        result: dict[str, Any] = self.output if self.output is not None else json.loads(self.cause or "{}")
        return result

    @property
    def path(self) -> list[str]:
        """The names of the states that it entered, in order."""
        return [event["stateEnteredEventDetails"]["name"] for event in self.events if _entered(event)]

    def inputs(self, state: str) -> list[Any]:
        """Return the input of a state for each time it was entered."""
        details = [event["stateEnteredEventDetails"] for event in self.events if _entered(event)]
        return [json.loads(detail["input"]) for detail in details if detail["name"] == state]

    def count(self, event_type: str) -> int:
        """Return the number of events of a type in the history."""
        return sum(event["type"] == event_type for event in self.events)


@cache
def _states() -> Any:
    return boto3.client("stepfunctions")


def _entered(event: Mapping[str, Any]) -> bool:
    return "stateEnteredEventDetails" in event


@dataclass(frozen=True, slots=True)
class Notification:
    """A message as a subscriber receives it."""

    text: str
    attributes: dict[str, str]

    @property
    def event(self) -> dict[str, Any]:
        """The CloudEvent."""
        event: dict[str, Any] = json.loads(self.text)
        return event
