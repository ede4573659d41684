"""Timeouts and attempts of the AWS clients.

By default boto3 waits 60 s for a connection and 60 s for a response, and then retries. That is longer than the timeout
of every function here, so no fallback would run. These limits fit the functions' timeouts; docs/internals.md has the
table.
"""

from typing import Any

from botocore.config import Config

# AWS answers in milliseconds, a page of executions or of an index in less than a second.
DEFAULTS = Config(connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 2})
# For uploads of up to 50 MB. `connect_timeout` also limits the pause between two writes, `read_timeout` the wait for a
# response. S3 refuses presigned links of signature version 2, which is boto3's default, for objects under a KMS key.
# Links name the regional host of the bucket, because the global host redirects.
UPLOADS = DEFAULTS.merge(
    Config(
        connect_timeout=3,
        read_timeout=6,
        signature_version="s3v4",
        s3={"addressing_style": "virtual", "us_east_1_regional_endpoint": "regional"},
    )
)
# For a caller that retries itself and must count every attempt.
ONE_ATTEMPT = DEFAULTS.merge(Config(retries={"mode": "standard", "total_max_attempts": 1}))
# For a request that waits for an outcome, and must be answered within seconds after it.
SHORT = ONE_ATTEMPT.merge(Config(connect_timeout=0.5, read_timeout=1.5))
# Longest pause of botocore between two attempts.
_PAUSE_S = 1.0


def longest_call_s(config: Config = DEFAULTS) -> float:
    """Return the longest time in seconds that one call of a client with this configuration takes.

    It assumes that the service's host has one address. DNS and the time to upload a body are not included.
    """
    options: Any = config
    attempts: int = options.retries["total_max_attempts"]
    seconds: float = attempts * (options.connect_timeout + options.read_timeout) + (attempts - 1) * _PAUSE_S
    return seconds
