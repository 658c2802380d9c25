"""When a run was trained and for how long, as its own files tell."""

import datetime
import struct
from pathlib import Path
from typing import NamedTuple

from topdb_tf.run_folder import RunFolder

_WALL_TIME = 0x09  # field 1 of TensorBoard's Event, a double


class TrainingTimes(NamedTuple):
    """When a training was under way.

    Args:
        begin: When it began.
        end: When its last entry was written.
        seconds: Of training and scoring; not those between an interruption and the
            call that went on with it.
    """

    begin: datetime.datetime
    end: datetime.datetime
    seconds: float


def training_times(run: RunFolder) -> TrainingTimes | None:
    """Returns the times in a run's TensorBoard events; nothing where there are none.

    They are in the entries themselves, so that a folder that was copied still tells
    them. The seconds before the first entry, of reading data and building the network,
    are not known.
    """
    files = sorted(run.tensorboard.rglob("events.out.tfevents.*"))
    spans = [(min(times), max(times)) for times in map(_wall_times, files) if times]
    if not spans:
        return None
    begin, end = min(first for first, _ in spans), max(last for _, last in spans)
    seconds = sum(last - first for first, last in _joined(spans))
    zone = datetime.timezone.utc
    moments = (datetime.datetime.fromtimestamp(time, zone) for time in (begin, end))
    return TrainingTimes(*moments, seconds)


def _wall_times(path: Path) -> list[float]:
    """Returns the times of the whole entries of a file of events."""
    data, place, times = path.read_bytes(), 0, []
    while place + 12 <= len(data):  # length, its checksum, entry, its checksum
        (length,) = struct.unpack_from("<Q", data, place)
        entry = data[place + 12 : place + 12 + length]
        if len(entry) == length >= 9 and entry[0] == _WALL_TIME:
            times.append(struct.unpack_from("<d", entry, 1)[0])
        place += 16 + length
    return times


def _joined(spans):
    """Returns the spans without overlaps: several files are written at a time."""
    joined = []
    for first, last in sorted(spans):
        if joined and first <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], last)
        else:
            joined.append([first, last])
    return joined
