"""The documents as the tests read them: their tables and their commands."""

import re

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
