"""One report for all benchmarks."""

from pathlib import Path

from benchmarks import document
from benchmarks.target import at_most, verdict


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
    assert verdict(found) == "1 of 2 targets hold."
