"""Gets the status of a job."""

import json
import os
import urllib.request


def handler(job: str, _context: object) -> str:
    """Return the status of the job."""
    request = urllib.request.Request(  # noqa: S310  # the benchmark's own simulator
        f"{os.environ['BASE_URL']}/v1/executions/{job}", headers={"X-API-Key": os.environ["API_KEY"]}
    )
    with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310
        return str(json.load(response)["status"])
