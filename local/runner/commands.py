"""What the runner's commands do, and what they print."""

import os

from .outputs import Outputs
from .screen import Screen
from .services import Upstream
from .stack import HOME, LocalStack, end_abandoned


def up(*, auth: bool) -> int:
    """Start the stack, or say that it is up."""
    screen = Screen()
    stack = LocalStack(auth=auth, upstream=Upstream.from_env(os.environ), screen=screen)
    outputs = stack.running()
    if outputs is not None:
        screen.line("Already up.")
    else:
        outputs = stack.up()
    _tell(screen, outputs)
    return 0


def down() -> int:
    """End the stack, and what killed tests have left."""
    end_abandoned()
    ended = LocalStack().down()
    Screen().line("Down: nothing is left running." if ended else "Nothing was running.")
    return 0


def status() -> int:
    """Say where the stack answers; exit code 1 when it does not."""
    screen = Screen()
    outputs = LocalStack().running()
    if outputs is None:
        screen.line("Down. `make up` starts it.")
        return 1
    _tell(screen, outputs)
    return 0


def demo(*, auth: bool) -> int:
    """One execution from the request to the notification."""
    from .demo import run  # noqa: PLC0415  # an HTTP client that the other commands don't need

    screen = Screen()
    return run(LocalStack(auth=auth, upstream=Upstream.from_env(os.environ), screen=screen), screen)


def lint() -> int:
    """Check the template and the state machine in it."""
    from .definition import lint as lint_template  # noqa: PLC0415  # takes the SAM CLI along

    return lint_template()


def _tell(screen: Screen, outputs: Outputs) -> None:
    screen.line()
    screen.line(f"API        {outputs.api_url}")
    screen.line(f"x-api-key  {outputs.api_key}")
    screen.line(f"AWS        {outputs.endpoint_url} (region {outputs.region}, any credentials)")
    screen.line(f"Waterflai  {outputs.waterflai_base_url}")
    screen.line(f"All of it is in {os.path.relpath(HOME / 'outputs.json')}. Try:")
    screen.line()
    screen.line(f"  curl -H 'x-api-key: {outputs.api_key}' -d '{{\"input_data\": {{}}}}' \\")
    screen.line(f"    {outputs.api_url}/v1/executions/support-chat/async")
