"""Starts, finds and stops the application in a local AWS."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from local.terminal import Terminal

from . import aws_resources, environment, sam, servers
from .errors import ToolError
from .files import locked
from .local_authority import FOLDER as AUTHORITY_FOLDER
from .local_authority import LocalAuthority
from .process_group import ProcessGroup
from .processes import ProcessIdentity
from .servers import WaterflaiEndpoint
from .stack_outputs import StackOutputs
from .temporary_folder import create_temporary_folder, delete_temporary_folder

STATE_DIR = environment.ROOT / ".local"
TEST_STATE_DIRS = STATE_DIR / "tests"

# Shorter intervals than the defaults, so that results appear quickly. The cost of a poll does not matter here.
_PARAMETERS = {
    "AuthMode": "API_KEY",
    "CreateResultsQueue": "true",
    "ShortestWaitSeconds": "1",
    "LongestWaitSeconds": "5",
    "FollowConcurrency": str(aws_resources.FOLLOW_CONCURRENCY),
    "EventBusName": "default",
    "ResultEventBusName": "default",
    # For receivers of tests and of the demo. Each address counts as a host, so tests can use several hosts.
    "WebhookAllowedHosts": "localhost,127.0.0.1,127.0.0.2,127.0.0.3",
    "WebhookAllowedNetworks": "127.0.0.0/8,::1/128",
}
_BUILD_S = 300.0
_DEPLOY_S = 180.0


class LocalDeployment:
    """The application in its own MiniStack, with a simulated Waterflai.

    After `up` it runs until `down`, which another process may call. As a context manager it runs while the block runs.
    Raises ToolError with a message for the user.
    """

    def __init__(
        self,
        state_dir: Path = STATE_DIR,
        *,
        auth: bool = False,
        upstream: WaterflaiEndpoint | None = None,
        parameters: Mapping[str, str] | None = None,
        checkout: Path = environment.ROOT,
        terminal: Terminal | None = None,
    ) -> None:
        """Store logs, addresses, process ids and the certificate authority in `state_dir`.

        `upstream` replaces the simulator, `parameters` override the default parameters. With `auth` the local AWS
        enforces roles and policies. The application is built from `checkout`.
        """
        self._state_dir = state_dir
        self._auth = auth
        self._upstream = upstream
        self._parameters = {**_PARAMETERS, **(parameters or {})}
        self._checkout = checkout
        self._terminal = terminal or Terminal(silent=True)
        self._outputs_file = state_dir / "outputs.json"
        self._ready_file = state_dir / "waterflai.json"
        self._authority = state_dir / AUTHORITY_FOLDER
        self._processes = ProcessGroup(state_dir / "state.json")
        self.started_here = False
        """Whether this object started the deployment."""

    def __enter__(self) -> StackOutputs:
        """Start the deployment for the block. If this process is killed, `end_abandoned_deployments` stops it later."""
        return self.up(owner=ProcessIdentity.current())

    def __exit__(self, *_: object) -> None:
        """Stop the deployment."""
        self.down()

    def running(self) -> StackOutputs | None:
        """Return the outputs if all processes run and the local AWS responds, else None."""
        outputs = StackOutputs.load(self._outputs_file)
        if outputs is None or not ProcessGroup.load(self._processes.path).is_alive():
            return None
        return outputs if servers.is_ready(outputs.endpoint_url) else None

    def up(self, owner: ProcessIdentity | None = None) -> StackOutputs:
        """Return the outputs of the running deployment, or start one and return its outputs."""
        with locked(self._state_dir / "lock"):
            outputs = self.running()
            if outputs is not None:
                self._require_same_options(outputs)
            else:
                try:
                    self._processes.reload(owner)
                    self._end()  # stops processes that remained after a crash
                    self.started_here = True
                    # Deployments of this checkout share the output of `sam build`, so only one deploys at a time.
                    with locked(sam.SAM_WORKDIR / "lock"):
                        outputs = self._start()
                    outputs.save(self._outputs_file)
                except BaseException:
                    self._end()
                    raise
            return outputs

    def _require_same_options(self, outputs: StackOutputs) -> None:
        if self._upstream is not None and outputs.waterflai_base_url != self._upstream.base_url:
            raise ToolError(
                f"The local stack runs with another Waterflai, {outputs.waterflai_base_url}. Stop it first: make down"
            )
        if self._auth and not servers.enforces_iam(outputs.endpoint_url):
            raise ToolError("The local stack runs without --auth. Stop it first: make down")

    def down(self) -> bool:
        """Stop all processes and delete temporary files. Return whether a process was running."""
        with locked(self._state_dir / "lock"):
            self._processes.reload()
            return self._end()

    def _end(self) -> bool:
        self.started_here = False
        ended = self._processes.end()
        for file in (self._outputs_file, self._ready_file):
            file.unlink(missing_ok=True)
        delete_temporary_folder(self._state_dir)
        return ended

    def _start(self) -> StackOutputs:
        launch, logs = self._processes.launch, self._state_dir / "log"
        port = servers.free_port()
        endpoint_url = f"http://127.0.0.1:{port}"
        # The build runs while the servers start, because it needs no AWS.
        build = launch(lambda: sam.start_build(logs / "sam-build.log", self._checkout))
        with self._terminal.step("Start the local AWS (MiniStack)"):
            log = logs / "ministack.log"
            temporary = create_temporary_folder(self._state_dir)
            ministack = launch(lambda: servers.start_ministack(port, temporary, log, auth=self._auth))
            servers.wait_until_ready(lambda: servers.is_ready(endpoint_url), ministack)
        upstream = self._upstream
        if upstream is None:
            with self._terminal.step("Start the simulated Waterflai"):
                upstream = self._start_simulator()
        with self._terminal.step("Build the functions and their layer (sam build)"):
            ca_pem = LocalAuthority.load_or_create(self._authority).certificate_pem
            created = aws_resources.create_prerequisites(endpoint_url, upstream.api_key, ca_pem)
            self._processes.wait_for_exit(build, _BUILD_S)
        with self._terminal.step("Deploy the stack (sam deploy)"):
            parameters = {
                "WaterflaiBaseUrl": upstream.base_url,
                "WaterflaiApiKeySecretArn": created.api_key_secret_arn,
                "WebhookCaBundle": created.ca_bundle_arn,
                **self._parameters,
            }
            log = logs / "sam-deploy.log"
            built = sam.build_of(self._checkout)
            deploy = launch(lambda: sam.start_deploy(endpoint_url, parameters, log, build=built))
            self._processes.wait_for_exit(deploy, _DEPLOY_S)
            aws_resources.reserve_follow_concurrency(endpoint_url, int(parameters["FollowConcurrency"]))
        return aws_resources.read_stack_outputs(endpoint_url, upstream.base_url, self._authority)

    def _start_simulator(self) -> WaterflaiEndpoint:
        log = self._state_dir / "log" / "waterflai.log"
        simulator = self._processes.launch(lambda: servers.start_simulator(self._ready_file, log))
        servers.wait_until_ready(self._ready_file.exists, simulator)
        return servers.read_simulator_endpoint(self._ready_file)


def state_dir_of_tests(pid: int) -> Path:
    """Return the folder of the deployment of a test run, by its process id."""
    return TEST_STATE_DIRS / str(pid)


def end_abandoned_deployments() -> None:
    """Stop the deployments of killed test runs, and delete the logs of all earlier runs."""
    for state_dir in TEST_STATE_DIRS.glob("[0-9]*"):
        processes = ProcessGroup.load(state_dir / "state.json")
        owner = processes.owner or ProcessIdentity.of("pytest", int(state_dir.name.partition("-")[0]))
        if not owner.is_alive():
            LocalDeployment(state_dir).down()
            shutil.rmtree(state_dir, ignore_errors=True)
