"""The documents as the tests read them: their tables and their commands."""

import re
from dataclasses import dataclass

from tests.infra.template import ROOT

# A heading, or a block that a shell would run. Other blocks come first, lest their text be taken for one of these.
_PART = re.compile(
    r"^```sh\n(?P<commands>.*?)^```$|^```\w*\n.*?^```$|^#+ (?P<heading>[^\n]+)$", re.MULTILINE | re.DOTALL
)
_CODE = re.compile(r"`([^`]+)`")


def table(document: str, heading: str, nth: int = 0) -> list[list[str]]:
    """The rows of the table whose first heading cell this is: the first cell without back ticks, others as written."""
    starts = [found.start() for found in re.finditer(rf"^\| {re.escape(heading)} \|", document, re.MULTILINE)]
    lines = document[starts[nth] :].split("\n\n", 1)[0].splitlines()[2:]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))] for line in lines]
    return [[row[0].replace("`", ""), *row[1:]] for row in rows]


def names(cell: str) -> list[str]:
    """What stands between back ticks."""
    return _CODE.findall(cell)


def anchors(document: str) -> set[str]:
    """What a link may name of it: GitHub takes each heading in small letters, without signs, spaces as hyphens."""
    headings = re.findall(r"^#+ (.+)$", document, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of commands: its document, the heading it stands under, its number there, and its text."""

    document: str
    heading: str
    nth: int
    text: str

    @property
    def needs_more(self) -> bool:
        """Whether it says that this machine is not enough for it."""
        return self.text.startswith(("# needs AWS\n", "# needs the internet\n"))

    @property
    def lines(self) -> list[str]:
        """The commands, each on one line, without comments."""
        joined = self.text.replace("\\\n", " ").splitlines()
        return [line.strip() for line in joined if line.strip() and not line.lstrip().startswith("#")]


def blocks(document: str) -> list[Block]:
    """The blocks of commands in a document, by its path in the checkout."""
    found: list[Block] = []
    heading = ""
    for part in _PART.finditer((ROOT / document).read_text(encoding="utf-8")):
        if part["heading"]:
            heading = part["heading"]
        elif part["commands"]:
            nth = sum(block.heading == heading for block in found)
            found.append(Block(document, heading, nth, part["commands"]))
    return found


def block(document: str, heading: str, nth: int = 0) -> Block:
    """One of them."""
    (found,) = (one for one in blocks(document) if (one.heading, one.nth) == (heading, nth))
    return found
