"""The executions of the simulator: their scripts, their status documents and their event streams."""

import asyncio
import contextlib
import math
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

from local.simulator.clock import SimulatedClock
from local.simulator.jobs import JobScript, JobSnapshot, Outcome, Status, completion_event, snapshot, timeline
from local.simulator.strict_json import JsonObject

MAX_EXECUTIONS = 10_000

# Id and output of an execution that no client has started. A client must not use the output.
FOREIGN_ID = "f0e1d2c3-0000-4000-8000-000000000000"
FOREIGN_OUTPUT: JsonObject = {"foreign": True}

# Minimum pause of a stream, so that a high speed does not wake it for each event.
_SHORTEST_SLEEP_S = 0.01


class TooManyExecutionsError(Exception):
    """Raised when the simulator has no room for another execution, because all of them are running."""

    def __init__(self) -> None:
        super().__init__("Too many executions are running")


@dataclass(slots=True, eq=False)
class Execution:
    """An execution of a chatbot. Times are simulated seconds after `accepted_s`."""

    execution_id: str
    chatbot_id: str
    script: JobScript
    accepted_s: float
    cancelled_s: float | None = None
    cleaned_up_early_s: float = math.inf
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def cleanup_s(self) -> float:
        """When the simulator deletes the execution."""
        return min(self.script.cleanup_seconds, self.cleaned_up_early_s)

    def wake_followers(self) -> None:
        """Wake each stream, so that it computes again when its next event is due."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` real seconds, or when `wake_followers` is called."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._changed.wait()


class Executions:
    """Executions by id. Each is deleted at its clean-up time."""

    def __init__(self, clock: SimulatedClock, max_executions: int = MAX_EXECUTIONS) -> None:
        self._clock = clock
        self._max_executions = max_executions
        self._by_id: dict[str, Execution] = {}

    def start(self, chatbot_id: str, script: JobScript) -> Execution:
        """Add and return an execution. Raises `TooManyExecutionsError`."""
        if len(self._by_id) >= self._max_executions:
            self._make_room()
        execution = Execution(str(uuid.uuid4()), chatbot_id, script, self._clock.now_s())
        self._by_id[execution.execution_id] = execution
        return execution

    def find(self, execution_id: str) -> Execution | None:
        """Return the execution; None if the id is unknown or its clean-up time has passed."""
        execution = self._by_id.get(execution_id)
        if execution is not None and self._is_past_cleanup(execution):
            del self._by_id[execution_id]
            return None
        return execution

    def all(self) -> list[Execution]:
        """Return all executions before their clean-up time, oldest first."""
        return [execution for execution_id in list(self._by_id) if (execution := self.find(execution_id))]

    def snapshot(self, execution: Execution, lag_s: float = 0.0) -> JobSnapshot:
        """Return the state of the job `lag_s` real seconds ago."""
        elapsed_s = self._elapsed_s(execution)
        if lag_s:  # the result is negative for a time before the start
            elapsed_s = self._clock.past_s(lag_s) - execution.accepted_s
        return snapshot(execution.script, elapsed_s, execution.cancelled_s)

    def cancel(self, execution: Execution) -> tuple[bool, Status]:
        """Cancel an execution that is not final. Return whether it was cancelled, and its status before."""
        previous = self.snapshot(execution).status
        if previous.is_final:
            return False, previous
        execution.cancelled_s = self._elapsed_s(execution)
        execution.wake_followers()
        return True, previous

    def finish(self, execution: Execution) -> bool:
        """End a running job now, with the outcome of its script. ENDLESS becomes COMPLETED.

        Returns whether the job was running.
        """
        if self.snapshot(execution).status.is_final:
            return False
        now_s, script = self._elapsed_s(execution), execution.script
        outcome = Outcome.COMPLETED if script.outcome is Outcome.ENDLESS else script.outcome
        queue_s = min(script.queue_seconds, now_s)
        execution.script = replace(script, outcome=outcome, queue_seconds=queue_s, seconds=now_s - queue_s)
        execution.wake_followers()
        return True

    def clean_up_soon(self, execution: Execution, seconds: float) -> None:
        """Set the clean-up time to `seconds` (simulated) from now. A second call changes nothing."""
        if math.isinf(execution.cleaned_up_early_s):
            execution.cleaned_up_early_s = self._elapsed_s(execution) + seconds

    def is_younger(self, execution: Execution, seconds: float) -> bool:
        """Return whether the execution was accepted less than `seconds` real seconds ago."""
        return execution.accepted_s > self._clock.past_s(seconds)

    def foreign_document(self, execution: Execution) -> JsonObject:
        """Return the status document of another execution of the same chatbot. Its status is COMPLETED."""
        script = JobScript(queue_seconds=0.0, seconds=0.0, output=FOREIGN_OUTPUT)
        return self.document(Execution(FOREIGN_ID, execution.chatbot_id, script, execution.accepted_s))

    def document(self, execution: Execution, lag_s: float = 0.0) -> JsonObject:
        """Return the status document of `lag_s` real seconds ago. It has a `final_output` if it is COMPLETED."""
        document = self.progress_document(execution, lag_s)
        if document["status"] is Status.COMPLETED:
            document["final_output"] = execution.script.final_output()
        return document

    def progress_document(self, execution: Execution, lag_s: float = 0.0) -> JsonObject:
        """Return the status document without `final_output`."""
        now = self.snapshot(execution, lag_s)
        script = execution.script
        return {
            "execution_id": execution.execution_id,
            "status": now.status,
            "progress": now.progress,
            "current_node": now.current_node,
            "completed_nodes": now.completed_nodes,
            "total_nodes": script.nodes,
            "error_message": script.error_message if now.status is Status.FAILED else None,
            "created_at": self._timestamp(execution, 0.0),
            "started_at": self._timestamp(execution, now.started_s),
            "completed_at": self._timestamp(execution, now.finished_s),
            "retry_count": 0,
            "execution_source": "CHATBOT",
            "is_temporary": True,
            "cleanup_after": self._timestamp(execution, execution.cleanup_s),
        }

    async def follow(self, execution: Execution, *, replays: bool = False) -> AsyncIterator[JsonObject]:
        """Yield each event when it is due. With `replays`, yield past events first.

        Ends when the execution ends or is deleted.
        """
        script = execution.script
        for event in timeline(script, after_s=0.0 if replays else self._elapsed_s(execution)):
            while True:
                if self.find(execution.execution_id) is None:
                    return
                if execution.cancelled_s is not None and event.at_s >= execution.cancelled_s:
                    yield completion_event(Status.CANCELLED)
                    return
                if execution.script is not script:  # `finish` was called
                    yield completion_event(Status(execution.script.outcome))
                    return
                wait_s = event.at_s - self._elapsed_s(execution)
                if wait_s <= 0:
                    break
                await execution.sleep(max(self._clock.real_delay_s(wait_s), _SHORTEST_SLEEP_S))
            yield event.body

    async def ended(self, execution: Execution, within_s: float) -> bool:
        """Wait up to `within_s` real seconds. Return whether the execution has ended or was deleted."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                async for _ in self.follow(execution):
                    pass
                return True
        return False

    def set_speed(self, factor: float) -> None:
        """Set the number of simulated seconds in each real second."""
        self._clock.set_factor(factor)
        for execution in self._by_id.values():
            execution.wake_followers()

    def reset(self) -> int:
        """Delete all executions and end their streams. Return the number of executions."""
        deleted = list(self._by_id.values())
        self._by_id.clear()
        for execution in deleted:
            execution.wake_followers()
        return len(deleted)

    def _make_room(self) -> None:
        executions = self.all()
        if len(executions) < self._max_executions:
            return
        oldest = next((each for each in executions if self.snapshot(each).status.is_final), None)
        if oldest is None:
            raise TooManyExecutionsError
        del self._by_id[oldest.execution_id]

    def _elapsed_s(self, execution: Execution) -> float:
        return self._clock.now_s() - execution.accepted_s

    def _is_past_cleanup(self, execution: Execution) -> bool:
        return self._elapsed_s(execution) >= execution.cleanup_s

    def _timestamp(self, execution: Execution, after_s: float | None) -> str | None:
        """Return a time as RFC 3339 in UTC with milliseconds: `2025-09-14T04:33:48.102Z`."""
        if after_s is None:
            return None
        moment = self._clock.wall_time(execution.accepted_s + after_s)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
