"""The processes of one stack, written down from the moment each of them exists."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from . import interrupts
from .errors import RunnerError
from .files import read_document, write_document
from .processes import Child, Identity, end


@dataclass(slots=True)
class Crew:
    """Who works for a stack, in this process's memory and in a file for the next one."""

    path: Path
    owner: Identity | None = None  # the process whose end makes the rest stale; None: up until `down`
    members: list[Identity] = field(default_factory=list)
    _children: list[Child] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The crew in this file; an empty one where there is none or it can't be read."""
        document = read_document(path)
        try:
            owner = document.get("owner")
            members = [Identity(**member) for member in document.get("members", [])]
            return cls(path, Identity(**owner) if owner else None, members)
        except TypeError:
            return cls(path)

    def reload(self, owner: Identity | None = None) -> None:
        """Take over whoever is in the file: another process may have been at work since."""
        self.members = self.load(self.path).members
        self.owner = owner

    def is_alive(self) -> bool:
        """True while there are members and none has ended."""
        return bool(self.members) and all(member.is_alive() for member in self.members)

    def launch(self, start: Callable[[], Child]) -> Child:
        """Start a process and note it."""
        interrupts.check()
        child = start()
        self._children.append(child)
        self.members.append(child.identity)
        self._save()
        return child

    def finish(self, child: Child, timeout_s: float) -> None:
        """Wait for a process that ends by itself; raises RunnerError, with its last words, if it fails."""
        try:
            code = child.wait(timeout_s)
        except TimeoutError as error:
            raise RunnerError(f"{error}\n{child.trail()}") from None
        if code:
            raise RunnerError(f"{child.identity.name} failed\n{child.trail()}")
        self.members.remove(child.identity)
        self._save()

    def end(self) -> bool:
        """End them all; False when none was left."""
        alive = any(member.is_alive() for member in self.members)
        end(self.members)
        for child in self._children:
            child.exit_code()  # so that no zombie stays as long as we do
        self.members.clear()
        self._children.clear()
        self._save()
        return alive

    def _save(self) -> None:
        if not self.members:
            self.path.unlink(missing_ok=True)
            return
        owner = asdict(self.owner) if self.owner else None
        write_document(self.path, {"owner": owner, "members": [asdict(member) for member in self.members]})
