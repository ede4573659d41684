"""The folder of MiniStack's temporary files: in memory where possible.

MiniStack extracts the layer again for each function process, some 30,000 files in a test run. To delete so many files
from a disk can take minutes.
"""

import hashlib
import os
import shutil
from pathlib import Path

_MEMORY = Path("/dev/shm")  # noqa: S108 - a file system in memory on Linux; the folder is checked below
_NEEDED_BYTES = 2 * 1024**3


def create_temporary_folder(state_dir: Path) -> Path:
    """Create the folder for a deployment and return it.

    It is in memory if there are 2 GiB free, otherwise in the state folder of the deployment.
    """
    in_memory = _folder_in_memory(state_dir)
    try:
        if shutil.disk_usage(_MEMORY).free >= _NEEDED_BYTES:
            in_memory.mkdir(mode=0o700, exist_ok=True)
            if in_memory.stat().st_uid == os.getuid():
                return in_memory
    except OSError:  # no such file system, or the folder belongs to another user
        pass
    on_disk = _folder_on_disk(state_dir)
    on_disk.mkdir(parents=True, exist_ok=True)
    return on_disk


def delete_temporary_folder(state_dir: Path) -> None:
    """Delete the folder, also one that another process created for the same deployment."""
    for folder in (_folder_in_memory(state_dir), _folder_on_disk(state_dir)):
        shutil.rmtree(folder, ignore_errors=True)


def _folder_in_memory(state_dir: Path) -> Path:
    """Return the same name in each process, so that `make down` finds the folder."""
    name = hashlib.sha256(os.fsencode(state_dir.resolve())).hexdigest()[:16]
    return _MEMORY / f"waterhook-{name}"


def _folder_on_disk(state_dir: Path) -> Path:
    return state_dir / "tmp"
