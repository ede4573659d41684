"""The samples in events/notifications: outcomes, progress, bodies of webhooks, and what subscribers receive."""

import json
from pathlib import Path
from typing import Any

from waterhook.domain.webhook import TERMINAL_EVENTS

FOLDER = Path(__file__).parents[2] / "events" / "notifications"
# Each begins with its outcome, as in `completed_with_a_large_output`.
OUTCOMES = sorted(path.stem for path in FOLDER.glob("*.json") if path.stem.startswith(TERMINAL_EVENTS))
WEBHOOKS = sorted(path.stem for path in FOLDER.glob("webhook*.json"))
NOTIFICATIONS = [*OUTCOMES, "progress"]


def text(name: str) -> str:
    return (FOLDER / f"{name}.json").read_text(encoding="utf-8")


def read(name: str) -> Any:
    return json.loads(text(name))
