"""The commands of `python -m local`: up, down, demo, status, env and lint."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

from local.demo.scenarios import SCENARIOS
from local.local_aws import aws_resources, environment, interrupts
from local.local_aws.deployment import STATE_DIR, LocalDeployment, end_abandoned_deployments
from local.local_aws.errors import ToolError
from local.local_aws.servers import WaterflaiEndpoint
from local.local_aws.shell_environment import shell_lines
from local.local_aws.stack_outputs import StackOutputs
from local.terminal import Terminal


def run(words: Sequence[str]) -> int:
    """Run one command line and return the exit code. A ToolError is printed."""
    interrupts.check()
    arguments = _parser().parse_args(words)
    shell_environ = dict(os.environ)
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
                _env(shell_environ)
            case _:
                return _lint()
    except ToolError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except BrokenPipeError:  # print nothing more, not even at exit
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
    commands.add_parser("status", help="print what is running and where")
    commands.add_parser("env", help="print what makes a shell use the local stack")
    commands.add_parser("lint", help="check the template and the state machine")
    return parser


def _up(*, auth: bool) -> None:
    terminal = Terminal()
    stack = LocalDeployment(auth=auth, upstream=WaterflaiEndpoint.from_env(os.environ), terminal=terminal)
    outputs = stack.up()
    if not stack.started_here:
        terminal.print_line("Already up. (After a change: make down up)")
    _print_outputs(terminal, outputs)


def _down() -> None:
    end_abandoned_deployments()
    ended = LocalDeployment().down()
    Terminal().print_line("Down: nothing is left running." if ended else "Nothing was running.")


def _status() -> int:
    terminal = Terminal()
    outputs = LocalDeployment().running()
    if outputs is None:
        terminal.print_line("Down. `make up` starts it.")
        return 1
    _print_outputs(terminal, outputs)
    return 0


def _env(shell_environ: Mapping[str, str]) -> None:
    outputs = LocalDeployment().running()
    if outputs is None:
        raise ToolError("No local stack is up: `make up` starts one.")
    lines = shell_lines(
        outputs, aws_resources.cloudformation_outputs(outputs.endpoint_url), STATE_DIR, shell_environ
    )
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stderr.write(
        f"aws, sam and waterhook of this shell use the local stack at {outputs.endpoint_url}.\n"
        "For an account on AWS open another shell.\n"
    )


def _demo(name: str, *, auth: bool) -> None:
    from local.demo.run import run as run_demo  # noqa: PLC0415  # an HTTP client that the other commands don't need

    scenario, upstream = SCENARIOS[name], WaterflaiEndpoint.from_env(os.environ)
    if upstream is not None and scenario.simulated:
        raise ToolError(f"The scenario `{name}` needs the simulated Waterflai: unset WATERFLAI_BASE_URL.")
    terminal = Terminal()
    run_demo(LocalDeployment(auth=auth, upstream=upstream, terminal=terminal), terminal, scenario)


def _lint() -> int:
    from local.local_aws.definition import lint  # noqa: PLC0415  # the template's parser, for this command alone

    return lint()


def _print_outputs(terminal: Terminal, outputs: StackOutputs) -> None:
    terminal.print_line()
    terminal.print_line(f"API        {outputs.api_url}")
    terminal.print_line(f"x-api-key  {outputs.api_key}")
    terminal.print_line(
        f"AWS        {outputs.endpoint_url} (region {outputs.region}, credentials test, test)"
    )
    terminal.print_line(f"Waterflai  {outputs.waterflai_base_url}")
    terminal.print_line(f"All of it is in {os.path.relpath(STATE_DIR / 'outputs.json')}. Try:")
    terminal.print_line()
    terminal.print_line(f"  curl -H 'x-api-key: {outputs.api_key}' -d '{{\"input_data\": {{}}}}' \\")
    terminal.print_line(f"    {outputs.api_url}/v1/executions/support-chat/async")
    terminal.print_line()
    terminal.print_line('For aws, sam and waterhook in this shell: eval "$(make -s env)"')
