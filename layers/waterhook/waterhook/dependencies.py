"""Builds the objects of a function from its environment: each once per container, when it is first used.

Each property imports the modules of its own step, so a function loads no module of another function. Only this module
creates boto3 clients and steps.
"""

import os
import time
from functools import cached_property
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from waterhook import aws_config
from waterhook.errors import SettingsError
from waterhook.observability.telemetry import Telemetry
from waterhook.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient

    from waterhook.api.api_settings import ApiSettings
    from waterhook.api.callers import Callers
    from waterhook.api.cancellation import ExecutionCanceller
    from waterhook.api.live_status import LiveStatus
    from waterhook.api.outcome_wait import OutcomeWait
    from waterhook.api.routes import Routes
    from waterhook.api.service import ExecutionService
    from waterhook.api.status_documents import StatusDocuments
    from waterhook.domain.webhook_settings import WebhookSettings
    from waterhook.notifications.delivery_targets import EventBridgeTarget, SnsTarget, WebhookTarget
    from waterhook.notifications.notifier import Notifier
    from waterhook.notifications.progress_publisher import ProgressPublisher
    from waterhook.notifications.webhook_queue import WebhookQueue
    from waterhook.notifications.webhook_requests import WebhookRequests
    from waterhook.steps.cancel import CancelStep
    from waterhook.steps.deliver_batch import DeliverBatch
    from waterhook.steps.delivery_sweep import DeliverySweeper
    from waterhook.steps.follow import FollowStep
    from waterhook.steps.job_canceller import JobCanceller
    from waterhook.steps.notify import NotifyStep
    from waterhook.steps.poll import PollStep
    from waterhook.steps.reconcile import ReconcileStep
    from waterhook.steps.resend import Resender
    from waterhook.steps.start import StartStep
    from waterhook.steps.state_machine_executions import StateMachineExecutions
    from waterhook.steps.sweep import Sweeper
    from waterhook.steps.webhook_test import WebhookTester
    from waterhook.storage.concurrency_limiter import ConcurrencyLimiter
    from waterhook.storage.executions_table import ExecutionsTable
    from waterhook.storage.results_bucket import ResultsBucket
    from waterhook.storage.webhook_deliveries import WebhookDeliveries
    from waterhook.upstream.api_key import ApiKey
    from waterhook.upstream.client import WaterflaiClient
    from waterhook.webhooks.sender import WebhookSender


class Dependencies:
    """The objects of one function. Properties raise SettingsError if the environment is wrong."""

    def __init__(self, telemetry: Telemetry) -> None:
        """Build nothing yet. `telemetry` receives the calls, metrics and log fields of the objects."""
        self._telemetry = telemetry

    # ---- Entry points of the functions --------------------------------------------------------------------------

    @cached_property
    def routes(self) -> "Routes":
        """The routes of the API. If the settings are wrong, the API answers 503 and its container still starts."""
        from waterhook.api.routes import Routes

        # Set on the local AWS: it serves an API under a path prefix that is missing in its events.
        path_prefix = os.environ.get("WATERHOOK_API_PATH_PREFIX", "")
        return Routes(
            lambda: self.service,
            lambda: self.status_documents,
            lambda: self._callers,
            lambda: self.outcome_wait,
            self._telemetry,
            path_prefix,
        )

    @cached_property
    def start_step(self) -> "StartStep":
        """The start step. It reads the API key while the container initializes."""
        from waterhook.steps.start import StartStep

        self._api_key.preload()
        limiter = self._limiter if self.settings.concurrency_limits else None
        return StartStep(
            self._table,
            self._upstream(),
            self.settings,
            time.time,
            limiter,
            telemetry=self._telemetry,
            read_key=self._api_key.get,
            sleep=time.sleep,
        )

    @cached_property
    def follow_step(self) -> "FollowStep":
        """The follow step. It reads small status documents only, because its function has little memory."""
        from waterhook.steps.final_record_check import FinalRecordCheck
        from waterhook.steps.follow import MAX_STATUS_BYTES, FollowStep
        from waterhook.steps.status_poller import StatusPoller

        self._api_key.preload()
        client = self._upstream()
        poller = StatusPoller(client, self._bucket, self.settings, time.time, limit_bytes=MAX_STATUS_BYTES)
        check = FinalRecordCheck(lambda: self._table, time.time)
        return FollowStep(
            client,
            poller,
            self._progress_publisher,
            check,
            clock=time.time,
            monotonic=time.monotonic,
            sleep=time.sleep,
        )

    @cached_property
    def poll_step(self) -> "PollStep":
        """The poll step. It creates the DynamoDB and SNS clients with the first poll that needs them."""
        from waterhook.steps.final_record_check import FinalRecordCheck
        from waterhook.steps.poll import STATUS_BUDGET_S, PollStep, UpstreamIdRecovery
        from waterhook.steps.status_poller import StatusPoller

        self._api_key.preload()
        poller = StatusPoller(self._upstream(STATUS_BUDGET_S), self._bucket, self.settings, time.time)
        recovery = UpstreamIdRecovery(lambda: self._table, time.time)
        check = FinalRecordCheck(lambda: self._table, time.time)
        return PollStep(poller, recovery, check, self._progress_publisher, time.time)

    @cached_property
    def cancel_step(self) -> "CancelStep":
        """The cancel step."""
        from waterhook.steps.cancel import CancelStep
        from waterhook.steps.job_canceller import CALL_BUDGET_S

        self._api_key.preload()
        return CancelStep(self._job_canceller(self._upstream(CALL_BUDGET_S)), time.time)

    @cached_property
    def notify_step(self) -> "NotifyStep":
        """The notify step."""
        from waterhook.steps.notify import FaultReporter, NotifyStep

        return NotifyStep(FaultReporter(self._table, self.settings.defaults, time.time), self.notifier)

    @cached_property
    def notifier(self) -> "Notifier":
        """The notifier, which writes and publishes outcomes."""
        from waterhook.notifications.notifier import Notifier

        return Notifier(
            self._table,
            self._topic,
            self._webhook,
            self._result_bus,
            retention_s=self.settings.retention_s,
            clock=time.time,
            limiter=self._limiter,
            on_delivery=self._telemetry.record_delivery,
        )

    @cached_property
    def deliver_batch(self) -> "DeliverBatch":
        """The deliver step, for the messages of one invocation."""
        from waterhook.domain.webhook_host import share_of
        from waterhook.steps.deliver import DeliverStep
        from waterhook.steps.deliver_batch import DeliverBatch
        from waterhook.steps.webhook_attempts import WebhookAttempts
        from waterhook.storage.webhook_hosts import WebhookHosts

        webhooks = self._webhook_settings
        hosts = WebhookHosts(webhooks.table, self._dynamodb, limit=share_of(webhooks.concurrency))
        attempts = WebhookAttempts(hosts, self._webhook_requests, self._webhook_sender, time.time)
        step = DeliverStep(
            self._table,
            self._deliveries,
            self._webhook_queue,
            self._queue(webhooks.dead_letter_queue_url),
            self._webhook_requests,
            attempts,
            retention_s=self.settings.retention_s,
            clock=time.time,
        )
        return DeliverBatch(step, attempts, self._webhook_queue, time.time)

    @cached_property
    def delivery_sweeper(self) -> "DeliverySweeper":
        """The sweep of the deliver function."""
        from waterhook.steps.delivery_sweep import DeliverySweeper

        return DeliverySweeper(self._deliveries, self._webhook_queue, time.time)

    @cached_property
    def resender(self) -> "Resender":
        """Repeats deliveries for operators."""
        from waterhook.steps.resend import Resender

        return Resender(
            self._table,
            self._deliveries,
            self._webhook_queue,
            retention_s=self.settings.retention_s,
            clock=time.time,
        )

    @cached_property
    def webhook_tester(self) -> "WebhookTester":
        """Sends test events for operators."""
        from waterhook.steps.webhook_test import WebhookTester

        return WebhookTester(
            self._webhook_settings.rules,
            self._webhook_requests,
            self._webhook_sender,
            self.settings.source,
            time.time,
        )

    @cached_property
    def reconcile_step(self) -> "ReconcileStep":
        """The reconcile step."""
        from waterhook.steps.job_canceller import JobCanceller
        from waterhook.steps.reconcile import CALL_BUDGET_S, ReconcileStep
        from waterhook.steps.status_poller import StatusPoller

        client = self._upstream(CALL_BUDGET_S)
        # Reconcile polls once, so it accepts a flawed document immediately.
        poller = StatusPoller(client, self._bucket, self.settings, time.time, polls_again=False)
        return ReconcileStep(
            self._table,
            JobCanceller(client, poller),
            self.notifier,
            self.settings,
            time.time,
            time.sleep,
            telemetry=self._telemetry,
        )

    @cached_property
    def state_machine_executions(self) -> "StateMachineExecutions":
        """The state machine executions, for status change events and for the sweep."""
        from waterhook.steps.state_machine_executions import StateMachineExecutions

        return StateMachineExecutions(
            self._step_functions(), self.settings.state_machine_arn, time.time, time.sleep
        )

    @cached_property
    def sweeper(self) -> "Sweeper":
        """The sweep of the reconcile function."""
        from waterhook.steps.sweep import Sweeper
        from waterhook.storage.unfinished_index import UnfinishedIndex

        return Sweeper(
            self._table,
            UnfinishedIndex(self.settings.table, self._dynamodb),
            self.state_machine_executions,
            end=self.reconcile_step.end,
            release=self.notifier.release,
            clock=time.time,
            sleep=time.sleep,
            on_failure=self._telemetry.record_sweep_failure,
        )

    @cached_property
    def service(self) -> "ExecutionService":
        """The service that implements the API's routes."""
        from waterhook.api.service import ExecutionService
        from waterhook.storage.execution_lists import ExecutionLists

        return ExecutionService(
            self._table,
            self._starter,
            self.settings,
            time.time,
            # Most invocations start an execution and call nothing else, so they don't import the upstream client.
            lambda: self._execution_canceller,
            lists=ExecutionLists(self.settings.table, self._dynamodb),
        )

    @cached_property
    def status_documents(self) -> "StatusDocuments":
        """The status documents of the API."""
        return self._status_documents_over(self._dynamodb)

    @cached_property
    def outcome_wait(self) -> "OutcomeWait":
        """Waits for outcomes, with a client of its own: built by the first request that waits."""
        from waterhook.api.outcome_wait import OutcomeWait
        from waterhook.storage.executions_table import ExecutionsTable
        from waterhook.storage.waiting_places import WaitingPlaces

        table, client = self.settings.table, self._short_dynamodb
        return OutcomeWait(
            self.api_settings.max_wait_s,
            ExecutionsTable(table, client),
            WaitingPlaces(table, client, limit=self.api_settings.max_waiters),
            self._status_documents_over(client),
            time.time,
            time.sleep,
        )

    @cached_property
    def settings(self) -> Settings:
        """The deployment's configuration. Raises SettingsError if the environment is wrong."""
        return Settings.from_env(os.environ)

    @cached_property
    def api_settings(self) -> "ApiSettings":
        """The configuration of the API function. Raises SettingsError if the environment is wrong."""
        from waterhook.api.api_settings import ApiSettings

        return ApiSettings.from_env(os.environ)

    # ---- Shared objects -----------------------------------------------------------------------------------------

    @property
    def _webhook_settings(self) -> "WebhookSettings":
        """The configuration of webhooks. Raises SettingsError if they are off."""
        if self.settings.webhooks is None:
            raise SettingsError("WATERHOOK_WEBHOOK_ALLOWED_HOSTS: missing, set this environment variable")
        return self.settings.webhooks

    @cached_property
    def _callers(self) -> "Callers":
        from waterhook.api.callers import Callers

        return Callers(self.api_settings)

    @cached_property
    def _live_status(self) -> "LiveStatus":
        from waterhook.api.live_status import LiveStatus

        return LiveStatus(self._api_upstream, time.time)

    @cached_property
    def _execution_canceller(self) -> "ExecutionCanceller":
        from waterhook.api.cancellation import ExecutionCanceller

        canceller = self._job_canceller(self._api_upstream)
        return ExecutionCanceller(self._table, canceller, self.notifier, time.time)

    def _status_documents_over(self, client: "DynamoDBClient") -> "StatusDocuments":
        """Return the status documents that read the deliveries of webhooks with this client."""
        from waterhook.api.status_documents import StatusDocuments

        def deliveries() -> "WebhookDeliveries | None":
            from waterhook.storage.webhook_deliveries import WebhookDeliveries

            webhooks = self.settings.webhooks
            return WebhookDeliveries(webhooks.table, client) if webhooks else None

        return StatusDocuments(lambda: self._live_status, self._bucket, deliveries)

    def _job_canceller(self, client: "WaterflaiClient") -> "JobCanceller":
        """Return a canceller for a function with little time: it reads small status documents only."""
        from waterhook.domain.status_document import MAX_SHORT_STATUS_BYTES
        from waterhook.steps.job_canceller import JobCanceller
        from waterhook.steps.status_poller import StatusPoller

        poller = StatusPoller(
            client, self._bucket, self.settings, time.time, limit_bytes=MAX_SHORT_STATUS_BYTES
        )
        return JobCanceller(client, poller)

    @cached_property
    def _api_upstream(self) -> "WaterflaiClient":
        from waterhook.api.cancellation import CALL_BUDGET_S, READ_TIMEOUT_S

        return self._upstream(CALL_BUDGET_S, READ_TIMEOUT_S)

    def _upstream(
        self, budget_s: float | None = None, read_timeout_s: float | None = None
    ) -> "WaterflaiClient":
        from waterhook.upstream.client import WaterflaiClient

        return WaterflaiClient(
            self.settings.base_url,
            self._api_key,
            read_timeout_s=read_timeout_s,
            budget_s=budget_s,
            on_call=self._telemetry.record_call,
        )

    def _progress_publisher(self) -> "ProgressPublisher":
        """Return a publisher for one execution. Built on use: few callers want progress, a client needs memory."""
        from waterhook.notifications.progress_publisher import ProgressPublisher

        # The bus is last, as in the notifier: if it does not answer, the others have their event already.
        targets = (self._topic, self._webhook, self._result_bus)
        return ProgressPublisher(self._table, [target for target in targets if target is not None], time.time)

    @cached_property
    def _topic(self) -> "SnsTarget":
        from waterhook.notifications.delivery_targets import SnsTarget

        return SnsTarget(self._sns, self.settings.topic_arn, self.settings.source)

    @cached_property
    def _webhook(self) -> "WebhookTarget | None":
        from waterhook.notifications.delivery_targets import WebhookTarget

        if not self.settings.webhooks:
            return None
        return WebhookTarget(self._webhook_queue, self.settings.source)

    @cached_property
    def _result_bus(self) -> "EventBridgeTarget | None":
        from waterhook.notifications.delivery_targets import EventBridgeTarget

        if not self.settings.result_event_bus:
            return None
        return EventBridgeTarget(lambda: self._events, self.settings.result_event_bus, self.settings.source)

    @cached_property
    def _webhook_queue(self) -> "WebhookQueue":
        return self._queue(self._webhook_settings.queue_url)

    def _queue(self, url: str) -> "WebhookQueue":
        from waterhook.notifications.webhook_queue import WebhookQueue

        return WebhookQueue(url, lambda: self._sqs)

    @cached_property
    def _webhook_requests(self) -> "WebhookRequests":
        from waterhook.notifications.webhook_requests import WebhookRequests
        from waterhook.webhooks.signing_keys import SigningKeys

        keys = SigningKeys(self._webhook_settings.secret_arn, self._secrets, time.time)
        return WebhookRequests(keys, self._bucket.presign, self.settings.source, time.time)

    @cached_property
    def _webhook_sender(self) -> "WebhookSender":
        from waterhook.webhooks.ca_bundle import read_ca_bundle
        from waterhook.webhooks.cached_secret import CachedSecret
        from waterhook.webhooks.sender import WebhookSender

        rules, arn = self._webhook_settings.rules, self._webhook_settings.ca_bundle_arn
        if not arn:
            return WebhookSender(rules)
        bundle = CachedSecret(lambda: read_ca_bundle(arn, self._secrets), time.time)
        return WebhookSender(rules, ca_pem=bundle.get)

    @cached_property
    def _deliveries(self) -> "WebhookDeliveries":
        from waterhook.storage.webhook_deliveries import WebhookDeliveries

        return WebhookDeliveries(self._webhook_settings.table, self._dynamodb)

    @cached_property
    def _table(self) -> "ExecutionsTable":
        from waterhook.storage.executions_table import ExecutionsTable

        return ExecutionsTable(self.settings.table, self._dynamodb)

    @cached_property
    def _limiter(self) -> "ConcurrencyLimiter":
        from waterhook.storage.concurrency_limiter import ConcurrencyLimiter

        return ConcurrencyLimiter(self.settings.table, self.settings.concurrency_limits, self._dynamodb)

    @cached_property
    def _bucket(self) -> "ResultsBucket":
        from waterhook.storage.results_bucket import ResultsBucket

        return ResultsBucket(self.settings.bucket, lambda: self._s3)

    @cached_property
    def _api_key(self) -> "ApiKey":
        from waterhook.upstream.api_key import ApiKey

        return ApiKey(self.settings.api_key_secret_arn, self._secrets)

    # ---- AWS clients --------------------------------------------------------------------------------------------

    @cached_property
    def _dynamodb(self) -> "DynamoDBClient":
        return boto3.client("dynamodb", config=aws_config.DEFAULTS)

    @cached_property
    def _short_dynamodb(self) -> "DynamoDBClient":
        return boto3.client("dynamodb", config=aws_config.SHORT)

    @cached_property
    def _sns(self) -> "SNSClient":
        return boto3.client("sns", config=aws_config.DEFAULTS)

    @cached_property
    def _sqs(self) -> "SQSClient":
        return boto3.client("sqs", config=aws_config.DEFAULTS)

    @cached_property
    def _events(self) -> "EventBridgeClient":
        return boto3.client("events", config=aws_config.DEFAULTS)

    @cached_property
    def _secrets(self) -> "SecretsManagerClient":
        return boto3.client("secretsmanager", config=aws_config.DEFAULTS)

    @cached_property
    def _s3(self) -> "S3Client":
        return boto3.client("s3", config=aws_config.UPLOADS)

    @cached_property
    def _starter(self) -> "SFNClient":
        return self._step_functions(aws_config.ONE_ATTEMPT)

    @staticmethod
    def _step_functions(config: Config = aws_config.DEFAULTS) -> "SFNClient":
        return boto3.client("stepfunctions", config=config)
