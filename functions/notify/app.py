"""Notify: write the verdict (the first one wins) and publish what the record says."""

import os
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from waterhook.domain.loop_state import LoopState
from waterhook.domain.outcome_reasons import step_failed_message
from waterhook.domain.poll_history import PollHistory
from waterhook.domain.request import RequestDefaults
from waterhook.domain.status import Status
from waterhook.domain.trigger_input import TriggerInput
from waterhook.notifications import execution_output
from waterhook.notifications.notifier import Notifier
from waterhook.observability.telemetry import Telemetry
from waterhook.settings import Settings
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.storage.executions_table import ExecutionsTable

telemetry = Telemetry("notify", correlation_id_path="execution.arn")


class Reporter:
    """Turns what a Catch caught into a job, so that a fault of ours is notified like any other outcome."""

    def __init__(
        self, records: ExecutionsTable, defaults: RequestDefaults, clock: Callable[[], float]
    ) -> None:
        """Keep what it works with."""
        self._records = records
        self._defaults = defaults
        self._clock = clock

    def conflict(self, state: Mapping[str, Any], *, owner: str, started_at: str) -> dict[str, Any] | None:
        """Return how an execution ends whose start failed and whose key is another request's, else None.

        Without this it would end as that one did: perhaps green, with an output that is not its own.
        """
        if "history" in state:
            return None
        intake, record = self._claim(state, owner, started_at)
        asked = intake.request.sha256 if intake.request else None
        others = record.owner_execution_arn != owner and record.request_sha256 != asked
        return execution_output.conflict_output(record) if others else None

    def job(self, state: Mapping[str, Any], *, owner: str, started_at: str) -> LoopState:
        """Return the job of a state. Where start itself failed there is none yet, and maybe not even a record."""
        fault, is_uncertain = state.get("fault"), False
        if "history" in state:
            try:
                job = LoopState.from_dict(state)
            except (AttributeError, KeyError, TypeError, ValueError):
                # Of a version that this one can't read. Where that is the fault, it must not silence its own report.
                if fault is None:
                    raise
                upstream_id = state.get("waterflai_execution_id")
                job = LoopState(state["execution_id"], 0, PollHistory(self._clock()), upstream_id)
        else:
            _, record = self._claim(state, owner, started_at)
            is_uncertain = record.status is Status.STARTING or record.perhaps_started
            job = LoopState(
                record.execution_id,
                record.deadline,
                PollHistory(self._clock()),
                record.waterflai_execution_id,
            )
        if fault is None:
            return job
        message = step_failed_message(fault, owner)
        if is_uncertain:
            message = f"{message}; Waterflai may be running this job"
            return job.ended(Status.UNCERTAIN, code="start_uncertain", message=message)
        if job.waterflai_execution_id is not None:
            message = f"{message}; the job at Waterflai may go on"
        return job.ended(Status.ERROR, code="fault", message=message)

    def _claim(
        self, state: Mapping[str, Any], owner: str, started_at: str
    ) -> tuple[TriggerInput, ExecutionRecord]:
        given, defaults = state.get("input"), self._defaults
        intake = TriggerInput.read(given, execution_arn=owner, started_at=started_at, defaults=defaults)
        return intake, intake.claim(self._records, owner=owner, now=self._clock(), defaults=defaults)


@cache
def _wiring() -> tuple[Reporter, Notifier]:
    settings = Settings.from_env(os.environ)
    records = ExecutionsTable(settings.table)
    notifier = Notifier.of(settings, records, time.time, telemetry.record_delivery)
    return Reporter(records, settings.defaults, time.time), notifier


def redeliver(notifier: Notifier, asked: object) -> dict[str, Any]:
    """Return what came of publishing again: see Notifier.redeliver."""
    answer = notifier.redeliver(asked.get("execution_id") if isinstance(asked, Mapping) else None)
    # The id is whatever the operator wrote, so only one that a record has is logged.
    telemetry.add_fields(answer, execution_id=answer["execution_id"] if answer["outcome"] else None)
    return answer


@telemetry.observe
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Conclude the execution; return what the state machine ends with.

    `{"redeliver": {"execution_id": "..."}}`, from an operator, publishes the event of a finished execution again.
    """
    telemetry.add_fields(event.get("state"))
    reporter, notifier = _wiring()
    if "redeliver" in event:
        return redeliver(notifier, event["redeliver"])
    state, owner, started_at = event["state"], event["execution"]["arn"], event["execution"]["started_at"]
    ending = reporter.conflict(state, owner=owner, started_at=started_at)
    if ending is None:
        ending = notifier.notify(reporter.job(state, owner=owner, started_at=started_at), owner)
    telemetry.add_fields(ending)
    return ending


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    _wiring()
