"""`python -m benchmarks.polling [FOLDER]`: write the report and the plot; fail when a target is missed."""

import sys
from pathlib import Path

from benchmarks.polling.comparison import FULL, compare, targets
from benchmarks.polling.plot import draw
from benchmarks.polling.report import render, verdict


def main(folder: Path) -> int:
    """Return 1 when a target is missed, else 0."""
    comparisons = [compare(kind, count) for kind, count in FULL.items()]
    found = [target for comparison in comparisons for target in targets(comparison)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "polling.md").write_text(render(comparisons, found), encoding="utf-8")
    (folder / "frontier.svg").write_text(draw(comparisons), encoding="utf-8")
    for target in found:
        print(f"{'held  ' if target.held else 'MISSED'} {target.name} ({target.figures})")
    print(f"\n{folder / 'polling.md'}, {folder / 'frontier.svg'}")
    print(verdict(found))
    return 0 if all(target.held for target in found) else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if sys.argv[1:] else "benchmarks/report")))
