"""The layer as `sam build` makes it and as it was deployed."""

import importlib.util
import io
import zipfile
from collections.abc import Mapping

import httpx
import pytest

from local.runner import account, environment
from local.runner.client import StackClient

pytestmark = pytest.mark.e2e

# PEP 552: bit 0 says "by hash", bit 1 "check it". Ours is taken as it is, whatever time an archive gave the source.
UNCHECKED = (1).to_bytes(4, "little")
LIMIT_BYTES = 8_000_000


@pytest.fixture(scope="module")
def layer(stack: StackClient) -> Mapping[str, bytes]:
    functions = account.session().client("lambda", endpoint_url=stack.outputs.endpoint_url)
    (entry,) = functions.list_layers()["Layers"]
    arn = entry["LatestMatchingVersion"]["LayerVersionArn"]
    place = functions.get_layer_version_by_arn(Arn=arn)["Content"]["Location"]
    archive = zipfile.ZipFile(io.BytesIO(httpx.get(place, trust_env=False).raise_for_status().content))
    return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


def test_every_module_comes_compiled_for_the_runtime(layer: Mapping[str, bytes]) -> None:
    modules = {name for name in layer if name.endswith(".py")}
    assert {"python/waterhook/domain/polling_policy.py", "python/urllib3/__init__.py"} <= modules
    for name in modules:
        folder, _, file = name.rpartition("/")
        bytecode = layer[f"{folder}/__pycache__/{file.removesuffix('.py')}.cpython-313.pyc"]
        assert bytecode[:8] == importlib.util.MAGIC_NUMBER + UNCHECKED
        assert bytecode[8:16] == importlib.util.source_hash(layer[name])


def test_no_path_of_the_machine_that_built_it_is_in_it(layer: Mapping[str, bytes]) -> None:
    assert not [name for name, content in layer.items() if str(environment.ROOT).encode() in content]
    assert (
        b"/opt/python/waterhook/domain/polling_policy.py"
        in layer["python/waterhook/domain/__pycache__/polling_policy.cpython-313.pyc"]
    )


def test_it_is_small_and_holds_what_runs_and_its_licences(layer: Mapping[str, bytes]) -> None:
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
    # Without it botocore reads its own, which nobody would notice.
    assert "python/waterhook/endpoints/endpoints.json" in layer
    infos = {top for top in tops if top.endswith(".dist-info")}
    assert tops - infos == packages
    assert all(
        any(name.startswith(f"python/{info}/") and "LICENSE" in name for name in layer) for info in infos
    )
