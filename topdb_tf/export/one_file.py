"""Export as an ONNX or LiteRT file, with a report of what it costs in accuracy."""

import contextlib
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from topdb_tf import __version__
from topdb_tf.data.benchmarks import dataset_name, joined_names
from topdb_tf.data.records import Split, load_card
from topdb_tf.export.accuracy import RetrievalChange, Speeds, retrieval_change, speeds
from topdb_tf.export.formats import (
    Contract,
    InputContract,
    OutputContract,
    check_contract_file,
    check_format,
    contract_file,
    file_bytes,
)
from topdb_tf.export.probes import ProbeDifferences
from topdb_tf.export.serving import Source
from topdb_tf.files import check_new_file, plain, whole_file
from topdb_tf.runs.data import read_data
from topdb_tf.runs.folder import open_run
from topdb_tf.runs.machine import load_tensorflow, without_notes
from topdb_tf.runs.recipes import read_recipe
from topdb_tf.runs.settings import RENAMED
from topdb_tf.texts import Say

NUM_CALIBRATION_IMAGES = 300
_INT8_NEEDS = "int8 needs training images, which tell the range of every activation."
_CONSENT = (
    "Re-identification follows people through cameras. Use it only where those seen "
    "have consented or there is another legal basis."
)


@dataclass(frozen=True)
class ReportData:
    """Which images an exported file is scored and, for int8, calibrated on.

    Overrides are over the settings of the run; `data.dataset=...` names the data of a
    model without one. At most `max_pids` query identities are scored, or all.
    """

    overrides: tuple[str, ...] = ()
    max_pids: int | None = 100

    def __post_init__(self):
        if self.max_pids is not None and self.max_pids < 1:
            raise ValueError(
                "There must be an identity to score. "
                f"Received: max_pids={self.max_pids}"
            )


@dataclass(frozen=True)
class FileExport:
    """An ONNX or LiteRT file, as it was written and measured; its report file as JSON.

    The differences are on drawn images and, if one was at hand, on a data set. The
    checksum tells whether a report is that of the file beside it.
    """

    path: Path
    format: str
    precision: str
    num_calibration_images: int
    sha256: str
    mebibytes: float
    height: int
    width: int
    dim: int
    source_precision: str
    probes: ProbeDifferences
    retrieval: RetrievalChange | None
    images_per_second: Speeds
    seconds: float
    reference: str = "the source computed in float32, batch normalisation not folded"


def export_file(
    source: Source,
    format: str,
    out: Path | None = None,
    *,
    precision: str = "float32",
    report_data: ReportData = ReportData(),
    force: bool = False,
    say: Say,
) -> FileExport:
    """Writes an embedder as an ONNX or LiteRT file, and reports its accuracy beside it.

    The file is checked on drawn images and, where the data of the run are at hand,
    scored on query and gallery. All appear whole or not at all: the report is
    `<out>.report.json`, and an ONNX file has a `topdb_tf.export.formats.Contract`. By
    default the file is beside the model, with its name and the suffix of the format,
    and its precision if that is not float32.
    """
    start = time.monotonic()
    out = _free_place(source, format, out, precision, force)
    if source.run is None:
        config = read_recipe("paper", report_data.overrides)
    else:
        config = open_run(source.run.path, report_data.overrides).config
    split = _split_at_hand(source, config, report_data, precision, say)
    load_tensorflow()
    from topdb_tf.model.extraction import load_embedder

    embedder = load_embedder(source.model)
    say(f"{source.model}: writing {format}, {precision}")
    images = _calibration_images(split, embedder) if precision == "int8" else []
    metadata = _metadata(source, embedder, precision)
    with without_notes():
        contents = file_bytes(
            embedder, format, precision=precision, metadata=metadata, calibration=images
        )
    with contextlib.ExitStack() as files:
        partial = files.enter_context(whole_file(out))
        partial.write_bytes(contents)
        probes, retrieval, images_per_second = _measured(
            partial, embedder, precision, split, config, report_data
        )
        export = FileExport(
            path=out,
            format=format,
            precision=precision,
            num_calibration_images=len(images),
            sha256=hashlib.sha256(contents).hexdigest(),
            mebibytes=round(len(contents) / 2**20, 2),
            height=embedder.input_shape[1],
            width=embedder.input_shape[2],
            dim=embedder.output_shape[-1],
            source_precision=_precision_of(embedder),
            probes=probes,
            retrieval=retrieval,
            images_per_second=images_per_second,
            seconds=round(time.monotonic() - start, 1),
        )
        for path, text in _texts_beside(export, config):
            files.enter_context(whole_file(path)).write_text(text, "utf-8")
    return export


def file_lines(export: FileExport) -> list[str]:
    """Returns an ONNX or LiteRT export for people."""
    lines = [
        f"{export.path}: {export.mebibytes:g} MiB, {export.precision}",
        f"on {export.probes.num_images} drawn images: {_in_words(export.probes)}",
    ]
    change = export.retrieval
    if change is not None:
        before, after, points = change.before, change.after, change.change
        lines += [
            f"on {change.num_query_images:,} queries and "
            f"{change.num_gallery_images:,} gallery images of {change.num_pids:,} "
            f"identities of {change.dataset}: {_in_words(change)}",
            f"mAP {before.mean_ap:.2%} in float32, {after.mean_ap:.2%} in the file "
            f"({100 * points.mean_ap:+.2f} points); rank-1 {before.rank_1:.2%}, "
            f"{after.rank_1:.2%} ({100 * points.rank_1:+.2f} points)",
        ]
        if change.max_pids is not None:
            lines.append(
                "Only images of these identities were ranked: compare the scores with "
                "each other, not with those of the whole data set."
            )
    rates = export.images_per_second
    if export.format == "onnx":
        lines.append(f"for other programs: {contract_file(export.path)}")
    return [
        *lines,
        f"{rates.file:.1f} images/s, Keras in {export.source_precision} "
        f"{rates.source:.1f} (batch {rates.batch_size}, {rates.threads} threads)",
        f"report: {report_file(export.path)}",
    ]


def report_file(out: Path) -> Path:
    """Returns the file of the report on an exported file, beside it."""
    return out.with_name(f"{out.name}.report.json")


def _free_place(source, format, out, precision, force):
    """Returns where a file goes, after a look at whether it can be written there."""
    suffix = check_format(format, precision).suffix
    ending = "" if precision == "float32" else f"-{precision}"
    out = Path(out or source.beside(f"{ending}{suffix}"))
    check_new_file(out, suffix=suffix, force=force)
    check_contract_file(out, format, force=force)
    return out


def _texts_beside(export, config):
    """Yields the files that belong to an exported one, with what is in them."""
    yield report_file(export.path), json.dumps(plain(export), indent=2) + "\n"
    if export.format != "onnx":
        return
    contract = Contract(
        file=export.path.name,
        sha256=export.sha256,
        precision=export.precision,
        input=InputContract(export.height, export.width),
        output=OutputContract(export.dim, config.evaluation.metric),
    )
    yield contract_file(export.path), contract.to_yaml()


def _in_words(differences):
    return (
        f"largest difference {differences.max_difference:.2g}, cosine at least "
        f"{differences.min_cosine:.6f}, on average {differences.mean_cosine:.6f}"
    )


def _split_at_hand(source, config, report_data, precision, say) -> Split | None:
    """Returns the data set to score and calibrate on, if one is known and there."""
    keys = [text.partition("=")[0].strip() for text in report_data.overrides]
    names_data = "data.dataset" in [RENAMED.get(key, key) for key in keys]
    if source.run is None and not names_data:
        if precision == "int8":
            raise ValueError(
                f"{_INT8_NEEDS} Name the folder of the run, or --dataset and "
                f"--data-root. Received: {source.model}"
            )
        say("not scored: a model without a run needs --dataset and --data-root")
        return None
    try:
        split = read_data(config.data.dataset, config, run=source.run)
    except (FileNotFoundError, ValueError) as error:
        if precision == "int8" or report_data.overrides:
            raise
        say(f"not scored: {error}")
        return None
    if precision == "int8" and not split.train:
        raise ValueError(
            f"{_INT8_NEEDS} Received: {split.name} without training images"
        )
    return split


def _calibration_images(split, embedder) -> list[np.ndarray]:
    """Returns some training images as they are evaluated, each as a batch of one."""
    from topdb_tf.data.pipeline import evaluation_dataset

    number = min(NUM_CALIBRATION_IMAGES, len(split.train))
    rng = np.random.default_rng(0)
    drawn = np.sort(rng.choice(len(split.train), number, replace=False))
    batches = evaluation_dataset(
        [split.train[index].path for index in drawn],
        image_size=tuple(embedder.input_shape[1:3]),
        batch_size=1,
    )
    return [pixels.numpy() for pixels in batches]


def _measured(path, embedder, precision, split, config, report_data):
    """Returns what is measured on a file, after the check that it is like its source.

    These are the differences on drawn images and on a data set, and the speeds.
    """
    from topdb_tf.export.check import check_export, drawn_probes, reference_of
    from topdb_tf.export.formats import load_file

    image_size = tuple(embedder.input_shape[1:3])
    reference, pixels = reference_of(embedder), drawn_probes(image_size).pixels
    with without_notes():
        model = load_file(path)
        # One image alone and the others together: the batch must be free.
        answers = [np.concatenate([model(pixels[:1]), model(pixels[1:])])]
    probes = check_export(answers, reference(pixels), precision=precision)
    change = None
    if split is not None:
        change = retrieval_change(
            reference,
            model,
            split,
            config,
            image_size=image_size,
            max_pids=report_data.max_pids,
        )
    return probes, change, speeds(embedder, model, pixels)


def _precision_of(embedder):
    """Returns the precision of the feature maps, as the model was trained."""
    maps = [layer for layer in embedder.layers if len(layer.output.shape) == 4]
    return maps[-1].compute_dtype


def _metadata(source, embedder, precision) -> dict[str, str]:
    """Returns the texts that the file keeps, by name."""
    _, height, width, _ = embedder.input_shape
    training_data, terms = "unknown", "Those of the training data."
    if source.run is not None:
        dataset = source.run.saved.data.dataset
        training_data = dataset_name(dataset)
        told = []
        for name in joined_names(dataset):
            with contextlib.suppress(FileNotFoundError):  # one's own have no card
                card = load_card(name)
                told.append(f"{card.title}: {card.terms}")
        terms = "\n".join(told) or terms
    return {
        "description": "Person re-identification embedder (Top-DB-Net), by topdb-tf "
        f"{__version__}",
        "input": f"pixels: float32 RGB in [0, 255], (batch, {height}, {width}, 3); "
        "normalised in the graph",
        "output": f"embedding: float32 (batch, {embedder.output_shape[-1]}), not of "
        "unit norm",
        "precision": precision,
        "training_data": training_data,
        "terms": terms,
        "consent": _CONSENT,
    }
