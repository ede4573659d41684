"""Lambda with one function that returns a given answer, or answers."""

import json
from io import BytesIO
from typing import Any


class LambdaFunction:
    """A client of Lambda. An answer that is an exception is raised. The last answer is repeated."""

    def __init__(self, *answers: object, error: str | None = None) -> None:
        """`error` is the `FunctionError` of each answer."""
        self._answers, self._error = list(answers or [None]), error
        self.calls: list[dict[str, Any]] = []

    def invoke(self, **arguments: Any) -> dict[str, Any]:
        self.calls.append(arguments)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        result = {"Payload": BytesIO(json.dumps(answer).encode())}
        return result | ({"FunctionError": self._error} if self._error else {})

    @property
    def payloads(self) -> list[Any]:
        """The payloads of the calls."""
        return [json.loads(call["Payload"]) for call in self.calls]
