"""A client generated from openapi.yaml has models with useful names, which read each sample."""

import re
from typing import Any

import pytest

from tests.support import generated_client, samples


@pytest.fixture
def models() -> Any:
    return generated_client.module(".models")


def test_each_model_has_the_name_of_a_schema(models: Any) -> None:
    assert {"Request", "Accepted", "Execution", "ExecutionPage", "Status", "CompletedEvent"} <= set(
        models.__all__
    )
    # Names like ExecutionErrorType0 belong to a schema that stands inside another one.
    assert [name for name in models.__all__ if re.search(r"Type\d|Item$|Response\d", name)] == []


@pytest.mark.parametrize("name", [*samples.NOTIFICATIONS, *samples.WEBHOOKS])
def test_a_model_reads_the_sample_of_its_event(models: Any, name: str) -> None:
    event = samples.read(name)
    last = event["type"].rpartition(".")[2]
    model = getattr(models, "".join(word.capitalize() for word in last.split("_")) + "Event")
    read = model.from_dict(event)
    assert (read.id, read.type_) == (event["id"], event["type"])
    assert read.to_dict()["data"].keys() == event["data"].keys()
    assert read.additional_properties == {}
    assert read.data.additional_properties == {}
