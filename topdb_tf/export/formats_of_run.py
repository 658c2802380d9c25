"""Export as an ONNX or LiteRT file, with a report of what it costs in accuracy."""

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from topdb_tf import __version__
from topdb_tf.data.benchmarks import dataset_name
from topdb_tf.data.records import Split, load_card
from topdb_tf.export.serving import LEAST_COSINE, Source
from topdb_tf.files import whole_file, write_whole
from topdb_tf.runs.data import read_data
from topdb_tf.runs.machine import load_tensorflow, without_notes
from topdb_tf.runs.recipes import read_config, read_recipe
from topdb_tf.runs.settings import RENAMED, Config

NUM_CALIBRATION_IMAGES = 300
_LEAST_COSINE = {**LEAST_COSINE, "int8": 0.7}  # finds what is broken, not what is poor
_CONSENT = (
    "Re-identification follows people through cameras. Use it only where those seen "
    "have consented or there is another legal basis."
)

Say = Callable[[str], None]


@dataclass(frozen=True)
class ReportData:
    """Which images an exported file is scored and, for int8, calibrated on.

    Args:
        overrides: Texts `section.key=value` over the settings of the run, such as
            `data.root=...`. `data.dataset=...` names the data of a model without a run.
        max_pids: Most query identities that are scored; all if it is `None`.
    """

    overrides: tuple[str, ...] = ()
    max_pids: int | None = 100

    def __post_init__(self):
        if self.max_pids is not None and self.max_pids < 1:
            raise ValueError(
                "There must be an identity to score. "
                f"Received: max_pids={self.max_pids}"
            )


def export_file(
    source: Source,
    format: str,
    out: Path | None = None,
    *,
    precision: str = "float32",
    data: ReportData | None = None,
    force: bool = False,
    say: Say,
) -> dict:
    """Writes an embedder as an ONNX or LiteRT file, and reports its accuracy beside it.

    The reference of all differences is the source computed in float32, whatever it was
    trained in. The file is checked on drawn images and, where the data of the run are
    at hand, scored on query and gallery. It appears whole or not at all; the report is
    `<out>.report.json`.

    Args:
        source: The model, of `topdb_tf.export.serving.find_source`.
        format: Name in `topdb_tf.export.formats.FORMATS`.
        out: The file. By default beside the model, with its name and the suffix of the
            format, and its precision if that is not float32.
        precision: One of the format's.
        data: The images; by default those of the run.
        force: Whether a file that exists is replaced.
        say: Function that shows a line.

    Returns:
        What the report holds, see `topdb_tf.export.accuracy`.

    Raises:
        FileExistsError: If the file exists and `force` is not set.
        FileNotFoundError: If a folder or the images are missing.
        ValueError: If the format, the precision or `out` is wrong, a package or, for
            "int8", training images are missing, or the file's embeddings are not those
            of the model. Nothing is left behind.
    """
    load_tensorflow()
    from topdb_tf.export.accuracy import report
    from topdb_tf.export.formats import check_format
    from topdb_tf.model.extraction import load_embedder

    start = time.monotonic()
    data = data or ReportData()
    suffix = check_format(format, precision).suffix
    out = Path(out or _default_file(source, suffix, precision))
    _check_out(out, suffix, force)
    config, split = _config_and_split(source, data, precision, say)
    embedder = load_embedder(source.model)
    say(f"{source.model}: writing {format}, {precision}")
    images = _calibration_images(split, embedder) if precision == "int8" else None
    with whole_file(out) as partial:
        partial.write_bytes(_contents(embedder, format, precision, images, source))
        facts = report(
            embedder,
            partial,
            least_cosine=_LEAST_COSINE[precision],
            scored=None if split is None else (split, config),
            max_pids=data.max_pids,
        )
    origin = {"path": str(out), "format": format, "precision": precision}
    origin["num_calibration_images"] = len(images or ())
    facts = {**origin, **facts, "seconds": round(time.monotonic() - start, 1)}
    write_whole(_report_of(out), json.dumps(facts, indent=2) + "\n")
    return facts


def export_file_lines(facts: dict) -> list[str]:
    """Returns the facts of an exported file for people."""
    probes, speed = facts["probes"], facts["images_per_second"]
    lines = [
        f"{facts['path']}: {facts['mebibytes']:g} MiB, {facts['precision']}",
        f"on {probes['num_images']} drawn images: {_difference(probes)}",
    ]
    scores = facts["retrieval"]
    if scores is not None:
        before, after, change = (scores[key] for key in ("before", "after", "change"))
        lines += [
            f"on {scores['num_query_images']:,} queries and "
            f"{scores['num_gallery_images']:,} gallery images of "
            f"{scores['num_pids']:,} identities of {scores['dataset']}: "
            f"{_difference(scores)}",
            f"mAP {before['mean_ap']:.2%} in float32, {after['mean_ap']:.2%} in the "
            f"file ({100 * change['mean_ap']:+.2f} points); rank-1 "
            f"{before['rank_1']:.2%}, {after['rank_1']:.2%} "
            f"({100 * change['rank_1']:+.2f} points)",
        ]
        if scores["max_pids"] is not None:
            lines.append(
                "Only images of these identities were ranked: compare the scores with "
                "each other, not with those of the whole data set."
            )
    lines.append(
        f"{speed['file']:.1f} images/s, Keras in {facts['source_precision']} "
        f"{speed['source']:.1f} (batch {speed['batch_size']}, {speed['threads']} "
        "threads)"
    )
    return [*lines, f"report: {_report_of(Path(facts['path']))}"]


def _difference(facts):
    return (
        f"largest difference {facts['max_difference']:.2g}, cosine at least "
        f"{facts['min_cosine']:.6f}, on average {facts['mean_cosine']:.6f}"
    )


def _default_file(source, suffix, precision):
    ending = "" if precision == "float32" else f"-{precision}"
    return source.model.with_name(f"{source.model.stem}{ending}{suffix}")


def _report_of(out):
    return out.with_name(f"{out.name}.report.json")


def _check_out(out, suffix, force):
    if out.suffix != suffix or out.is_dir():
        raise ValueError(f"The file to write must end in {suffix}. Received: out={out}")
    if out.exists() and not force:
        raise FileExistsError(
            f"{out} already exists. Choose another --out, or pass --force."
        )
    if not out.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {out.parent} to write into.")


def _config_and_split(
    source: Source, data: ReportData, precision: str, say: Say
) -> tuple[Config | None, Split | None]:
    """Returns the settings and the images of a run, if they are at hand."""
    keys = [text.partition("=")[0].strip() for text in data.overrides]
    names_data = "data.dataset" in [RENAMED.get(key, key) for key in keys]
    if source.run is None and not names_data:
        if precision == "int8":
            raise ValueError(
                "int8 needs training images, which tell the range of every activation. "
                "Name the folder of the run, or --dataset and --data-root. "
                f"Received: {source.model}"
            )
        say("not scored: a model without a run needs --dataset and --data-root")
        return None, None
    if source.run is None:
        config = read_recipe("paper", data.overrides)
    else:
        config = read_config(source.run.config, data.overrides)
    try:
        return config, read_data(config.data.dataset, config, run=source.run)
    except (FileNotFoundError, ValueError) as error:
        if precision == "int8" or data.overrides:
            raise
        say(f"not scored: {error}")
        return None, None


def _calibration_images(split, embedder) -> list[np.ndarray]:
    """Returns some training images as they are evaluated, each as a batch of one."""
    from topdb_tf.data.pipeline import evaluation_dataset

    count = min(NUM_CALIBRATION_IMAGES, len(split.train))
    if count == 0:
        raise ValueError(
            "int8 needs training images, which tell the range of every activation. "
            f"Received: {split.name} without training images"
        )
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.choice(len(split.train), count, replace=False))
    batches = evaluation_dataset(
        [split.train[index].path for index in chosen],
        image_size=tuple(embedder.input_shape[1:3]),
        batch_size=1,
    )
    return [pixels.numpy() for pixels in batches]


def _contents(embedder, format, precision, images, source) -> bytes:
    from topdb_tf.export.formats import file_bytes

    with without_notes():
        return file_bytes(
            embedder,
            format,
            precision=precision,
            metadata=_metadata(source, embedder, precision),
            calibration=images,
        )


def _metadata(source, embedder, precision) -> dict[str, str]:
    _, height, width, _ = embedder.input_shape
    texts = {
        "description": "Person re-identification embedder (Top-DB-Net), by topdb-tf "
        f"{__version__}",
        "input": f"pixels: float32 RGB in [0, 255], (batch, {height}, {width}, 3); "
        "normalised in the graph",
        "output": f"embedding: float32 (batch, {embedder.output_shape[-1]}), not of "
        "unit norm",
        "precision": precision,
        "training_data": "unknown",
        "terms": "Those of the training data.",
        "consent": _CONSENT,
    }
    if source.run is not None:
        name = read_config(source.run.config).data.dataset
        texts["training_data"] = dataset_name(name)
        with contextlib.suppress(FileNotFoundError):  # data of one's own have no card
            card = load_card(name)
            texts["terms"] = f"{card.title}: {card.terms}"
    return texts
