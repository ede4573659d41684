"""Timeouts and attempts of the AWS clients.

boto3 waits 60 s for a connection, 60 s for a response, and tries again: longer than any function here may run, so no
fallback would ever be reached. The limits below fit the functions' timeouts: docs/internals.md has the table.
"""

from typing import Any

from botocore.config import Config

# The services answer in milliseconds, a page of executions or of an index in less than a second.
DEFAULTS = Config(connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 2})
# An upload of 50 MB: no pause between two writes may be longer than the first, none before the answer than the second.
# S3 refuses links of the older signature, boto3's default for them, to objects under a KMS key. Links name the host of
# the bucket's region: by default they name a global one, which redirects.
UPLOADS = DEFAULTS.merge(
    Config(
        connect_timeout=3,
        read_timeout=6,
        signature_version="s3v4",
        s3={"addressing_style": "virtual", "us_east_1_regional_endpoint": "regional"},
    )
)
# For a caller that tries again itself, because it must know of every attempt.
ONE_ATTEMPT = DEFAULTS.merge(Config(retries={"mode": "standard", "total_max_attempts": 1}))
# Longest pause of botocore before a second attempt.
_PAUSE_S = 1.0


def longest_call_s(config: Config = DEFAULTS) -> float:
    """Return the longest time in seconds that a call by a client with this configuration may take.

    It holds for one address of the service and without the time that an upload needs; DNS has timeouts of its own.
    """
    options: Any = config
    attempts: int = options.retries["total_max_attempts"]
    seconds: float = attempts * (options.connect_timeout + options.read_timeout) + (attempts - 1) * _PAUSE_S
    return seconds
