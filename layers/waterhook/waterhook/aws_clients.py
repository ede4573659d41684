"""Clients of AWS, which cost a container less to make: docs/decisions/0014.

At its first client botocore reads the endpoints of every service in every region, 1.2 MB of JSON, to find hosts that
follow one rule. Here it finds the rule alone.

boto3 waits 60 s for a connection, 60 s for an answer, and tries again: longer than any function here may run, so no
fallback would ever be reached. The limits below fit the functions' timeouts: docs/operations.md has the table.
"""

from functools import cache
from pathlib import Path
from typing import Any

import boto3
import botocore.session
from botocore.config import Config

# In botocore's own format, by the name that it asks for: the partitions, and the one exception that S3 makes.
ENDPOINTS = Path(__file__).with_name("endpoints")
# The services answer in milliseconds, a page of executions or of an index in less than a second.
DEFAULTS = Config(connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 2})
# An upload of 50 MB: no pause between two writes may be longer than the first, none before the answer than the second.
UPLOADS = Config(connect_timeout=3, read_timeout=6)
# For a caller that tries again itself, because it must know of every attempt.
ONE_ATTEMPT = Config(retries={"mode": "standard", "total_max_attempts": 1})
# Longest pause of botocore before a second attempt.
_PAUSE_S = 1.0
# Endpoints of these kinds are the exceptions.
_SPECIAL = ("use_fips_endpoint", "use_dualstack_endpoint")


@cache
def session() -> boto3.Session:
    """Return the session that every client of a function is made by. Its clients have the timeouts of DEFAULTS."""
    core = botocore.session.get_session()
    core.set_default_client_config(DEFAULTS)
    if not any(core.get_config_variable(name) for name in _SPECIAL):
        core.get_component("data_loader").search_paths.insert(0, str(ENDPOINTS))
    return boto3.Session(botocore_session=core)


def longest_call_s(*changes: Config) -> float:
    """Return the longest time in seconds that a call by a client with DEFAULTS, and these changes, may take.

    It holds for one address of the service and without the time that an upload needs; DNS has timeouts of its own.
    """
    config = DEFAULTS
    for change in changes:
        config = config.merge(change)
    options: Any = config
    attempts: int = options.retries["total_max_attempts"]
    seconds: float = attempts * (options.connect_timeout + options.read_timeout) + (attempts - 1) * _PAUSE_S
    return seconds
