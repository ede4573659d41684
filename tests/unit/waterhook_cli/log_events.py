"""Log events for tests of `waterhook logs`."""

import json
from itertools import count
from typing import Any

from tests.support.builders import ID

_numbers = count()


def event(timestamp_ms: int, message: str | dict[str, Any], event_id: str | None = None) -> dict[str, Any]:
    """An event of FilterLogEvents."""
    return {
        "eventId": event_id or f"event-{next(_numbers)}",
        "timestamp": timestamp_ms,
        "ingestionTime": timestamp_ms + 100,
        "logStreamName": "stream",
        "message": message if isinstance(message, str) else json.dumps(message),
    }


def line(verb: str, level: str = "INFO", **fields: Any) -> dict[str, Any]:
    """A log line of a function."""
    return {
        "level": level,
        "message": verb,
        "timestamp": "2026-01-01 00:00:00,000+0000",
        "service": "waterhook",
        "cold_start": False,
        "function_name": "shop-StartFunction-1",
        "function_memory_size": "128",
        "function_arn": "arn:aws:lambda:us-east-1:123456789012:function:shop-StartFunction-1",
        "function_request_id": "11111111-2222-3333-4444-555555555555",
        "correlation_id": f"arn:aws:states:us-east-1:123456789012:execution:shop:{ID}-1",
        "execution_id": ID,
        "chatbot_id": "support-chat",
        **fields,
    }


def state_event(kind: str, **details: Any) -> dict[str, Any]:
    """An event in the log of the state machine."""
    return {
        "id": "3",
        "type": kind,
        "details": details,
        "previous_event_id": "2",
        "event_timestamp": "1767225600000",
        "execution_arn": f"arn:aws:states:us-east-1:123456789012:execution:shop:{ID}-1",
        "redrive_count": "0",
    }
