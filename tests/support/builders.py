"""Valid requests, records, states and settings. A test changes only the fields that it is about."""

import json
from dataclasses import replace
from typing import Any

from tests.fakes.clock import NOW
from waterhook.api.api_settings import ApiSettings
from waterhook.domain.loop_state import LoopState
from waterhook.domain.poll_history import PollHistory
from waterhook.domain.polling_policy import Limits
from waterhook.domain.request import MAX_METADATA_BYTES, Request, RequestDefaults
from waterhook.domain.status import Status
from waterhook.json_text import to_json
from waterhook.settings import Settings
from waterhook.storage.execution_record import ExecutionRecord
from waterhook.text import MAX_MESSAGE_CHARS
from waterhook.timestamps import to_rfc3339

REGION = "us-east-1"
MACHINE = f"arn:aws:states:{REGION}:123456789012:stateMachine:waterhook"
OWNER = f"arn:aws:states:{REGION}:123456789012:execution:waterhook:first"
OTHER = f"arn:aws:states:{REGION}:123456789012:execution:waterhook:second"
STARTED_AT = "2026-01-01T00:00:00.000Z"
CALLER = "arn:aws:iam::123456789012:user/ada"
SOURCE = "/waterhook/tests"
KEY = "wf-0123456789-the-key"
ID = "0f" * 16
UPSTREAM_ID = "11111111-2222-4333-8444-555555555555"
DEFAULTS = RequestDefaults(timeout_s=3600, deliver_to=("sns", "dynamodb"))
# For behaviour that does not depend on which of the eight outcomes an execution has.
SUCCESS_AND_FAILURE = (Status.COMPLETED, Status.FAILED)


# Only the API function has these variables.
API_ENVIRONMENT = {
    "WATERHOOK_MAX_WAIT_S": "20",
    "WATERHOOK_MAX_WAITERS": "5",
    "WATERHOOK_OPERATOR_PRINCIPALS": "",
    "WATERHOOK_CALLER_IDENTITY": "ROLE",
}


def environment(**changes: str | None) -> dict[str, str]:
    """Return the environment variables that the template sets for a function. None removes a variable."""
    env: dict[str, str | None] = {
        "WATERFLAI_BASE_URL": "https://api.waterflai.test",
        "WATERFLAI_API_KEY_SECRET_ARN": f"arn:aws:secretsmanager:{REGION}:123456789012:secret:waterflai",
        "WATERHOOK_TABLE": "executions",
        "WATERHOOK_TOPIC_ARN": f"arn:aws:sns:{REGION}:123456789012:notifications",
        "WATERHOOK_BUCKET": "results",
        "WATERHOOK_SOURCE": SOURCE,
        "WATERHOOK_DEFAULT_TIMEOUT_S": "3600",
        "WATERHOOK_START_DEADLINE_S": "900",
        "WATERHOOK_SHORTEST_WAIT_S": "2",
        "WATERHOOK_LONGEST_WAIT_S": "60",
        "WATERHOOK_START_SEMANTICS": "AT_MOST_ONCE",
        "WATERHOOK_ON_503_AT_START": "RETRY",
        "WATERHOOK_DEFAULT_DELIVER_TO": "sns,dynamodb",
        "WATERHOOK_RESULT_EVENT_BUS": "",
        "WATERHOOK_RETENTION_DAYS": "30",
        "WATERHOOK_FOLLOW_CONCURRENCY": "0",
        "WATERHOOK_FOLLOW_S": "840",
        "WATERHOOK_MAX_RUNNING": "0",
        "WATERHOOK_MAX_RUNNING_PER_CHATBOT": "0",
        "WATERHOOK_ALLOWED_CHATBOTS": "",
        "WATERHOOK_WEBHOOK_ALLOWED_HOSTS": "",
        "WATERHOOK_WEBHOOK_ALLOWED_NETWORKS": "",
        "WATERHOOK_DEFAULT_WEBHOOK_URL": "",
        "WATERHOOK_WEBHOOK_QUEUE_URL": "",
        "WATERHOOK_WEBHOOK_TABLE": "",
        "WATERHOOK_STATE_MACHINE_ARN": MACHINE,
        **API_ENVIRONMENT,
    }
    return {name: value for name, value in (env | changes).items() if value is not None}


def api_settings(**changes: Any) -> ApiSettings:
    return replace(ApiSettings.from_env(environment()), **changes)


def settings(**changes: Any) -> Settings:
    return replace(Settings.from_env(environment()), **changes)


def limits(
    *, shortest_s: float = 2, longest_s: float = 60, deadline: float = NOW + 3600, follow: bool = False
) -> Limits:
    return Limits(shortest_s, longest_s, deadline, follow)


def request_dict(**changes: Any) -> dict[str, Any]:
    return {"chatbot_id": "support-chat", "input_data": {"question": "why?"}} | changes


def request(**changes: Any) -> Request:
    return Request.from_dict(request_dict(**changes), DEFAULTS)


def history(**changes: Any) -> PollHistory:
    return replace(PollHistory(started_at=NOW), **changes)


def running_state(**changes: Any) -> LoopState:
    """Return the loop state of an execution whose job is running. Its deadline is in an hour."""
    running = LoopState(ID, NOW + 3600, PollHistory(started_at=NOW), UPSTREAM_ID)
    return replace(running, **changes)


def record(accepted: Request | None = None, **changes: Any) -> ExecutionRecord:
    """Return a record whose request has just been accepted."""
    new = ExecutionRecord.accepted(
        ID, accepted or request(), NOW, owner=OWNER, source="states", defaults=DEFAULTS
    )
    return replace(new, **changes)


def running_record(**changes: Any) -> ExecutionRecord:
    """Return a record whose job is running."""
    running = record(
        status=Status.RUNNING,
        start_attempts=1,
        waterflai_execution_id=UPSTREAM_ID,
        started_at=to_rfc3339(NOW + 1),
    )
    return replace(running, **changes)


def final_attributes(status: Status = Status.COMPLETED, **changes: Any) -> dict[str, Any]:
    """Return the attributes that the notify step writes when a record becomes final."""
    error = None if status is Status.COMPLETED else {"code": "why", "message": f"it {status.lower()}"}
    return {
        "status": status,
        "finished_at": to_rfc3339(NOW + 60),
        "expires_at": int(NOW) + 30 * 24 * 3600,
        "error": error,
    } | changes


def final_record(status: Status = Status.COMPLETED, **changes: Any) -> ExecutionRecord:
    """Return a final record of a job that ran, without its output."""
    return running_record(**(final_attributes(status) | {"final_output_json": None} | changes))


def largest_record(letter: str, **changes: Any) -> ExecutionRecord:
    """Return a record whose fields have their maximum sizes. Its texts repeat `letter`."""
    room = MAX_METADATA_BYTES - len('{"m":""}')
    metadata = {"m": letter * (room // (len(json.dumps(letter, ensure_ascii=False).encode()) - 2))}
    return final_record(
        Status.FAILED,
        chatbot_id="🙂" * 200,
        waterflai_execution_id="🙂" * 200,
        metadata_json=to_json(request(metadata=metadata).metadata),
        error={"code": "failed", "message": letter * MAX_MESSAGE_CHARS},
        **changes,
    )
