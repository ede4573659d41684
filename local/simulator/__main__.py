"""Serve the simulated Waterflai on loopback: `python -m local.simulator --api-key KEY`."""

import argparse
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from local.simulator.app import Simulator
from local.simulator.server import Server, bind


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT. Logs a line for each request on standard error, without its key."""
    parser = argparse.ArgumentParser(prog="python -m local.simulator", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port to listen on; default 0: a free port")
    parser.add_argument(
        "--api-key", required=True, help="API key that clients must send in the header X-API-Key"
    )
    parser.add_argument(
        "--ready-file", type=Path, help="JSON file with base_url and pid, written when the server is ready"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)

    ready_file: Path | None = options.ready_file
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)  # the file of an earlier process
    bound, base_url = bind(options.port)

    def on_ready() -> None:
        if ready_file is not None:
            _write_atomically(ready_file, json.dumps({"base_url": base_url, "pid": os.getpid()}))

    Server(Simulator(options.api_key, base_url), on_ready).run(sockets=[bound])


def _write_atomically(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


if __name__ == "__main__":
    main()
