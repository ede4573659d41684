"""The claim check: outputs too large to travel inline wait in S3."""

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from waterhook import aws_clients
from waterhook.domain.status_document import MAX_INLINE_BYTES
from waterhook.errors import ResultsUnavailableError
from waterhook.json_scanner import Bytes

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PRESIGNED_SECONDS = 3600


class ResultsBucket:
    """The results bucket. It is opened only when an output needs it, which few do."""

    def __init__(self, bucket: str, client: "S3Client | None" = None) -> None:
        """Open nothing yet."""
        self._bucket = bucket
        self._given = client

    @property
    def _client(self) -> "S3Client":
        # S3 refuses links of the older signature, boto3's default for them, to objects under a KMS key.
        if self._given is None:
            config = aws_clients.UPLOADS.merge(Config(signature_version="s3v4"))
            self._given = aws_clients.session().client("s3", config=config)
        return self._given

    def store(self, execution_id: str, output_json: str | Bytes) -> dict[str, str]:
        """Return `final_output_json` for a small output, `output_ref` (an S3 URI) for one that was stored.

        An output in bytes is always stored. A second call with the same id replaces the object.
        Raises ResultsUnavailableError when the bucket does not take it.
        """
        body = output_json
        if isinstance(output_json, str):
            body = output_json.encode("utf-8", "replace")
            if len(body) <= MAX_INLINE_BYTES:
                return {"final_output_json": output_json}
        key = f"executions/{execution_id}/final_output.json"
        try:
            self._client.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=body,  # type: ignore[arg-type]  # botocore takes a bytearray, and only its stubs do not
                ContentType="application/json",
            )
        except (ClientError, BotoCoreError) as error:
            message = f"{key}: the output could not be stored: {type(error).__name__}"
            raise ResultsUnavailableError(message) from error
        return {"output_ref": f"s3://{self._bucket}/{key}"}

    def presign(self, output_ref: str) -> str:
        """Return an https link to a stored output that works for LINK_SECONDS, or until the signer's session ends."""
        place = urlsplit(output_ref)
        return self._client.generate_presigned_url(
            "get_object", Params={"Bucket": place.netloc, "Key": place.path[1:]}, ExpiresIn=PRESIGNED_SECONDS
        )
