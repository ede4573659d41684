"""The local stack: started, deployed, found again, ended."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from . import account, environment, sam, services
from .crew import Crew
from .errors import RunnerError
from .files import locked
from .outputs import Outputs
from .processes import Identity
from .screen import Screen
from .services import Upstream

HOME = environment.ROOT / ".local"
TEST_HOMES = HOME / "tests"

# A demo is watched: closer waits than the cloud's defaults, which weigh the price of a poll.
_PARAMETERS = {
    "AuthMode": "API_KEY",
    "CreateResultsQueue": "true",
    "ShortestWaitSeconds": "1",
    "LongestWaitSeconds": "5",
    "FollowConcurrency": str(account.FOLLOWERS),
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
        checkout: Path = environment.ROOT,
        screen: Screen | None = None,
    ) -> None:
        """Keep everything in `home`; `upstream` takes the simulator's place, `parameters` go over the demo's.

        With `auth` the local AWS enforces roles and policies. What is deployed is built from `checkout`.
        """
        self._home = home
        self._auth = auth
        self._upstream = upstream
        self._parameters = {**_PARAMETERS, **(parameters or {})}
        self._checkout = checkout
        self._screen = screen or Screen(silent=True)
        self._outputs_file = home / "outputs.json"
        self._ready_file = home / "waterflai.json"
        self._crew = Crew(home / "state.json")
        self.started_here = False
        """Whether it is this object that has brought it up."""

    def __enter__(self) -> Outputs:
        """Where it answers. Should this process be killed, the next `end_abandoned` ends what it leaves."""
        return self.up(owner=Identity.own())

    def __exit__(self, *_: object) -> None:
        """Down, whatever happened in the block."""
        self.down()

    def running(self) -> Outputs | None:
        """Where it answers, if all of it is alive."""
        outputs = Outputs.load(self._outputs_file)
        if outputs is None or not Crew.load(self._crew.path).is_alive():
            return None
        return outputs if services.is_ready(outputs.endpoint_url) else None

    def up(self, owner: Identity | None = None) -> Outputs:
        """Where it answers, once it does: the one that is running, or a new one."""
        with locked(self._home / "lock"):
            outputs = self.running()
            if outputs is not None:
                self._require_as_asked(outputs)
            else:
                try:
                    self._crew.reload(owner)
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
        if self._auth and not services.enforces_permissions(outputs.endpoint_url):
            raise RunnerError("It is up without --auth: `make down` first.")

    def down(self) -> bool:
        """End it with all its processes and temporary files; False when nothing was running."""
        with locked(self._home / "lock"):
            self._crew.reload()
            return self._end()

    def _end(self) -> bool:
        self.started_here = False
        ended = self._crew.end()
        for file in (self._outputs_file, self._ready_file):
            file.unlink(missing_ok=True)
        shutil.rmtree(self._home / "tmp", ignore_errors=True)
        return ended

    def _start(self) -> Outputs:
        launch, logs = self._crew.launch, self._home / "log"
        port = services.free_port()
        endpoint_url = f"http://127.0.0.1:{port}"
        # Building needs no AWS: it runs while the servers start.
        build = launch(lambda: sam.start_build(logs / "sam-build.log", self._checkout))
        with self._screen.step("Start the local AWS (MiniStack)"):
            log = logs / "ministack.log"
            ministack = launch(
                lambda: services.start_ministack(port, self._home / "tmp", log, auth=self._auth)
            )
            services.wait_until(lambda: services.is_ready(endpoint_url), ministack)
        upstream = self._upstream
        if upstream is None:
            with self._screen.step("Start the simulated Waterflai"):
                upstream = self._start_simulator()
        with self._screen.step("Build the functions and their layer (sam build)"):
            secret_arn = account.prepare(endpoint_url, upstream.api_key)
            self._crew.finish(build, _BUILD_S)
        with self._screen.step("Deploy the stack (sam deploy)"):
            parameters = {
                "WaterflaiBaseUrl": upstream.base_url,
                "WaterflaiApiKeySecretArn": secret_arn,
                **self._parameters,
            }
            log = logs / "sam-deploy.log"
            built = sam.build_of(self._checkout)
            deploy = launch(lambda: sam.start_deploy(endpoint_url, parameters, log, build=built))
            self._crew.finish(deploy, _DEPLOY_S)
            account.reserve_for_following(endpoint_url, int(parameters["FollowConcurrency"]))
        return account.outputs(endpoint_url, upstream.base_url)

    def _start_simulator(self) -> Upstream:
        log = self._home / "log" / "waterflai.log"
        simulator = self._crew.launch(lambda: services.start_simulator(self._ready_file, log))
        services.wait_until(self._ready_file.exists, simulator)
        return services.simulator_address(self._ready_file)


def home_of_tests(pid: int) -> Path:
    """Where the stack of the test run in that process is kept."""
    return TEST_HOMES / str(pid)


def end_abandoned() -> None:
    """End the stacks of test runs that were killed, and remove what any run before has left: its logs."""
    for home in TEST_HOMES.glob("[0-9]*"):
        crew = Crew.load(home / "state.json")
        owner = crew.owner or Identity.of("pytest", int(home.name.partition("-")[0]))
        if not owner.is_alive():
            LocalStack(home).down()
            shutil.rmtree(home, ignore_errors=True)
