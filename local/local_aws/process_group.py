"""The processes of one deployment. Each is recorded in a file when it starts."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from . import interrupts
from .errors import ToolError
from .files import read_json_file, write_json_file
from .processes import ChildProcess, ProcessIdentity, end_processes


@dataclass(slots=True)
class ProcessGroup:
    """The processes of a deployment, in memory and in the file `path`, which later commands read."""

    path: Path
    owner: ProcessIdentity | None = None
    """If this process ends, the deployment is abandoned. None: the deployment runs until `down`."""
    members: list[ProcessIdentity] = field(default_factory=list)
    _children: list[ChildProcess] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the group in a file, or an empty group if the file is missing or invalid."""
        document = read_json_file(path)
        try:
            owner = document.get("owner")
            members = [ProcessIdentity(**member) for member in document.get("members", [])]
            return cls(path, ProcessIdentity(**owner) if owner else None, members)
        except TypeError:
            return cls(path)

    def reload(self, owner: ProcessIdentity | None = None) -> None:
        """Read the members from the file again, because another process may have changed them, and set the owner."""
        self.members = self.load(self.path).members
        self.owner = owner

    def is_alive(self) -> bool:
        """Return whether the group has members and all of them run."""
        return bool(self.members) and all(member.is_alive() for member in self.members)

    def launch(self, start: Callable[[], ChildProcess]) -> ChildProcess:
        """Start a process and record it in the file."""
        interrupts.check()
        child = start()
        self._children.append(child)
        self.members.append(child.identity)
        self._save()
        return child

    def wait_for_exit(self, child: ChildProcess, timeout_s: float) -> None:
        """Wait for the end of a command. Raises ToolError with the end of its log if it fails or takes too long."""
        try:
            code = child.wait(timeout_s)
        except TimeoutError as error:
            raise ToolError(f"{error}\n{child.log_tail()}") from None
        if code:
            raise ToolError(f"{child.identity.name} failed\n{child.log_tail()}")
        self.members.remove(child.identity)
        self._save()

    def end(self) -> bool:
        """Stop all processes. Return whether a process was running."""
        alive = any(member.is_alive() for member in self.members)
        end_processes(self.members)
        for child in self._children:
            child.exit_code()  # removes the zombie process
        self.members.clear()
        self._children.clear()
        self._save()
        return alive

    def _save(self) -> None:
        if not self.members:
            self.path.unlink(missing_ok=True)
            return
        owner = asdict(self.owner) if self.owner else None
        write_json_file(self.path, {"owner": owner, "members": [asdict(member) for member in self.members]})
