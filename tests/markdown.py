"""The blocks of code in README.md, CONTRIBUTING.md and docs/*.md."""

import re
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
]


INCLUDE = '--8<-- "examples/'


class Block(NamedTuple):
    """A fenced block: the page that has it, its language and its text."""

    page: str
    language: str
    text: str

    @property
    def first_line(self) -> str:
        return self.text.partition("\n")[0]


def blocks(page: str) -> list[Block]:
    """Return the blocks of a page, in their order, but for those that show a file of an example."""
    text = (ROOT / page).read_text()
    found = re.findall(r"^( *)(`{3,})([^\n]*)\n(.*?)^\1\2$", text, re.DOTALL | re.MULTILINE)
    return [
        Block(page, language, dedent(code))
        for _, _, language, code in found
        if not code.lstrip().startswith(INCLUDE)
    ]


def block(page: str, start: str) -> str:
    """Return the text of the one block of `page` that begins with `start`."""
    (found,) = [block.text for block in blocks(page) if block.text.startswith(start)]
    return found
