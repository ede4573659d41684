"""An HTTPS server on the loopback interface that receives, verifies and stores webhooks, for tests and the terminal."""

from .answers import (
    CLOSE,
    GARBAGE,
    GONE,
    HANG,
    OK,
    RESET,
    Answer,
    AnswerPlan,
    drip,
    huge,
    redirect,
    slow,
    status,
)
from .received import ReceivedWebhook
from .receiver import WebhookReceiver

__all__ = [
    "CLOSE",
    "GARBAGE",
    "GONE",
    "HANG",
    "OK",
    "RESET",
    "Answer",
    "AnswerPlan",
    "ReceivedWebhook",
    "WebhookReceiver",
    "drip",
    "huge",
    "redirect",
    "slow",
    "status",
]
