"""Everything around the functions: clock, table, topic, engine, upstream; and what goes wrong with each call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError

from tests.fakes.clock import NOW, Clock
from tests.fakes.placeholders import NO_BUCKET, TELEMETRY
from tests.invariants.choice_sequence import ChoiceSequence
from tests.invariants.dynamodb import Item, Table, refusal
from tests.invariants.scheduler import Crash, Scheduler
from tests.invariants.upstream import Upstream
from tests.support import builders
from waterhook.api.cancellation import ExecutionCanceller
from waterhook.api.live_status import LiveStatus
from waterhook.api.service import ExecutionService
from waterhook.domain.status import Status
from waterhook.errors import KeyUnavailableError, ResultsUnavailableError, WaterhookError
from waterhook.notifications.notifier import Notifier
from waterhook.notifications.progress_publisher import ProgressPublisher
from waterhook.settings import ConcurrencyLimits, Settings
from waterhook.steps.cancel import CancelStep
from waterhook.steps.final_record_check import FinalRecordCheck
from waterhook.steps.follow import FollowStep
from waterhook.steps.job_canceller import JobCanceller
from waterhook.steps.notify import FaultReporter
from waterhook.steps.poll import PollStep, UpstreamIdRecovery
from waterhook.steps.reconcile import ReconcileStep
from waterhook.steps.start import StartStep
from waterhook.steps.state_machine_executions import GRACE_S, StateMachineExecutions
from waterhook.steps.status_poller import StatusPoller
from waterhook.steps.sweep import Sweeper, SweepResult
from waterhook.storage.concurrency_limiter import ConcurrencyLimiter
from waterhook.storage.executions_table import ExecutionsTable
from waterhook.storage.results_bucket import ResultsBucket
from waterhook.storage.unfinished_index import UnfinishedIndex
from waterhook.upstream.client import CancelResult

# How long a dependency is down, and a deadline that such jobs outlive.
OUTAGE_S, PATIENT_S = 3600.0, 8 * 3600
# What hangs is killed by Lambda after this.
FUNCTION_TIMEOUT_S = 30.0
RETENTION_S = 30 * 24 * 3600
_TIMEOUT: Any = ReadTimeoutError(endpoint_url="https://aws.test")
_AWS_BEFORE = (
    refusal("ProvisionedThroughputExceededException", "any"),
    refusal("InternalServerError", "any", 500),
)
_AWS_AFTER = (refusal("InternalServerError", "any", 500), _TIMEOUT)


@dataclass(frozen=True, slots=True)
class Parts:
    """The classes that are wired; a mutation replaces one of them."""

    records: type[ExecutionsTable] = ExecutionsTable
    capacity: type[ConcurrencyLimiter] = ConcurrencyLimiter
    notifier: type[Notifier] = Notifier
    start_step: type[StartStep] = StartStep
    job_canceller: type[JobCanceller] = JobCanceller
    reconcile_step: type[ReconcileStep] = ReconcileStep
    execution_canceller: type[ExecutionCanceller] = ExecutionCanceller
    sweeper: type[Sweeper] = Sweeper
    executions: type[StateMachineExecutions] = StateMachineExecutions
    poller: type[StatusPoller] = StatusPoller
    check: type[FinalRecordCheck] = FinalRecordCheck
    cancel_step: type[CancelStep] = CancelStep


@dataclass(frozen=True, slots=True)
class Published:
    """A message on the topic, and whose call put it there."""

    actor: str
    message: str
    attributes: str


@dataclass(frozen=True, slots=True)
class Outage:
    """What is down for an hour: a dependency, or the poll function itself, which then crashes; "" is nothing."""

    what: str
    begins_at: float

    @property
    def is_of_a_dependency(self) -> bool:
        return self.what in {"table", "bucket", "secret"}

    @property
    def ends_at(self) -> float:
        return self.begins_at + OUTAGE_S


class Bucket(ResultsBucket):
    """A bucket that takes every output, unless it is down."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def store(self, execution_id: str, output_json: str | bytes | bytearray) -> dict[str, str]:
        if self._world.is_down("bucket"):
            raise ResultsUnavailableError("SlowDown")
        return {"final_output_json": str(output_json)}


@dataclass
class Seen:
    """What is observed from outside by the end of a history."""

    published: list[Published] = field(default_factory=list)
    accepted: dict[str, str] = field(default_factory=dict)
    """The executions that a caller got with a 202, and the marker of their request."""
    answers: list[tuple[str, CancelResult]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """What was seen on the way and must never be."""


class PausingClock(Clock):
    """A clock that calls `pause` after every sleep, so that another function may continue."""

    def __init__(self, pause: Callable[[], None]) -> None:
        super().__init__()
        self._pause = pause

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        self._pause()


class World:
    """The surroundings of the functions in one history."""

    def __init__(self, choices: ChoiceSequence, parts: Parts, scheduler: Scheduler) -> None:
        self.choices, self.scheduler, self.seen = choices, scheduler, Seen()
        self.clock, self.points = PausingClock(self.point), 0
        self.attention: Callable[[], bool] = lambda: False
        """Whether another function can continue, so that a pause makes a difference."""
        self.due_at = 0.0
        self.runs: Callable[[str], bool] = lambda _arn: False
        """Whether an execution runs."""
        self.not_the_sweeps: frozenset[str] = frozenset()
        """The executions that ran when a sweep began; what they own is not the sweep's while they do."""
        self._faults = choices.pick(0, 0, 1, 2, 3, 5, 8, -1)
        what = choices.pick("table", "bucket", "secret", "poll") if self._faults < 0 else ""
        self.outage = Outage(what, NOW + choices.pick(0.0, 0.3, 1.0, 5.0, 20.0) if what else 0.0)
        if what:
            self._faults = choices.pick(0, 0, 2)
        self.is_steady = not self._faults
        """Whether no single call fails and no function crashes."""
        self.is_calm = self.is_steady and not what
        """Whether besides nothing is down."""
        self._rate = choices.pick(8, 4, 2, 16)
        self.settings = _settings(choices)
        self.table = Table(self._changed)
        self.upstream = Upstream(self)
        self._wire(parts)

    def _wire(self, parts: Parts) -> None:
        client: Any = Wire(self, self.table, dependency="table")
        topic: Any = Wire(self, self)
        settings, upstream = self.settings, self.upstream
        self.records = parts.records("executions", client)
        limiter = parts.capacity("executions", settings.concurrency_limits, client, self.clock.sleep)
        self.notifier = parts.notifier(
            self.records,
            topic,
            topic_arn="topic",
            source=builders.SOURCE,
            retention_s=RETENTION_S,
            clock=self.clock,
            limiter=limiter,
        )
        poller = parts.poller(upstream, Bucket(self), settings, self.clock)
        self.job_canceller = parts.job_canceller(upstream, poller)
        self.start_step = parts.start_step(
            self.records,
            upstream,
            settings,
            self.clock,
            limiter,
            sleep=self.clock.sleep,
            telemetry=TELEMETRY,
        )

        def build_publisher() -> ProgressPublisher:
            return ProgressPublisher(
                self.records, topic, topic_arn="topic", source=builders.SOURCE, clock=self.clock
            )

        recovery = UpstreamIdRecovery(lambda: self.records, self.clock)
        check = parts.check(lambda: self.records, self.clock)
        self.poll_step = PollStep(poller, recovery, check, build_publisher, self.clock)
        self.follow_step = FollowStep(
            upstream,
            poller,
            build_publisher,
            check,
            clock=self.clock,
            monotonic=self.clock,
            sleep=self.clock.sleep,
        )
        self.cancel_step = parts.cancel_step(self.job_canceller, self.clock)
        self.reporter = FaultReporter(self.records, settings.defaults, self.clock)
        self.reconcile_step = parts.reconcile_step(
            self.records,
            self.job_canceller,
            self.notifier,
            settings,
            self.clock,
            self.clock.sleep,
            telemetry=TELEMETRY,
        )
        self._sweeper, self._executions = parts.sweeper, parts.executions
        self.live_status = LiveStatus(upstream, self.clock)
        self.execution_canceller = parts.execution_canceller(
            self.records, self.job_canceller, self.notifier, self.clock
        )

    def service(self, engine: object) -> ExecutionService:
        """Return the service of the API, which starts executions of an engine."""
        states: Any = Wire(self, engine)
        return ExecutionService(
            self.records,
            states,
            NO_BUCKET,
            self.settings,
            self.clock,
            lambda: self.live_status,
            lambda: self.execution_canceller,
            self.clock.sleep,
        )

    def sweep(self, engine: object) -> SweepResult:
        """Sweep with no patience and time for all. A read of its own that fails ends it whole, so none has to."""
        states, table = cast("Any", engine), cast("Any", self.table)
        troubles: list[Exception] = []

        def later() -> float:
            # As if nothing had happened for the time that it gives others to finish.
            return self.clock.now + GRACE_S + 1

        swept = self._sweeper(
            self.records,
            UnfinishedIndex("executions", table),
            self._executions(states, builders.MACHINE, later, self.clock.sleep),
            end=self.reconcile_step.end,
            release=self.notifier.release,
            clock=later,
            sleep=self.clock.sleep,
            on_failure=lambda _execution_id, error: troubles.append(error),
        ).sweep(lambda: 300.0)
        for error in troubles:
            if not isinstance(error, (WaterhookError, ClientError, BotoCoreError)):
                raise error
        return swept

    def is_down(self, what: str) -> bool:
        """Whether a dependency is down now."""
        return what == self.outage.what and self.outage.begins_at <= self.clock.now < self.outage.ends_at

    def run_poll(self) -> None:
        """Let the poll function begin."""
        if self.is_down("poll"):
            raise Crash("a bug")

    def read_key(self) -> None:
        """Read the secret, as a new container does."""
        if self.is_down("secret"):
            raise KeyUnavailableError("the secret: AccessDeniedException")

    def outlive_the_outage(self) -> None:
        """Let the time of an outage pass: what repeats a step by the call would repeat it thousands of times."""
        if self.is_down(self.outage.what):
            self.clock.now = self.outage.ends_at

    def point(self) -> None:
        """A moment in which the world may go on without the one who calls."""
        self.points += 1
        self.clock.advance(0.02)
        if self.points >= self.due_at or (self.attention() and self.choices.one_in(3)):
            self.scheduler.pause()

    def call[T](
        self,
        what: str,
        effect: Callable[[], T],
        *,
        before: Sequence[Exception],
        after: Sequence[Exception],
        repeatable: bool = False,
        dependency: str = "",
    ) -> T:
        """Make a call out of a function: it may not arrive, its answer may not, and the function may die with it."""
        self.point()
        if dependency and self.is_down(dependency):
            raise before[0]
        if not self.trouble(self._rate):
            return effect()
        kind = self.choices.choose(5 if repeatable else 4)
        if kind == 0:
            raise self.choices.pick(*before)
        if kind == 1:
            raise self._killed(f"before {what}")
        effect()
        if kind == 2:
            raise self.choices.pick(*after)
        if kind == 3:
            raise self._killed(f"after {what}")
        # The first answer was lost, and boto3 repeats the call.
        self.point()
        return effect()

    def _killed(self, when: str) -> Crash:
        """Return the end of a function that crashes now, or whose call hangs until it is killed."""
        hangs = self.choices.one_in(3)
        # The clock is that of all: what else is under way would take as long between two calls.
        if hangs and not self.attention():
            self.clock.advance(FUNCTION_TIMEOUT_S)
        return Crash(when)

    def trouble(self, rate: int = 4) -> bool:
        """Whether something goes wrong now; a history has only so much of it, else none would end."""
        if not self._faults or not self.choices.one_in(rate):
            return False
        self._faults -= 1
        return True

    def publish(self, **arguments: Any) -> dict[str, Any]:
        """The topic."""
        actor = self.scheduler.current.name if self.scheduler.current else ""
        self.seen.published.append(
            Published(actor, arguments["Message"], str(arguments["MessageAttributes"]))
        )
        return {}

    def _changed(self, before: Item | None, after: Item | None) -> None:
        """Look at every write: what no write may ever do."""
        held, holds = (set((item or {}).get("running", {"SS": []})["SS"]) for item in (before, after))
        for execution_id in held - holds:
            record = self.table.items.get(execution_id)
            if record is not None and not Status(record["status"]["S"]).is_final:
                self.seen.broken.append(f"{execution_id}: its slot was given away before it ended")
        if before is None or "status" not in before:
            return
        execution_id = before["execution_id"]["S"]
        if after is None:
            if execution_id in self.seen.accepted:
                self.seen.broken.append(f"{execution_id}: a record was deleted whose caller had a 202")
            return
        was, now = before["status"]["S"], after["status"]["S"]
        if Status(was).is_final and (was != now or before["finished_at"] != after["finished_at"]):
            self.seen.broken.append(f"{execution_id}: the outcome {was} became {now}")
        owner = before["owner_execution_arn"]["S"]
        sweeping = self.scheduler.current is not None and self.scheduler.current.name == "sweep"
        if sweeping and owner in self.not_the_sweeps and self.runs(owner):
            self.seen.broken.append(f"{execution_id}: swept while its execution ran")
        if before["owner_execution_arn"] != after["owner_execution_arn"]:
            self.seen.broken.append(f"{execution_id}: changed hands")


class Wire:
    """A boto3 client: every call may fail on the way there or back."""

    def __init__(
        self,
        world: World,
        service: object,
        *,
        after: Sequence[Exception | BotoCoreError] = _AWS_AFTER,
        dependency: str = "",
    ) -> None:
        self._world, self._service, self._after = world, service, after
        self._dependency = dependency

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        effect = cast("Callable[..., Any]", getattr(self._service, operation))
        # A transaction carries a token: the second of two is none.
        repeatable = operation != "transact_write_items"
        return lambda **arguments: self._world.call(
            operation,
            lambda: effect(**arguments),
            before=_AWS_BEFORE,
            after=self._after,
            repeatable=repeatable,
            dependency=self._dependency,
        )


def _settings(choices: ChoiceSequence) -> Settings:
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
    )
