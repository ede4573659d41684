"""The job poller to compare with: it polls at a fixed interval, deployed in the same local AWS as the stack."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.e2e.jobs import Job
from local.local_aws import aws_resources, sam
from local.local_aws.errors import ToolError
from local.local_aws.files import locked
from local.local_aws.processes import end_processes
from local.local_aws.servers import SIMULATOR_API_KEY
from local.local_aws.stack_client import StackClient

WAIT_SECONDS = 5
_STACK_NAME = "fixed-wait-poller"
_SOURCE = Path(__file__).with_name("peer")
_DEPLOY_TIMEOUT_S = 120.0


class StatusPoller:
    """A deployed state machine that polls every WAIT_SECONDS."""

    def __init__(self, stack: StackClient, home: Path) -> None:
        """Deploy the poller from a copy in `home`. Raises ToolError if the deployment fails."""
        self._stack = stack
        folder = home / "peer"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(_SOURCE, folder, ignore=shutil.ignore_patterns("__pycache__"))
        endpoint_url = stack.outputs.endpoint_url
        parameters = {"BaseUrl": stack.outputs.waterflai_base_url, "ApiKey": SIMULATOR_API_KEY}
        with locked(sam.SAM_WORKDIR / "lock"):
            deploy = sam.start_deploy(
                endpoint_url,
                parameters,
                home / "log" / "peer-deploy.log",
                build=folder,
                stack_name=_STACK_NAME,
            )
            try:
                if deploy.wait(_DEPLOY_TIMEOUT_S):
                    raise ToolError(f"The deployment of the job poller failed:\n{deploy.log_tail()}")
            finally:
                end_processes([deploy.identity])
        stacks = aws_resources.session().client("cloudformation", endpoint_url=endpoint_url)
        (described,) = stacks.describe_stacks(StackName=_STACK_NAME)["Stacks"]
        (output,) = described["Outputs"]
        self._arn = output["OutputValue"]

    def start(self, job: Job) -> str:
        """Start a job and return the ARN of the state machine execution."""
        execution_input = {
            "wait_seconds": WAIT_SECONDS,
            "chatbot_id": "support-chat",
            "input_data": job.input_data,
        }
        started = self._stack.stepfunctions.start_execution(
            stateMachineArn=self._arn, input=json.dumps(execution_input)
        )
        return started["executionArn"]

    def job_of(self, execution: Mapping[str, Any]) -> str:
        """Return the id of the job of a state machine execution that has ended."""
        return str(json.loads(execution["output"])["job"])
