"""The peer: a fixed-wait poller, deployed beside the stack in the same local AWS."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.e2e.jobs import Job
from local.runner import account, sam
from local.runner.client import StackClient
from local.runner.errors import RunnerError
from local.runner.files import locked
from local.runner.processes import end
from local.runner.services import SIMULATOR_API_KEY

WAIT_SECONDS = 5
_STACK_NAME = "fixed-wait-poller"
_SOURCE = Path(__file__).with_name("peer")
_DEPLOY_S = 120.0


class StatusPoller:
    """A deployed state machine that asks every WAIT_SECONDS."""

    def __init__(self, stack: StackClient, home: Path) -> None:
        """Deploy it; a copy in `home` is what is packaged. Raises RunnerError when that fails."""
        self._stack = stack
        folder = home / "peer"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(_SOURCE, folder, ignore=shutil.ignore_patterns("__pycache__"))
        endpoint_url = stack.outputs.endpoint_url
        parameters = {"BaseUrl": stack.outputs.waterflai_base_url, "ApiKey": SIMULATOR_API_KEY}
        with locked(sam.WORKSHOP / "lock"):
            deploy = sam.start_deploy(
                endpoint_url,
                parameters,
                home / "log" / "peer-deploy.log",
                build=folder,
                stack_name=_STACK_NAME,
            )
            try:
                if deploy.wait(_DEPLOY_S):
                    raise RunnerError(f"the peer was not deployed\n{deploy.trail()}")
            finally:
                end([deploy.identity])
        stacks = account.session().client("cloudformation", endpoint_url=endpoint_url)
        (described,) = stacks.describe_stacks(StackName=_STACK_NAME)["Stacks"]
        (output,) = described["Outputs"]
        self._arn = output["OutputValue"]

    def start(self, job: Job) -> str:
        """Start a job; the execution's ARN."""
        given = {"wait_seconds": WAIT_SECONDS, "chatbot_id": "support-chat", "input_data": job.input_data}
        started = self._stack.stepfunctions.start_execution(
            stateMachineArn=self._arn, input=json.dumps(given)
        )
        return started["executionArn"]

    def job_of(self, run: Mapping[str, Any]) -> str:
        """The upstream's id of an execution that has ended."""
        return str(json.loads(run["output"])["job"])
