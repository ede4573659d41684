"""Measures cold starts in rounds. Each round runs every build once, so that a busy machine affects all builds."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.cold_start.backend import UPSTREAM_ID, Backend
from benchmarks.cold_start.folders import FUNCTIONS, Folders
from benchmarks.cold_start.process import Build, Run, run
from benchmarks.cold_start.receiver import certificate_pem, receiving
from benchmarks.cold_start.runtime_api import FunctionError
from benchmarks.cold_start.wire import serving
from benchmarks.environment import environment_at
from waterhook.domain.status import Status
from waterhook.domain.webhook import Webhook
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.timestamps import to_rfc3339

BARE = "bare"
ROUNDS = 11
THROTTLED_ROUNDS = 3
_ROOT = Path(__file__).resolve().parents[2]
_DEADLINE_S = 3600


@dataclass(frozen=True, slots=True)
class Medians:
    """Medians over the runs of one build."""

    cold_s: float
    cpu_s: float
    peak_kib: float
    throttled_s: float
    """Duration of the first invocation with 7 % of a CPU. The start before it had a whole CPU."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The results: of a bare handler, and of each function by name."""

    rounds: int
    bare: Medians
    ours: Mapping[str, Medians]
    naive: Mapping[str, Medians]
    compiled: Mapping[str, Medians]
    """The naive functions with bytecode, which `sam build` does not write."""


def event_for(name: str, now: float) -> Any:
    """Return the sample event of a function, with a deadline in the future."""
    file = "api-start.json" if name == "api" else f"{name}.json"
    event = json.loads((_ROOT / "events" / file).read_text(encoding="utf-8"))
    if "state" in event:
        event["state"] |= {"deadline": now + _DEADLINE_S, "progress_events": False}
        # A start in the future, so that the function opens the stream before its first poll is due.
        event["state"]["history"] = {"started_at": now + _DEADLINE_S}
    return event


def record_for(event: Any, now: float) -> dict[str, Any]:
    """Return the DynamoDB item of the running execution in an event."""
    record = ExecutionRecord(
        execution_id=event["state"]["execution_id"],
        status=Status.RUNNING,
        owner_execution_arn=event["execution"]["arn"],
        source="states",
        created_at=to_rfc3339(now) or "",
        deadline=int(now) + _DEADLINE_S,
        expires_at=int(now) + 2 * _DEADLINE_S,
        deliver_to=("sns", "dynamodb"),
        chatbot_id="support-chat",
        waterflai_execution_id=UPSTREAM_ID,
    )
    return record.to_item()


def measure(
    folders: Folders, *, rounds: int, throttled_rounds: int, report: Callable[[str], None]
) -> Measured:
    """Return the medians. The first round fills the caches of the machine and is not counted."""
    subjects = dict(_subjects(folders))
    cold: dict[str, list[Run]] = {key: [] for key in subjects}
    throttled: dict[str, list[Run]] = {key: [] for key in subjects}
    for number in range(rounds + 1):
        report(f"cold start, round {number} of {rounds}")
        for key, (name, build) in subjects.items():
            cold[key].append(_once(name, build))
    for number in range(throttled_rounds):
        report(f"first invocation with little CPU, round {number + 1} of {throttled_rounds}")
        for key, (name, build) in subjects.items():
            throttled[key].append(_once(name, build, throttled=True))
    medians = {
        key: Medians(
            median(each.first_response_s for each in cold[key][1:]),
            median(each.cpu_s for each in cold[key][1:]),
            median(each.peak_kib for each in cold[key][1:]),
            median(each.invocation_s for each in throttled[key] or cold[key]),
        )
        for key in subjects
    }
    return Measured(
        rounds,
        medians[BARE],
        {name: medians[f"ours {name}"] for name in FUNCTIONS},
        {name: medians[f"naive {name}"] for name in FUNCTIONS},
        {name: medians[f"compiled {name}"] for name in FUNCTIONS},
    )


def _subjects(folders: Folders) -> Iterator[tuple[str, tuple[str, Build]]]:
    yield BARE, ("poll", folders.bare)
    for name in FUNCTIONS:
        yield f"ours {name}", (name, folders.ours[name])
        yield f"naive {name}", (name, folders.naive[name])
        yield f"compiled {name}", (name, folders.compiled[name])


def delivered_record(event: Any, url: str, now: float) -> dict[str, Any]:
    """Return the DynamoDB item of the completed execution whose outcome a message is about."""
    message = json.loads(event["Records"][0]["body"])
    execution_id, accepted_ms, status = message["event_id"].split("/")
    record = ExecutionRecord(
        execution_id=execution_id,
        status=Status(status),
        owner_execution_arn="any",
        source="states",
        created_at=to_rfc3339(int(accepted_ms) / 1000) or "",
        deadline=int(now),
        expires_at=int(now) + 30 * 24 * 3600,
        deliver_to=("sns", "dynamodb"),
        chatbot_id="support-chat",
        waterflai_execution_id=UPSTREAM_ID,
        final_output_json='{"answer": "Waterflai runs chatflows and workflows."}',
        finished_at=to_rfc3339(now),
        notified_at=to_rfc3339(now),
        webhook=Webhook(url),
    )
    return record.to_item()


def _once(name: str, build: Build, *, throttled: bool = False) -> Run:
    now = time.time()
    event = event_for(name, now)
    if name == "deliver":
        return _deliver_once(build, event, now, throttled=throttled)
    backend = Backend(*([record_for(event, now)] if "state" in event else []))
    with serving(backend.respond) as server:
        return run(build, event, environment_at(f"http://{server.host}"), throttled=throttled)


def _deliver_once(build: Build, event: Any, now: float, *, throttled: bool) -> Run:
    backend = Backend(bundle_pem=certificate_pem())
    with serving(backend.respond) as server, receiving(f"http://{server.host}") as receiver:
        backend.put(delivered_record(event, receiver.url, now))
        env = {**environment_at(f"http://{server.host}"), **receiver.environment}
        result = run(build, event, env, throttled=throttled)
        if not receiver.requests:
            raise FunctionError(f"{build.task}: no webhook was received")
        return result
