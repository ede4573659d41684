"""The measured process: invokes a warm function, and sends bare GET requests for the same document.

Run it as `warm_child.py ROUNDS`, with the function on the Python path as in Lambda. It prints one JSON object.
"""

import json
import os
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import app  # type: ignore[import-not-found]  # the module of the function
import urllib3

from waterhook.deadline_connection import shared_ssl_context


class Context:
    """The attributes of a Lambda context that Powertools reads."""

    function_name = "benchmark"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:benchmark"
    aws_request_id = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"

    def get_remaining_time_in_millis(self) -> int:
        """Return enough time for all invocations."""
        return 880_000


def main(rounds: int, event: Any) -> dict[str, Any]:
    """Return the times in seconds, and the number of reads of the CA file."""
    url = urlsplit(os.environ["WATERFLAI_BASE_URL"])
    kind = urllib3.HTTPSConnectionPool if url.scheme == "https" else urllib3.HTTPConnectionPool
    pool = kind(url.hostname or "", url.port)
    path = f"/v1/executions/{event['state']['waterflai_execution_id']}"
    headers = {"X-API-Key": os.environ["BENCHMARK_API_KEY"]}
    bare, ours = [], []
    for _ in range(rounds):
        began = time.perf_counter()
        pool.urlopen("GET", path, headers=headers).data  # noqa: B018  # reads the body
        between = time.perf_counter()
        app.handler(event, Context())
        bare.append(between - began)
        ours.append(time.perf_counter() - between)
    return {"bare": bare, "ours": ours, "contexts": shared_ssl_context.cache_info().misses}


# On standard error, because the function logs on standard output.
sys.stderr.write(json.dumps(main(int(sys.argv[1]), json.load(sys.stdin))))
