"""Every code block of every page is run, in order, in a fresh folder."""

import json

import pytest
import yaml

from tests.documentation.blocks import LANGUAGES, blocks_of, command_lines
from tests.documentation.shell import ROOT, LineError, _in_folder

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "datasets" / "README.md",
    ROOT / "serving" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
READ_FIRST = (ROOT / "README.md", ROOT / "docs" / "index.md")
PAGES_WITH_CODE = [
    pytest.param(
        page,
        id=str(page.relative_to(ROOT)),
        marks=[] if page in READ_FIRST else pytest.mark.ci,
    )
    for page in PAGES
    if any(block.language in ("bash", "python") for block in blocks_of(page))
]


def run_page(page, shell):
    """Runs the bash blocks of a page, then its Python blocks in one namespace.

    Blocks with a title are files, for the others to use.
    """
    blocks = blocks_of(page)
    for block in blocks:
        if block.title:
            (shell.folder / block.title).write_text(block.text, encoding="utf-8")
    for block in blocks:
        for line in command_lines(block.text) if block.language == "bash" else ():
            try:
                shell.run(line)
            except LineError as error:
                pytest.fail(f"{block.place}: {error}", pytrace=False)
    namespace = {"__name__": "page"}
    with _in_folder(shell.folder):
        for block in blocks:
            if block.language == "python" and not block.title:
                run_python(block, namespace)


def run_python(block, namespace):
    # As many empty lines before it as on the page, so that a traceback tells the line.
    text = "\n" * block.line + block.text
    exec(compile(text, str(block.page), "exec"), namespace)


def id_of(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES_WITH_CODE)
def test_the_code_of_a_page_runs(page, shell):
    run_page(page, shell)


@pytest.mark.parametrize("page", PAGES, ids=id_of)
def test_the_other_blocks_of_a_page_can_be_read(page):
    for block in blocks_of(page):
        assert block.language in LANGUAGES, block.place
        if block.language == "yaml":
            yaml.safe_load(block.text)
        elif block.language == "json":
            json.loads(block.text)
