"""Context object of Lambda, with the attributes that Powertools reads."""

from aws_lambda_powertools.utilities.typing import LambdaContext


class Context(LambdaContext):
    """The context of an invocation with 300 s left."""

    def __init__(self) -> None:
        self._function_name = "any"
        self._memory_limit_in_mb = 512
        self._invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:any"
        self._aws_request_id = "00000000-0000-4000-8000-000000000000"

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 300_000


CONTEXT = Context()
