"""What the pages of one run and of several have in common: files and words."""

import datetime
from pathlib import Path
from typing import NamedTuple

from topdb_tf import __version__
from topdb_tf.texts import duration_text

_DRAWN = "synthetic"  # the one data set that shows no real person

PRIVACY = (
    "The page holds pictures of real people: keep it as carefully as the images. "
    "--no-images leaves them out."
)


class Contents(NamedTuple):
    """What a page holds.

    Args:
        queries: Number of queries whose ranked lists are shown, at least 1.
        top: Number of ranked images of a list, at least 1.
        images: Whether there are pictures, which show the people of the data set.
    """

    queries: int = 60
    top: int = 10
    images: bool = True


def shows_people(dataset: str) -> bool:
    """Returns whether the images of a data set show real people, as far as is known."""
    return dataset != _DRAWN


def seconds_of(seconds: dict[str, float]) -> dict:
    """Returns the seconds by part and of all parts."""
    return {"seconds": seconds, "total_seconds": round(sum(seconds.values()), 3)}


def seconds_line(result: dict) -> str:
    """Returns how long it took and what took the longest."""
    longest = sorted(result["seconds"].items(), key=lambda item: -item[1])[:4]
    parts = ", ".join(f"{part} {duration_text(seconds)}" for part, seconds in longest)
    return f"took {duration_text(result['total_seconds'])}: most of it {parts}"


def check_page(out: Path, contents: Contents) -> None:
    """Checks what can be wrong with a page before anything is computed.

    Raises:
        FileNotFoundError: If there is no folder for the file.
        ValueError: If the file is a folder, or a number is below 1.
    """
    if out.is_dir():
        raise ValueError(f"A page is a file, not a folder. Received: --out {out}")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {out.parent} for the page.")
    for name in ("queries", "top"):
        if getattr(contents, name) < 1:
            raise ValueError(
                f"--{name} must be at least 1. Received: {getattr(contents, name)}"
            )


def page_facts(kicker: str, title: str, sections: list[tuple[str, str]]) -> dict:
    """Returns what every page shows around its contents."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "kicker": kicker,
        "title": title,
        "sections": [{"id": name, "title": text} for name, text in sections],
        "date": f"{now:%Y-%m-%d %H:%M} UTC",
        "version": __version__,
    }


def people_notice(dataset: str, images: bool) -> str | None:
    """Returns what is said at the top of a page of the people in it."""
    if not shows_people(dataset):
        return None
    if images:
        return (
            "This page holds pictures of real people. Keep it as carefully as the "
            "images themselves, under the same terms, and do not publish it."
        )
    return "Pictures are left out of this page (--no-images)."
