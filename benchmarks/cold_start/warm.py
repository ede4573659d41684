"""A warm function: what its handler adds to a bare GET, and how many connections it opens."""

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
    """Medians of one process, and what its upstream and its TLS saw of it."""

    invocations: int
    bare_ms: float
    ours_ms: float
    connections: int
    """At the upstream, the bare client's one aside."""
    contexts: int
    """TLS contexts of the process: each reads the CA file."""

    @property
    def overhead(self) -> float:
        """How many times a bare GET an invocation takes."""
        return self.ours_ms / self.bare_ms


def overhead(poll: Build, event: Any, env: dict[str, str], *, invocations: int, home: Path) -> Warm:
    """Return what polls take of which each asks the simulated Waterflai, in a process of its own as in e2e.

    One process is faster than the next, from its start to its end: the middle one of PROCESSES is told.
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
        with serving(Backend(api_key=upstream.api_key).answer) as aws:
            own = {"WATERFLAI_BASE_URL": upstream.base_url, "BENCHMARK_API_KEY": upstream.api_key}
            where = env | own | {"AWS_ENDPOINT_URL": f"http://{aws.host}"}
            runs = [
                _told(_run(poll, event, where, invocations), invocations, connections=0)
                for _ in range(PROCESSES)
            ]
    finally:
        end_processes([simulator.identity])
    return sorted(runs, key=lambda run: run.overhead)[PROCESSES // 2]


def reuse(build: Build, event: Any, env: dict[str, str], *, invocations: int, home: Path) -> Warm:
    """Return what a process does that asks over TLS: the connections are counted by the one it asks."""
    authority, pem = trustme.CA(), home / "authority.pem"
    authority.cert_pem.write_to_path(pem)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    backend = Backend()
    with serving(backend.answer) as aws, serving(backend.answer, tls) as upstream:
        own = {
            "AWS_ENDPOINT_URL": f"http://{aws.host}",
            "WATERFLAI_BASE_URL": f"https://{upstream.host}",
            "SSL_CERT_FILE": str(pem),
            "BENCHMARK_API_KEY": API_KEY,
        }
        seen = _run(build, event, env | own, invocations)
        return _told(seen, invocations, upstream.connections - 1)


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
    seen: dict[str, Any] = json.loads(child.stderr)
    return seen


def _told(seen: dict[str, Any], invocations: int, connections: int) -> Warm:
    bare_ms, ours_ms = median(seen["bare"]) * 1000, median(seen["ours"]) * 1000
    return Warm(invocations, bare_ms, ours_ms, connections, seen["contexts"])
