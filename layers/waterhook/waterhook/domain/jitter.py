"""Deterministic jitter: it differs between executions, and is the same for the same execution and counter."""

from functools import lru_cache
from hashlib import blake2b


@lru_cache(maxsize=16)
def jitter_of(execution_id: str, counter: int) -> float:
    """Return a number from 0 to 1 (exclusive), derived from a hash of the execution id and the counter."""
    digest = blake2b(f"{execution_id}/{counter}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) / 2**32
