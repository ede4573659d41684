"""The claim check: what is too large to travel inline waits in S3."""

from urllib.parse import parse_qs, urlsplit

import pytest

from tests.fakes.aws import Bucket
from tests.fakes.placeholders import NO_BUCKET
from tests.support.builders import ID
from waterhook.domain.status_document import MAX_INLINE_BYTES
from waterhook.storage.results_bucket import PRESIGNED_SECONDS, ResultsBucket


def test_a_small_output_travels_inline_and_touches_no_bucket(bucket: Bucket) -> None:
    kept = ResultsBucket(bucket.name, lambda: bucket.client).store(ID, '{"n":1.0}')
    assert kept == {"final_output_json": '{"n":1.0}'}
    assert bucket.keys() == []


def test_the_limit_itself_is_inline_and_one_byte_more_is_not(bucket: Bucket) -> None:
    results = ResultsBucket(bucket.name, lambda: bucket.client)
    assert "final_output_json" in results.store(ID, "1" * MAX_INLINE_BYTES)
    assert "output_ref" in results.store(ID, "1" * (MAX_INLINE_BYTES + 1))


def test_the_size_is_counted_in_bytes_and_not_in_characters(bucket: Bucket) -> None:
    assert "output_ref" in ResultsBucket(bucket.name, lambda: bucket.client).store(
        ID, "ß" * (MAX_INLINE_BYTES // 2 + 1)
    )


def test_a_stored_output_is_the_text_it_came_as(bucket: Bucket) -> None:
    text = '{ "n" : 12345678901234567890, "f": 1.0, "t": "🙂\\ud83d" ,"x":"' + "ß" * MAX_INLINE_BYTES + '"}'
    kept = ResultsBucket(bucket.name, lambda: bucket.client).store(ID, text)
    assert bucket.text(kept["output_ref"]) == text


def test_a_stored_output_is_found_by_the_execution_alone(bucket: Bucket) -> None:
    kept = ResultsBucket(bucket.name, lambda: bucket.client).store(ID, "1" * (MAX_INLINE_BYTES + 1))
    assert kept == {"output_ref": f"s3://{bucket.name}/executions/{ID}/final_output.json"}


def test_keeping_it_twice_keeps_it_once(bucket: Bucket) -> None:
    results = ResultsBucket(bucket.name, lambda: bucket.client)
    first = results.store(ID, "1" * (MAX_INLINE_BYTES + 1))
    assert results.store(ID, "1" * (MAX_INLINE_BYTES + 1)) == first
    assert len(bucket.keys()) == 1


def test_an_output_of_the_largest_status_body_is_kept(bucket: Bucket) -> None:
    kept = ResultsBucket(bucket.name, lambda: bucket.client).store(ID, '"' + "x" * (6 * 1024 * 1024) + '"')
    assert "output_ref" in kept


def test_a_stored_output_is_served_as_json(bucket: Bucket) -> None:
    ResultsBucket(bucket.name, lambda: bucket.client).store(ID, "1" * (MAX_INLINE_BYTES + 1))
    head = bucket.client.head_object(Bucket=bucket.name, Key=bucket.keys()[0])
    assert head["ContentType"] == "application/json"


@pytest.mark.parametrize("name", [ID, "a b", "ü", "a?b#c%2F"])
def test_a_link_leads_to_the_output_and_ends_within_the_hour(bucket: Bucket, name: str) -> None:
    results = ResultsBucket(bucket.name, lambda: bucket.client)
    kept = results.store(name, "1" * (MAX_INLINE_BYTES + 1))
    link = urlsplit(results.presign(kept["output_ref"]))
    assert link.scheme == "https"
    assert int(parse_qs(link.query).get("X-Amz-Expires", [str(PRESIGNED_SECONDS)])[0]) == PRESIGNED_SECONDS


def test_no_output_opens_no_connection_to_s3() -> None:
    assert NO_BUCKET.store(ID, "{}") == {"final_output_json": "{}"}
