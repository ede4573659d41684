"""Read tables, code blocks, headings and links from a Markdown document."""

import re
from dataclasses import dataclass
from functools import cache
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from tests.contract.template import ROOT

_PARSER = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True, slots=True)
class Fence:
    """A fenced block: the heading it is under, its language and its text."""

    heading: str
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of shell commands: its document, the heading it is under, its number there, and its text."""

    document: str
    heading: str
    nth: int
    text: str

    @property
    def needs_more(self) -> bool:
        """Whether the block is marked as needing AWS or the internet."""
        return self.text.startswith(("# needs AWS\n", "# needs the internet\n"))

    @property
    def lines(self) -> list[str]:
        """Return the commands, one per line, without comments."""
        joined = self.text.replace("\\\n", " ").splitlines()
        return [line.strip() for line in joined if line.strip() and not line.lstrip().startswith("#")]


def table(document: str, heading: str) -> list[list[str]]:
    """Return the rows of the first table with this first heading. First cells are plain text, the others Markdown."""
    tables = [
        [
            [cell.children[0].content for cell in row.children]
            for part in node.children
            for row in part.children
        ]
        for node in _nodes(document, "table")
    ]
    _, *rows = next(each for each in tables if each[0][0] == heading)
    return [[_text(row[0]), *row[1:]] for row in rows]


def names(text: str) -> list[str]:
    """Return the texts in back ticks, code blocks excluded."""
    return [node.content for node in _nodes(text, "code_inline")]


def links(document: str) -> list[str]:
    """Return the targets of all links and images."""
    found = [*_nodes(document, "link"), *_nodes(document, "image")]
    return [unquote(str(node.attrs.get("href") or node.attrs["src"])) for node in found]


def headings(document: str) -> list[str]:
    """Return the headings as Markdown."""
    return [node.children[0].content for node in _nodes(document, "heading")]


def anchors(document: str) -> set[str]:
    """What a link to a heading ends with on GitHub: small letters, no punctuation, hyphens for spaces."""
    return {re.sub(r"[^\w -]", "", _text(each).lower()).replace(" ", "-") for each in headings(document)}


def section(document: str, heading: str) -> str:
    """What is between a heading and the next one, as written."""
    lines = document.splitlines()
    places = [node.map or (0, 0) for node in _nodes(document, "heading")]
    number = headings(document).index(heading)
    end, _ = [*places, (len(lines), 0)][number + 1]
    return "\n".join(lines[places[number][1] : end])


def fences(document: str, language: str | None = None) -> list[Fence]:
    """The fenced blocks, those in lists included."""
    found, heading = list[Fence](), ""
    for node in _nodes(document, "heading", "fence"):
        if node.type == "heading":
            heading = node.children[0].content
        elif language in (None, node.info):
            found.append(Fence(heading, node.info, node.content))
    return found


def blocks(document: str) -> list[Block]:
    """Return the command blocks of a document, given by its path in the checkout."""
    found: list[Block] = []
    for fence in fences((ROOT / document).read_text(encoding="utf-8"), "sh"):
        nth = sum(block.heading == fence.heading for block in found)
        found.append(Block(document, fence.heading, nth, fence.text))
    return found


def block(document: str, heading: str, nth: int = 0) -> Block:
    """Return the nth command block under a heading."""
    (found,) = (one for one in blocks(document) if (one.heading, one.nth) == (heading, nth))
    return found


def _nodes(document: str, *types: str) -> list[SyntaxTreeNode]:
    return [node for node in _tree(document).walk() if node.type in types]


@cache
def _tree(document: str) -> SyntaxTreeNode:
    return SyntaxTreeNode(_PARSER.parse(document))


def _text(markdown: str) -> str:
    """Return the plain text of a heading or a cell."""
    return "".join(node.content for node in _nodes(markdown, "text", "code_inline"))
