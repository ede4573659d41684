"""Results bucket: outputs that are too large for a notification are stored in S3."""

from urllib.parse import parse_qs, urlsplit

import pytest

from tests.fakes.aws import Bucket
from tests.fakes.placeholders import NO_BUCKET
from tests.support.builders import ID
from waterhook.domain.status_document import MAX_INLINE_BYTES
from waterhook.storage.results_bucket import PRESIGNED_SECONDS, ResultsBucket


def test_a_small_output_is_inline_and_is_not_stored(bucket: Bucket) -> None:
    attributes = ResultsBucket(bucket.name, lambda: bucket.client).store(ID, '{"n":1.0}')
    assert attributes == {"final_output_json": '{"n":1.0}'}
    assert bucket.keys() == []


def test_an_output_of_the_limit_is_inline_and_one_byte_more_is_stored(bucket: Bucket) -> None:
    results = ResultsBucket(bucket.name, lambda: bucket.client)
    assert "final_output_json" in results.store(ID, "1" * MAX_INLINE_BYTES)
    assert "output_ref" in results.store(ID, "1" * (MAX_INLINE_BYTES + 1))


def test_the_size_of_an_output_is_counted_in_bytes(bucket: Bucket) -> None:
    assert "output_ref" in ResultsBucket(bucket.name, lambda: bucket.client).store(
        ID, "ß" * (MAX_INLINE_BYTES // 2 + 1)
    )


def test_a_stored_output_is_the_unchanged_text(bucket: Bucket) -> None:
    text = '{ "n" : 12345678901234567890, "f": 1.0, "t": "🙂\\ud83d" ,"x":"' + "ß" * MAX_INLINE_BYTES + '"}'
    attributes = ResultsBucket(bucket.name, lambda: bucket.client).store(ID, text)
    assert bucket.text(attributes["output_ref"]) == text


def test_the_key_of_a_stored_output_contains_only_the_execution_id(bucket: Bucket) -> None:
    attributes = ResultsBucket(bucket.name, lambda: bucket.client).store(ID, "1" * (MAX_INLINE_BYTES + 1))
    assert attributes == {"output_ref": f"s3://{bucket.name}/executions/{ID}/final_output.json"}


def test_storing_an_output_twice_creates_one_object(bucket: Bucket) -> None:
    results = ResultsBucket(bucket.name, lambda: bucket.client)
    first = results.store(ID, "1" * (MAX_INLINE_BYTES + 1))
    assert results.store(ID, "1" * (MAX_INLINE_BYTES + 1)) == first
    assert len(bucket.keys()) == 1


def test_a_stored_output_has_the_content_type_json(bucket: Bucket) -> None:
    ResultsBucket(bucket.name, lambda: bucket.client).store(ID, "1" * (MAX_INLINE_BYTES + 1))
    head = bucket.client.head_object(Bucket=bucket.name, Key=bucket.keys()[0])
    assert head["ContentType"] == "application/json"


@pytest.mark.parametrize("name", [ID, "a b", "ü", "a?b#c%2F"])
def test_a_presigned_link_uses_https_and_expires(bucket: Bucket, name: str) -> None:
    results = ResultsBucket(bucket.name, lambda: bucket.client)
    attributes = results.store(name, "1" * (MAX_INLINE_BYTES + 1))
    link = urlsplit(results.presign(attributes["output_ref"]))
    assert link.scheme == "https"
    assert int(parse_qs(link.query).get("X-Amz-Expires", [str(PRESIGNED_SECONDS)])[0]) == PRESIGNED_SECONDS


def test_an_inline_output_creates_no_s3_client() -> None:
    assert NO_BUCKET.store(ID, "{}") == {"final_output_json": "{}"}
