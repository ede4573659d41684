"""The report of all benchmarks. Each benchmark replaces its own section."""

import re
from pathlib import Path

REPORT = Path(__file__).parent / "report" / "report.md"
SECTIONS = ("polling", "cold_start", "e2e", "webhooks", "prefer_wait")
_SECTION = re.compile(r"<!-- (\w+) -->\n(.*?)(?=<!-- \w+ -->\n|\Z)", re.DOTALL)


def put(name: str, text: str, report: Path = REPORT) -> None:
    """Write the section `name`. The other sections stay unchanged."""
    sections = dict(_SECTION.findall(report.read_text(encoding="utf-8"))) if report.exists() else {}
    sections[name] = text.strip("\n") + "\n\n"
    report.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(f"<!-- {each} -->\n{sections[each]}" for each in SECTIONS if each in sections)
    report.write_text(content.rstrip("\n") + "\n", encoding="utf-8")
