"""JSON request bodies and responses."""

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from local.simulator.strict_json import JsonObject, read_object, write_json

MAX_BODY_BYTES = 1024 * 1024


class JsonResponse(Response):
    """A response with a strict JSON body."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return write_json(content)


async def read_body(request: Request) -> JsonObject:
    """Return the JSON object in a request body. Raises InvalidJsonError, InvalidValueError or HTTPException (413)."""
    body = bytearray()
    async for chunk in request.stream():
        # A body that is too large is read to its end. Closing earlier would reset the connection before the
        # client reads the 413.
        if len(body) <= MAX_BODY_BYTES:
            body += chunk
    if len(body) > MAX_BODY_BYTES:
        raise HTTPException(413, f"body: larger than {MAX_BODY_BYTES} bytes")
    return read_object(bytes(body))
