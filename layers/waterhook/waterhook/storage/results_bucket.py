"""The results bucket in S3. It stores outputs that are too large to be inline in a notification (claim check)."""

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from waterhook.domain.status_document import MAX_INLINE_BYTES
from waterhook.errors import ResultsUnavailableError
from waterhook.json_scanner import Bytes

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PRESIGNED_SECONDS = 3600


class ResultsBucket:
    """Stores and links large outputs."""

    def __init__(self, bucket: str, client: Callable[[], "S3Client"]) -> None:
        """`client` is called only when an output needs S3, because few executions do."""
        self._bucket = bucket
        self._client = client

    def store(self, execution_id: str, output_json: str | Bytes) -> dict[str, str]:
        """Return `final_output_json` for a small output, or `output_ref` (an S3 URI) for a stored one.

        An output in bytes is always stored. A second call with the same id replaces the object. Raises
        ResultsUnavailableError if S3 fails.
        """
        body = output_json
        if isinstance(output_json, str):
            body = output_json.encode("utf-8", "replace")
            if len(body) <= MAX_INLINE_BYTES:
                return {"final_output_json": output_json}
        key = f"executions/{execution_id}/final_output.json"
        try:
            self._client().put_object(
                Bucket=self._bucket,
                Key=key,
                Body=body,  # type: ignore[arg-type]  # botocore accepts a bytearray, its stubs don't
                ContentType="application/json",
            )
        except (ClientError, BotoCoreError) as error:
            message = f"{key}: the output could not be stored: {type(error).__name__}"
            raise ResultsUnavailableError(message) from error
        return {"output_ref": f"s3://{self._bucket}/{key}"}

    def presign(self, output_ref: str) -> str:
        """Return an https link to a stored output. Valid for PRESIGNED_SECONDS or until the role session ends."""
        location = urlsplit(output_ref)
        return self._client().generate_presigned_url(
            "get_object",
            Params={"Bucket": location.netloc, "Key": location.path[1:]},
            ExpiresIn=PRESIGNED_SECONDS,
        )
