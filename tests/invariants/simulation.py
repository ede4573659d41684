"""What surrounds the functions in one history, such as the clock, the table and the topic, and the faults of calls."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError

from tests.fakes.clock import NOW, Clock
from tests.fakes.placeholders import TELEMETRY
from tests.invariants import event_bus
from tests.invariants.choice_sequence import ChoiceSequence
from tests.invariants.dynamodb import Item, Table, refusal
from tests.invariants.event_bus import EventBus, TargetMarks
from tests.invariants.invariants import Invariant, Violation
from tests.invariants.scheduler import Crash, Scheduler
from tests.invariants.waterflai import Waterflai
from tests.invariants.webhooks import Webhooks, webhook_settings
from tests.support import builders
from waterhook.api.cancellation import ExecutionCanceller
from waterhook.api.service import ExecutionService
from waterhook.domain.status import Status
from waterhook.errors import KeyUnavailableError, ResultsUnavailableError, WaterhookError
from waterhook.notifications.delivery_targets import (
    DeliveryTarget,
    EventBridgeTarget,
    SnsTarget,
    WebhookTarget,
)
from waterhook.notifications.notification_events import PROGRESS_TYPE
from waterhook.notifications.notifier import Notifier
from waterhook.notifications.progress_publisher import ProgressPublisher
from waterhook.notifications.webhook_requests import WebhookRequests
from waterhook.settings import ConcurrencyLimits, Settings
from waterhook.steps.cancel import CancelStep
from waterhook.steps.deliver import DeliverStep
from waterhook.steps.delivery_sweep import DeliverySweeper
from waterhook.steps.final_record_check import FinalRecordCheck
from waterhook.steps.follow import FollowStep
from waterhook.steps.job_canceller import JobCanceller
from waterhook.steps.notify import FaultReporter
from waterhook.steps.poll import PollStep, UpstreamIdRecovery
from waterhook.steps.reconcile import ReconcileStep
from waterhook.steps.resend import Resender
from waterhook.steps.start import StartStep
from waterhook.steps.state_machine_executions import GRACE_S, StateMachineExecutions
from waterhook.steps.status_poller import StatusPoller
from waterhook.steps.sweep import Sweeper, SweepResult
from waterhook.steps.webhook_attempts import WebhookAttempts
from waterhook.storage.concurrency_limiter import ConcurrencyLimiter
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.storage.results_bucket import ResultsBucket
from waterhook.storage.unfinished_index import UnfinishedIndex
from waterhook.storage.webhook_deliveries import WebhookDeliveries
from waterhook.storage.webhook_hosts import WebhookHosts
from waterhook.timestamps import to_rfc3339
from waterhook.upstream.client import CancelResult

OUTAGE_S = 3600.0
# `timeout_seconds` of a job that outlives an outage.
LONG_TIMEOUT_S = 8 * 3600
# Lambda kills a function whose call hangs after this.
FUNCTION_TIMEOUT_S = 30.0
RETENTION_S = 30 * 24 * 3600
_CALL_S = 0.02
_TIMEOUT: Any = ReadTimeoutError(endpoint_url="https://aws.test")
_NOT_CARRIED_OUT = (
    refusal("ProvisionedThroughputExceededException", "any"),
    refusal("InternalServerError", "any", 500),
)
_PERHAPS_CARRIED_OUT = (refusal("InternalServerError", "any", 500), _TIMEOUT)


@dataclass(frozen=True, slots=True)
class Components:
    """The classes of Waterhook that the simulation builds. A mutation replaces one or two of them."""

    table: type[ExecutionsTable] = ExecutionsTable
    limiter: type[ConcurrencyLimiter] = ConcurrencyLimiter
    notifier: type[Notifier] = Notifier
    start_step: type[StartStep] = StartStep
    status_poller: type[StatusPoller] = StatusPoller
    final_record_check: type[FinalRecordCheck] = FinalRecordCheck
    cancel_step: type[CancelStep] = CancelStep
    job_canceller: type[JobCanceller] = JobCanceller
    reconcile_step: type[ReconcileStep] = ReconcileStep
    sweeper: type[Sweeper] = Sweeper
    state_machine_executions: type[StateMachineExecutions] = StateMachineExecutions
    execution_canceller: type[ExecutionCanceller] = ExecutionCanceller
    event_bus_target: type[EventBridgeTarget] = EventBridgeTarget
    webhook_target: type[WebhookTarget] = WebhookTarget
    webhook_requests: type[WebhookRequests] = WebhookRequests
    webhook_attempts: type[WebhookAttempts] = WebhookAttempts
    deliveries: type[WebhookDeliveries] = WebhookDeliveries
    hosts: type[WebhookHosts] = WebhookHosts
    deliver_step: type[DeliverStep] = DeliverStep
    delivery_sweeper: type[DeliverySweeper] = DeliverySweeper
    resender: type[Resender] = Resender


@dataclass(frozen=True, slots=True)
class Published:
    """A message on the topic or an event on the bus, and the name of the task that published it."""

    task: str
    message: str
    attributes: str


@dataclass(frozen=True, slots=True)
class Outage:
    """A dependency that is down for OUTAGE_S, or the poll function, which then crashes. "" means no outage."""

    target: str
    begins_at: float

    @property
    def is_of_a_dependency(self) -> bool:
        return self.target not in {"", "poll"}

    @property
    def ends_at(self) -> float:
        return self.begins_at + OUTAGE_S


class Bucket(ResultsBucket):
    """A bucket that stores every output, unless it is down."""

    def __init__(self, simulation: "Simulation") -> None:
        self._simulation = simulation

    def store(self, execution_id: str, output_json: str | bytes | bytearray) -> dict[str, str]:
        if self._simulation.is_down("bucket"):
            raise ResultsUnavailableError("SlowDown")
        return {"final_output_json": str(output_json)}


@dataclass
class Observations:
    """What subscribers and callers have received, and violations that were found during the history."""

    published: list[Published] = field(default_factory=list)
    """The messages on the topic."""
    put: list[Published] = field(default_factory=list)
    """The events on the bus. `message` is the detail, `attributes` are type, time and resources."""
    redelivered: list[str] = field(default_factory=list)
    """The ids of executions whose redelivery was reported, in order."""
    accepted: dict[str, set[str]] = field(default_factory=dict)
    """The execution ids that callers of the API received, each with the markers of their requests."""
    cancel_answers: list[tuple[str, CancelResult]] = field(default_factory=list)
    cancels_by_operators: dict[str, set[bool]] = field(default_factory=dict)
    """By execution id: whether the cancels came from operators or from the caller."""
    erased: dict[str, Item] = field(default_factory=dict)
    """The records that an operator erased, as they were."""
    violations: list[Violation] = field(default_factory=list)


class PausingClock(Clock):
    """A clock that calls `pause` after every sleep, so that another function may continue."""

    def __init__(self, pause: Callable[[], None]) -> None:
        super().__init__()
        self._pause = pause

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        self._pause()


class Simulation:
    """The surroundings of the functions in one history."""

    def __init__(self, choices: ChoiceSequence, components: Components, scheduler: Scheduler) -> None:
        self.choices, self.scheduler, self.observed = choices, scheduler, Observations()
        self.clock, self.calls = PausingClock(self.pause), 0
        self.next_event_at = 0.0
        """The number of calls after which the history's next event happens."""
        self.others_can_run: Callable[[], bool] = lambda: False
        """Whether another function can continue. If not, a pause makes no difference."""
        self.is_running: Callable[[str], bool] = lambda _arn: False
        """Whether a state machine execution is running, by its ARN."""
        self.running_when_sweep_began: frozenset[str] = frozenset()
        self.final_at: dict[str, int] = {}
        """After how many calls each record got its outcome."""
        self.fault_count = 0
        # One choice, so that a history with neither reads the same choices as before.
        features = choices.choose(9)
        has_webhooks, self.has_bus = features // 3 == 2, features % 3 == 2
        self._faults_left = choices.pick(0, 0, 1, 2, 3, 5, 8, -1)
        targets = (
            *("table", "bucket", "secret", "poll"),
            *(("topic", "queue") if has_webhooks else ()),
            *(("topic", "bus", "bus") if self.has_bus else ()),
        )
        target = choices.pick(*targets) if self._faults_left < 0 else ""
        self.outage = Outage(target, NOW + choices.pick(0.0, 0.3, 1.0, 5.0, 20.0) if target else 0.0)
        if target:
            self._faults_left = choices.pick(0, 0, 2)
        self.has_no_call_faults = not self._faults_left
        """Whether no single call fails and no function crashes; there may be an outage."""
        self.has_no_faults = self.has_no_call_faults and not target
        self._calls_per_fault = choices.pick(8, 4, 2, 16)
        self.settings = _settings(choices, has_webhooks=has_webhooks, has_bus=self.has_bus)
        self.marks = TargetMarks(self)
        self.table = Table(self._check_write)
        self.waterflai = Waterflai(self)
        self._components = components
        self.webhooks = Webhooks(self, self.settings.webhooks) if self.settings.webhooks else None
        self._build(components)

    def _build(self, components: Components) -> None:
        dynamodb: Any = FaultyClient(self, self.table, dependency="table")
        topic: Any = FaultyClient(self, self, dependency="topic")
        settings, client = self.settings, self.waterflai.client
        self.records = components.table("executions", dynamodb)
        sns, webhook, bus = SnsTarget(topic, "topic", builders.SOURCE), None, None
        if self.has_bus:
            events: Any = EventBus(self)
            bus = components.event_bus_target(lambda: events, event_bus.NAME, builders.SOURCE)
        if self.webhooks is not None:
            webhook = self.webhooks.build(
                self.records,
                dynamodb,
                lambda service, dependency: FaultyClient(self, service, dependency=dependency),
                components,
            )
        candidates: tuple[DeliveryTarget | None, ...] = (sns, webhook, bus)
        targets = [target for target in candidates if target is not None]
        limiter = components.limiter("executions", settings.concurrency_limits, dynamodb, self.clock.sleep)
        self.notifier = components.notifier(
            self.records,
            sns,
            webhook,
            bus,
            retention_s=RETENTION_S if self.webhooks is None else self.webhooks.retention_s,
            clock=self.clock,
            limiter=limiter,
        )
        poller = components.status_poller(client, Bucket(self), settings, self.clock)
        job_canceller = components.job_canceller(client, poller)
        self.start_step = components.start_step(
            self.records,
            client,
            settings,
            self.clock,
            limiter,
            telemetry=TELEMETRY,
            read_key=self.read_key,
            sleep=self.clock.sleep,
        )

        def build_publisher() -> ProgressPublisher:
            return ProgressPublisher(self.records, targets, self.clock)

        recovery = UpstreamIdRecovery(lambda: self.records, self.clock)
        check = components.final_record_check(lambda: self.records, self.clock)
        self.poll_step = PollStep(poller, recovery, check, build_publisher, self.clock)
        self.follow_step = FollowStep(
            self.waterflai,
            poller,
            build_publisher,
            check,
            clock=self.clock,
            monotonic=self.clock,
            sleep=self.clock.sleep,
        )
        self.cancel_step = components.cancel_step(job_canceller, self.clock)
        self.fault_reporter = FaultReporter(self.records, settings.defaults, self.clock)
        self.reconcile_step = components.reconcile_step(
            self.records,
            job_canceller,
            self.notifier,
            settings,
            self.clock,
            self.clock.sleep,
            telemetry=TELEMETRY,
        )
        self.execution_canceller = components.execution_canceller(
            self.records, job_canceller, self.notifier, self.clock
        )

    def build_service(self, step_functions: object) -> ExecutionService:
        """Return the service of the API, which starts state machine executions."""
        states: Any = FaultyClient(self, step_functions)
        nothing: Any = None
        return ExecutionService(
            self.records,
            states,
            self.settings,
            self.clock,
            lambda: self.execution_canceller,
            self.clock.sleep,
            lists=nothing,
        )

    def sweep(self, step_functions: object) -> SweepResult:
        """Run a sweep, five minutes ahead of the clock, so that no record is too young for it.

        The sweep's own reads of index and state machine executions have no faults: one would end the whole sweep.
        """
        states, table = cast("Any", step_functions), cast("Any", self.table)
        errors: list[Exception] = []

        def later() -> float:
            return self.clock.now + GRACE_S + 1

        result = self._components.sweeper(
            self.records,
            UnfinishedIndex("executions", table),
            self._components.state_machine_executions(states, builders.MACHINE, later, self.clock.sleep),
            end=self.reconcile_step.end,
            release=self.notifier.release,
            clock=later,
            sleep=self.clock.sleep,
            on_failure=lambda _execution_id, error: errors.append(error),
        ).sweep(lambda: 300.0)
        for error in errors:
            if not isinstance(error, (WaterhookError, ClientError, BotoCoreError)):
                raise error
        return result

    @property
    def has_had_no_faults(self) -> bool:
        """Whether no call has failed so far, and there is no outage."""
        return not self.fault_count and not self.outage.target

    def is_down(self, target: str) -> bool:
        """Return whether a dependency, or the poll function, is down now."""
        return target == self.outage.target and self.outage.begins_at <= self.clock.now < self.outage.ends_at

    def enter_poll_function(self) -> None:
        """Crash while the poll function is down."""
        if self.is_down("poll"):
            raise Crash("a bug in the poll function")

    def read_key(self) -> None:
        """Read the API key from the secret, as a function does in a new container."""
        if self.is_down("secret"):
            raise KeyUnavailableError("the secret: AccessDeniedException")

    def skip_outage(self) -> None:
        """Set the clock to the end of an outage: each retry takes a few calls only, and there would be thousands."""
        if self.is_down(self.outage.target):
            self.clock.now = self.outage.ends_at

    def pause(self) -> None:
        """Let other functions and events go first, if the history chooses that."""
        self.calls += 1
        self.clock.advance(_CALL_S)
        if self.calls >= self.next_event_at or (self.others_can_run() and self.choices.one_in(3)):
            self.scheduler.pause()

    def call[T](
        self,
        operation: str,
        effect: Callable[[], T],
        *,
        before: Sequence[Exception | T],
        after: Sequence[Exception | T],
        is_retried: bool = False,
        dependency: str = "",
    ) -> T:
        """Return what a call to another system returns, unless the history chooses a fault.

        A fault is an error or answer of `before`, where `effect` does not happen, or of `after`, where it happens and
        its own answer is lost. Or the function crashes before or after the effect. Or, with `is_retried`, the answer
        is lost and boto3 makes the same call again.
        """
        self.pause()
        if dependency and self.is_down(dependency):
            return _result(before[0])
        if not self.inject_fault(self._calls_per_fault):
            return effect()
        kind = self.choices.choose(5 if is_retried else 4)
        if kind == 0:
            return _result(self.choices.pick(*before))
        if kind == 1:
            raise self._crash(f"before {operation}")
        effect()
        if kind == 2:
            return _result(self.choices.pick(*after))
        if kind == 3:
            raise self._crash(f"after {operation}")
        self.pause()
        return effect()

    def _crash(self, when: str) -> Crash:
        """Return the crash of a function now, or at the end of its timeout, during a call that hangs."""
        hangs = self.choices.one_in(3)
        # All functions share one clock: the others would seem to hang too.
        if hangs and not self.others_can_run():
            self.clock.advance(FUNCTION_TIMEOUT_S)
        return Crash(when)

    def inject_fault(self, one_in: int = 4) -> bool:
        """Return whether a fault happens now. Each history has a limited number of them: otherwise it might not end."""
        if not self._faults_left or not self.choices.one_in(one_in):
            return False
        self._faults_left -= 1
        self.fault_count += 1
        return True

    def allow_faults(self, count: int) -> None:
        """Allow further faults."""
        self._faults_left += count

    def publish(self, **arguments: Any) -> dict[str, Any]:
        """Publish to the topic, as the SNS client does."""
        message, attributes = arguments["Message"], str(arguments["MessageAttributes"])
        self.observed.published.append(self._published(message, attributes))
        self.marks.check_published(message, "sns")
        return {}

    def put(self, entry: Mapping[str, Any]) -> None:
        """Put an event on the bus."""
        assert (entry["Source"], entry["EventBusName"]) == ("waterhook", event_bus.NAME)
        time = to_rfc3339(entry["Time"].timestamp())
        attributes = json.dumps([entry["DetailType"], time, entry["Resources"]])
        self.observed.put.append(self._published(entry["Detail"], attributes))
        self.marks.check_published(entry["Detail"], "eventbridge")

    def _published(self, message: str, attributes: str) -> Published:
        task = self.scheduler.current.name if self.scheduler.current else ""
        return Published(task, message, attributes)

    def check_topic_before_bus(self, message: str) -> None:
        """Check that the topic has received an outcome before the bus is called, if the topic does not fail."""
        if PROGRESS_TYPE in message or not self.has_no_call_faults or self.outage.target == "topic":
            return
        event = json.loads(message)
        item = self.table.items.get(event["subject"])
        is_published = any(published.message == message for published in self.observed.published)
        if item is not None and {"S": "sns"} in item["deliver_to"]["L"] and not is_published:
            self.violated(Invariant.TOPIC_IGNORES_FAILURE_OF_BUS, f"{event['id']} is put on the bus first")

    def _check_write(self, before: Item | None, after: Item | None) -> None:
        """Check the invariants that a write to the table can violate."""
        self.marks.check_record_write(after)
        if self.webhooks is not None:
            self.webhooks.checks.check_record_write(before, after)
        self._check_slots(before, after)
        if before is not None and "status" in before:
            self._check_record(before, after)

    def _check_slots(self, before: Item | None, after: Item | None) -> None:
        slots_before, slots_after = (
            set((item or {}).get("running", {"SS": []})["SS"]) for item in (before, after)
        )
        for execution_id in slots_before - slots_after:
            record = self.table.items.get(execution_id)
            if record is not None and not Status(record["status"]["S"]).is_final:
                self.violated(
                    Invariant.SLOT_IS_KEPT, f"{execution_id} lost its slot while {record['status']}"
                )

    def _check_record(self, before: Item, after: Item | None) -> None:
        execution_id = before["execution_id"]["S"]
        if after is None:
            if self.scheduler.current is not None and self.scheduler.current.name == "erase":
                self.observed.erased[execution_id] = before
            elif execution_id in self.observed.accepted:
                self.violated(Invariant.RECORD_IS_KEPT, f"{execution_id} was deleted")
            return
        old, new = before["status"]["S"], after["status"]["S"]
        if Status(new).is_final:
            self.final_at.setdefault(execution_id, self.calls)
        if Status(old).is_final and (old != new or before["finished_at"] != after["finished_at"]):
            self.violated(Invariant.OUTCOME_IS_FINAL, f"{execution_id} changed from {old} to {new}")
        owner = before["owner_execution_arn"]["S"]
        is_sweep = self.scheduler.current is not None and self.scheduler.current.name == "sweep"
        if is_sweep and owner in self.running_when_sweep_began and self.is_running(owner):
            self.violated(Invariant.SWEEP_SPARES_RUNNING, f"{execution_id} was changed, and {owner} runs")
        if before["owner_execution_arn"] != after["owner_execution_arn"]:
            self.violated(Invariant.RECORD_KEEPS_OWNER, f"{execution_id} does not belong to {owner} any more")

    def violated(self, invariant: Invariant, detail: str) -> None:
        self.observed.violations.append(Violation(invariant, detail))


class FaultyClient:
    """A boto3 client each call of which may fail, before or after its effect."""

    def __init__(self, simulation: Simulation, service: object, *, dependency: str = "") -> None:
        self._simulation, self._service, self._dependency = simulation, service, dependency

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        effect = cast("Callable[..., Any]", getattr(self._service, operation))
        # boto3 gives a transaction a token: DynamoDB carries out only one of two calls with the same token.
        is_retried = operation != "transact_write_items"
        return lambda **arguments: self._simulation.call(
            operation,
            lambda: effect(**arguments),
            before=_NOT_CARRIED_OUT,
            after=_PERHAPS_CARRIED_OUT,
            is_retried=is_retried,
            dependency=self._dependency,
        )


def _result[T](result: Exception | T) -> T:
    """Return an answer, or raise an error. The errors are constants: their tracebacks must not grow."""
    if isinstance(result, Exception):
        raise result.with_traceback(None)
    return result


def _settings(choices: ChoiceSequence, *, has_webhooks: bool, has_bus: bool) -> Settings:
    return builders.settings(
        at_least_once=choices.one_in(4),
        uncertain_on_503=choices.one_in(4),
        follow_concurrency=choices.pick(0, 50),
        follow_s=40,
        concurrency_limits=choices.pick(
            ConcurrencyLimits(),
            ConcurrencyLimits(),
            ConcurrencyLimits(stack=1),
            ConcurrencyLimits(stack=2, chatbot=1),
        ),
        start_deadline_s=choices.pick(60, 15),
        longest_wait_s=choices.pick(60, 20),
        default_timeout_s=120,
        webhooks=webhook_settings(choices) if has_webhooks else None,
        result_event_bus=event_bus.NAME if has_bus else "",
    )
