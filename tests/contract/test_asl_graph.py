"""The state machine's graph keeps the rules of graph.py, and each rule finds a broken definition."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.contract import graph, template
from tests.contract.graph import Definition
from waterhook.domain.loop_state import NextStep
from waterhook.domain.status_document import MAX_OUTPUT_BYTES
from waterhook.steps.follow import RESERVE_S
from waterhook.steps.poll import STATUS_BUDGET_S
from waterhook.upstream.client import CONNECT_TIMEOUT_S


def timeouts_s() -> dict[str, int]:
    """Return each function's timeout in seconds by its name in the definition's substitutions."""
    resources = template.deployed()
    substitutions = resources["StateMachine"]["Properties"]["DefinitionSubstitutions"]
    arns = {name: value["Fn::GetAtt"][0] for name, value in substitutions.items() if "Fn::GetAtt" in value}
    return {name: resources[function]["Properties"]["Timeout"] for name, function in arns.items()}


def problems(definition: Definition) -> list[str]:
    return graph.problems(definition, timeouts_s())


def test_the_definition_breaks_no_rule() -> None:
    assert problems(template.definition()) == []


def test_the_second_line_names_the_query_language() -> None:
    lines = template.definition_file().read_text(encoding="utf-8").splitlines()
    assert lines[1] == "QueryLanguage: JSONata"


def test_each_next_step_leads_to_its_state() -> None:
    definition = template.definition()
    states_by_step = {
        step: graph.choose(definition, "What next?", next=step, wait_seconds=5) for step in NextStep
    }
    assert states_by_step == {
        NextStep.START: "Wait to start",
        NextStep.WAIT: "Wait",
        NextStep.POLL: "Poll",
        NextStep.FOLLOW: "Follow",
        NextStep.CANCEL: "Cancel",
        NextStep.NOTIFY: "Notify",
        NextStep.DONE: "Completed?",
    }


def test_each_step_function_has_a_task() -> None:
    called = {
        state["Arguments"]["FunctionName"] for state in graph.of_type(template.definition(), "Task").values()
    }
    assert called == {f"${{{name}}}" for name in timeouts_s()}


def test_a_throttled_follow_is_not_retried() -> None:
    """The job would not be polled during the retries."""
    for retrier in template.definition()["States"]["Follow"]["Retry"]:
        assert not set(retrier["ErrorEquals"]) & {
            "Lambda.TooManyRequestsException",
            "Lambda.Unknown",
            "States.TaskFailed",
            "States.Timeout",
            "States.ALL",
        }
        assert retrier["MaxAttempts"] <= 1


def test_the_follow_task_times_out_after_its_function() -> None:
    function = template.deployed()["FollowFunction"]["Properties"]
    assert function["Timeout"] < template.definition()["States"]["Follow"]["TimeoutSeconds"] <= 900
    longest_s = template.source()["Parameters"]["FollowSeconds"]["MaxValue"]
    assert longest_s + RESERVE_S <= function["Timeout"]


def test_a_poll_has_time_to_store_the_largest_output() -> None:
    function = template.deployed()["PollFunction"]["Properties"]
    assert function["Timeout"] >= CONNECT_TIMEOUT_S + STATUS_BUDGET_S + MAX_OUTPUT_BYTES / 1_000_000


def test_throttles_are_retried_for_an_hour_under_both_error_names() -> None:
    tasks = graph.of_type(template.definition(), "Task")
    for name, state in ((name, state) for name, state in tasks.items() if name not in graph.OPTIONAL_TASKS):
        for error in ("Lambda.TooManyRequestsException", "Lambda.Unknown"):
            retrier = next(r for r in state["Retry"] if {error, "States.ALL"} & set(r["ErrorEquals"]))
            assert retrier["MaxAttempts"] >= 8, f"{name}: {error}"
        first = state["Retry"][0]
        longest_s = sum(
            min(first["IntervalSeconds"] * first["BackoffRate"] ** attempt, first["MaxDelaySeconds"])
            for attempt in range(first["MaxAttempts"])
        )
        assert longest_s > 3600, name


# ---- Broken definitions: one for each rule ---------------------------------------------------------------------


def name_an_unknown_state(states: dict[str, Any]) -> None:
    states["Wait"]["Next"] = "Pol"


def name_an_unknown_state_in_a_catch(states: dict[str, Any]) -> None:
    states["Poll"]["Catch"][0]["Next"] = "Report"


def remove_the_first_state(states: dict[str, Any]) -> None:
    states["Begin"] = states.pop("Start execution")


def add_an_unreachable_state(states: dict[str, Any]) -> None:
    states["Island"] = {"Type": "Pass", "Next": "Poll"}


def remove_next(states: dict[str, Any]) -> None:
    del states["Wait"]["Next"]


def remove_a_default(states: dict[str, Any]) -> None:
    del states["Completed?"]["Default"]


def remove_a_catch(states: dict[str, Any]) -> None:
    del states["Poll"]["Catch"]


def catch_timeouts_only(states: dict[str, Any]) -> None:
    states["Cancel"]["Catch"][0]["ErrorEquals"] = ["States.Timeout"]


def catch_into_success(states: dict[str, Any]) -> None:
    states["Cancel"]["Catch"][0]["Next"] = "Completed"


def catch_past_the_report(states: dict[str, Any]) -> None:
    states["Cancel"]["Catch"][0]["Next"] = "Notify"


def catch_past_the_notification(states: dict[str, Any]) -> None:
    states["Cancel"]["Catch"][0]["Next"] = "Completed?"


def catch_past_the_cancel(states: dict[str, Any]) -> None:
    states["Poll"]["Catch"][0]["Next"] = "Report the fault"


def drop_the_fault_of_a_poll(states: dict[str, Any]) -> None:
    states["Poll"]["Catch"][0]["Output"] = "{% $states.input %}"


def drop_the_state_after_a_poll(states: dict[str, Any]) -> None:
    states["Poll"]["Catch"][0]["Output"] = "{% {'fault': $states.errorOutput.Error} %}"


def use_an_error_name_unchecked(states: dict[str, Any]) -> None:
    states["Fail with the outcome"]["Error"] = "{% $states.input.error_name %}"


def catch_a_follow_as_a_fault(states: dict[str, Any]) -> None:
    states["Follow"]["Catch"] = states["Cancel"]["Catch"]


def catch_a_follow_in_notify(states: dict[str, Any]) -> None:
    states["Follow"]["Catch"][0]["Next"] = "Notify"


def drop_the_state_after_a_follow(states: dict[str, Any]) -> None:
    states["Follow"]["Catch"][0]["Output"] = "{% {'follow_refused': true} %}"


def remove_the_output_after_a_follow(states: dict[str, Any]) -> None:
    del states["Follow"]["Catch"][0]["Output"]


def remove_the_catch_of_follow(states: dict[str, Any]) -> None:
    del states["Follow"]["Catch"]


def time_out_before_follow(states: dict[str, Any]) -> None:
    states["Follow"]["TimeoutSeconds"] = 880


def catch_in_notify(states: dict[str, Any]) -> None:
    states["Notify"]["Catch"] = states["Poll"]["Catch"]


def let_the_input_replace_the_outcome(states: dict[str, Any]) -> None:
    states["Report the fault"]["Output"] = (
        "{% $merge([{'outcome': 'ERROR', 'next': 'notify'}, $states.input]) %}"
    )


def report_and_skip_notify(states: dict[str, Any]) -> None:
    states["Report the fault"]["Next"] = "Completed?"


def default_to_poll(states: dict[str, Any]) -> None:
    states["What next?"]["Default"] = "Poll"


def succeed_by_default(states: dict[str, Any]) -> None:
    states["Completed?"]["Default"] = "Completed"


def succeed_on_failure(states: dict[str, Any]) -> None:
    states["Completed?"]["Choices"][0]["Condition"] = "{% $states.input.outcome != 'ERROR' %}"


def succeed_without_a_check(states: dict[str, Any]) -> None:
    states["Notify"]["Next"] = "Completed"


def end_without_a_check(states: dict[str, Any]) -> None:
    del states["Notify"]["Next"]
    states["Notify"]["End"] = True


def call_an_unknown_function(states: dict[str, Any]) -> None:
    states["Poll"]["Arguments"]["FunctionName"] = "${ApiFunctionArn}"


def remove_a_timeout(states: dict[str, Any]) -> None:
    del states["Cancel"]["TimeoutSeconds"]


def time_out_before_the_function(states: dict[str, Any]) -> None:
    states["Start execution"]["TimeoutSeconds"] = 30


def remove_the_retries(states: dict[str, Any]) -> None:
    del states["Notify"]["Retry"]


def wait_without_a_check(states: dict[str, Any]) -> None:
    states["What next?"]["Choices"][1]["Condition"] = "{% $states.input.next = 'wait' %}"


def wait_for_fractions(states: dict[str, Any]) -> None:
    seconds = "$states.input.wait_seconds"
    guard = f"$states.input.next = 'wait' and {seconds} > 0 and {seconds} <= 3600"
    states["What next?"]["Choices"][1]["Condition"] = f"{{% {guard} %}}"


def wait_without_a_choice(states: dict[str, Any]) -> None:
    states["Poll"]["Next"] = "Wait"


def remove_a_rule(states: dict[str, Any]) -> None:
    rules = states["What next?"]["Choices"]
    states["What next?"]["Choices"] = [rule for rule in rules if rule["Next"] != "Cancel"]


def use_jsonpath(states: dict[str, Any]) -> None:
    states["Poll"]["QueryLanguage"] = "JSONPath"


@pytest.mark.parametrize(
    ("breakage", "problem"),
    [
        (name_an_unknown_state, "Wait: there is no state 'Pol'"),
        (name_an_unknown_state_in_a_catch, "Poll: there is no state 'Report'"),
        (remove_the_first_state, "StartAt: there is no state 'Start execution'"),
        (add_an_unreachable_state, "Island: can't be reached"),
        (remove_next, "Wait: leads nowhere"),
        (remove_a_default, "Completed?: has no Default"),
        (remove_a_catch, "Poll: has no Catch for States.ALL"),
        (catch_timeouts_only, "Cancel: has no Catch for States.ALL"),
        (catch_past_the_cancel, "Poll: a fault goes to 'Report the fault', not to 'Cancel'"),
        (drop_the_fault_of_a_poll, "Poll: 'Cancel' doesn't get the state of the loop with the fault"),
        (drop_the_state_after_a_poll, "Poll: 'Cancel' doesn't get the state of the loop with the fault"),
        (use_an_error_name_unchecked, "Fail with the outcome: has no Error for {}"),
        (catch_into_success, "Cancel: a fault leads to 'Completed' without a notification"),
        (catch_past_the_report, "Cancel: a fault goes to 'Notify', which doesn't set the outcome to ERROR"),
        (catch_past_the_notification, "Cancel: a fault leads to 'Completed' without a notification"),
        (catch_a_follow_as_a_fault, "Follow: a failure goes to 'Report the fault', not to 'What next?'"),
        (catch_a_follow_in_notify, "Follow: a failure goes to 'Notify', not to 'What next?'"),
        (
            drop_the_state_after_a_follow,
            "Follow: 'What next?' doesn't get the state of the loop, with a wait as the next step",
        ),
        (
            remove_the_output_after_a_follow,
            "Follow: 'What next?' doesn't get the state of the loop, with a wait as the next step",
        ),
        (remove_the_catch_of_follow, "Follow: has no Catch for States.ALL"),
        (time_out_before_follow, "Follow: needs a TimeoutSeconds longer than its function's 880"),
        (catch_in_notify, "Notify: has a Catch, so a redrive would not enter it again"),
        (
            let_the_input_replace_the_outcome,
            "Cancel: a fault goes to 'Report the fault', which doesn't set the outcome to ERROR",
        ),
        (report_and_skip_notify, "Start execution: a fault leads to 'Completed' without a notification"),
        (default_to_poll, "What next?: a fault goes to 'Poll', which doesn't set the outcome to ERROR"),
        (succeed_by_default, "Completed?: 'FAILED' ends in Succeed, not in Fail"),
        (succeed_on_failure, "Completed?: 'REJECTED' ends in Succeed, not in Fail"),
        (succeed_without_a_check, "Notify: succeeds without passing 'Completed?'"),
        (end_without_a_check, "Notify: ends the execution as succeeded"),
        (call_an_unknown_function, "Poll: calls '${ApiFunctionArn}', which is no function of the template"),
        (remove_a_timeout, "Cancel: needs a TimeoutSeconds longer than its function's 55"),
        (
            time_out_before_the_function,
            "Start execution: needs a TimeoutSeconds longer than its function's 55",
        ),
        (remove_the_retries, "Notify: has no Retry"),
        (wait_without_a_check, "What next?: accepts the wait 1.5"),
        (wait_for_fractions, "What next?: accepts the wait 1.5"),
        (wait_without_a_choice, "Poll: goes to 'Wait' without a check of wait_seconds"),
        (remove_a_rule, "What next?: has no rule for 'cancel'"),
        (use_jsonpath, "Poll: doesn't use JSONata"),
    ],
)
def test_a_broken_definition_is_found(breakage: Callable[[dict[str, Any]], None], problem: str) -> None:
    definition = template.definition()
    breakage(definition["States"])
    assert problem in problems(definition)


@pytest.mark.parametrize("key", ["QueryLanguage", "TimeoutSeconds"])
def test_a_definition_without_its_settings_is_found(key: str) -> None:
    definition = template.definition()
    del definition[key]
    assert problems(definition)
