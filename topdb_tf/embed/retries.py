"""Asking again what may go better later, and not for longer than allowed."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from topdb_tf.embed.errors import ServingError, UnavailableError


@dataclass(frozen=True)
class Retries:
    """How often and after what pauses a request is repeated.

    The pause doubles each time, up to a limit. Each is cut by a random share of up to
    a half, so that clients which failed together do not come back together. Pauses are
    in seconds, and the first attempt counts.
    """

    attempts: int = 6
    first_delay: float = 0.25
    max_delay: float = 8.0

    def __post_init__(self):
        if self.attempts < 1 or not 0 <= self.first_delay <= self.max_delay:
            raise ValueError(
                "There must be an attempt, and pauses of 0 <= first <= longest. "
                f"Received: attempts={self.attempts}, first_delay={self.first_delay}, "
                f"max_delay={self.max_delay}"
            )

    def delays(self) -> Iterator[float]:
        """Yields the pauses between the attempts, in seconds."""
        for repeat in range(self.attempts - 1):
            # Not seeded: two clients must not draw the same.
            share = random.uniform(0.5, 1.0)
            yield share * min(self.max_delay, self.first_delay * 2**repeat)


class Deadline:
    """The end of the time that all requests of a task have together, if any."""

    def __init__(self, seconds: float | None = None):
        if seconds is not None and not seconds > 0:
            raise ValueError(
                f"The time allowed must be positive. Received: seconds={seconds}"
            )
        self.seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds

    def left(self) -> float:
        """Returns the seconds left, infinite without an end, negative after it."""
        return float("inf") if self._end is None else self._end - time.monotonic()


def ask(
    request: Callable,
    *,
    retries: Retries,
    deadline: Deadline,
    longest: float,
    stop: threading.Event,
):
    """Returns the answer to a request, repeated while the server is unavailable.

    The request is a function of the seconds that it may take, `longest` at most. When
    `stop` is set the pauses end: the answer is no longer wanted.
    """
    delays = retries.delays()
    while True:
        left = deadline.left()
        if left <= 0:
            raise _too_late(deadline)
        try:
            return request(min(longest, left))
        except UnavailableError as error:
            delay = next(delays, None)
            if delay is None:
                raise ServingError(
                    f"{error} Gave up after {retries.attempts} attempts."
                ) from error
            if delay >= deadline.left():
                raise _too_late(deadline, error) from error
        if stop.wait(delay):
            raise ServingError("The request was given up: another one failed.")


def _too_late(deadline, error=None):
    reason = f" The last answer was: {error}" if error else ""
    return ServingError(
        f"The {deadline.seconds:g} s allowed for all images are over.{reason}"
    )
