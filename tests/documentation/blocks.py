"""The code blocks of a page of documentation."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)(?P<rest>.*)$")
_TITLE = re.compile(r'title="(?P<title>[^"]+)"')
# What the pages may hold beside what is run: output, diagrams.
LANGUAGES = {"bash", "python", "yaml", "json", "text", "bibtex", "csv", ""}


class Block(NamedTuple):
    """A fenced block: where it stands, and what is in it.

    Args:
        page: The Markdown file.
        line: Line of its fence, from 1.
        language: The word behind the fence.
        title: The file that it is, if the fence names one by `title="…"`.
        text: What is between the fences, without their indentation.
    """

    page: Path
    line: int
    language: str
    title: str | None
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks_of(page):
    """Returns the fenced blocks of a Markdown file in their order."""
    blocks, opened, lines = [], None, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if opened is None:
            if fence:
                opened, lines = (number, fence), []
            continue
        number_of_fence, first = opened
        if fence and not fence["language"]:
            title = _TITLE.search(first["rest"])
            text = "\n".join(lines) + "\n"
            name = title["title"] if title else None
            blocks.append(Block(page, number_of_fence, first["language"], name, text))
            opened = None
        else:
            lines.append(line.removeprefix(first["indent"]))
    if opened:
        raise ValueError(f"{page.name}:{opened[0]}: the block has no end")
    return blocks


def command_lines(text):
    """Returns the commands of a bash block, a line each, without comments."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [line.strip() for line in joined.splitlines() if words_of(line)]


def words_of(line):
    return shlex.split(line, comments=True)
