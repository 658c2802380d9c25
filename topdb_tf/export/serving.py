"""Export for TensorFlow Serving: from a run to a model that gives the same numbers."""

import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from topdb_tf.export.model_card import ServedExport, model_card
from topdb_tf.files import partial_path, write_whole
from topdb_tf.runs.folder import Run, open_run
from topdb_tf.runs.machine import load_tensorflow, without_notes
from topdb_tf.texts import Say


class Source(NamedTuple):
    """What is exported: a `.keras` file, and the run that it comes from, if any."""

    model: Path
    run: Run | None


def find_source(path: Path | None, *, best: bool = False) -> Source:
    """Returns the model of a run's folder, of the newest run, or in a file.

    Raises:
        FileNotFoundError: If there is no run, no such file, or no model in the run.
        ValueError: If the file is not a `.keras` file, or `best` is asked of one.
    """
    if path is not None and (path.suffix == ".keras" or path.is_file()):
        if not path.is_file():
            raise FileNotFoundError(f"There is no model at {path}.")
        if path.suffix != ".keras" or best:
            raise ValueError(
                "A model must be in a .keras file, and has no other epoch to take "
                f"with --best. Received: {path}, best={best}"
            )
        return Source(path, None)
    run = open_run(path)
    return Source(run.model(best=best), run)


def export_saved_model(
    source: Source,
    out: Path | None = None,
    *,
    precision: str = "float32",
    normalize: bool = False,
    say: Say,
) -> ServedExport:
    """Writes the next version of a model for TensorFlow Serving, and checks it.

    The version is loaded again as TensorFlow Serving does, by a session, and must give
    the embeddings of the source in float32 on drawn images. The versions are in `out`,
    by default `saved_model` in the run's folder, or beside the file.

    Raises:
        ValueError: If the file holds no embedder, or the version's embeddings differ
            too much from those of the source. Nothing is left behind.
    """
    load_tensorflow()
    from topdb_tf.export.check import check_export, drawn_probes, reference_of
    from topdb_tf.export.saved_model import ServedEmbedder, next_version, publish
    from topdb_tf.export.warm_up import write_warm_up_requests
    from topdb_tf.model.extraction import load_embedder

    start = time.monotonic()
    version = next_version(out or _default_folder(source))
    embedder = load_embedder(source.model)
    with without_notes():
        served = ServedEmbedder(embedder, dtype=precision, normalize=normalize)
    say(f"{source.model}: {precision}, embedding of {served.embedding_dim}")
    with without_notes(), partial_path(version) as partial:
        partial.mkdir()
        served.write(partial)
        probes = drawn_probes(served.image_size)
        write_warm_up_requests(partial, probes)
        answers = _answers(partial, probes)
        expected = reference_of(embedder, normalize=normalize)(probes.pixels)
        differences = check_export(answers, expected, precision=precision)
        height, width = served.image_size
        export = ServedExport(
            path=version.parent,
            mebibytes=round(_bytes_of(partial) / 2**20, 1),
            precision=precision,
            normalize=normalize,
            height=height,
            width=width,
            dim=served.embedding_dim,
            max_difference=differences.max_difference,
            min_cosine=differences.min_cosine,
            seconds=round(time.monotonic() - start, 1),
        )
        card = model_card(source.model, source.run, export)
        write_whole(partial / "README.md", card)
        return replace(export, path=publish(partial, version.parent))


def served_lines(export: ServedExport) -> list[str]:
    """Returns an export for TensorFlow Serving for people."""
    return [
        f"{export.path}: {export.mebibytes:g} MiB, {export.precision}",
        f"largest difference from the run's embeddings {export.max_difference:.2g}, "
        f"smallest cosine {export.min_cosine:.7f}",
    ]


def _default_folder(source):
    if source.run is not None:
        return source.run.path / "saved_model"
    return source.model.with_name(f"{source.model.stem}_saved_model")


def _answers(version, probes):
    """Returns the embeddings that the signatures of a version give."""
    from topdb_tf.export.session import SessionModel

    with SessionModel(version) as model:
        return [
            model.run("serving_default", image_bytes=probes.files),
            model.run("pixels", images=probes.images),
        ]


def _bytes_of(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
