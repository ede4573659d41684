"""The commands: what each does, and what it prints."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

from local.demo.scenarios import SCENARIOS
from local.local_aws import aws_resources, environment, interrupts
from local.local_aws.deployment import HOME, LocalStack, end_abandoned
from local.local_aws.errors import RunnerError
from local.local_aws.servers import Upstream
from local.local_aws.shell_environment import assignments
from local.local_aws.stack_outputs import Outputs
from local.terminal import Screen


def run(words: Sequence[str]) -> int:
    """Carry out one command line; the exit code. An error the user can act on is printed."""
    interrupts.check()
    arguments = _parser().parse_args(words)
    of_shell = dict(os.environ)
    environment.isolate(os.environ)
    try:
        match arguments.command:
            case "up":
                _up(auth=arguments.auth)
            case "down":
                _down()
            case "demo":
                _demo(arguments.scenario, auth=arguments.auth)
            case "status":
                return _status()
            case "env":
                _env(of_shell)
            case _:
                return _lint()
    except RunnerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except BrokenPipeError:  # the reader of our output has gone: say nothing, not even at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local", description="Waterhook on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, does in {
        "up": "start the local AWS and deploy the application into it",
        "demo": "show one execution from the request to the notification",
    }.items():
        command = commands.add_parser(name, help=does, description=does)
        command.add_argument("--auth", action="store_true", help="the local AWS enforces roles and policies")
        if name == "demo":
            command.add_argument("--scenario", choices=SCENARIOS, default="success", help="what is shown")
    commands.add_parser("down", help="end what `up` started")
    commands.add_parser("status", help="say what is running and where")
    commands.add_parser("env", help="print what makes a shell use the local stack")
    commands.add_parser("lint", help="check the template and the state machine")
    return parser


def _up(*, auth: bool) -> None:
    screen = Screen()
    stack = LocalStack(auth=auth, upstream=Upstream.from_env(os.environ), screen=screen)
    outputs = stack.up()
    if not stack.started_here:
        screen.line("Already up. (After a change: make down up)")
    _tell(screen, outputs)


def _down() -> None:
    end_abandoned()
    ended = LocalStack().down()
    Screen().line("Down: nothing is left running." if ended else "Nothing was running.")


def _status() -> int:
    screen = Screen()
    outputs = LocalStack().running()
    if outputs is None:
        screen.line("Down. `make up` starts it.")
        return 1
    _tell(screen, outputs)
    return 0


def _env(of_shell: Mapping[str, str]) -> None:
    outputs = LocalStack().running()
    if outputs is None:
        raise RunnerError("No local stack is up: `make up` starts one.")
    lines = assignments(outputs, aws_resources.named_outputs(outputs.endpoint_url), HOME, of_shell)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stderr.write(
        f"aws, sam and waterhook of this shell use the local stack at {outputs.endpoint_url}.\n"
        "For an account on AWS open another shell.\n"
    )


def _demo(name: str, *, auth: bool) -> None:
    from local.demo.run import run as run_demo  # noqa: PLC0415  # an HTTP client that the other commands don't need

    scenario, upstream = SCENARIOS[name], Upstream.from_env(os.environ)
    if upstream is not None and scenario.simulated:
        raise RunnerError(f"The scenario `{name}` needs the simulated Waterflai: unset WATERFLAI_BASE_URL.")
    screen = Screen()
    run_demo(LocalStack(auth=auth, upstream=upstream, screen=screen), screen, scenario)


def _lint() -> int:
    from local.local_aws.definition import lint  # noqa: PLC0415  # the template's parser, for this command alone

    return lint()


def _tell(screen: Screen, outputs: Outputs) -> None:
    screen.line()
    screen.line(f"API        {outputs.api_url}")
    screen.line(f"x-api-key  {outputs.api_key}")
    screen.line(f"AWS        {outputs.endpoint_url} (region {outputs.region}, credentials test, test)")
    screen.line(f"Waterflai  {outputs.waterflai_base_url}")
    screen.line(f"All of it is in {os.path.relpath(HOME / 'outputs.json')}. Try:")
    screen.line()
    screen.line(f"  curl -H 'x-api-key: {outputs.api_key}' -d '{{\"input_data\": {{}}}}' \\")
    screen.line(f"    {outputs.api_url}/v1/executions/support-chat/async")
    screen.line()
    screen.line('For aws, sam and waterhook in this shell: eval "$(make -s env)"')
