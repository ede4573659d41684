"""Speed of an output of 50 MiB on its way from the upstream to the bucket.

`PYTHONPATH=layers/waterhook python -m benchmarks.outputs` prints it. Upstream and bucket are servers of this process,
on the loopback interface: the time includes their work.
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
        """Return a key of a usual form."""
        return "wfk_live_0123456789abcdef"

    def refresh(self) -> bool:
        """Return that it has not changed."""
        return False


class _Handler(BaseHTTPRequestHandler):
    """The upstream, which returns a document, and the bucket, which takes an object."""

    protocol_version = "HTTP/1.1"
    document = b""

    def do_GET(self) -> None:
        """Send the document."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.document)))
        self.end_headers()
        self.wfile.write(self.document)

    def do_PUT(self) -> None:
        """Read the object and forget it."""
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
    """Print MB/s for each kind of output: read and checked, stored, and both."""
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
    results = ResultsBucket("bucket", bucket)
    client = WaterflaiClient(url, _Key(), budget_s=600.0)
    print(f"{'output':16} {'read MB/s':>9} {'store MB/s':>10} {'all MB/s':>8}")
    for name, output in OUTPUTS.items():
        _Handler.document = b'{"status":"COMPLETED","final_output":' + output + b"}"
        began = time.monotonic()
        found = client.status("e").final_output_json
        read_s = time.monotonic() - began
        if found is None or bytes(found if not isinstance(found, str) else found.encode()) != output:
            message = f"{name}: the output is not the one that was sent"
            raise SystemExit(message)
        began = time.monotonic()
        results.store("e", found)
        store_s = time.monotonic() - began
        size_mb = len(output) / 1e6
        print(
            f"{name:16} {size_mb / read_s:9.1f} {size_mb / store_s:10.1f} {size_mb / (read_s + store_s):8.1f}"
        )
    server.shutdown()


if __name__ == "__main__":
    main()
