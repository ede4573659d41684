"""Bodies in and answers out: JSON both ways, and in an answer's place what a script's faults make of it."""

from enum import StrEnum
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from local.waterflai.jobs import Fault, Script
from local.waterflai.wire import Object, read_object, write_json

MAX_BODY_BYTES = 1024 * 1024

_GATEWAY_PAGE = (
    "<html><head><title>504 Gateway Time-out</title></head><body>504 Gateway Time-out</body></html>\n"
)


class Operation(StrEnum):
    """The four calls of the API, by which routes are named, requests counted and faults placed."""

    START = "start"
    STATUS = "status"
    CANCEL = "cancel"
    STREAM = "stream"


class JsonResponse(Response):
    """An answer in JSON, written as it was read."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return write_json(content)


async def body_of(request: Request) -> Object:
    """Return the JSON object in a request's body. Raises `InvalidJson`, `InvalidValue` and 413."""
    kept = bytearray()
    async for chunk in request.stream():
        # What is too much is read as well: closing on it would reset the connection before our answer is seen.
        if len(kept) <= MAX_BODY_BYTES:
            kept += chunk
    if len(kept) > MAX_BODY_BYTES:
        raise HTTPException(413, f"body: larger than {MAX_BODY_BYTES} bytes")
    return read_object(bytes(kept))


def distorted(operation: Operation, script: Script, honest: Response) -> Response:
    """Return what the client gets: the honest answer, unless the script has a fault for this operation."""
    if operation is Operation.START and Fault.ANSWER_LOST in script.faults:
        return HTMLResponse(_GATEWAY_PAGE, status_code=504)
    return honest
