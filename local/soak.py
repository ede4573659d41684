"""`python -m local.soak`: hundreds of executions at once, at random faults, and an account of every one.

Deploys a stack of its own and ends it. The same `--seed` makes the same requests.
"""

import argparse
import base64
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from local.runner import environment, interrupts
from local.runner.client import StackClient, execution_id_of, notification
from local.runner.errors import RunnerError
from local.runner.interrupts import pause
from local.runner.screen import Screen
from local.runner.services import SIMULATOR_API_KEY
from local.runner.stack import HOME, LocalStack
from local.waterflai.chatbots import CHATBOTS
from waterhook.timestamps import to_epoch_s

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions.type_defs import ExecutionListItemTypeDef

_CHATBOT = "support-chat"
LIMIT_S = 150.0
SENDERS = 12
_POLL_S = 1.0
_ON_ITS_WAY_S = 2.0
# Whoever is not waited for by anybody is told of no later than this.
_DEADLINE_S = 75

# What may be told of a job that completes. A start whose answer is lost is uncertain; nothing else is.
FINE, LOST, REFUSED = frozenset({"COMPLETED"}), frozenset({"UNCERTAIN"}), frozenset({"REJECTED"})
CANCELS, FAILS = frozenset({"TIMED_OUT"}), frozenset({"FAILED"})


@dataclass(frozen=True, slots=True)
class Trouble:
    """Faults for one execution: the outcomes it may have, and the POSTs and the jobs it may cost."""

    name: str
    faults: tuple[Mapping[str, Any], ...] = ()
    outcomes: frozenset[str] = FINE
    posts: int = 1
    jobs: int = 1
    endless: bool = False
    has_output: bool = True
    """The chatbot's own output is published, if the job completes."""


def _at(operation: str, kind: str, **fault: Any) -> Mapping[str, Any]:
    return {"on": operation, "kind": kind, **fault}


def _code(operation: str, code: int, **fault: Any) -> Mapping[str, Any]:
    return _at(operation, "status_code", code=code, **fault)


TROUBLES = (
    Trouble("none"),
    Trouble("start reset before", (_at("start", "reset"),), LOST, jobs=0),
    Trouble("start reset after", (_at("start", "reset", processed=True),), LOST),
    Trouble("start 504, with a job", (_code("start", 504, html=True, processed=True),), LOST),
    Trouble("start truncated", (_at("start", "truncated"),), LOST),
    Trouble("start 422", (_code("start", 422),), REFUSED, jobs=0),
    Trouble("start 429", (_code("start", 429, retry_after=1, times=1),), posts=2),
    Trouble("start 503 twice", (_code("start", 503, html=True, times=2),), posts=3),
    Trouble("status 500", (_code("status", 500, times=2),)),
    Trouble("status 429", (_code("status", 429, retry_after=2, times=1),)),
    Trouble("status 404 at first", (_code("status", 404, times=2),)),
    Trouble("status reset", (_at("status", "reset", times=2),)),
    Trouble(
        "status garbage",
        (_at("status", "truncated", times=1), _at("status", "wrong_types", times=1, after=1)),
    ),
    Trouble("status goes back", (_at("status", "progress_back"),)),
    Trouble("stream 404", (_code("stream", 404),)),
    Trouble("stream reset", (_at("stream", "reset"),)),
    Trouble("stream lies", (_at("stream", "false_end", closes=True),)),
    Trouble("stream junk", (_at("stream", "junk"),)),
    Trouble("stream ends early", (_at("stream", "ends", after_events=1),)),
    # HTTP as it is: what the client has to decode, skip or throw away.
    Trouble("start after interim answers", (_at("start", "interim", codes=[102, 103, 103]),)),
    Trouble("start in gzip", (_at("start", "encoded"),)),
    Trouble("start in Brotli", (_at("start", "encoded", encoding="br"),), LOST),
    Trouble("start is a bomb", (_at("start", "bomb", mib=20),), LOST),
    Trouble("start 521", (_code("start", 521, html=True, times=1),), posts=2),
    Trouble("start 520, with a job", (_code("start", 520, html=True, processed=True),), LOST),
    Trouble("start closes the connection", (_at("start", "closes_idle", after_seconds=0.2),)),
    Trouble("status after an interim answer", (_at("status", "interim"),)),
    Trouble("status in gzip", (_at("status", "encoded"),)),
    Trouble("status in deflate", (_at("status", "encoded", encoding="deflate"),)),
    Trouble("status in Brotli at first", (_at("status", "encoded", encoding="br", times=2),)),
    Trouble("status is a bomb once", (_at("status", "bomb", mib=20, times=1),)),
    Trouble("status closes the connection", (_at("status", "closes_idle", after_seconds=0.2),)),
    Trouble("status resets the connection", (_at("status", "closes_idle", after_seconds=0.2, reset=True),)),
    Trouble("status of another execution", (_at("status", "foreign_document", times=2),)),
    Trouble("status and another one behind it", (_at("status", "pipelined_document"),)),
    Trouble("status and another one later", (_at("status", "pipelined_document", pause_seconds=0.05),)),
    Trouble("status 522", (_code("status", 522, html=True, times=2),)),
    # Documents that can't be read as a whole, spell the status otherwise, or hold the API key.
    Trouble("status with NaN in the output", (_at("status", "invalid_output"),), has_output=False),
    Trouble(
        "status with a byte that is no UTF-8",
        (_at("status", "invalid_output", how="bad_byte"),),
        has_output=False,
    ),
    Trouble("status with NaN in the output once", (_at("status", "invalid_output", when="final", times=1),)),
    Trouble("status in lower case", (_at("status", "unknown_status", status="completed", when="final"),)),
    Trouble("status not known", (_at("status", "unknown_status"),), FAILS),
    *(
        Trouble(f"status with the key, {form}", (_at("status", "echo_key", form=form),), has_output=False)
        for form in ("plain", "url", "base64", "escaped")
    ),
    # The truth, but late, slow or odd.
    Trouble("status lags", (_at("status", "lag", seconds=2),)),
    Trouble("status asks to slow down", (_at("status", "slow_down", retry_after=2, times=2),)),
    Trouble("status not found for a second", (_at("status", "not_found_for", seconds=1),)),
    Trouble("tiny progress", (_at("status", "tiny_progress"), _at("stream", "tiny_progress"))),
    # Streams that are open and don't work.
    Trouble("stream of comments", (_at("stream", "heartbeats", every_seconds=0.5),)),
    Trouble("stream of pings, closing", (_at("stream", "heartbeats", as_events=True, closes=True),)),
    Trouble("stream without an end", (_at("stream", "no_end"),)),
    Trouble("stream goes on", (_at("stream", "events_go_on"),)),
    Trouble("stream buffered", (_at("stream", "buffered"),)),
    Trouble("stream buffered for ever", (_at("stream", "buffered", head=False, released=False),)),
    Trouble(
        "stream replays",
        (_at("stream", "ends", after_events=2, reset=True, times=1), _at("stream", "replays")),
    ),
    Trouble("stream not found for a second", (_at("stream", "not_found_for", seconds=1),)),
    Trouble("stream with a long comment", (_at("stream", "long_comment"),)),
    Trouble("stream in gzip", (_at("stream", "encoded"),)),
    Trouble("stream is a bomb", (_at("stream", "bomb", mib=20),)),
    Trouble("stream after interim answers", (_at("stream", "interim", codes=[102, 103]),)),
    Trouble("never ends", (), CANCELS, endless=True),
    Trouble("never ends, cancel 500", (_code("cancel", 500, times=1),), CANCELS, endless=True),
    Trouble("never ends, cancel 204", (_at("cancel", "empty_answer"),), CANCELS, endless=True),
    Trouble("never ends, cancel empty", (_at("cancel", "empty_answer", code=202),), CANCELS, endless=True),
    Trouble(
        "never ends, cancel's answer lost",
        (_at("cancel", "reset", processed=True, times=1),),
        CANCELS,
        endless=True,
    ),
    Trouble(
        "never ends, cancel of another", (_at("cancel", "foreign_document", times=1),), CANCELS, endless=True
    ),
)


@dataclass(frozen=True, slots=True)
class Request:
    """One execution to be: its idempotency key, what it meets and what it asks for."""

    key: str
    trouble: Trouble
    body: Mapping[str, Any]

    @classmethod
    def all(cls, count: int, seed: int) -> list["Request"]:
        """As many requests, the same for the same seed."""
        dice = random.Random(seed)  # noqa: S311  # to be repeated, not to be secret
        return [cls._one(f"soak-{seed}-{number}", dice) for number in range(count)]

    @classmethod
    def _one(cls, key: str, dice: random.Random) -> "Request":
        trouble = dice.choice(TROUBLES)
        seconds = round(dice.uniform(0.2, 3.0), 2)
        outcome = {"outcome": "ENDLESS"} if trouble.endless else {}
        simulate = {"seconds": seconds, "queue_seconds": 0.2, "faults": list(trouble.faults), **outcome}
        given = {"marker": key, "simulate": simulate}
        deadline = {"timeout_seconds": _DEADLINE_S} if trouble.endless else {}
        return cls(key, trouble, {"input_data": given, **deadline})


class Soak:
    """Sends the requests, waits for the last execution's end, and accounts for each."""

    def __init__(self, client: StackClient, requests: Sequence[Request], screen: Screen) -> None:
        """Nothing is sent yet."""
        self._client = client
        self._requests = requests
        self._screen = screen

    def run(self) -> list[str]:
        """Everything that is not as it should be; the figures are printed."""
        began = time.monotonic()
        with self._screen.busy("Sending"), ThreadPoolExecutor(SENDERS) as pool:
            ids = dict(
                zip(
                    (request.key for request in self._requests),
                    pool.map(self._send, self._requests),
                    strict=True,
                )
            )
        self._screen.line(
            f"{len(ids)} requests accepted in {time.monotonic() - began:.1f} s, each sent twice"
        )
        with self._screen.busy("Waiting for the last"):
            runs, most = self._wait_for_all(began)
        ended_s = time.monotonic() - began
        self._screen.line(f"all ended after {ended_s:.1f} s, at most {most} running at once")
        pause(_ON_ITS_WAY_S)
        return list(self._account(ids, runs))

    def _send(self, request: Request) -> str:
        """The execution's id. The request is sent again with its key, as by a client that saw no answer."""
        return {self._accepted(request) for _ in range(2)}.pop()

    def _accepted(self, request: Request) -> str:
        deadline = time.monotonic() + LIMIT_S
        while True:
            answer = self._client.post(_CHATBOT, request.body, idempotency_key=request.key)
            if answer.status_code == httpx.codes.ACCEPTED:
                return str(answer.json()["execution_id"])
            # The machine is: a client comes again.
            busy = answer.status_code in {502, 503}
            if not busy or time.monotonic() > deadline:
                raise RunnerError(f"{request.key}: the API answered {answer.status_code} {answer.text[:200]}")
            pause(0.5)

    def _wait_for_all(self, began: float) -> "tuple[list[ExecutionListItemTypeDef], int]":
        """Every execution of the state machine, and how many ran at once at the most."""
        most = 0
        while True:
            runs = self._runs()
            running = sum(run["status"] == "RUNNING" for run in runs)
            most = max(most, running)
            if not running or time.monotonic() - began > LIMIT_S:
                return runs, most
            pause(_POLL_S)

    def _runs(self) -> "list[ExecutionListItemTypeDef]":
        machine = self._client.outputs.state_machine_arn
        pages = self._client.stepfunctions.get_paginator("list_executions").paginate(stateMachineArn=machine)
        return [run for page in pages for run in page["executions"]]

    def _account(self, ids: Mapping[str, str], runs: "Sequence[ExecutionListItemTypeDef]") -> Iterator[str]:
        events = self._notifications()
        starts = self._client.waterflai("requests")["starts"]
        posts = Counter((start["input_data"] or {}).get("marker") for start in starts)
        jobs = Counter((start["input_data"] or {}).get("marker") for start in starts if start["execution_id"])
        outcomes: Counter[str] = Counter()
        if len(set(ids.values())) != len(ids):
            yield f"{len(ids)} keys made {len(set(ids.values()))} executions"
        if len(runs) != len(ids):
            yield f"{len(ids)} requests made {len(runs)} executions of the state machine"
        for run in runs:
            if run["status"] == "RUNNING":
                yield f"{run['name']}: still running"
        for request in self._requests:
            execution_id, trouble = ids[request.key], request.trouble
            told = events.get(execution_id, [])
            item = self._client.item(execution_id) or {}
            status = str(item.get("status"))
            outcomes[status] += 1
            accepted_ms = round((to_epoch_s(item.get("created_at")) or 0.0) * 1000)
            expected = [f"{execution_id}/{accepted_ms}/{status}"]
            if [event["id"] for event in told] != expected or not item.get("notified_at"):
                yield f"{request.key} ({trouble.name}): {status}, told {[event['id'] for event in told]}"
            if status not in trouble.outcomes:
                yield f"{request.key} ({trouble.name}): {status} {item.get('error')}"
            yield from wrong_outputs(request, status, told)
            yield from leaked_keys(request, told, item)
            cost = posts[request.key], jobs[request.key]
            if cost != (trouble.posts, trouble.jobs):
                yield f"{request.key} ({trouble.name}): {cost[0]} POSTs, {cost[1]} jobs"
        self._print(outcomes, events, starts)

    def _notifications(self) -> dict[str, list[dict[str, Any]]]:
        """Every notification in the results queue, by its execution, each taken once."""
        events: dict[str, list[dict[str, Any]]] = {}
        queue = self._client.outputs.results_queue_url
        while True:
            answer = self._client.sqs.receive_message(
                QueueUrl=queue, MaxNumberOfMessages=10, VisibilityTimeout=600
            )
            if not answer.get("Messages"):
                return events
            for message in answer["Messages"]:
                event = notification(message["Body"])
                events.setdefault(execution_id_of(event) or "", []).append(event)

    def _print(self, outcomes: Counter[str], events: Mapping[str, list[Any]], starts: Sequence[Any]) -> None:
        asked = self._client.waterflai("requests")["asked"]
        notifications = [event["id"] for told in events.values() for event in told]
        self._screen.line("outcomes       " + _counts(outcomes))
        self._screen.line(f"notifications  {len(notifications)}, {len(set(notifications))} distinct")
        self._screen.line(
            f"asked          {_counts(asked)} ({sum(bool(s['execution_id']) for s in starts)} jobs)"
        )


def wrong_outputs(request: Request, status: str, told: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the notifications whose output is not that of the request's own job, such as another execution's."""
    if not request.trouble.has_output:
        return []
    expected = CHATBOTS[_CHATBOT].output if status in FINE else None
    outputs = [event["data"].get("final_output") for event in told]
    name = f"{request.key} ({request.trouble.name})"
    return [f"{name}: {status}, output {str(output)[:200]}" for output in outputs if output != expected]


def leaked_keys(request: Request, told: Sequence[Mapping[str, Any]], item: Mapping[str, Any]) -> list[str]:
    """Return the notifications and the record that hold the API key or its base64."""
    forms = (SIMULATOR_API_KEY, base64.b64encode(SIMULATOR_API_KEY.encode()).decode().rstrip("="))
    texts = {"a notification": json.dumps(told), "the record": str(item)}
    name = f"{request.key} ({request.trouble.name})"
    return [
        f"{name}: the key is in {place}"
        for place, text in texts.items()
        if any(form in text for form in forms)
    ]


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda pair: -pair[1]))


def main(words: Sequence[str]) -> int:
    """The exit code: 0 when every execution is accounted for."""
    parser = argparse.ArgumentParser(prog="python -m local.soak", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--executions", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--polling", action="store_true", help="without following the event streams")
    arguments = parser.parse_args(words)
    environment.isolate(os.environ)
    screen = Screen()
    parameters = {"FollowConcurrency": "0"} if arguments.polling else {}
    requests = Request.all(arguments.executions, arguments.seed)
    way = "polled" if arguments.polling else "followed"
    screen.line(f"{len(requests)} executions, {way}, seed {arguments.seed}")
    try:
        with (
            LocalStack(_home(), parameters=parameters, screen=screen) as outputs,
            StackClient(outputs) as client,
        ):
            problems = Soak(client, requests, screen).run()
    except RunnerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for problem in problems:
        screen.line(problem, "red")
    screen.line("Not all is accounted for." if problems else "Every execution is accounted for.", "bold")
    return 1 if problems else 0


def _home() -> Path:
    """A place of its own: `make up`'s stack is left alone."""
    return HOME / "soak"


if __name__ == "__main__":
    interrupts.install()
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(interrupts.EXIT_CODE)
