"""The local stack: started, deployed, found again, ended."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from local.terminal import Screen

from . import aws_resources, environment, sam, servers
from .errors import RunnerError
from .files import locked
from .process_group import ProcessGroup
from .processes import ProcessIdentity
from .servers import Upstream
from .stack_outputs import Outputs

HOME = environment.ROOT / ".local"
TEST_HOMES = HOME / "tests"

# A demo is watched: closer waits than the cloud's defaults, which weigh the price of a poll.
_PARAMETERS = {
    "AuthMode": "API_KEY",
    "CreateResultsQueue": "true",
    "ShortestWaitSeconds": "1",
    "LongestWaitSeconds": "5",
    "FollowConcurrency": str(aws_resources.FOLLOWERS),
    "EventBusName": "default",
}
_BUILD_S = 300.0
_DEPLOY_S = 180.0


class LocalStack:
    """The application in a local AWS of its own, with a simulated Waterflai beside it.

    `up` leaves it running until `down`, in this process or a later one. As a context manager it is up
    inside the block only. Raises RunnerError with a message for the user.
    """

    def __init__(
        self,
        home: Path = HOME,
        *,
        auth: bool = False,
        upstream: Upstream | None = None,
        parameters: Mapping[str, str] | None = None,
        screen: Screen | None = None,
    ) -> None:
        """Keep everything in `home`; `upstream` takes the simulator's place, `parameters` go over the demo's.

        With `auth` the local AWS enforces roles and policies.
        """
        self._home = home
        self._auth = auth
        self._upstream = upstream
        self._parameters = {**_PARAMETERS, **(parameters or {})}
        self._screen = screen or Screen(silent=True)
        self._outputs_file = home / "outputs.json"
        self._ready_file = home / "waterflai.json"
        self._processes = ProcessGroup(home / "state.json")
        self.started_here = False
        """Whether it is this object that has brought it up."""

    def __enter__(self) -> Outputs:
        """Where it answers. Should this process be killed, the next `end_abandoned` ends what it leaves."""
        return self.up(owner=ProcessIdentity.current())

    def __exit__(self, *_: object) -> None:
        """Down, whatever happened in the block."""
        self.down()

    def running(self) -> Outputs | None:
        """Where it answers, if all of it is alive."""
        outputs = Outputs.load(self._outputs_file)
        if outputs is None or not ProcessGroup.load(self._processes.path).is_alive():
            return None
        return outputs if servers.is_ready(outputs.endpoint_url) else None

    def up(self, owner: ProcessIdentity | None = None) -> Outputs:
        """Where it answers, once it does: the one that is running, or a new one."""
        with locked(self._home / "lock"):
            outputs = self.running()
            if outputs is not None:
                self._require_as_asked(outputs)
            else:
                try:
                    self._processes.reload(owner)
                    self._end()  # what a crash may have left
                    self.started_here = True
                    # Stacks of this checkout share what `sam build` makes: one deploys after the other.
                    with locked(sam.WORKSHOP / "lock"):
                        outputs = self._start()
                    outputs.save(self._outputs_file)
                except BaseException:
                    self._end()
                    raise
            return outputs

    def _require_as_asked(self, outputs: Outputs) -> None:
        if self._upstream is not None and outputs.waterflai_base_url != self._upstream.base_url:
            raise RunnerError(
                f"It is up with another Waterflai, {outputs.waterflai_base_url}: `make down` first."
            )
        if self._auth and not servers.enforces_permissions(outputs.endpoint_url):
            raise RunnerError("It is up without --auth: `make down` first.")

    def down(self) -> bool:
        """End it with all its processes and temporary files; False when nothing was running."""
        with locked(self._home / "lock"):
            self._processes.reload()
            return self._end()

    def _end(self) -> bool:
        self.started_here = False
        ended = self._processes.end()
        for file in (self._outputs_file, self._ready_file):
            file.unlink(missing_ok=True)
        shutil.rmtree(self._home / "tmp", ignore_errors=True)
        return ended

    def _start(self) -> Outputs:
        launch, logs = self._processes.launch, self._home / "log"
        port = servers.free_port()
        endpoint_url = f"http://127.0.0.1:{port}"
        # Building needs no AWS: it runs while the servers start.
        build = launch(lambda: sam.start_build(logs / "sam-build.log"))
        with self._screen.step("Start the local AWS (MiniStack)"):
            log = logs / "ministack.log"
            ministack = launch(
                lambda: servers.start_ministack(port, self._home / "tmp", log, auth=self._auth)
            )
            servers.wait_until(lambda: servers.is_ready(endpoint_url), ministack)
        upstream = self._upstream
        if upstream is None:
            with self._screen.step("Start the simulated Waterflai"):
                upstream = self._start_simulator()
        with self._screen.step("Build the functions and their layer (sam build)"):
            secret_arn = aws_resources.prepare(endpoint_url, upstream.api_key)
            self._processes.wait_for_exit(build, _BUILD_S)
        with self._screen.step("Deploy the stack (sam deploy)"):
            parameters = {
                "WaterflaiBaseUrl": upstream.base_url,
                "WaterflaiApiKeySecretArn": secret_arn,
                **self._parameters,
            }
            log = logs / "sam-deploy.log"
            deploy = launch(lambda: sam.start_deploy(endpoint_url, parameters, log))
            self._processes.wait_for_exit(deploy, _DEPLOY_S)
            aws_resources.reserve_for_following(endpoint_url, int(parameters["FollowConcurrency"]))
        return aws_resources.outputs(endpoint_url, upstream.base_url)

    def _start_simulator(self) -> Upstream:
        log = self._home / "log" / "waterflai.log"
        simulator = self._processes.launch(lambda: servers.start_simulator(self._ready_file, log))
        servers.wait_until(self._ready_file.exists, simulator)
        return servers.simulator_address(self._ready_file)


def home_of_tests(pid: int) -> Path:
    """Where the stack of the test run in that process is kept."""
    return TEST_HOMES / str(pid)


def end_abandoned() -> None:
    """End the stacks of test runs that were killed, and remove what any run before has left: its logs."""
    for home in TEST_HOMES.glob("[0-9]*"):
        processes = ProcessGroup.load(home / "state.json")
        owner = processes.owner or ProcessIdentity.of("pytest", int(home.name.partition("-")[0]))
        if not owner.is_alive():
            LocalStack(home).down()
            shutil.rmtree(home, ignore_errors=True)
