"""`python -m local.runner`: up, down, demo, status, and the lint of what is deployed."""

import argparse
import os
import sys

from . import environment, interrupts
from .errors import RunnerError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local.runner", description="The application on this machine."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, does in {
        "up": "start the local AWS and deploy the application into it",
        "demo": "show one execution from the request to the notification",
    }.items():
        command = commands.add_parser(name, help=does, description=does)
        command.add_argument(
            "--auth", action="store_true", help="let the local AWS enforce roles and policies"
        )
    commands.add_parser("down", help="end what `up` started")
    commands.add_parser("status", help="say what is running and where")
    commands.add_parser("lint", help="check the template and the state machine")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    # Imported once signals are ours: an interrupt while boto3 loads must not end in a traceback either.
    from . import commands  # noqa: PLC0415

    match arguments.command:
        case "up":
            return commands.up(auth=arguments.auth)
        case "down":
            return commands.down()
        case "demo":
            return commands.demo(auth=arguments.auth)
        case "status":
            return commands.status()
        case _:
            return commands.lint()


def main() -> int:
    """The exit code: 0, 1 when something went wrong, 130 when interrupted."""
    interrupts.install()
    try:
        arguments = _parser().parse_args()
        environment.isolate(os.environ)
        return _run(arguments)
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted. Everything that was started has been ended.\n")
        return interrupts.EXIT_CODE
    except RunnerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except BrokenPipeError:  # the reader of our output has gone: say nothing, not even at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
