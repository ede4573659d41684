"""The published chatbots, and how one execution asks for another script than its chatbot's."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from local.waterflai.jobs import DAY_S, Fault, Outcome, Script
from local.waterflai.wire import InvalidValue, Object, as_number, as_object

CHATBOTS: Mapping[str, Script] = {
    "support-chat": Script(output={"answer": "Waterflai runs chatflows and workflows."}),
    "report-flow": Script(
        nodes=6, seconds=12.0, output={"title": "Weekly report", "pages": 3, "score": 0.875}
    ),
    "always-fails": Script(outcome=Outcome.FAILED, error_message="node-2: the model did not answer"),
    "cancelled-upstream": Script(nodes=4, outcome=Outcome.CANCELLED),
    "endless": Script(nodes=2, seconds=10.0, outcome=Outcome.ENDLESS),
    "instant": Script(nodes=1, queue_seconds=0.0, seconds=0.0, output={"answer": "At once."}),
    "big-output": Script(output={"answer": "A long one."}, output_kib=100),
    "answer-lost": Script(output={"answer": "Nobody was told."}, faults=frozenset({Fault.ANSWER_LOST})),
}


def script_for(base: Script, input_data: Object) -> Script:
    """Return `base` with what `input_data.simulate` overrides. Raises `InvalidValue`."""
    where = "input_data.simulate"
    changes: Object = {}
    for name, value in as_object(where, input_data.get("simulate", {})).items():
        if name not in _OVERRIDES:
            raise InvalidValue(f"{where}: no such field, expected any of {', '.join(_OVERRIDES)}")
        changes[name] = _OVERRIDES[name](f"{where}.{name}", value)
    script = replace(base, **changes)
    if script.outcome is Outcome.FAILED and script.error_message is None:
        return replace(script, error_message="The simulation was asked to fail.")
    return script


def _number(low: float, high: float) -> Callable[[str, Any], float]:
    return lambda where, value: as_number(where, value, low, high)


def _integer(low: int, high: int) -> Callable[[str, Any], int]:
    def read(where: str, value: Any) -> int:
        if not as_number(where, value, low, high).is_integer():
            raise InvalidValue(f"{where}: expected a whole number")
        return int(value)

    return read


def _outcome(where: str, value: Any) -> Outcome:
    if value not in list(Outcome):
        raise InvalidValue(f"{where}: expected one of {', '.join(Outcome)}")
    return Outcome(value)


_OVERRIDES: Mapping[str, Callable[[str, Any], Any]] = {
    "seconds": _number(0, DAY_S),
    "queue_seconds": _number(0, DAY_S),
    "cleanup_seconds": _number(0, 30 * DAY_S),
    "nodes": _integer(1, 1000),
    "outcome": _outcome,
    "output": as_object,
    # Above what a careful client accepts (6 MiB), so that it can be seen to refuse.
    "output_kib": _integer(0, 16 * 1024),
}
