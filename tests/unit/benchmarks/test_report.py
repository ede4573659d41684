"""One report for all benchmarks, and the account of many executions in it."""

from collections import Counter
from pathlib import Path

from benchmarks import document
from benchmarks.e2e.burst import Burst
from benchmarks.e2e.notifications import ReceivedNotification
from benchmarks.target import at_most, summary


def test_a_benchmark_replaces_its_own_section_and_no_other(tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    document.put("e2e", "# End\n\nold", report)
    document.put("polling", "# Waiting", report)
    document.put("e2e", "# End\n\nnew\n", report)
    expected = "<!-- polling -->\n# Waiting\n\n<!-- e2e -->\n# End\n\nnew\n"
    assert report.read_text(encoding="utf-8") == expected


def test_a_target_that_is_missed_is_not_counted() -> None:
    found = [at_most("memory", 3.7, 3.6), at_most("memory", 3.6, 3.6)]
    assert [target.held for target in found] == [False, True]
    assert summary(found) == "1 of 2 targets hold."


def test_an_execution_with_one_notification_and_one_job_is_accounted_for() -> None:
    notifications = [
        ReceivedNotification(marker, marker, status, marker, arrived_at=2.5, completed_at=2.0)
        for marker, status in [
            ("well", "COMPLETED"),
            ("notified twice", "COMPLETED"),
            ("notified twice", "COMPLETED"),
            ("ran twice", "COMPLETED"),
            ("failed", "ERROR"),
        ]
    ]
    starts = Counter({"well": 1, "notified twice": 1, "ran twice": 2, "failed": 1, "never notified": 1})
    assert Burst(5, 0.1, 9.0, tuple(notifications), starts).accounted_for == 1
    assert notifications[0].lag_s == 0.5
