"""Finds words that this project does not use. CONTRIBUTING.md lists them: `python -m local.word_list [PATH…]`.

It checks prose, comments and names. A word is also found inside an identifier in camel case or snake case.
"""

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from local.local_aws.environment import ROOT

_LIST = "CONTRIBUTING.md"
_HEADING = "## Words"
_ROW = re.compile(r"^\| (?P<words>[^|]+) \| (?P<instead>[^|]+) \|$", re.MULTILINE)
# Not the lock file of npm: one of its hashes may contain a word.
_GENERATED = {"package-lock.json"}
_TEXT = {".md", ".py", ".yaml", ".toml", ".json", ".in", ".js", ".sh", ""}
_CAMEL_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def read_list(document: str) -> dict[str, str]:
    """Return each word or phrase of the table under the heading, with what to write instead.

    Raises ValueError if the document has no such table.
    """
    _, _, section = document.partition(f"\n{_HEADING}\n")
    rows = [row for row in _ROW.finditer(section.partition("\n## ")[0]) if "---" not in row["words"]]
    if len(rows) < 2:  # noqa: PLR2004 - the header and a row
        raise ValueError(f"{_LIST}: no table of words under {_HEADING!r}")
    return {word.strip(): row["instead"].strip() for row in rows[1:] for word in row["words"].split(",")}


def find_words(text: str, words: dict[str, str]) -> Iterator[tuple[int, str]]:
    """Yield the line number and the word for each use, in any case and also inside an identifier."""
    pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, words))})\b", re.IGNORECASE)
    for number, line in enumerate(text.splitlines(), 1):
        for match in pattern.finditer(_CAMEL_CASE.sub(" ", line).replace("_", " ")):
            yield number, match[0].lower()


def tracked_files(paths: Sequence[str]) -> list[Path]:
    """Return the text files of the checkout at or under these paths, or all text files if `paths` is empty.

    Raises OSError or CalledProcessError outside a git checkout.
    """
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *paths]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    files = [ROOT / name for name in listed.stdout.splitlines()]
    return [path for path in files if path.suffix in _TEXT and path.name not in _GENERATED and path.is_file()]


def main(arguments: Sequence[str]) -> int:
    """Print each use of a listed word and return the exit code."""
    document = (ROOT / _LIST).read_text(encoding="utf-8")
    words = read_list(document)
    try:
        files = tracked_files(arguments)
    except (OSError, subprocess.CalledProcessError):
        sys.stdout.write("Words are not checked: this is not a git checkout.\n")
        return 0
    uses = 0
    for path in files:
        text = path.read_text(encoding="utf-8")
        if path.name == _LIST:
            text = document.partition(f"\n{_HEADING}\n")[0]
        for number, word in find_words(text, words):
            uses += 1
            sys.stdout.write(f"{path.relative_to(ROOT)}:{number}: {word!r}: write {words[word]}\n")
    sys.stdout.write(f"{uses} uses of words that {_LIST} lists.\n" if uses else "No listed word is used.\n")
    return 1 if uses else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
