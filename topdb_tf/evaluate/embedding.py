"""The test images of a data set, embedded by a model: once, and then kept."""

import hashlib
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path

import numpy as np

from topdb_tf import __version__
from topdb_tf.data.benchmarks import absolute_name, dataset_name, is_path
from topdb_tf.data.records import (
    UNKNOWN,
    IdNames,
    ImageRecord,
    Split,
    camids_of,
    pids_of,
    times_of,
    tracklets_of,
)
from topdb_tf.files import sha256_of, whole_file
from topdb_tf.progress import progress_bar
from topdb_tf.retrieval.features import RetrievalSet, array_in, open_arrays
from topdb_tf.retrieval.identities import image_numbers
from topdb_tf.runs.data import (
    DataOrigin,
    is_own,
    origin_of,
    read_data,
    warn_of_trained_images,
)
from topdb_tf.runs.folder import TEST, VALIDATION, Choice, Run
from topdb_tf.runs.machine import load_tensorflow
from topdb_tf.runs.settings import Config, EvaluationConfig
from topdb_tf.texts import Say, silent
from topdb_tf.training.distribution import Distribution, sum_of_workers

_KEY = "made_of"
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, RecursionError)


@dataclass(frozen=True)
class Embedded:
    """The test images of a data set, embedded by a run's model or by other programs.

    Args:
        run: The run; `None` where the features are from a file.
        model: File of the model, or of the features.
        model_sha256: Sum of that file.
        split: The data set.
        images: Features and identities. Where no cameras are known their camids are
            negative, one an image.
        origin: What was tested on and trained on, by name.
        is_own: Whether it is the data set that the run was trained on.
        evaluation: Settings that they are ranked by.
        part: Whether they are those of the "test", or held out for "validation".
        choice: How the model's epoch was chosen, if it was.
        notes: What the user was told of how the images were read.
        has_paths: Whether the files of the images are known.
    """

    run: Run | None
    model: Path
    model_sha256: str
    split: Split
    images: RetrievalSet
    origin: DataOrigin
    is_own: bool
    evaluation: EvaluationConfig
    part: str = TEST
    choice: Choice | None = None
    notes: tuple[str, ...] = ()
    has_paths: bool = True
    tracklets: str | None = None

    def to_dict(self) -> dict:
        """Returns what the JSON of figures says of whose images they show."""
        if self.run is None:
            return {"features": str(self.model)}
        run = {"run": str(self.run.path), "model": self.model.name}
        return run | self.origin.to_dict()


def embed_run(
    run: Run,
    dataset: str | None = None,
    *,
    best: bool = False,
    validation: bool = False,
    check: Callable[[Split], None] | None = None,
    say: Say = silent,
) -> Embedded:
    """Returns the test images of a data set, embedded by a run's model.

    They are embedded once: the run's folder keeps them (`features-NAME.npz`), and they
    are read from there as long as model and images are the same.

    Args:
        run: The run.
        dataset: Another data set than the one it was trained on, a name or a path.
        best: Whether to take the model of the best epoch instead of the last.
        validation: Whether to take the identities that the run held out.
        check: Function that is called with the data set before anything is embedded,
            and raises an error where it does not suffice.
        say: Function that shows a line to the user.

    Raises:
        FileNotFoundError: If the run has no model yet, or the data is missing.
        ValueError: If the data cannot be used.
    """
    model = run.model(best=best)
    notes = []

    def note(line):
        notes.append(line)
        say(line)

    is_trained_on = is_own(dataset, run)
    dataset = run.saved.data.dataset if is_trained_on else dataset
    split = read_data(dataset, run.config, run=run, validation=validation, say=note)
    if not is_trained_on:
        warn_of_trained_images(run, split, note)
    if check is not None:
        check(split)
    made_of = _origin_of_features(model, split)
    file = features_file(run, dataset, best=best, validation=validation)
    features = _read_features(file, made_of, say)
    if features is None:
        load_tensorflow()
        from topdb_tf.model.extraction import load_embedder

        features = Embedder(split, run.config).features(load_embedder(model))
        write_features(file, features, split, made_of, say)
    return Embedded(
        run=run,
        model=model,
        model_sha256=made_of.model_sha256,
        split=split,
        images=retrieval_set_of(
            features, split, ignore_cameras=run.config.evaluation.ignore_cameras
        ),
        origin=origin_of(dataset, run.saved.data.dataset),
        is_own=is_trained_on,
        evaluation=run.config.evaluation,
        part=VALIDATION if validation else TEST,
        choice=run.choice(model),
        notes=tuple(notes),
    )


class Embedder:
    """Makes the features of a data set's test images, decoding them only once.

    Each worker of the distribution embeds its part of the images.
    """

    def __init__(
        self, split: Split, config: Config, distribution: Distribution | None = None
    ):
        self.split = split
        self.config = config
        self.distribution = distribution or Distribution()
        self._images = None

    def features(self, model) -> np.ndarray:
        """Returns the features of the queries and then of the gallery, float32."""
        from topdb_tf.data.decoding import decode_images

        paths = [record.path for record in self.split.query + self.split.gallery]
        part = self.distribution.own_part(len(paths))
        if self._images is None:
            with progress_bar("reading test images") as progress:
                self._images = decode_images(paths[part], progress=progress)
        features = np.zeros((len(paths), model.output_shape[-1]), np.float32)
        features[part] = features_of(
            model,
            self._images,
            batch_size=self.config.evaluation.batch_size,
            devices=self.distribution.devices,
        )
        return sum_of_workers(self.distribution, features)

    def retrieval_set(self, model) -> RetrievalSet:
        """Returns the same features with persons and cameras, as they are scored."""
        return retrieval_set_of(
            self.features(model),
            self.split,
            ignore_cameras=self.config.evaluation.ignore_cameras,
        )


def features_of(
    model, images: Sequence[np.ndarray], *, batch_size: int, devices: Sequence[str] = ()
) -> np.ndarray:
    """Returns the features of decoded images, of any sizes, by a model."""
    from topdb_tf.data.pipeline import evaluation_dataset
    from topdb_tf.model.extraction import extract_embeddings

    size = tuple(model.input_shape[1:3])
    batches = evaluation_dataset(images, image_size=size, batch_size=batch_size)
    with progress_bar("embedding") as progress:
        return extract_embeddings(
            model, batches, num_images=len(images), devices=devices, progress=progress
        )


def retrieval_set_of(
    features: np.ndarray, split: Split, *, ignore_cameras: bool = False
) -> RetrievalSet:
    """Returns what is scored, from features of the queries and then of the gallery."""
    query, gallery = split.query, split.gallery
    camids = scored_camids(split, ignore_cameras=ignore_cameras)
    return RetrievalSet(
        query_features=features[: len(query)],
        gallery_features=features[len(query) :],
        query_pids=pids_of(query),
        gallery_pids=pids_of(gallery),
        query_camids=camids[: len(query)],
        gallery_camids=camids[len(query) :],
    )


def scored_camids(split: Split, *, ignore_cameras: bool) -> np.ndarray:
    """Returns the cameras of the queries and then of the gallery, as they are scored.

    Where no cameras are known, or where they are ignored and a query is in the gallery
    as well, images are numbered instead, so that none is its own match.
    """
    query, gallery = split.query, split.gallery
    paths = [record.path for record in query + gallery]
    is_twice = not {*paths[: len(query)]}.isdisjoint(paths[len(query) :])
    if ignore_cameras and is_twice:
        return image_numbers(paths)
    without = {
        record.path
        for part in split.data_sets
        if not part.has_cameras
        for record in part.query + part.gallery
    }
    camids = camids_of(query + gallery)
    if not without:
        return camids
    is_told = np.array([path not in without for path in paths], bool)
    return np.where(is_told, camids, image_numbers(paths))


def features_file(
    run: Run, dataset: str, *, best: bool = False, validation: bool = False
) -> Path:
    """Returns the file in which a run keeps the features of a data set."""
    name = dataset_name(dataset) + ("-validation" if validation else "")
    if is_path(dataset) and not is_own(dataset, run):  # others may have that name too
        path = absolute_name(dataset).encode()
        name += f"-{hashlib.sha256(path).hexdigest()[:6]}"
    return run.path / f"features-{name}{'-best' if best else ''}.npz"


@dataclass(frozen=True)
class _MadeOf:
    """What features were made of: where it is another, they are made anew.

    Of the images these are their names, sizes, times, persons and cameras.
    """

    model_sha256: str
    images_sha256: str
    topdb_tf: str = __version__

    def differences(self, other: "_MadeOf") -> str:
        """Returns in words what is not the same."""
        words = ("another model", "other images", "another version of topdb-tf")
        fields = zip(words, astuple(self), astuple(other), strict=True)
        return " and ".join(word for word, mine, theirs in fields if mine != theirs)


def _origin_of_features(model: Path, split: Split) -> _MadeOf:
    digest = hashlib.sha256()
    for part in (split.query, split.gallery):
        digest.update(f"{len(part)} images\n".encode())
        for record in part:
            status, told = record.path.stat(), (record.path.name, record.pid)
            told += record.camid, status.st_size, status.st_mtime_ns
            digest.update(repr(told).encode())
    return _MadeOf(sha256_of(model), digest.hexdigest())


def _read_features(file, made_of, say):
    """Returns the features in a file if they are of the same model and images."""
    if not file.is_file():
        return None
    try:
        with open_arrays(file) as arrays:
            before = _MadeOf(**json.loads(str(array_in(arrays, _KEY, file))))
            if before == made_of:
                say(f"embedded before: {file}")
                names = "query_features", "gallery_features"
                return np.concatenate([array_in(arrays, n, file) for n in names])
    except _UNREADABLE as error:
        say(f"{file} cannot be read ({error}): the images are embedded anew")
        return None
    differences = made_of.differences(before)
    say(f"{file} is of {differences}: the images are embedded anew")
    return None


def write_features(
    file: Path, features: np.ndarray, split: Split, made_of: _MadeOf, say: Say
) -> None:
    """Keeps features with whom they show, as `topdb-tf score` reads them.

    Without room or permission a line says so, and nothing is kept.
    """
    arrays = arrays_of(features, split)
    arrays[_KEY] = np.array(json.dumps(asdict(made_of)))
    try:
        with whole_file(file) as partial:
            np.savez(partial, **arrays)
    except OSError as error:
        say(f"warning: the embeddings could not be kept in {file}: {error.strerror}")


def arrays_of(features: np.ndarray, split: Split):
    """Returns what a file holds of a data set whose test images have these features."""
    arrays = retrieval_set_of(features, split)._asdict()
    names = IdNames(split.pid_names, split.camera_names)
    has_tracks = any(record.tracklet for record in split.query + split.gallery)
    for part in ("query", "gallery"):
        records = split.part(part)
        if has_tracks:
            arrays[f"{part}_tracklets"] = tracklets_of(records)
        arrays[f"{part}_paths"] = np.array([str(record.path) for record in records])
        ids = pids_of(records), camids_of(records)
        arrays |= name_arrays(*ids, names, prefix=f"{part}_")
    return arrays


def columns_of_images(
    records: Sequence[ImageRecord], names: IdNames, *, is_table: bool
):
    """Returns what a file, perhaps a table, holds of images beside the features."""
    pids, camids, times = pids_of(records), camids_of(records), times_of(records)
    columns = {"paths": np.array([str(record.path) for record in records])}
    is_told = pids != UNKNOWN
    if is_told.all() or (is_table and is_told.any()):
        columns["pids"] = pids
    if (is_table or is_told.all()) and (camids != UNKNOWN).any():
        is_hidden = (camids == UNKNOWN) & (not is_table)
        columns["camids"] = np.where(is_hidden, -1, camids)
    if is_table or is_told.all():
        columns |= name_arrays(pids, camids, names)
    if not np.isnan(times).all():
        columns["times"] = times
    if any(record.tracklet for record in records):
        columns["tracklets"] = tracklets_of(records)
    return columns


def name_arrays(pids, camids, names: IdNames, *, prefix: str = ""):
    """Returns what persons and cameras of images are called, arrays by their names."""
    columns = (
        ("pid_names", pids, names.persons),
        ("camera_names", camids, names.cameras),
    )
    return {
        f"{prefix}{name}": np.array(
            [called.get(n, str(n) if n >= 0 else "") for n in numbers.tolist()]
        )
        for name, numbers, called in columns
        if called
    }


def keep_features(
    run: Run, features: np.ndarray, split: Split, *, say: Say = silent
) -> None:
    """Keeps the features that the training of a run has just scored."""
    made_of = _origin_of_features(run.model(), split)
    file = features_file(run, run.saved.data.dataset)
    write_features(file, features, split, made_of, say)


def only_persons(embedded: Embedded, pids: Sequence[int]) -> Embedded:
    """Returns the images of some persons alone, in the same order."""
    images, split = embedded.images, embedded.split
    query = np.isin(images.query_pids, pids)
    gallery = np.isin(images.gallery_pids, pids)
    split = replace(
        split,
        query=tuple(itertools.compress(split.query, query)),
        gallery=tuple(itertools.compress(split.gallery, gallery)),
    )
    return replace(embedded, split=split, images=images.take(query, gallery))
