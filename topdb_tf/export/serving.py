"""Export for TensorFlow Serving: from a run to a model that gives the same numbers."""

import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from topdb_tf.damage import check_model_file
from topdb_tf.export.cpp_loader import libraries, load_in_cpp
from topdb_tf.export.model_card import ServedExport, model_card
from topdb_tf.files import contents_of, partial_path, write_whole
from topdb_tf.model.preset_files import check_preset, preset_folder
from topdb_tf.runs.folder import Run, RunFolder, open_run
from topdb_tf.runs.machine import load_tensorflow, without_notes
from topdb_tf.runs.models import is_named
from topdb_tf.texts import Say

_SAVED_MODEL = "saved_model.pb"
_LOADED_BY = {
    "cpp": "loaded by the C++ function that TensorFlow Serving calls",
    "session": "loaded by a session",
}


class Source(NamedTuple):
    """What is exported: a `.keras` file or a preset, and the run it is of, if any."""

    model: Path
    run: Run | None
    name: str | None = None

    def beside(self, ending: str) -> Path:
        """Returns where a file or folder goes whose name is that of the model."""
        if self.name:  # nothing is written into a package or the cache of a hub
            return Path(f"{self.name}{ending}")
        return self.model.with_name(f"{self.model.stem}{ending}")


def find_source(path: Path | None, *, best: bool = False) -> Source:
    """Returns the model of a run's folder, of the newest run, in a file or a preset."""
    if path is not None and (path.suffix == ".keras" or path.is_file()):
        if path.suffix != ".keras" or best:
            raise ValueError(
                "A model must be in a .keras file, and has no other epoch to take "
                f"with --best. Received: {path}, best={best}"
            )
        check_model_file(path)
        return Source(path, None)
    if path is not None and not RunFolder(path).holds_run and not best:
        preset = preset_folder(path)
        if preset is not None:
            check_preset(preset)
            return Source(preset, None, path.name if is_named(path) else None)
    run = open_run(path)
    return Source(run.model(best=best), run)


def export_saved_model(
    source: Source,
    out: Path | None = None,
    *,
    precision: str = "float32",
    normalize: bool = False,
    loader: str | None = None,
    cameras: bytes | None = None,
    say: Say,
) -> ServedExport:
    """Writes the next version of a model for TensorFlow Serving, and checks it.

    The version is loaded again as TensorFlow Serving does, must answer all requests
    that a server warms it up with, and must give the embeddings of the source in
    float32 on drawn images. It is loaded by `cpp`, the server's own function in a
    process without Python's TensorFlow, which is the default where TensorFlow's
    libraries are found, or by `session`, one of this process. The versions are in
    `out`, by default `saved_model` in the run's folder, or beside the file. `cameras`
    are the contents of its `assets.extra/cameras.npz`, for clients.
    """
    if out is None:
        beside = source.beside("_saved_model")
        out = source.run.path / "saved_model" if source.run else beside
    version = next_version(out)
    loader = loader or ("cpp" if libraries() else "session")
    load_tensorflow()
    from topdb_tf.export.check import check_export, drawn_probes, reference_of
    from topdb_tf.export.saved_model import ServedEmbedder, write_warm_up_requests
    from topdb_tf.model.extraction import load_embedder

    start = time.monotonic()
    embedder = load_embedder(source.model)
    with without_notes():
        served = ServedEmbedder(embedder, dtype=precision, normalize=normalize)
    say(f"{source.model}: {precision}, embedding of {served.embedding_dim}")
    with without_notes(), partial_path(version) as partial:
        partial.mkdir()
        served.write(partial)
        probes = drawn_probes(served.image_size)
        write_warm_up_requests(partial, probes)
        if cameras is not None:
            (partial / "assets.extra" / "cameras.npz").write_bytes(cameras)
        answers = _ANSWERS[loader](partial, probes)
        expected = reference_of(embedder, normalize=normalize)(probes.pixels)
        differences = check_export(answers, expected, precision=precision)
        height, width = served.image_size
        export = ServedExport(
            path=version.parent,
            mebibytes=round(bytes_of(partial) / 2**20, 1),
            precision=precision,
            normalize=normalize,
            height=height,
            width=width,
            dim=served.embedding_dim,
            max_difference=differences.max_difference,
            min_cosine=differences.min_cosine,
            loader=loader,
            seconds=round(time.monotonic() - start, 1),
        )
        card = model_card(source.model, source.run, export)
        write_whole(partial / "README.md", card)
        return replace(export, path=publish(partial, version.parent))


def next_version(folder: Path) -> Path:
    """Returns the new folder of a model's next version, `folder/<number>`."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} must be a folder, for the versions of a model.")
    names = [path.name for path in contents_of(folder)] if folder.exists() else []
    others = [name for name in names if not name.isdecimal()]
    if others:
        raise ValueError(
            f"{folder} must hold nothing but the versions of a model, folders named by "
            f"numbers. Choose another --out. Received: {', '.join(sorted(others)[:5])}"
        )
    return folder / str(max(versions(folder), default=0) + 1)


def publish(model: Path, folder: Path) -> Path:
    """Renames a whole model to the next version; no other process gets its number."""
    while True:
        version = next_version(folder)
        try:
            return model.rename(version)
        except OSError:
            if not version.exists():
                raise


def versions(folder: Path) -> list[int]:
    """Returns the numbers of a model's versions, in ascending order."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def newest_version(folder: Path) -> Path:
    """Returns the folder of a SavedModel: `folder`, or its newest version."""
    if (folder / _SAVED_MODEL).is_file():
        return folder
    for number in reversed(versions(folder)):
        if (folder / str(number) / _SAVED_MODEL).is_file():
            return folder / str(number)
    raise FileNotFoundError(
        f"{folder} must hold a model that `topdb-tf export` wrote: folders named by "
        f"their version, with {_SAVED_MODEL} in them."
    )


def served_lines(export: ServedExport) -> list[str]:
    """Returns an export for TensorFlow Serving for people."""
    return [
        f"{export.path}: {export.mebibytes:g} MiB, {export.precision}",
        _LOADED_BY[export.loader],
        f"largest difference from the run's embeddings {export.max_difference:.2g}, "
        f"smallest cosine {export.min_cosine:.7f}",
    ]


def _session_answers(version, probes):
    """Returns the embeddings that a session of this process gives of the probes."""
    from topdb_tf.export.session import SessionModel

    with SessionModel(version) as model:
        return [
            model.run("serving_default", image_bytes=probes.files),
            model.run("pixels", images=probes.images),
        ]


def _cpp_answers(version, probes):
    """Returns the embeddings of the probes that the server's own loader gives."""
    loaded = load_in_cpp(version)
    refused = [f"{one.signature}: {one.error}" for one in loaded.answers if one.error]
    if loaded.unknown_ops or refused:
        raise ValueError(
            "TensorFlow Serving must know all operations of a model and answer its "
            "warm-up requests. Nothing was written. Received: "
            f"{', '.join(loaded.unknown_ops) or refused[0]}"
        )
    return [
        answer.output
        for answer in loaded.answers
        if answer.signature != "activation_map"
        and len(answer.output) == len(probes.files)
    ]


_ANSWERS = {"cpp": _cpp_answers, "session": _session_answers}


def bytes_of(folder: Path) -> int:
    """Returns the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
