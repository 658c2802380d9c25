"""Presets: folders of KerasHub that hold an embedder, found by name and checked."""

import contextlib
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from topdb_tf import __version__
from topdb_tf.files import plain, sha256_of, user_path, write_whole
from topdb_tf.json_files import read_json, record_of
from topdb_tf.texts import first_line

RECORD = "topdb.json"
"""The file of a preset that lists the others."""
CONFIG, WEIGHTS = "config.json", "model.weights.h5"
CONVERTERS = ("preprocessor.json", "image_converter.json")
RECIPE, SCORES, CARD = "recipe.yaml", "scores.json", "README.md"
DEMO_NOTE = (
    "the model `demo` was trained on drawn people: it is for trying things, and ranks "
    "no real ones. Train one of your own with `topdb-tf fit`."
)

_DEMO = Path(__file__).parent / "demo"
_FORMAT = 1
_ADVICE = (
    "Fetch the preset anew (a hub's is kept in its cache: remove it there first), or "
    "write it anew with `topdb-tf publish`."
)
_CLASS = "topdb_tf>TopDBBackbone"
_ADDRESS = re.compile(r"(hf|kaggle|modelscope|gs):/+(.+)")  # a Path has one slash
_PAGES = {"hf": "https://huggingface.co/", "kaggle": "https://www.kaggle.com/models/"}


@dataclass(frozen=True)
class PresetRecord:
    """What `topdb.json` holds: the SHA-256 of every other file, by its name.

    The metric is that of the distances that the run was scored by.
    """

    files: dict[str, str]
    metric: str = "sqeuclidean"
    topdb_tf: str = __version__
    format: int = _FORMAT

    @classmethod
    def from_dict(cls, value) -> "PresetRecord":
        """Returns the record in JSON; raises `ValueError` if it is none."""
        version = record_of(int, value.get("format"), "format")
        if version > _FORMAT:
            raise ValueError(
                f"a preset of format {version}, which topdb-tf {value.get('topdb_tf')} "
                f"wrote; this is {__version__}. Update it: pip install -U topdb-tf"
            )
        record = record_of(cls, value)
        for name in record.files:
            if Path(name).name != name or name == RECORD:
                raise ValueError(f"`files` must name files beside it, not {name!r:.80}")
        needed = {CONFIG, WEIGHTS, *CONVERTERS} - set(record.files)
        if needed:
            raise ValueError(f"`files` without {', '.join(sorted(needed))}")
        return record


def hub_address(name: Path | str) -> str | None:
    """Returns the address of a preset on a hub, if a name is one.

    Example:
        >>> from pathlib import Path
        >>> from topdb_tf.model.preset_files import hub_address
        >>> hub_address(Path("hf://user/people")), hub_address("runs/people")
        ('hf://user/people', None)
    """
    found = _ADDRESS.fullmatch(str(name))
    return f"{found[1]}://{found[2]}" if found else None


def is_demo(name: Path | str) -> bool:
    """Returns whether a name is that of the preset that comes with the package."""
    return name == _DEMO or (str(name) == "demo" and not Path("demo").exists())


def preset_folder(name: Path | str) -> Path | None:
    """Returns the folder of a preset, unchecked, or `None` if a name is of none.

    The name is "demo", a folder, or an address, whose files KerasHub fetches and keeps.
    """
    address = hub_address(name)
    if address:
        return _fetched(address)
    if is_demo(name):
        return _DEMO
    return user_path(name) if is_preset(name) else None


def is_preset(name: Path | str) -> bool:
    """Returns whether a name is of a preset, by itself or the files in its folder."""
    path = user_path(name)
    is_folder = any((path / file).is_file() for file in (RECORD, CONFIG))
    return is_folder or is_demo(name) or hub_address(name) is not None


def read_record(folder: Path) -> PresetRecord:
    """Returns the list of a preset's files; raises `ValueError` if it is none."""
    advice = f"must list the files of a preset. {_ADVICE}"
    return read_json(folder / RECORD, PresetRecord.from_dict, advice)


def write_record(folder: Path, *, metric: str = "sqeuclidean") -> None:
    """Writes the list of a preset's files with their sums."""
    files = sorted(path for path in folder.iterdir() if path.name != RECORD)
    record = PresetRecord({path.name: sha256_of(path) for path in files}, metric)
    write_whole(folder / RECORD, json.dumps(plain(record), indent=2) + "\n")


def check_preset(folder: Path) -> None:
    """Checks that a preset is whole, of an embedder, and not of a newer version.

    The model card alone may have been edited since.
    """
    if not (folder / RECORD).is_file():
        raise ValueError(
            f"{folder} must be a preset of an embedder, which has a {RECORD}. "
            f"{_ADVICE} Received: a folder without it{_class_text(folder)}"
        )
    record = read_record(folder)
    wrong = [
        f"{name} is missing" if not (folder / name).is_file() else f"{name} is another"
        for name, digest in record.files.items()
        if name != CARD
        and not ((folder / name).is_file() and sha256_of(folder / name) == digest)
    ]
    if (folder / "task.json").exists():  # KerasHub would load it
        wrong.append("task.json is not listed")
    if wrong:
        raise ValueError(
            f"The files of {folder} must be those that {RECORD} lists, by their "
            f"SHA-256. {_ADVICE} Received: {', '.join(wrong)}"
        )
    if _class_of(folder) != _CLASS:
        raise ValueError(
            f"{folder} must be a preset of an embedder. Take one that `topdb-tf "
            f"publish` wrote. Received: a preset{_class_text(folder)}"
        )


def _class_of(folder):
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return config["registered_name"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _class_text(folder):
    name = _class_of(folder)
    return f" of the class {name!s:.80}" if name else ""


def _fetched(address):
    """Returns the folder into which KerasHub has fetched the files of a preset."""
    file = _fetched_file(address, RECORD)
    names = [name for name in read_record(file.parent).files if name != CARD]
    if {_fetched_file(address, name).parent for name in names} != {file.parent}:
        raise FileNotFoundError(
            f"The preset {address} changed while it was fetched: try again."
        )
    return file.parent


def _fetched_file(address, name):
    from keras_hub.src.utils.preset_utils import get_file

    try:
        with contextlib.redirect_stdout(sys.stderr):  # some hubs print
            return Path(get_file(address, name))
    except Exception as error:  # each hub and each of its clients has its own
        reason = _first_cause(error)
        raise FileNotFoundError(
            f"The preset {address} could not be fetched "
            f"({first_line(reason).rstrip('.:')}). {_what_to_do(address, reason)}"
        ) from error


def _first_cause(error):
    """Returns what an error began with; KerasHub makes most into missing files."""
    while before := error.__cause__ or error.__context__:
        error = before
    return error


def _what_to_do(address, error):
    """Returns how to come to a preset that a hub did not give, by its answer."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    hub, _, name = address.partition("://")
    if status in (401, 403):
        return (
            "There is none of this name, or it is not for everybody: look at the name, "
            "and let the hub know you (`hf auth login`; for Kaggle its token)."
        )
    if status == 404:
        return (
            f"Look at the name, and whether {RECORD} is among its files: other presets "
            "of KerasHub are no embedders."
        )
    page = f"of {_PAGES[hub]}{name}" if hub in _PAGES else "there"
    return (
        "If the name is right and the hub is out of reach, download all files "
        f"{page} into one folder on another machine, and name that folder instead."
    )
