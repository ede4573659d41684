"""The simulated host receives each webhook, within its share."""

import pytest

from benchmarks.webhooks.share import drain
from waterhook.domain.webhook_host import share_of


@pytest.mark.parametrize("concurrency", [2, 10, 100])
@pytest.mark.parametrize("answer_s", [0.1, 2.0])
def test_a_host_receives_all_webhooks_and_not_more_at_a_time_than_its_share(
    concurrency: int, answer_s: float
) -> None:
    result = drain(concurrency, answer_s, deliveries=50)
    assert result.invocations >= 50
    assert result.rate <= share_of(concurrency) / answer_s


def test_a_share_that_is_never_full_needs_one_invocation_for_each_webhook() -> None:
    assert drain(400, 0.1, deliveries=100).invocations == 100
