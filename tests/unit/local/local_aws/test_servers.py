"""The Waterflai endpoint of a local deployment."""

import pytest

from local.local_aws.errors import ToolError
from local.local_aws.servers import WaterflaiEndpoint


def test_another_waterflai_needs_an_address_and_a_key() -> None:
    both = {"WATERFLAI_BASE_URL": "https://api.example/", "WATERFLAI_API_KEY": "k"}
    assert WaterflaiEndpoint.from_env(both) == WaterflaiEndpoint("https://api.example", "k")
    assert WaterflaiEndpoint.from_env({}) is None
    with pytest.raises(ToolError, match="WATERFLAI_API_KEY is not set"):
        WaterflaiEndpoint.from_env({"WATERFLAI_BASE_URL": "https://api.example"})
    with pytest.raises(ToolError, match="WATERFLAI_BASE_URL is not set"):
        WaterflaiEndpoint.from_env({"WATERFLAI_API_KEY": "k"})
