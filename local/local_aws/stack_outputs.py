"""Where the deployed stack answers: `outputs.json`, for the tests and for the user's scripts."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self

from .files import read_document, write_document


@dataclass(frozen=True, slots=True)
class Outputs:
    """One deployed stack."""

    endpoint_url: str
    region: str
    api_url: str
    api_key: str
    state_machine_arn: str
    topic_arn: str
    results_queue_url: str
    table_name: str
    waterflai_base_url: str

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """The outputs in this file; None where it is missing, broken or from another version."""
        document = read_document(path)
        try:
            return cls(**{field.name: str(document[field.name]) for field in fields(cls)})
        except KeyError:
            return None

    def save(self, path: Path) -> None:
        """Write them where `load` finds them."""
        write_document(path, asdict(self))
