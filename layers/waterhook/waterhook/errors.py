"""Every fault Waterhook raises, in one tree. Outcomes of an execution are data and are not here.

    WaterhookError
    ├── SettingsError            the deployment is misconfigured: its environment
    ├── InvalidRequestError           the caller's request is wrong; the message names the field and what was expected
    │   └── RequestTooLargeError      ... or larger than what carries it
    ├── ApiError                 our API refuses: the HTTP status and what to do about it
    ├── RecordConflictError           a conditional write lost its race, or the record is another execution's
    ├── DependencyUnavailableError    an AWS service that Waterhook uses failed; a later call may succeed
    │   ├── RecordUnavailableError    the table failed; whether a write was carried out is not known
    │   ├── ResultsUnavailableError   the bucket did not take an output
    │   └── KeyUnavailableError       the secret can't be read, or holds no usable API key
    ├── StreamOverflowError           a line or an event of a stream is larger than what is held in memory
    └── UpstreamError            a call to Waterflai failed
        ├── NotAcceptedError          not carried out: never sent, or refused
        │   ├── UpstreamUnavailableError  for now: no connection, DNS, TLS, 429, 503, a CDN without its origin
        │   └── UpstreamRefusedError      permanently: 3xx, 4xx
        └── PerhapsAcceptedError      sent, and it is not known whether it was carried out: timeout, reset, 5xx, garbage
            └── FlawedDocumentError   a status document that shows the outcome and is not whole (domain.status_document)

The line that matters is drawn between `NotAcceptedError` and `PerhapsAcceptedError`: a start of the first kind may
be repeated, a start of the second kind may already be a running job.
"""

from http import HTTPStatus


class WaterhookError(Exception):
    """Root of the tree, never raised itself."""


class SettingsError(WaterhookError):
    """The deployment can't work as configured; the message lists every problem found."""


class InvalidRequestError(WaterhookError):
    """The request breaks the contract; the message names the field: `input_data: expected object, got list`."""


class RequestTooLargeError(InvalidRequestError):
    """The request is larger than Step Functions carries together with what is wrapped around it."""


class ApiError(WaterhookError):
    """An answer of our API that is no success: its HTTP status, and what the caller can do about it."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        """Keep both."""
        super().__init__(detail)
        self.status = status
        self.detail = detail


class RecordConflictError(WaterhookError):
    """A conditional write found the record in another state, or owned by another execution."""


class DependencyUnavailableError(WaterhookError):
    """An AWS service that Waterhook uses failed: throttled, denied, out of reach, slow. A later call may succeed."""


class RecordUnavailableError(DependencyUnavailableError):
    """The table failed for another reason than a condition."""


class ResultsUnavailableError(DependencyUnavailableError):
    """The bucket did not take an output."""


class KeyUnavailableError(DependencyUnavailableError):
    """The secret can't be read, or holds no text that can be an API key, for example during a rotation."""


class StreamOverflowError(WaterhookError):
    """An event stream sent a line or an event beyond the decoder's limits; to its reader, an unusable answer."""


class UpstreamError(WaterhookError):
    """A call to Waterflai failed. Never carries a header, a key or more than a clipped line of the body."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        """`code` is stable and for machines; `status` and `retry_after_s` are those of the response, if any."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.retry_after_s = retry_after_s


class NotAcceptedError(UpstreamError):
    """The upstream surely did not carry out the call."""


class UpstreamUnavailableError(NotAcceptedError):
    """Not carried out and worth repeating: refused connection, DNS, TLS, 429, 503, 521, 523, 525, 526 or 530."""


class UpstreamRefusedError(NotAcceptedError):
    """Not carried out and not worth repeating as it is: a redirect or a 4xx other than 408 and 429."""


class PerhapsAcceptedError(UpstreamError):
    """The call may have been carried out: it was sent, and no usable answer came back."""


# What AWS calls a refusal that passes.
THROTTLING_CODES = frozenset({"ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded"})


def aws_error_code(error: Exception) -> str:
    """Return the error code of an AWS response, or the class name of an error without a response."""
    response: dict[str, dict[str, str]] = getattr(error, "response", {})
    return response["Error"]["Code"] if response else type(error).__name__
