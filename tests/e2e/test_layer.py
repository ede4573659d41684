"""The deployed layer, as `sam build` created it."""

import importlib.util
import io
import zipfile
from collections.abc import Mapping

import httpx
import pytest

from local.local_aws import aws_resources, environment
from local.local_aws.stack_client import StackClient

pytestmark = pytest.mark.e2e

# PEP 552: bit 0 is "hash-based", bit 1 "check the source". Unchecked, so the timestamps in an archive do not matter.
UNCHECKED = (1).to_bytes(4, "little")
LIMIT_BYTES = 8_000_000


@pytest.fixture(scope="module")
def layer(stack: StackClient) -> Mapping[str, bytes]:
    functions = aws_resources.session().client("lambda", endpoint_url=stack.outputs.endpoint_url)
    (entry,) = functions.list_layers()["Layers"]
    arn = entry["LatestMatchingVersion"]["LayerVersionArn"]
    location = functions.get_layer_version_by_arn(Arn=arn)["Content"]["Location"]
    archive = zipfile.ZipFile(io.BytesIO(httpx.get(location, trust_env=False).raise_for_status().content))
    return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


def test_each_module_is_compiled_for_the_runtime(layer: Mapping[str, bytes]) -> None:
    modules = {name for name in layer if name.endswith(".py")}
    assert {"python/waterhook/domain/polling_policy.py", "python/urllib3/__init__.py"} <= modules
    for name in modules:
        folder, _, file = name.rpartition("/")
        bytecode = layer[f"{folder}/__pycache__/{file.removesuffix('.py')}.cpython-313.pyc"]
        assert bytecode[:8] == importlib.util.MAGIC_NUMBER + UNCHECKED
        assert bytecode[8:16] == importlib.util.source_hash(layer[name])


def test_no_file_contains_a_path_of_the_machine_that_built_it(layer: Mapping[str, bytes]) -> None:
    assert not [name for name, content in layer.items() if str(environment.ROOT).encode() in content]
    assert (
        b"/opt/python/waterhook/domain/polling_policy.py"
        in layer["python/waterhook/domain/__pycache__/polling_policy.cpython-313.pyc"]
    )


def test_the_layer_is_small_and_contains_the_packages_with_their_licences(layer: Mapping[str, bytes]) -> None:
    assert sum(map(len, layer.values())) <= LIMIT_BYTES
    tops = {name.split("/")[1] for name in layer}
    packages = {
        "aws_lambda_powertools",
        "jmespath",
        "typing_extensions.py",
        "urllib3",
        "waterhook",
        "__pycache__",
    }
    infos = {top for top in tops if top.endswith(".dist-info")}
    assert tops - infos == packages
    assert all(
        any(name.startswith(f"python/{info}/") and "LICENSE" in name for name in layer) for info in infos
    )
