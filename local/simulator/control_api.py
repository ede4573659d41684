"""The control API of the simulator: tests and the demo read the request log and set speed, faults and key."""

from collections import Counter, deque
from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.responses import Response

from local.simulator.api_key import ApiKey
from local.simulator.clock import FASTEST, SLOWEST
from local.simulator.executions import Executions
from local.simulator.fault_registry import FaultRegistry
from local.simulator.fault_rules import ActiveFault, Operation, parse_faults
from local.simulator.field_parsers import as_header, as_text
from local.simulator.http_json import JsonResponse, read_body
from local.simulator.strict_json import JsonObject, as_number, write_json

PREFIX = "/_control"

_MAX_STARTS = 10_000
_MAX_INPUT_BYTES = 1024


@dataclass(slots=True)
class StartRequest:
    """A start request with a valid key and body. A fault may leave it without an execution or a status code."""

    chatbot_id: str
    input_data: JsonObject | None
    fault: str | None
    execution_id: str | None = None
    status_code: int | None = None

    def to_dict(self) -> JsonObject:
        """Return the entry of the list `starts`."""
        return {
            "execution_id": self.execution_id,
            "chatbot_id": self.chatbot_id,
            "status_code": self.status_code,
            "fault": self.fault,
            "input_data": self.input_data,
        }


class RequestLog:
    """Counts requests and responses by operation, and lists the start requests."""

    def __init__(self) -> None:
        self._requests: Counter[str] = Counter()
        self._responses: Counter[tuple[str, str]] = Counter()
        self._starts: deque[StartRequest] = deque(maxlen=_MAX_STARTS)

    def count_request(self, operation: str) -> None:
        """Count a request when it arrives. Some never get a response."""
        self._requests[operation] += 1

    def count_response(self, operation: str, status_code: int | None) -> None:
        """Count a response by its status code, as `unanswered` if `status_code` is None."""
        self._responses[operation, str(status_code or "unanswered")] += 1

    def add_start(self, chatbot_id: str, input_data: JsonObject, active: ActiveFault | None) -> StartRequest:
        """Add a start request and return it. The caller adds execution id and status code later.

        Input of more than 1 KiB is left out.
        """
        is_short = len(write_json(input_data)) <= _MAX_INPUT_BYTES
        start = StartRequest(
            chatbot_id, input_data if is_short else None, active.rule.name if active else None
        )
        self._starts.append(start)
        return start

    def clear(self) -> None:
        """Delete all counts and start requests."""
        self._requests.clear()
        self._responses.clear()
        self._starts.clear()

    def to_dict(self) -> JsonObject:
        """Return `received` by operation, `responses` by operation and status code, and the list `starts`."""
        responses: dict[str, dict[str, int]] = {operation: {} for operation in Operation}
        for (operation, code), count in sorted(self._responses.items()):
            responses.setdefault(operation, {})[code] = count
        return {
            "received": {operation.value: self._requests[operation] for operation in Operation},
            "responses": responses,
            "starts": [start.to_dict() for start in self._starts],
        }


class ControlApi:
    """The routes under `/_control`. They require no key, because only loopback can reach the simulator."""

    def __init__(
        self, executions: Executions, faults: FaultRegistry, request_log: RequestLog, key: ApiKey
    ) -> None:
        self._executions = executions
        self._faults = faults
        self._request_log = request_log
        self._key = key

    def router(self) -> APIRouter:
        """Return the routes."""
        routes = APIRouter(prefix=PREFIX)
        routes.add_api_route("/requests", self._requests, methods=["GET"])
        routes.add_api_route("/executions", self._list, methods=["GET"])
        routes.add_api_route("/finish", self._finish, methods=["POST"])
        routes.add_api_route("/speed", self._speed, methods=["POST"])
        routes.add_api_route("/faults", self._set_faults, methods=["POST"])
        routes.add_api_route("/key", self._rotate_key, methods=["POST"])
        routes.add_api_route("/reset", self._reset, methods=["POST"])
        return routes

    async def _requests(self) -> Response:
        return JsonResponse(self._request_log.to_dict())

    async def _list(self) -> Response:
        documents = [
            {
                "chatbot_id": execution.chatbot_id,
                "received": self._faults.totals(execution.execution_id),
                **self._executions.progress_document(execution),
            }
            for execution in self._executions.all()
        ]
        return JsonResponse({"executions": documents})

    async def _finish(self, request: Request) -> Response:
        body = await read_body(request)
        execution = self._executions.find(as_text("execution_id", body.get("execution_id")))
        return JsonResponse({"finished": execution is not None and self._executions.finish(execution)})

    async def _speed(self, request: Request) -> Response:
        body = await read_body(request)
        factor = as_number("factor", body.get("factor"), SLOWEST, FASTEST)
        self._executions.set_speed(factor)
        return JsonResponse({"factor": factor})

    async def _set_faults(self, request: Request) -> Response:
        body = await read_body(request)
        faults = parse_faults("faults", body.get("faults"))
        self._faults.set_global(faults)
        return JsonResponse({"faults": len(faults)})

    async def _rotate_key(self, request: Request) -> Response:
        body = await read_body(request)
        self._key.rotate(as_header("api_key", body.get("api_key")))
        return JsonResponse({"rotated": True})  # the key is not returned

    async def _reset(self) -> Response:
        deleted = self._executions.reset()
        self._executions.set_speed(1.0)
        self._faults.clear()
        self._key.restore()
        self._request_log.clear()
        return JsonResponse({"deleted": deleted})
