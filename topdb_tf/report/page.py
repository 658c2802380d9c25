"""One self-contained page: nothing of it is loaded from anywhere else."""

import base64
import hashlib
import json
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

_TEMPLATES = Path(__file__).parent / "templates"
_SCRIPTS = ("page.js", "rank_lists.js")


def render_page(template: str, facts: dict, data: dict | None = None) -> str:
    """Returns a page that needs no network and no other file.

    Whatever comes from outside, such as names of files and of runs, is text in it and
    never markup. Its own policy (CSP) lets the browser run the package's script alone,
    which it knows by its hash, and load nothing but what is inside the page.

    Args:
        template: Name of a template beside this module.
        facts: What the template shows, by name.
        data: What the scripts show, such as ranked lists: anything that JSON holds.

    Raises:
        jinja2.UndefinedError: If the template shows something that is not there.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["ticked"] = ticked
    script = "".join(_text_of(name) for name in _SCRIPTS)
    return environment.get_template(template).render(
        **facts,
        policy=_policy(script),
        style=Markup(_text_of("page.css")),
        script=Markup(script),
        data=None if data is None else _json_in_html(data),
    )


def ticked(text: str) -> Markup:
    """Returns a text in which what stands between backticks is code.

    Example:
        >>> from topdb_tf.report.page import ticked
        >>> ticked("Run `fit <NAME>` first.")
        Markup('Run <code>fit &lt;NAME&gt;</code> first.')
    """
    parts = [escape(part) for part in text.split("`")]
    if len(parts) % 2 == 0:  # one of them is not closed
        return escape(text)
    for place in range(1, len(parts), 2):
        parts[place] = Markup("<code>{}</code>").format(parts[place])
    return Markup("").join(parts)


def _text_of(name):
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _policy(script):
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return "; ".join(
        [
            "default-src 'none'",
            "img-src data:",
            "style-src 'unsafe-inline'",
            f"script-src 'sha256-{digest}'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _json_in_html(data):
    """Returns JSON in which no character can end or open an element."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
