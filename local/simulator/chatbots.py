"""The chatbots of the simulator, and the changes that `input_data.simulate` makes for one execution."""

from collections.abc import Mapping
from dataclasses import replace

from local.simulator.fault_rules import FaultRule, Operation, parse_faults
from local.simulator.fault_types import StatusCode
from local.simulator.field_parsers import FieldParser, integer, number, one_of, parse_fields
from local.simulator.jobs import DAY_S, JobScript, Outcome
from local.simulator.strict_json import JsonObject, as_object

# The job is created, but the client gets an error page of a gateway.
_ANSWER_LOST = FaultRule(
    on=Operation.START, name="status_code", kind=StatusCode(code=504, html=True, processed=True)
)

CHATBOTS: Mapping[str, JobScript] = {
    "support-chat": JobScript(output={"answer": "Waterflai runs chatflows and workflows."}),
    "report-flow": JobScript(
        nodes=6, seconds=12.0, output={"title": "Weekly report", "pages": 3, "score": 0.875}
    ),
    "always-fails": JobScript(outcome=Outcome.FAILED, error_message="node-2: the model did not answer"),
    "cancelled-upstream": JobScript(nodes=4, outcome=Outcome.CANCELLED),
    "endless": JobScript(nodes=2, seconds=10.0, outcome=Outcome.ENDLESS),
    "instant": JobScript(nodes=1, queue_seconds=0.0, seconds=0.0, output={"answer": "Done."}),
    "big-output": JobScript(output={"answer": "A long one."}, output_kib=100),
    "answer-lost": JobScript(output={"answer": "This response was lost."}, faults=(_ANSWER_LOST,)),
}


def job_script(base: JobScript, input_data: JsonObject) -> JobScript:
    """Return `base` with the overrides of `input_data.simulate`. Raises `InvalidValueError`."""
    changes = parse_fields("input_data.simulate", input_data.get("simulate", {}), _OVERRIDES)
    script = replace(base, **changes)
    if script.outcome is Outcome.FAILED and script.error_message is None:
        return replace(script, error_message="input_data.simulate.outcome is FAILED.")
    return script


_OVERRIDES: Mapping[str, FieldParser] = {
    "seconds": number(0, DAY_S),
    "queue_seconds": number(0, DAY_S),
    "cleanup_seconds": number(0, 30 * DAY_S),
    "nodes": integer(1, 1000),
    "outcome": one_of(Outcome),
    "output": as_object,
    # The maximum is above the 50 MiB that Waterhook accepts.
    "output_kib": integer(0, 64 * 1024),
    "faults": parse_faults,
}
