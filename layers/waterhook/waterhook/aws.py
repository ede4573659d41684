"""Clients of AWS, which cost a container less to make: docs/decisions/0014.

At its first client botocore reads the endpoints of every service in every region, 1.2 MB of JSON, to find hosts that
follow one rule. Here it finds the rule alone.
"""

from functools import cache
from pathlib import Path

import boto3
import botocore.session

# In botocore's own format, by the name that it asks for: the partitions, and the one exception that S3 makes.
ENDPOINTS = Path(__file__).with_name("endpoints")
# Endpoints of these kinds are the exceptions.
_SPECIAL = ("use_fips_endpoint", "use_dualstack_endpoint")


@cache
def session() -> boto3.Session:
    """Return the session that every client of a function is made by."""
    core = botocore.session.get_session()
    if not any(core.get_config_variable(name) for name in _SPECIAL):
        core.get_component("data_loader").search_paths.insert(0, str(ENDPOINTS))
    return boto3.Session(botocore_session=core)
