"""The site of the documentation: built strictly, whole, and from this host alone."""

import html.parser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ci

pytest.importorskip("mkdocs", reason="the site needs `pip install '.[docs]'`")

ROOT = Path(__file__).parents[1]
SETTINGS = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
# Attributes by which a browser loads something, by element; links are not among them.
LOADED = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "link": ("href",),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "object": ("data",),
}
NOT_LOADED = {"canonical", "next", "prev"}  # a link element's relations


class Loads(html.parser.HTMLParser):
    """Collects what a page makes a browser load from elsewhere."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if set((attributes.get("rel") or "").split()) & NOT_LOADED:
            return
        for name in LOADED.get(tag, ()):
            if re.match(r"(https?:)?//", attributes.get(name) or ""):
                self.addresses.append(attributes[name])


def build(folder, site):
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "NO_COLOR": "1"}
    command = ["-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    return subprocess.run(
        [sys.executable, "-W", "default", *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("documentation") / "site"
    answer = build(ROOT, folder)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return folder


def pages(site):
    return sorted(site.rglob("*.html"))


def test_the_site_builds_without_a_warning(site):
    assert len(pages(site)) > 10


def test_the_site_loads_nothing_from_elsewhere(site):
    for page in pages(site):
        loads = Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        assert not loads.addresses, page
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert not re.search(r"""(url\(|@import)\s*["']?(https?:)?//""", text), style


def test_a_load_from_elsewhere_would_be_seen():
    loads = Loads()
    loads.feed('<a href="https://a"></a><link rel="canonical" href="https://b">')
    assert not loads.addresses
    loads.feed('<script src="https://c"></script><img src="//d"><img src="own.png">')
    assert loads.addresses == ["https://c", "//d"]


def test_the_page_of_the_commands_has_all_of_them(site):
    from tests.test_command_line import COMMANDS

    text = (site / "commands" / "index.html").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f'id="{name.replace(" ", "-")}"' in text, name


def test_sections_of_our_own_are_shown_in_the_reference(site):
    text = (site / "reference" / "training" / "index.html").read_text(encoding="utf-8")
    for words in ("<strong>Source:</strong>", "<strong>Call arguments:</strong>"):
        assert words in text
    assert '<a href="https://arxiv.org/abs/1703.07737">' in text
    assert "Call arguments:\n" not in text


def test_a_broken_page_fails_the_build(tmp_path):
    # (Not with --quiet: MkDocs then counts no warning, and is strict about none.)
    wrong = ["[gone](gone.md)", "[gone](index.md#gone)", "::: topdb_tf.gone"]
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("\n\n".join(["# Title", *wrong[:2]]))
    settings = re.sub(r"^nav:\n(  .*\n)+", "", SETTINGS, flags=re.M)
    settings = re.sub(r"^extra_css: .*\n", "", settings, flags=re.M)
    settings = settings.replace("docs/site_hooks", str(ROOT / "docs" / "site_hooks"))
    settings = settings.replace("watch: [topdb_tf]\n", "")
    (tmp_path / "mkdocs.yml").write_text(settings)
    answer = build(tmp_path, tmp_path / "site")
    assert answer.returncode != 0
    for words in ("gone.md", "#gone"):
        assert words in answer.stdout + answer.stderr
    (tmp_path / "docs" / "index.md").write_text(wrong[2])
    answer = build(tmp_path, tmp_path / "site")
    assert answer.returncode != 0
    assert "topdb_tf.gone" in answer.stdout + answer.stderr
