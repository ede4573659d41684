"""The file `outputs.json`: addresses and names of a deployed stack, for tests and scripts."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self

from .files import read_json_file, write_json_file


@dataclass(frozen=True, slots=True)
class StackOutputs:
    """Addresses and names of one deployed stack, with the key of its API."""

    endpoint_url: str
    region: str
    api_url: str
    api_key: str
    state_machine_arn: str
    topic_arn: str
    results_queue_url: str
    table_name: str
    waterflai_base_url: str
    webhook_queue_url: str
    """Empty if webhooks are off, like the next three."""
    webhook_dead_letter_queue_url: str
    webhook_table_name: str
    webhook_secret_arn: str
    authority_path: str
    """Folder of the authority whose certificates the stack trusts. `LocalAuthority.load` reads it."""

    @property
    def has_webhooks(self) -> bool:
        """Whether webhooks are on."""
        return bool(self.webhook_queue_url)

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Return the outputs in a file; None if it is missing, invalid or from another version."""
        document = read_json_file(path)
        try:
            return cls(**{field.name: str(document[field.name]) for field in fields(cls)})
        except KeyError:
            return None

    def save(self, path: Path) -> None:
        """Write the outputs to the file that `load` reads."""
        write_json_file(path, asdict(self))
