"""Export for TensorFlow Serving: from a run to a model that gives the same numbers."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from topdb_tf.export.model_card import model_card
from topdb_tf.export.probes import compare, draw_probes
from topdb_tf.files import write_whole
from topdb_tf.runs.folder import RunFolder, model_file, open_run
from topdb_tf.runs.machine import load_tensorflow, without_notes

LEAST_COSINE = {"float32": 0.9999, "float16": 0.99, "bfloat16": 0.95}
"""How alike an exported embedding must be to the one in float32, by precision.

In a half precision this only finds what is broken: a MobileNetV2 trained in bfloat16
gave a mean cosine of 0.983 itself, and 0.994 with its batch normalisation folded.
"""


class Source(NamedTuple):
    """What is exported.

    Args:
        model: The `.keras` file.
        run: Folder of the run that it comes from, if it comes from one.
    """

    model: Path
    run: RunFolder | None


def find_source(path: Path | None, *, best: bool = False) -> Source:
    """Returns the model of a run's folder, of the newest run, or in a file.

    Args:
        path: Folder of a run, a `.keras` file, or nothing for the newest run.
        best: Whether to take a run's model of the best epoch.

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
    model = model_file(run, best=best)
    return Source(model, run)


def export_saved_model(
    source: Source,
    out: Path | None = None,
    *,
    precision: str = "float32",
    normalize: bool = False,
    say: Callable[[str], None],
) -> dict:
    """Writes the next version of a model for TensorFlow Serving, and checks it.

    The version is loaded again as TensorFlow Serving does, by a session, and must give
    the embeddings that an evaluation in float32 gives on drawn images.

    Args:
        source: The model.
        out: The model's folder, whose sub-folders are its versions; by default
            `saved_model` in the run's folder, or beside the file.
        precision: "float32", "bfloat16" or "float16".
        normalize: Whether embeddings are divided by their L2 norm.
        say: Function that shows a line.

    Returns:
        The facts: `path`, `mebibytes`, `precision`, `normalize`, `height` and `width`
        in pixels, `dim`, `max_difference` (the largest of an embedding's components,
        absolute), `min_cosine`, `seconds`.

    Raises:
        ValueError: If the file holds no embedder, or the version's embeddings differ
            by more than `LEAST_COSINE` allows. Nothing is left behind.
    """
    load_tensorflow()
    from topdb_tf.export.saved_model import ServedEmbedder, save
    from topdb_tf.model.extraction import load_embedder

    start = time.monotonic()
    out = out or _default_folder(source)
    embedder = load_embedder(source.model)
    with without_notes():
        served = ServedEmbedder(embedder, dtype=precision, normalize=normalize)
    say(f"{source.model}: {precision}, embedding of {served.embedding_dim}")
    height, width = served.image_size
    facts = {
        "path": "",
        "mebibytes": 0.0,
        "precision": precision,
        "normalize": normalize,
        "height": height,
        "width": width,
        "dim": served.embedding_dim,
    }
    with tempfile.TemporaryDirectory() as folder:
        probes = draw_probes(Path(folder))
        expected = _evaluated(embedder, probes, normalize)

        def finish(version):
            _write_warm_up(version, probes)
            facts.update(_checked(version, probes, expected, precision))
            facts["mebibytes"] = round(_bytes_of(version) / 2**20, 1)
            card = model_card(source.model, source.run, facts)
            write_whole(version / "README.md", card)

        with without_notes():
            version = save(served, out, finish=finish)
    facts.update(path=str(version), seconds=round(time.monotonic() - start, 1))
    return facts


def export_lines(facts: dict) -> list[str]:
    """Returns the facts of an export for people."""
    return [
        f"{facts['path']}: {facts['mebibytes']:g} MiB, {facts['precision']}",
        f"largest difference from the run's embeddings {facts['max_difference']:.2g}, "
        f"smallest cosine {facts['min_cosine']:.7f}",
    ]


def _default_folder(source):
    if source.run is not None:
        return source.run.path / "saved_model"
    return source.model.with_name(f"{source.model.stem}_saved_model")


def _evaluated(embedder, paths, normalize):
    """Returns the embeddings that an evaluation in float32 makes of the images."""
    from topdb_tf.data.pipeline import evaluation_dataset
    from topdb_tf.model.extraction import extract_embeddings
    from topdb_tf.model.folding import in_precision

    embedder = in_precision(embedder, "float32")
    batches = evaluation_dataset(
        paths, image_size=tuple(embedder.input_shape[1:3]), batch_size=len(paths)
    )
    embeddings = extract_embeddings(embedder, batches, num_images=len(paths))
    if normalize:
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings


def _write_warm_up(version, paths):
    from topdb_tf.data.decoding import decode_image
    from topdb_tf.export.warm_up import write_warm_up_requests

    contents = [path.read_bytes() for path in paths]
    requests = []
    for batch in (1, min(8, len(paths))):
        image_bytes = {"image_bytes": contents[:batch]}
        images = np.stack([decode_image(path) for path in paths[:batch]])
        requests += [
            ("serving_default", image_bytes),
            ("pixels", {"images": images}),
            ("activation_map", image_bytes),
        ]
    write_warm_up_requests(version, requests)


def _checked(version, paths, expected, precision):
    """Returns how far the version's embeddings are from what is expected."""
    from topdb_tf.data.decoding import decode_image
    from topdb_tf.export.session import SessionModel

    with SessionModel(version) as model:
        contents = [path.read_bytes() for path in paths]
        images = np.stack([decode_image(path) for path in paths])
        answers = [
            model.run("serving_default", image_bytes=contents)["embedding"],
            model.run("pixels", images=images)["embedding"],
        ]
    found = compare(np.concatenate(answers), np.concatenate([expected] * len(answers)))
    difference, cosine = found["max_difference"], found["min_cosine"]
    if not cosine >= LEAST_COSINE[precision]:
        raise ValueError(
            "The exported model must give the embeddings of the run: their cosine must "
            f"be at least {LEAST_COSINE[precision]}. Nothing was written. Try "
            f"--precision float32. Received: cosine={cosine:.6f}, largest difference "
            f"{difference:.3g}, precision={precision}"
        )
    return {"max_difference": difference, "min_cosine": cosine}


def _bytes_of(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
