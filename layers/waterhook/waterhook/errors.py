"""Every error that Waterhook raises, in one tree. Outcomes of an execution are values, see `waterhook.domain.status`.

    WaterhookError
    ├── SettingsError                 the environment variables of the function are missing or wrong
    ├── InvalidRequestError           the caller's request is wrong; the message names the field and the expected type
    │   ├── RequestTooLargeError      the request is larger than the service that carries it allows
    │   └── InvalidWebhookUrlError    the URL of a webhook is not valid
    ├── ApiError                      our API refuses a call: the HTTP status and what the caller can do
    ├── RecordConflictError           a condition of a write failed, or the record belongs to another execution
    ├── DependencyUnavailableError    an AWS service that Waterhook uses failed; a later call may succeed
    │   ├── RecordUnavailableError    DynamoDB failed; the write may have been carried out
    │   ├── ResultsUnavailableError   S3 did not store an output
    │   └── KeyUnavailableError       the secret can't be read, or contains no usable API key
    ├── ReceiverError                 an attempt to deliver a webhook got no answer
    ├── StreamOverflowError           a line or an event of a stream is larger than the decoder's limit
    └── UpstreamError                 a call to Waterflai failed
        ├── NotAcceptedError          Waterflai did not carry out the call: it was never sent, or it was refused
        │   ├── UpstreamUnavailableError  temporary: no connection, DNS, TLS, 429, 503, a CDN without its origin
        │   └── UpstreamRefusedError      permanent: 3xx, 4xx
        └── PerhapsAcceptedError      the call was sent and may have been carried out: timeout, reset, 5xx, unusable
            └── FlawedDocumentError   a status document shows the outcome but is incomplete (domain.status_document)

`NotAcceptedError` and `PerhapsAcceptedError` decide about a start. After the first, a repeated start is safe. After
the second, the job may already be running, so a repeated start may run it twice.
"""

from http import HTTPStatus


class WaterhookError(Exception):
    """Root of all errors. Only its subclasses are raised."""


class SettingsError(WaterhookError):
    """The function can't work with its environment variables. The message lists every problem."""


class InvalidRequestError(WaterhookError):
    """The request breaks the contract. The message names each field: `input_data: expected object, got list`."""


class RequestTooLargeError(InvalidRequestError):
    """The request is larger than Step Functions can carry together with the fields that Waterhook adds."""


class InvalidWebhookUrlError(InvalidRequestError):
    """The URL of a webhook is not valid. The message is the reason, without the URL, which may contain a token."""


class ApiError(WaterhookError):
    """The API answers a call with an error: its HTTP status, and what the caller can do."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        """`detail` is the `detail` field of the response body."""
        super().__init__(detail)
        self.status = status
        self.detail = detail


class RecordConflictError(WaterhookError):
    """A condition of a write failed: the record has another status, or belongs to another execution."""


class DependencyUnavailableError(WaterhookError):
    """An AWS service failed: it throttles, denies, times out or can't be reached. A later call may succeed."""


class RecordUnavailableError(DependencyUnavailableError):
    """DynamoDB failed for another reason than the condition of a write. The write may have been carried out."""


class ResultsUnavailableError(DependencyUnavailableError):
    """S3 did not store an output."""


class KeyUnavailableError(DependencyUnavailableError):
    """The secret can't be read, or contains no text that can be an API key, for example during a rotation."""


class ReceiverError(WaterhookError):
    """An attempt to deliver a webhook got no answer. The message is its code, such as `unresolved`."""

    def __init__(self, code: str) -> None:
        """`code` is the error code of the attempt."""
        super().__init__(code)
        self.code = code


class StreamOverflowError(WaterhookError):
    """An event stream sent a line or an event above the decoder's limits. Its reader treats the stream as unusable."""


class UpstreamError(WaterhookError):
    """A call to Waterflai failed. The message contains no header and no key, and at most one short line of the body."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        """`code` is stable and for programs. `status` and `retry_after_s` are those of the response, if any."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.retry_after_s = retry_after_s


class NotAcceptedError(UpstreamError):
    """Waterflai did not carry out the call."""


class UpstreamUnavailableError(NotAcceptedError):
    """Not carried out, may succeed later: refused connection, DNS, TLS, 429, 503, 521, 523, 525, 526 or 530."""


class UpstreamRefusedError(NotAcceptedError):
    """Not carried out, and would be refused again: a redirect, or a 4xx other than 408 and 429."""


class PerhapsAcceptedError(UpstreamError):
    """The call may have been carried out: it was sent, and no usable response was received."""


# Error codes of AWS for a call that may succeed later.
THROTTLING_CODES = frozenset({"ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded"})


def aws_error_code(error: Exception) -> str:
    """Return the error code of an AWS response, or the class name of an error without a response."""
    response: dict[str, dict[str, str]] = getattr(error, "response", {})
    return response["Error"]["Code"] if response else type(error).__name__
