"""The commands of `python -m local`: up, down, demo, status, env, webhook-receiver and lint."""

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
    """Run one command and return its exit code. Prints the message of a ToolError."""
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
            case "webhook-receiver":
                _receive_webhooks(arguments.host, arguments.port)
            case _:
                return _lint()
    except ToolError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except BrokenPipeError:  # the reader closed the pipe: print nothing more, also not at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local", description="Run Waterhook on this computer.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, description in {
        "up": "start the local AWS and deploy the application",
        "demo": "run one execution and show each step, from the request to the notification",
    }.items():
        command = commands.add_parser(name, help=description, description=description)
        command.add_argument(
            "--auth", action="store_true", help="let the local AWS enforce roles and policies"
        )
        if name == "demo":
            command.add_argument(
                "--scenario", choices=SCENARIOS, default="success", help="outcome of the execution"
            )
    commands.add_parser("down", help="stop everything that `up` started")
    commands.add_parser("status", help="print whether the local stack is running, and its addresses")
    commands.add_parser("env", help="print the commands that make a shell use the local stack")
    description = "receive webhooks of the local stack, verify their signatures and print them"
    receiver = commands.add_parser("webhook-receiver", help=description, description=description)
    receiver.add_argument("--host", default="localhost", help="localhost or a loopback address (localhost)")
    receiver.add_argument("--port", type=_port, default=0, help="port (a free one)")
    commands.add_parser("lint", help="check the template and the state machine")
    return parser


def _port(text: str) -> int:
    """Return a port number, 0 for a free port. Raises ArgumentTypeError."""
    if text.isdecimal() and int(text) <= 65_535:  # noqa: PLR2004  # the range of TCP
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")


def _up(*, auth: bool) -> None:
    terminal = Terminal()
    stack = LocalDeployment(auth=auth, upstream=WaterflaiEndpoint.from_env(os.environ), terminal=terminal)
    outputs = stack.up()
    if not stack.started_here:
        terminal.print_line("The local stack is already running. To deploy a change: make down up")
    _print_outputs(terminal, outputs)


def _down() -> None:
    end_abandoned_deployments()
    ended = LocalDeployment().down()
    Terminal().print_line("The local stack is stopped." if ended else "The local stack was not running.")


def _status() -> int:
    terminal = Terminal()
    outputs = LocalDeployment().running()
    if outputs is None:
        terminal.print_line("The local stack is not running. Start it: make up")
        return 1
    _print_outputs(terminal, outputs)
    return 0


def _env(shell_environ: Mapping[str, str]) -> None:
    outputs = _running_stack()
    lines = shell_lines(
        outputs, aws_resources.cloudformation_outputs(outputs.endpoint_url), STATE_DIR, shell_environ
    )
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stderr.write(
        f"In this shell, aws, sam and waterhook now use the local stack at {outputs.endpoint_url}.\n"
        "To use AWS, open another shell.\n"
    )


def _receive_webhooks(host: str, port: int) -> None:
    from local.webhook_receiver.command import receive_webhooks  # noqa: PLC0415  # only this command needs these
    from local.webhook_receiver.stack_receiver import receiver_for  # noqa: PLC0415

    outputs = _running_stack()
    receive_webhooks(lambda: receiver_for(outputs, host=host, port=port), Terminal())


def _running_stack() -> StackOutputs:
    """Return the outputs of the running local stack. Raises ToolError if it does not run."""
    outputs = LocalDeployment().running()
    if outputs is None:
        raise ToolError("The local stack is not running. Start it: make up")
    return outputs


def _demo(name: str, *, auth: bool) -> None:
    from local.demo.run import run as run_demo  # noqa: PLC0415  # imports an HTTP client that the other commands don't need

    scenario, upstream = SCENARIOS[name], WaterflaiEndpoint.from_env(os.environ)
    if upstream is not None and scenario.simulated:
        raise ToolError(
            f"The scenario {name} needs the simulated Waterflai: unset WATERFLAI_BASE_URL WATERFLAI_API_KEY"
        )
    terminal = Terminal()
    run_demo(LocalDeployment(auth=auth, upstream=upstream, terminal=terminal), terminal, scenario)


def _lint() -> int:
    from local.local_aws.definition import lint  # noqa: PLC0415  # imports a parser that only this command needs

    return lint()


def _print_outputs(terminal: Terminal, outputs: StackOutputs) -> None:
    terminal.print_line()
    terminal.print_line(f"API        {outputs.api_url}")
    terminal.print_line(f"x-api-key  {outputs.api_key}")
    terminal.print_line(
        f"AWS        {outputs.endpoint_url} (region {outputs.region}, credentials test, test)"
    )
    terminal.print_line(f"Waterflai  {outputs.waterflai_base_url}")
    terminal.print_line(f"These values are in {os.path.relpath(STATE_DIR / 'outputs.json')}. Send a request:")
    terminal.print_line()
    terminal.print_line(f"  curl -H 'x-api-key: {outputs.api_key}' -d '{{\"input_data\": {{}}}}' \\")
    terminal.print_line(f"    {outputs.api_url}/v1/executions/support-chat/async")
    terminal.print_line()
    terminal.print_line("To see notifications arrive, in another terminal: local/bin/waterhook listen")
    terminal.print_line('To use aws, sam and waterhook in this shell: eval "$(make -s env)"')
