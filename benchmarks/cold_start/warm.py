"""Measures a warm function: its time compared with a bare GET, and its number of connections."""

import json
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import trustme

from benchmarks.cold_start.backend import API_KEY, Backend
from benchmarks.cold_start.process import PYTHON, Build, environment_of
from benchmarks.cold_start.runtime_api import FunctionError
from benchmarks.cold_start.wire import serving
from local.local_aws import servers
from local.local_aws.interrupts import pause
from local.local_aws.processes import end_processes

PROCESSES = 5  # an odd number
_CHILD = Path(__file__).with_name("warm_child.py")


@dataclass(frozen=True, slots=True)
class Warm:
    """Medians of one process, its connections to Waterflai and its TLS contexts."""

    invocations: int
    bare_ms: float
    ours_ms: float
    connections: int
    """Number of connections to Waterflai, without the connection of the bare client."""
    contexts: int
    """Number of TLS contexts of the process. Each reads the CA file."""

    @property
    def overhead(self) -> float:
        """Duration of an invocation divided by the duration of a bare GET."""
        return self.ours_ms / self.bare_ms


def overhead(poll: Build, event: Any, env: dict[str, str], *, invocations: int, home: Path) -> Warm:
    """Measure polls of the simulated Waterflai, which runs in a separate process.

    The speed differs from process to process, so the result is the median process of PROCESSES.
    """
    ready = home / "waterflai.json"
    simulator = servers.start_simulator(ready, home / "waterflai.log")
    try:
        servers.wait_until_ready(ready.exists, simulator)
        upstream = servers.read_simulator_endpoint(ready)
        url = f"{upstream.base_url}/v1/executions"
        body, headers = {"input_data": {"simulate": {"seconds": 0}}}, {"X-API-Key": upstream.api_key}
        with httpx.Client(trust_env=False, headers=headers) as client:
            started = client.post(f"{url}/support-chat/async", json=body).raise_for_status().json()
            while client.get(f"{url}/{started['execution_id']}").json()["status"] != "COMPLETED":
                pause(0.05)
        event["state"]["waterflai_execution_id"] = started["execution_id"]
        with serving(Backend(api_key=upstream.api_key).respond) as aws:
            own = {"WATERFLAI_BASE_URL": upstream.base_url, "BENCHMARK_API_KEY": upstream.api_key}
            variables = env | own | {"AWS_ENDPOINT_URL": f"http://{aws.host}"}
            runs = [
                _to_warm(_run(poll, event, variables, invocations), invocations, connections=0)
                for _ in range(PROCESSES)
            ]
    finally:
        end_processes([simulator.identity])
    return sorted(runs, key=lambda run: run.overhead)[PROCESSES // 2]


def reuse(build: Build, event: Any, env: dict[str, str], *, invocations: int, home: Path) -> Warm:
    """Measure invocations with TLS. The server counts the connections."""
    authority, pem = trustme.CA(), home / "authority.pem"
    authority.cert_pem.write_to_path(pem)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    backend = Backend()
    with serving(backend.respond) as aws, serving(backend.respond, tls) as upstream:
        own = {
            "AWS_ENDPOINT_URL": f"http://{aws.host}",
            "WATERFLAI_BASE_URL": f"https://{upstream.host}",
            "SSL_CERT_FILE": str(pem),
            "BENCHMARK_API_KEY": API_KEY,
        }
        result = _run(build, event, env | own, invocations)
        return _to_warm(result, invocations, upstream.connections - 1)


def _run(build: Build, event: Any, env: dict[str, str], invocations: int) -> dict[str, Any]:
    child = subprocess.run(
        [str(PYTHON), "-S", str(_CHILD), str(invocations)],
        input=json.dumps(event).encode(),
        env=environment_of(build) | env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if child.returncode:
        raise FunctionError(child.stderr.decode())
    result: dict[str, Any] = json.loads(child.stderr)
    return result


def _to_warm(result: dict[str, Any], invocations: int, connections: int) -> Warm:
    bare_ms, ours_ms = median(result["bare"]) * 1000, median(result["ours"]) * 1000
    return Warm(invocations, bare_ms, ours_ms, connections, result["contexts"])
