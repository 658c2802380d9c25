"""What any page must hold, read without a browser."""

import base64
import hashlib
import re
from html.parser import HTMLParser

_VOID = {"meta", "link", "img", "input", "br", "hr"}


class Page(HTMLParser):
    """The elements of a page: how they nest, what they are called and point to."""

    def __init__(self, text):
        super().__init__()
        self.text = text
        self.errors, self.ids, self.elements, self._open = [], [], [], []
        self.scripts = []
        self.feed(text)
        self.close()
        self.errors += [f"<{tag}> is never closed" for tag in self._open]

    def handle_starttag(self, tag, attributes):
        self._note(tag, dict(attributes))
        if tag not in _VOID:
            self._open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_startendtag(self, tag, attributes):
        self._note(tag, dict(attributes))

    def handle_endtag(self, tag):
        if not self._open or self._open[-1] != tag:
            self.errors.append(f"</{tag}> where {self._open[-3:]} is open")
        else:
            self._open.pop()

    def handle_data(self, data):
        if self._open and self._open[-1] == "script":
            self.scripts[-1] += data

    def _note(self, tag, attributes):
        self.elements.append((tag, attributes))
        if "id" in attributes:
            self.ids.append(attributes["id"])

    def attributes(self, name):
        """Returns all values of an attribute, by element."""
        return [(tag, own[name]) for tag, own in self.elements if name in own]


def check_page(text):
    """Checks that a page is well-formed, whole, and loads and runs nothing else."""
    page = Page(text)
    assert not page.errors, page.errors[:5]
    assert len(page.ids) == len(set(page.ids))
    for name in ("aria-labelledby",):
        for _, value in page.attributes(name):
            assert value in page.ids
    for tag, value in page.attributes("href") + page.attributes("xlink:href"):
        if value.startswith("#"):
            assert value[1:] in page.ids, value
        else:
            assert (tag, value) == ("link", "data:,")
    for _, value in page.attributes("src"):
        assert value.startswith("data:image/webp;base64,")
    assert not [name for _, own in page.elements for name in own if name[:2] == "on"]
    assert not re.search(r"@import|url\((?!#)", text)
    for _, own in page.elements:
        if own.get("role") == "img":
            assert own["aria-label"]
    assert all(own.get("alt") for tag, own in page.elements if tag == "img")
    _check_policy(page)
    return page


def _check_policy(page):
    (policy,) = (
        own["content"]
        for _, own in page.elements
        if own.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    digest = hashlib.sha256(page.scripts[-1].encode()).digest()
    expected = f"'sha256-{base64.b64encode(digest).decode()}'"
    assert rules["script-src"] == expected
