"""Numbers, lists and tables in words."""

import contextlib
import datetime
import html
import importlib
import math
import numbers
import re
import shlex
import unicodedata
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import accumulate, chain, pairwise
from typing import NamedTuple

MINUS = "\u2212"
NOTHING = "–"  # in a cell without a value
_STEERING = ("Cc", "Cf", "Cs", "Zl", "Zp")  # categories of Unicode
_JOINERS = "\t\u200c\u200d"  # some scripts and emoji need the last two
# How people and programs write that a person or a camera is not known.
_UNKNOWN = {"", "nan", "none", "null", "na", "nat", "unknown", "unk", "undefined"}
_UNKNOWN |= {"missing", "blank", "unidentified", "unassigned", "unlabeled", "noid"}
_UNKNOWN |= {"unlabelled", "notavailable", "notapplicable", "notknown", "nobody"}
_UNKNOWN |= {"未知", "不明", "inconnu", "inconnue", "unbekannt", "desconhecido"}
_UNKNOWN |= {"desconhecida", "desconocido", "desconocida", "sconosciuto", "неизвестно"}
_LARGEST_TIME = 60e9  # seconds, about the years 70 to 3870
_ERRORS = {"#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NUM!", "#NULL!", "\\N"}
_SIGNS = re.compile(r"[\s!-/:-@\[-`{-~\u2010-\u2015]+")  # of ASCII, and dashes
_LATEX = {character: f"\\{character}" for character in "_&%#${}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    MINUS: "$-$",
    "–": "--",
}

Say = Callable[[str], None]
"""A function that shows a line to the user."""


def duration_text(seconds: float) -> str:
    """Returns a duration for people.

    Example:
        >>> from topdb_tf.texts import duration_text
        >>> duration_text(7384), duration_text(75), duration_text(3.21)
        ('2 h 3 min', '1 min 15 s', '3.2 s')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def printable(text: str) -> str:
    """Returns a line in which nothing steers a terminal, or hides what it says.

    What comes from files and servers may hold escape sequences, line breaks and marks
    of the direction of writing: they are written as Python writes them.

    Example:
        >>> from topdb_tf.texts import printable
        >>> printable("anna\\x1b[2J\\u202egpj.exe")
        'anna\\\\x1b[2J\\\\u202egpj.exe'
    """
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in _STEERING and character not in _JOINERS
        else character
        for character in text
    )


def one_line(error: BaseException) -> str:
    """Returns what an error says, printable and in one line."""
    return printable(" ".join(str(error).split()))


def first_line(error: BaseException) -> str:
    """Returns the first line of what an error says, or its kind if it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def install_command(extra: str) -> str:
    """Returns the command that installs the packages of an extra of this one.

    They are named one by one: this package is on no index, where anybody could give
    its name to another.
    """
    try:
        lines = metadata.requires("topdb-tf") or []
    except metadata.PackageNotFoundError:  # run from its sources
        lines = []
    is_of_extra = re.compile(rf"(.+?)\s*;.*\bextra == ['\"]{extra}['\"]")
    matches = filter(None, map(is_of_extra.match, lines))
    names = [shlex.quote(match[1]) for match in matches]
    return f"pip install {' '.join(names) or f'what setup.py names for {extra}'}"


def module_of_extra(name: str, *, extra: str, purpose: str, otherwise: str = ""):
    """Returns a module that an extra of this package brings.

    Raises:
        ValueError: If it is not installed: its purpose, how to install it, and what
            does without it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        text = " ".join(filter(None, [f"{install_command(extra)}.", otherwise]))
        raise ValueError(f"{purpose}: {text} Received: {error}") from error


def listed(items: Sequence, shown: int = 5) -> str:
    """Returns the first few items, and how many more there are.

    Example:
        >>> from topdb_tf.texts import listed
        >>> listed(["anna", "bob", "carl"], shown=2)
        'anna, bob and 1 more'
    """
    text = ", ".join(str(item) for item in items[:shown])
    return text + (f" and {len(items) - shown:,} more" if len(items) > shown else "")


def natural_order(text: str) -> tuple:
    """Returns the key that sorts `cam2` before `cam10`."""
    pieces = re.split(r"(\d+)", text)  # every second one is a number
    key = [(int(p), "") if i % 2 else (-1, p) for i, p in enumerate(pieces)]
    return tuple(key), text


def means_unknown(text: str) -> bool:
    """Returns whether the id of a person or a camera says that it is not known.

    So say an empty text, -1, signs alone and words such as NaN, None, NA and unknown,
    in upper or lower case and with any signs; and the errors of a spreadsheet.

    Example:
        >>> from topdb_tf.texts import means_unknown
        >>> [means_unknown(text) for text in ("NaN", " N/A", "<unknown>", "-1.0", "??")]
        [True, True, True, True, True]
        >>> [means_unknown(text) for text in ("0", "1", "Nana", "-2", "none 7")]
        [False, False, False, False, False]
    """
    text = re.sub(r"\.0*$", "", unicodedata.normalize("NFKC", text).strip().casefold())
    if text.upper() in _ERRORS:
        return True
    if re.search(r"\d", text):
        return bool(re.fullmatch(r"0*[-\u2212]0*1", text))
    return _SIGNS.sub("", text) in _UNKNOWN


def seconds_of(text: str, place: str) -> float:
    """Returns a time, in ISO 8601 or in seconds since 1970, in such seconds.

    A text without a zone is in UTC, a date alone its midnight, what says that it is not
    known NaN.

    Raises:
        ValueError: If it is no time; `place` says in the message where it stands.

    Example:
        >>> from topdb_tf.texts import seconds_of
        >>> seconds_of("1970-01-02T00:00:30+01:00", "line 2"), seconds_of("7.5", "")
        (82830.0, 7.5)
    """
    text = text.strip()
    if means_unknown(text):
        return math.nan
    with contextlib.suppress(ValueError, OverflowError):
        is_date = re.fullmatch(r"(19|20)\d{2}([01]\d[0-3]\d(\d{4}(\d\d)?)?)?", text)
        if re.fullmatch(r"[-+]?\d*\.?\d+(e\d+)?", text) and not is_date:
            if abs(seconds := float(text)) <= _LARGEST_TIME:
                return seconds
        elif "-" in text[1:]:
            time = datetime.datetime.fromisoformat(re.sub("[Zz]$", "+00:00", text))
            utc = datetime.timezone.utc
            return (time if time.tzinfo else time.replace(tzinfo=utc)).timestamp()
    raise ValueError(
        f"{place}: a time must be as in 2024-05-01T13:30:00+02:00 (UTC where no zone "
        f"is told), or seconds since 1970, not milliseconds. Received: {text!r}"
    )


def time_text(seconds: float) -> str:
    """Returns a time for people, in UTC."""
    start = datetime.datetime(1970, 1, 1)
    time = start + datetime.timedelta(seconds=round(seconds, 3))
    return time.isoformat(" ", "milliseconds").removesuffix(".000") + "Z"


def counted(number: int, noun: str) -> str:
    """Returns a number of things in words.

    Example:
        >>> from topdb_tf.texts import counted
        >>> counted(1, "pair"), counted(1200, "image"), counted(2, "query")
        ('1 pair', '1,200 images', '2 queries')
    """
    if number != 1:
        noun = f"{noun[:-1]}ies" if noun.endswith("ry") else f"{noun}s"
    return f"{number:,} {noun}"


def percent(share: float) -> str:
    """Returns a share as a percentage for people."""
    return f"{100 * share:.1f}"


def rate_text(rate: float) -> str:
    """Returns a rate as a percentage of three digits, however small.

    Example:
        >>> from topdb_tf.texts import rate_text
        >>> rate_text(0.5), rate_text(0.00012345)
        ('50%', '0.0123%')
    """
    return f"{float(f'{100 * rate:.3g}'):.10f}".rstrip("0").rstrip(".") + "%"


def signed(share: float) -> str:
    """Returns a difference of shares in points, with its sign.

    Example:
        >>> from topdb_tf.texts import signed
        >>> signed(0.0123), signed(-0.5)
        ('+1.2', '−50.0')
    """
    if not math.isfinite(share):
        return f"{MINUS if share < 0 else '+'}∞"
    return f"{100 * share:+.1f}".replace("-", MINUS)


def size_text(num_bytes: int) -> str:
    """Returns a size for people.

    Example:
        >>> from topdb_tf.texts import size_text
        >>> size_text(900), size_text(51_300), size_text(5 << 20), size_text(3 << 30)
        ('900 bytes', '50 KiB', '5.0 MiB', '3.00 GiB')
    """
    if num_bytes < 1 << 10:
        return f"{num_bytes} bytes"
    if num_bytes < 1 << 20:
        return f"{num_bytes / 2**10:.0f} KiB"
    if num_bytes < 1 << 30:
        return f"{num_bytes / 2**20:.1f} MiB"
    return f"{num_bytes / 2**30:.2f} GiB"


def check_one_of(name: str, value: str, names: Collection[str]) -> None:
    """Raises `ValueError` unless the value of an argument is one of some names."""
    if value not in names:
        raise ValueError(
            f"`{name}` must be one of {', '.join(names)}. Received: {name}={value!r}"
        )


class Interval(NamedTuple):
    """The numbers that a value may be; NaN is in none, and texts and booleans neither.

    Args:
        text: Both ends, as in "[0, 1)": a square bracket includes its end, a round one
            does not.

    Example:
        >>> from topdb_tf.texts import Interval
        >>> [number in Interval("[0, 1)") for number in (0, 0.5, 1, float("nan"), True)]
        [True, True, False, False, False]
    """

    text: str

    def __contains__(self, number):
        if isinstance(number, bool) or not isinstance(number, numbers.Real):
            return False
        least, most = map(float, self.text[1:-1].split(","))
        above = least <= number if self.text[0] == "[" else least < number
        return bool(
            above and (number <= most if self.text[-1] == "]" else number < most)
        )

    def __str__(self):
        return self.text


def silent(line: str) -> None:
    """Shows a line to nobody: the `Say` of a caller who wants to hear nothing."""


@dataclass(frozen=True)
class Table:
    """A table of texts, as text, Markdown or LaTeX; a page shows it as HTML.

    Args:
        caption: What it shows, in a line.
        head: Names of the columns; the first one is above the names of the rows.
        rows: Cells, as many in each row as in `head`; the first names the row.
        groups: Titles above some columns each, with their number, from left to right;
            columns without a title come first.
        strong: Places of the rows that are set off.
        is_words: Whether cells hold words, which a page sets to the left.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    groups: Sequence[tuple[str, int]] = ()
    strong: Sequence[int] = ()
    is_words: bool = False

    def text(self, *, numbers_right: bool = False) -> list[str]:
        """Returns lines of aligned columns below the caption.

        Example:
            >>> from topdb_tf.texts import Table
            >>> Table("Scores", ["", "mAP"], [["A", "85.8"], ["B", "7.0"]]).text()
            ['Scores', '   mAP', 'A  85.8', 'B  7.0']
        """
        grid = [self._whole_head(), *self.rows]
        widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
        lines = [self.caption] if self.caption else []
        for texts in grid:
            first, *others = zip(texts, widths, strict=True)
            justify = str.rjust if numbers_right else str.ljust
            cells = [first[0].ljust(first[1]), *(justify(*pair) for pair in others)]
            lines.append("  ".join(cells).rstrip())
        return lines

    def markdown(self) -> list[str]:
        """Returns the lines of a Markdown table below the caption."""
        head = self._whole_head()
        lines = [f"**{self.caption}**", ""] if self.caption else []
        for texts in (head, ["---"] * len(head), *self.rows):
            cells = " | ".join(text.replace("|", r"\|") for text in texts)
            lines.append(f"| {cells} |")
        return lines

    def html(self) -> str:
        """Returns an HTML table, as a notebook shows it."""
        grid = [("th", self._whole_head()), *(("td", row) for row in self.rows)]
        rows = [
            "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts)
            for tag, texts in grid
        ]
        caption = f"<caption>{html.escape(self.caption)}</caption>"
        return f"<table>{caption}<tr>{'</tr><tr>'.join(rows)}</tr></table>"

    def latex(self) -> list[str]:
        """Returns the lines of a LaTeX `tabular` (package booktabs) below a comment."""
        count = sum(number for _, number in self.groups)
        first = len(self.head) - count
        align = "l" * first + "c" * count if self.groups else "l" * len(self.head)
        lines = [f"% {self.caption}", rf"\begin{{tabular}}{{{align}}}", r"\toprule"]
        if self.groups:
            titles = "".join(
                rf" & \multicolumn{{{number}}}{{c}}{{{_escaped(title)}}}"
                for title, number in self.groups
            )
            lines.append(f"{' & ' * (first - 1)}{titles.removeprefix(' ')} \\\\")
            ends = accumulate((number for _, number in self.groups), initial=first)
            rules = (
                rf"\cmidrule(lr){{{start + 1}-{end}}}" for start, end in pairwise(ends)
            )
            lines.append(" ".join(rules))
        lines += [_latex_row(self.head), r"\midrule", *map(_latex_row, self.rows)]
        return [*lines, r"\bottomrule", r"\end{tabular}"]

    def _whole_head(self):
        """Returns the names of the columns, each with the title above it."""
        titles = chain.from_iterable([title] * number for title, number in self.groups)
        titles = list(titles)
        first = len(self.head) - len(titles)
        pairs = zip(titles, self.head[first:], strict=True)
        return [*self.head[:first], *(f"{title} {name}" for title, name in pairs)]


def _latex_row(texts):
    return rf"{' & '.join(map(_escaped, texts))} \\"


def _escaped(text):
    return "".join(_LATEX.get(character, character) for character in text)
