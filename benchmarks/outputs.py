"""Measures the transfer rate of an output of 50 MiB from Waterflai to the results bucket.

Run `PYTHONPATH=layers/waterhook python -m benchmarks.outputs`. Waterflai and the bucket are servers in this process, on
the loopback interface, so the times include their work.
"""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
from botocore.config import Config

from waterhook.domain.status_document import MAX_OUTPUT_BYTES
from waterhook.storage.results_bucket import ResultsBucket
from waterhook.upstream.client import WaterflaiClient

_PIECE_BYTES = 1024 * 1024
_RECORD = (
    b'{"id":123,"user":{"name":"Jane Doe","address":{"street":"Main Street 1","geo":{"lat":1.5,"lon":2.25}}},'
    b'"items":[{"sku":"x","n":1},{"sku":"y","n":2}]}'
)
OUTPUTS = {
    "one long text": b'"' + b"x" * (MAX_OUTPUT_BYTES - 2) + b'"',
    "small numbers": b"[" + b",".join([b"7"] * (MAX_OUTPUT_BYTES // 2 - 1)) + b"]",
    "small objects": b"[" + b",".join([b'{"id":1,"tags":["a","b"]}'] * (MAX_OUTPUT_BYTES // 26 - 1)) + b"]",
    "nested objects": b"[" + b",".join([_RECORD] * (MAX_OUTPUT_BYTES // (len(_RECORD) + 1) - 1)) + b"]",
}


class _Key:
    def get(self) -> str:
        """Return a key with the usual format."""
        return "wfk_live_0123456789abcdef"

    def refresh(self) -> bool:
        """Return False: the key has not changed."""
        return False


class _Handler(BaseHTTPRequestHandler):
    """GET is a status request to Waterflai, PUT stores an object in the bucket."""

    protocol_version = "HTTP/1.1"
    document = b""

    def do_GET(self) -> None:
        """Send the status document."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.document)))
        self.end_headers()
        self.wfile.write(self.document)

    def do_PUT(self) -> None:
        """Read and discard the object."""
        left_bytes = int(self.headers["Content-Length"])
        if "100-continue" in self.headers.get("Expect", ""):
            self.send_response_only(100)
            self.end_headers()
        while left_bytes:
            left_bytes -= len(self.rfile.read(min(left_bytes, _PIECE_BYTES)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def main() -> None:
    """Print MB/s for each kind of output: reading with validation, storing, and both together."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    bucket = boto3.client(
        "s3",
        endpoint_url=url,
        config=Config(s3={"addressing_style": "path"}),
        aws_access_key_id="any",
        aws_secret_access_key="any",  # noqa: S106 - the bucket is a server of this process
        region_name="us-east-1",
    )
    results = ResultsBucket("bucket", lambda: bucket)
    client = WaterflaiClient(url, _Key(), budget_s=600.0)
    print(f"{'output':16} {'read MB/s':>9} {'store MB/s':>10} {'all MB/s':>8}")
    for name, output in OUTPUTS.items():
        _Handler.document = b'{"status":"COMPLETED","final_output":' + output + b"}"
        began = time.monotonic()
        received = client.status("e").final_output_json
        read_s = time.monotonic() - began
        if (
            received is None
            or bytes(received if not isinstance(received, str) else received.encode()) != output
        ):
            message = f"{name}: the client returned another output than the server sent"
            raise SystemExit(message)
        began = time.monotonic()
        results.store("e", received)
        store_s = time.monotonic() - began
        size_mb = len(output) / 1e6
        print(
            f"{name:16} {size_mb / read_s:9.1f} {size_mb / store_s:10.1f} {size_mb / (read_s + store_s):8.1f}"
        )
    server.shutdown()


if __name__ == "__main__":
    main()
