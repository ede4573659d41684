"""Components of the package, built on fakes. Every argument that a test leaves out has a default."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tests.fakes.clock import NOW, Clock
from tests.fakes.live_status import FakeLiveStatus
from tests.fakes.placeholders import NO_BUCKET, TELEMETRY, unused
from tests.support.builders import SOURCE, settings
from waterhook.api.live_status import LiveStatus
from waterhook.api.service import ExecutionService
from waterhook.api.status_documents import StatusDocuments
from waterhook.notifications.delivery_targets import DeliveryTarget, SnsTarget
from waterhook.notifications.notifier import Notifier
from waterhook.notifications.progress_publisher import ProgressPublisher
from waterhook.settings import ConcurrencyLimits
from waterhook.steps.job_canceller import JobCanceller
from waterhook.steps.reconcile import ReconcileStep
from waterhook.steps.start import StartStep
from waterhook.steps.state_machine_executions import StateMachineExecutions
from waterhook.steps.status_poller import StatusPoller
from waterhook.steps.sweep import Sweeper
from waterhook.storage.concurrency_limiter import ConcurrencyLimiter
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.storage.results_bucket import ResultsBucket
from waterhook.storage.unfinished_index import UnfinishedIndex

if TYPE_CHECKING:
    from tests.fakes.aws import Machine, Table, Topic

RETENTION_S = 30 * 24 * 3600


def build_limiter(
    table: "Table",
    *,
    stack: int = 0,
    chatbot: int = 0,
    client: Any = None,
    sleep: Callable[[float], None] = lambda _seconds: None,
) -> ConcurrencyLimiter:
    """Return the limiter of a table. A limit of 0 means no limit."""
    return ConcurrencyLimiter(
        table.name, ConcurrencyLimits(stack=stack, chatbot=chatbot), client or table.client, sleep
    )


def build_notifier(
    table: "Table",
    topic: "Topic",
    *,
    records: ExecutionsTable | None = None,
    sns: Any = None,
    clock: Clock | None = None,
    retention_s: float = RETENTION_S,
    limiter: ConcurrencyLimiter | None = None,
    **targets: DeliveryTarget,
) -> Notifier:
    """Return a notifier whose clock shows a minute after NOW. `targets` are `webhook` and `result_bus`."""
    return Notifier(
        records or table.records,
        SnsTarget(sns or topic.sns, topic.arn, SOURCE),
        targets.get("webhook"),
        targets.get("result_bus"),
        retention_s=retention_s,
        clock=clock or Clock(NOW + 60),
        limiter=limiter,
    )


def build_progress_publisher(
    table: "Table",
    topic: "Topic",
    clock: Clock | None = None,
    *,
    client: Any = None,
    sns: Any = None,
    others: Sequence[DeliveryTarget] = (),
) -> ProgressPublisher:
    return ProgressPublisher(
        table.records_over(client or table.client),
        [SnsTarget(sns or topic.sns, topic.arn, SOURCE), *others],
        clock or Clock(),
    )


def build_execution_service(
    table: "Table",
    machine: "Machine",
    *,
    states: Any = None,
    client: Any = None,
    clock: Clock | None = None,
    **changes: Any,
) -> ExecutionService:
    """Return a service. `changes` are settings. Its canceller fails the test that uses it."""
    clock = clock or Clock()
    return ExecutionService(
        table.records_over(client or table.client),
        states or machine.client,
        settings(state_machine_arn=machine.arn, **changes),
        clock,
        unused,
        clock.sleep,
        lists=table.lists_over(client or table.client),
    )


def build_status_documents(
    results: ResultsBucket = NO_BUCKET, live_status: Callable[[], LiveStatus] = FakeLiveStatus
) -> StatusDocuments:
    """Return the status documents of a deployment without webhooks."""
    return StatusDocuments(live_status, results, lambda: None)


def build_start_step(
    records: ExecutionsTable,
    upstream: Any,
    clock: Callable[[], float],
    *,
    limiter: ConcurrencyLimiter | None = None,
    read_key: Callable[[], object] = lambda: None,
    sleep: Callable[[float], None] = lambda _seconds: None,
    **changes: Any,
) -> StartStep:
    """Return a start step. `changes` are settings."""
    return StartStep(
        records,
        upstream,
        settings(**changes),
        clock,
        limiter,
        telemetry=TELEMETRY,
        read_key=read_key,
        sleep=sleep,
    )


def build_job_canceller(upstream: Any, clock: Clock, results: ResultsBucket = NO_BUCKET) -> JobCanceller:
    return JobCanceller(upstream, StatusPoller(upstream, results, settings(), clock))


def build_reconcile_step(
    records: ExecutionsTable,
    upstream: Any,
    notifier: Notifier,
    clock: Clock,
    *,
    results: ResultsBucket = NO_BUCKET,
    sleep: Callable[[float], None] | None = None,
) -> ReconcileStep:
    """Return a reconcile step. Its pauses advance the clock unless a test passes `sleep`."""
    return ReconcileStep(
        records,
        build_job_canceller(upstream, clock, results),
        notifier,
        settings(),
        clock,
        sleep or clock.sleep,
        telemetry=TELEMETRY,
    )


def build_sweeper(
    records: ExecutionsTable,
    unfinished: UnfinishedIndex,
    executions: StateMachineExecutions,
    step: ReconcileStep,
    notifier: Notifier,
    clock: Clock,
    *,
    on_failure: Callable[[str, Exception], None] = lambda _execution_id, _error: None,
) -> Sweeper:
    return Sweeper(
        records,
        unfinished,
        executions,
        end=step.end,
        release=notifier.release,
        clock=clock,
        sleep=clock.sleep,
        on_failure=on_failure,
    )
