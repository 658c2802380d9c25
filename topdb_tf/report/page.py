"""One self-contained page: nothing of it is loaded from anywhere else."""

import base64
import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2
from markupsafe import Markup, escape

from topdb_tf import __version__
from topdb_tf.evaluate.measured import Stopwatch
from topdb_tf.files import write_whole
from topdb_tf.progress import progress_bar
from topdb_tf.report.lists import QueryLists, data_of_lists
from topdb_tf.texts import duration_text, size_text

_TEMPLATES = Path(__file__).parent / "templates"
_SCRIPTS = ("page.js", "rank_lists.js")
_WITHOUT_PEOPLE = "synthetic"  # the one data set that shows no real person
_PRIVACY = (
    "The page holds pictures of real people: keep it as carefully as the images. "
    "--no-images leaves them out."
)


class Contents(NamedTuple):
    """What a page holds: ranked lists of some queries, and pictures of the people."""

    queries: int = 60
    top: int = 10
    images: bool = True


class WrittenPage(NamedTuple):
    """A page that was written, and the seconds by part of the work."""

    out: Path
    bytes: int
    queries_shown: int
    holds_real_people: bool
    seconds: Mapping[str, float]
    total_seconds: float

    def size_line(self, queries: str) -> str:
        """Returns how large it is, and lists of what it shows: `of 750 queries`."""
        size = size_text(self.bytes)
        return f"{self.out}, {size}: ranked lists of {self.queries_shown:,} {queries}"

    def last_lines(self) -> list[str]:
        """Returns how it is to be kept, how long it took and what took the longest."""
        longest = sorted(self.seconds.items(), key=lambda item: -item[1])[:4]
        parts = ", ".join(f"{part} {duration_text(time)}" for part, time in longest)
        lines = [_PRIVACY] if self.holds_real_people else []
        return [*lines, f"took {duration_text(self.total_seconds)}: most of it {parts}"]


def check_page(out: Path, contents: Contents) -> None:
    """Checks what can be wrong with a page before anything is computed."""
    if out.is_dir():
        raise ValueError(f"A page is a file, not a folder. Received: --out {out}")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {out.parent} for the page.")
    for name in ("queries", "top"):
        if getattr(contents, name) < 1:
            raise ValueError(
                f"--{name} must be at least 1. Received: {getattr(contents, name)}"
            )


def write_page(
    out: Path,
    template: str,
    contents: Contents,
    watch: Stopwatch,
    *,
    datasets: Sequence[str],
    lists: QueryLists | None,
    **shown,
) -> WrittenPage:
    """Writes a page that needs no network and no other file.

    Whatever comes from outside, such as names of files and of runs, is text in it and
    never markup. Its own policy (CSP) lets the browser run the package's script alone,
    which it knows by its hash, and load nothing but what is inside the page.

    An older page is replaced when the new one is whole. The template is one of
    `templates`, which shows the lists, and by name what else is `shown`.
    """
    data, has_people = None, any(name != _WITHOUT_PEOPLE for name in datasets)
    if lists is not None:
        with progress_bar("making pictures") as progress:
            data = data_of_lists(lists, progress)
        watch.lap("pictures")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["ticked"] = ticked
    script = "".join(_text_of(name) for name in _SCRIPTS)
    now = datetime.datetime.now(datetime.timezone.utc)
    text = environment.get_template(template).render(
        **shown,
        notice=_notice(contents) if has_people else None,
        lists=lists,
        date=f"{now:%Y-%m-%d %H:%M} UTC",
        version=__version__,
        policy=_policy(script),
        style=Markup(_text_of("page.css")),
        script=Markup(script),
        data=None if data is None else _json_in_html(data),
    )
    write_whole(out, text)
    watch.lap("writing")
    return WrittenPage(
        out=out,
        bytes=out.stat().st_size,
        queries_shown=0 if lists is None else len(lists.reasons),
        holds_real_people=has_people and lists is not None,
        seconds=watch.seconds,
        total_seconds=round(sum(watch.seconds.values()), 3),
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


def _notice(contents):
    """Returns what is said at the top of a page of the people in its data."""
    if contents.images:
        return (
            "This page holds pictures of real people. Keep it as carefully as the "
            "images themselves, under the same terms, and do not publish it."
        )
    return "Pictures are left out of this page (--no-images)."


def _text_of(name):
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _policy(script):
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def _json_in_html(data):
    """Returns JSON in which no character can end or open an element."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
