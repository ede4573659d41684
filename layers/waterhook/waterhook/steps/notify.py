"""The notify step: writes the outcome, unless there is one, and publishes it from the record."""

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
    """Turns an error that the state machine caught into an outcome, which is then published like any other."""

    def __init__(self, table: ExecutionsTable, defaults: RequestDefaults, clock: Callable[[], float]) -> None:
        """`defaults` are used to read the input of an execution whose start failed."""
        self._table = table
        self._defaults = defaults
        self._clock = clock

    def conflict(self, state: Mapping[str, Any], *, owner: str, started_at: str) -> dict[str, Any] | None:
        """Return the output of an execution whose start failed and whose key belongs to another request, else None.

        Without this check the execution would end with the other request's outcome.
        """
        if "history" in state:
            return None
        trigger, record = self._claim(state, owner, started_at)
        request_sha256 = trigger.request.sha256 if trigger.request else None
        is_conflict = record.owner_execution_arn != owner and record.request_sha256 != request_sha256
        return state_machine_output.conflict_output(record) if is_conflict else None

    def loop_state(self, state: Mapping[str, Any], *, owner: str, started_at: str) -> LoopState:
        """Return the loop state with its outcome. If the start failed, there may be no loop state and no record yet."""
        fault, is_uncertain = state.get("fault"), False
        if "history" in state:
            try:
                loop_state = LoopState.from_dict(state)
            except (AttributeError, KeyError, TypeError, ValueError):
                # A newer version wrote this state. If the step failed because of it, the fault must still be reported.
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
            message = f"{message}; the job at Waterflai may still be running"
        return loop_state.ended(Status.ERROR, code="fault", message=message)

    def _claim(
        self, state: Mapping[str, Any], owner: str, started_at: str
    ) -> tuple[TriggerInput, ExecutionRecord]:
        execution_input, defaults = state.get("input"), self._defaults
        trigger = TriggerInput.read(
            execution_input, execution_arn=owner, started_at=started_at, defaults=defaults
        )
        return trigger, self._table.claim(trigger, owner=owner, now=self._clock(), defaults=defaults)


class NotifyStep:
    """Publishes the outcome of an execution, or reports that its key belongs to another request."""

    def __init__(self, reporter: FaultReporter, notifier: Notifier) -> None:
        self._reporter = reporter
        self._notifier = notifier

    def redeliver(self, request: object) -> dict[str, Any]:
        """Publish the event of a finished execution again, see Notifier.redeliver. `request` comes from an operator."""
        return self._notifier.redeliver(request.get("execution_id") if isinstance(request, Mapping) else None)

    def notify(self, state: Mapping[str, Any], *, owner: str, started_at: str) -> dict[str, Any]:
        """Return the state machine's output. `state` is the loop state, or the input and fault of a failed start."""
        conflict = self._reporter.conflict(state, owner=owner, started_at=started_at)
        if conflict is not None:
            return conflict
        return self._notifier.notify(
            self._reporter.loop_state(state, owner=owner, started_at=started_at), owner
        )
