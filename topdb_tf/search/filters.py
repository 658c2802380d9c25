"""What a query looks among: some cameras, and some time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from topdb_tf.search.entries import Entries
from topdb_tf.texts import listed, seconds_of


@dataclass(frozen=True)
class Filter:
    """The images that may be found; by default all.

    Args:
        camids: Cameras, by names or numbers; a text may name several, as `1,2`.
        since: Earliest time, as a text of `topdb_tf.texts.seconds_of` or in seconds.
        until: Latest time, the same. An image of no known time is not within any.

    Raises:
        ValueError: If a time is none, or the latest is before the earliest.
    """

    camids: Sequence[int | str] = ()
    since: float | str | None = None
    until: float | str | None = None

    def __post_init__(self):
        for name in ("since", "until"):
            if (time := getattr(self, name)) is not None:
                seconds = seconds_of(str(time), f"--{name}")
                if np.isnan(seconds):
                    raise ValueError(f"--{name} must be a time. Received: {time!r}")
                object.__setattr__(self, name, seconds)
        since, until = self.within
        if since > until:
            raise ValueError(
                "--since must not be after --until. Received: "
                f"since={since}, until={until} in seconds since 1970"
            )

    @property
    def has_time(self) -> bool:
        """Whether a time is told."""
        return self.since is not None or self.until is not None

    @property
    def within(self) -> tuple[float, float]:
        """The earliest and the latest time, infinite where they are not told."""
        since = -np.inf if self.since is None else self.since
        return since, np.inf if self.until is None else self.until

    def rows(self, entries: Entries) -> np.ndarray | None:
        """Returns which rows of an index may be found, `None` if all of them.

        Raises:
            ValueError: If a camera is not one of the index, or none of its images has
                a time and one is told.
        """
        if not self.camids and not self.has_time:
            return None
        may_be = np.ones(len(entries.ids), bool)
        if self.camids:
            may_be = np.isin(entries.camids, self._numbers(entries))
        if self.has_time:
            if np.isnan(entries.times[entries.is_live]).all():
                raise self.no_time()
            since, until = self.within
            may_be = may_be & (entries.times >= since) & (entries.times <= until)
        return may_be

    def no_time(self) -> ValueError:
        """Returns the error where no image has a time and one is told."""
        return ValueError(
            "--since and --until need images whose time is known, from the column "
            "`time` of a CSV file or `times` of a file of features. Received: "
            f"since={self.since}, until={self.until} for an index without"
        )

    def _numbers(self, entries):
        numbers = []
        for text in map(str, self.camids):
            found = entries.numbers_of("camid", [text])  # a name may have a comma
            if found == [None]:
                found = entries.numbers_of("camid", text.split(","))
            numbers += found
        if None in numbers:
            known = listed(entries.cameras(), 20) or "none is known there"
            raise ValueError(
                f"A camera (--camera) must be one of the index: {known}. Received: "
                f"{', '.join(map(str, self.camids))}"
            )
        return numbers


EVERYTHING = Filter()
