"""The notify step: writes the outcome (the first one wins) and publishes it from the record."""

from collections.abc import Callable, Mapping
from typing import Any

from waterhook.domain.loop_state import LoopState
from waterhook.domain.outcome_reasons import step_failed_message
from waterhook.domain.poll_history import PollHistory
from waterhook.domain.request import RequestDefaults
from waterhook.domain.status import Status
from waterhook.domain.trigger_input import TriggerInput
from waterhook.notifications import state_machine_output
from waterhook.notifications.notifier import Notifier
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable


class FaultReporter:
    """Turns what a Catch caught into a job, so that a fault of ours is notified like any other outcome."""

    def __init__(self, table: ExecutionsTable, defaults: RequestDefaults, clock: Callable[[], float]) -> None:
        """Keep what it works with."""
        self._table = table
        self._defaults = defaults
        self._clock = clock

    def conflict(self, state: Mapping[str, Any], *, owner: str, started_at: str) -> dict[str, Any] | None:
        """Return how an execution ends whose start failed and whose key is another request's, else None.

        Without this it would end as that one did: perhaps green, with an output that is not its own.
        """
        if "history" in state:
            return None
        trigger, record = self._claim(state, owner, started_at)
        asked = trigger.request.sha256 if trigger.request else None
        others = record.owner_execution_arn != owner and record.request_sha256 != asked
        return state_machine_output.conflict_output(record) if others else None

    def loop_state(self, state: Mapping[str, Any], *, owner: str, started_at: str) -> LoopState:
        """Return the job of a state. Where start itself failed there is none yet, and maybe not even a record."""
        fault, is_uncertain = state.get("fault"), False
        if "history" in state:
            try:
                loop_state = LoopState.from_dict(state)
            except (AttributeError, KeyError, TypeError, ValueError):
                # Of a version that this one can't read. Where that is the fault, it must not silence its own report.
                if fault is None:
                    raise
                upstream_id = state.get("waterflai_execution_id")
                loop_state = LoopState(state["execution_id"], 0, PollHistory(self._clock()), upstream_id)
        else:
            _, record = self._claim(state, owner, started_at)
            is_uncertain = record.status is Status.STARTING or record.perhaps_started
            loop_state = LoopState(
                record.execution_id,
                record.deadline,
                PollHistory(self._clock()),
                record.waterflai_execution_id,
            )
        if fault is None:
            return loop_state
        message = step_failed_message(fault, owner)
        if is_uncertain:
            message = f"{message}; Waterflai may be running this job"
            return loop_state.ended(Status.UNCERTAIN, code="start_uncertain", message=message)
        if loop_state.waterflai_execution_id is not None:
            message = f"{message}; the job at Waterflai may go on"
        return loop_state.ended(Status.ERROR, code="fault", message=message)

    def _claim(
        self, state: Mapping[str, Any], owner: str, started_at: str
    ) -> tuple[TriggerInput, ExecutionRecord]:
        given, defaults = state.get("input"), self._defaults
        trigger = TriggerInput.read(given, execution_arn=owner, started_at=started_at, defaults=defaults)
        return trigger, self._table.claim(
            trigger, owner=owner, now=self._clock(), deliver_to=defaults.deliver_to
        )


class NotifyStep:
    """Ends an execution: publishes its outcome, or reports that its key belongs to another request."""

    def __init__(self, reporter: FaultReporter, notifier: Notifier) -> None:
        self._reporter = reporter
        self._notifier = notifier

    def redeliver(self, request: object) -> dict[str, Any]:
        """Publish the event of a finished execution again: see Notifier.redeliver. `request` is an operator's."""
        return self._notifier.redeliver(request.get("execution_id") if isinstance(request, Mapping) else None)

    def notify(self, state: Mapping[str, Any], *, owner: str, started_at: str) -> dict[str, Any]:
        """Return what the state machine ends with. `state` is that of its loop, or the input and fault of a start."""
        conflict = self._reporter.conflict(state, owner=owner, started_at=started_at)
        if conflict is not None:
            return conflict
        return self._notifier.notify(
            self._reporter.loop_state(state, owner=owner, started_at=started_at), owner
        )
