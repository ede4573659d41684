"""The simulator's other side, for tests and the demo: what was asked of it, how fast its time goes."""

from collections import Counter, deque

from fastapi import APIRouter, Request
from starlette.responses import Response

from local.waterflai.clock import FASTEST, SLOWEST
from local.waterflai.exchange import JsonResponse, Operation, body_of
from local.waterflai.executions import Execution, Executions
from local.waterflai.wire import Object, as_number, write_json

PREFIX = "/_control"

_STARTS_KEPT = 10_000
_INPUT_BYTES_KEPT = 1024


class Ledger:
    """Counts answers by operation and status code, and lists the starts that created an execution."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, int]] = Counter()
        self._starts: deque[Object] = deque(maxlen=_STARTS_KEPT)

    def answered(self, operation: str, status_code: int) -> None:
        """Count one answer."""
        self._counts[operation, status_code] += 1

    def started(self, execution: Execution, input_data: Object, status_code: int) -> None:
        """List one start, with what its client was answered, and its input where that is short."""
        is_short = len(write_json(input_data)) <= _INPUT_BYTES_KEPT
        self._starts.append(
            {
                "execution_id": execution.execution_id,
                "chatbot_id": execution.chatbot_id,
                "status_code": status_code,
                "input_data": input_data if is_short else None,
            }
        )

    def clear(self) -> None:
        """Count from nothing again."""
        self._counts.clear()
        self._starts.clear()

    def to_dict(self) -> Object:
        """Return `counts` by operation and status code, and `starts`, oldest first."""
        counts: dict[str, dict[str, int]] = {operation: {} for operation in Operation}
        for (operation, status_code), count in sorted(self._counts.items()):
            counts.setdefault(operation, {})[str(status_code)] = count
        return {"counts": counts, "starts": list(self._starts)}


class Control:
    """The routes under `/_control`. No key: like the rest of the simulator they are on loopback only."""

    def __init__(self, executions: Executions, ledger: Ledger) -> None:
        self._executions = executions
        self._ledger = ledger

    def router(self) -> APIRouter:
        """Return the routes."""
        routes = APIRouter(prefix=PREFIX)
        routes.add_api_route("/requests", self._requests, methods=["GET"])
        routes.add_api_route("/executions", self._list, methods=["GET"])
        routes.add_api_route("/speed", self._speed, methods=["POST"])
        routes.add_api_route("/reset", self._reset, methods=["POST"])
        return routes

    async def _requests(self) -> Response:
        return JsonResponse(self._ledger.to_dict())

    async def _list(self) -> Response:
        documents = [
            {"chatbot_id": execution.chatbot_id, **self._executions.progress_document(execution)}
            for execution in self._executions.all()
        ]
        return JsonResponse({"executions": documents})

    async def _speed(self, request: Request) -> Response:
        body = await body_of(request)
        factor = as_number("factor", body.get("factor"), SLOWEST, FASTEST)
        self._executions.set_speed(factor)
        return JsonResponse({"factor": factor})

    async def _reset(self) -> Response:
        forgotten = self._executions.reset()
        self._executions.set_speed(1.0)
        self._ledger.clear()
        return JsonResponse({"forgotten": forgotten})
