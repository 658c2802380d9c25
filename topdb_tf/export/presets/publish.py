"""A run as a preset, in a folder or on a hub."""

import dataclasses
import os
import re
from pathlib import Path
from typing import NamedTuple

from topdb_tf.damage import check_model_file
from topdb_tf.data.benchmarks import dataset_name, is_path
from topdb_tf.evaluate.calibrate import read_calibration, write_calibration
from topdb_tf.evaluate.scores import read_scores, write_scores
from topdb_tf.export.model_card import preset_card
from topdb_tf.export.serving import bytes_of
from topdb_tf.files import (
    sha256_of,
    temporary_folder,
    user_path,
    whole_folder,
    write_whole,
)
from topdb_tf.model.preset_files import (
    CARD,
    RECIPE,
    SCORES,
    WEIGHTS,
    hub_address,
    write_record,
)
from topdb_tf.runs.folder import Run
from topdb_tf.runs.machine import load_tensorflow
from topdb_tf.texts import Say, first_line

_ADDRESSES = re.compile(r"hf://[^/]+/[^/]+|kaggle://[^/]+/[^/]+/[kK]eras/[^/]+")


class Published(NamedTuple):
    """A preset that was written or uploaded; `name` is how others name it."""

    name: str
    mebibytes: float

    def lines(self) -> list[str]:
        """Returns what is said to people."""
        return [
            f"{self.name}: {self.mebibytes:g} MiB, loaded again with the same numbers",
            f"embed with it: topdb-tf embed photos --model {self.name}",
        ]


def publish(run: Run, target: Path | str, *, best: bool = False, say: Say) -> Published:
    """Writes the model of a run as a preset, loads it again, and uploads it.

    Paths of this machine are left out. The target is a folder that does not exist yet,
    or an address, "hf://…" or "kaggle://…"; whether the hub knows the user is for its
    own client.
    """
    model, address = run.model(best=best), hub_address(target)
    check_model_file(model)
    if address is None:
        folder = user_path(target)
        if os.path.lexists(folder):
            raise FileExistsError(f"{folder} already exists. Choose another --to.")
        with whole_folder(folder) as partial:
            _write(run, model, partial, str(folder), say)
        return Published(str(folder), _mebibytes_of(folder))
    if not _ADDRESSES.fullmatch(address):
        raise ValueError(
            "Presets go to a folder, hf://USER/NAME or kaggle://USER/MODEL/keras/"
            f"VARIANT. Received: {address}"
        )
    with temporary_folder() as folder:
        _write(run, model, folder, address, say)
        say(f"uploading {_mebibytes_of(folder):g} MiB to {address}")
        _upload(address, folder)
        return Published(address, _mebibytes_of(folder))


def _write(run, model, folder, name, say):
    """Writes a preset, and loads it again to compare the numbers."""
    load_tensorflow()
    import numpy as np

    from topdb_tf.export.check import drawn_probes
    from topdb_tf.export.presets.embedder import TopDBImageEmbedder
    from topdb_tf.model.extraction import load_embedder

    embedder = load_embedder(model)
    shown = dataclasses.replace(run, saved=_without_places(run.saved))
    TopDBImageEmbedder.from_model(embedder).save_to_preset(folder)
    write_whole(folder / RECIPE, shown.saved.to_yaml())
    write_whole(folder / CARD, preset_card(model, shown, name, embedder))
    scores = read_scores(run, best=model == run.folder.best_embedder)
    if scores is not None and scores.model == model.name:
        origin = scores.origin and dataclasses.replace(scores.origin, path=None)
        write_scores(folder / SCORES, dataclasses.replace(scores, origin=origin))
    _write_thresholds(run, model, folder, say)
    write_record(folder, metric=run.saved.evaluation.metric)
    pixels = drawn_probes(embedder.input_shape[1:3]).pixels
    loaded = TopDBImageEmbedder.from_preset(folder)
    if not np.array_equal(embedder(pixels), loaded(pixels)):
        raise ValueError(
            "A preset must give the numbers of its run. This one does not: report it, "
            f"with the settings of the run. Received: {model}"
        )


def _write_thresholds(run, model, folder, say):
    """Writes the calibration of a run, if it is of the model, as of the preset's."""
    file = run.folder.calibration
    if not file.is_file():
        return
    try:
        calibration = read_calibration(run.path)
    except (FileNotFoundError, ValueError) as error:
        say(f"the preset has no thresholds: {error}")
        return
    if calibration.model != model.name:
        say(f"the preset has no thresholds: {file} is of {calibration.model}")
        return
    of_preset = dataclasses.replace(
        calibration,
        model=WEIGHTS,
        model_sha256=sha256_of(folder / WEIGHTS),
        origin=dataclasses.replace(calibration.origin, path=None),
        camera_names={},
    )
    write_calibration(folder / file.name, of_preset)


def _without_places(config):
    """Returns settings without the folders and files of this machine."""
    dataset, weights = config.data.dataset, config.model.weights
    data = dataclasses.replace(
        config.data,
        root=None,
        dataset=dataset_name(dataset) if is_path(dataset) else dataset,
    )
    if user_path(weights).exists():
        weights = user_path(weights).name
    model = dataclasses.replace(config.model, weights=weights)
    return dataclasses.replace(config, data=data, model=model)


def _upload(address, folder):
    """Uploads a preset by KerasHub, and by the client of the hub its card."""
    import keras_hub

    try:
        if address.startswith("hf://"):
            _upload_card(address.removeprefix("hf://"), folder / CARD)
        keras_hub.upload_preset(address, str(folder))
    except Exception as error:  # each hub and each of its clients has its own
        reason = first_line(error).rstrip(".:")
        raise ValueError(
            f"The preset could not be uploaded to {address} ({reason}). Look whether "
            "the address is yours and you are known there (`hf auth login`; for "
            "Kaggle its token); or write it into a folder, with --to FOLDER, and "
            "upload the folder on the page of the hub."
        ) from error


def _upload_card(name, card):
    """Uploads the card first: where there is none, KerasHub replaces ours."""
    import huggingface_hub

    place = huggingface_hub.create_repo(repo_id=name, exist_ok=True)
    huggingface_hub.upload_file(
        path_or_fileobj=str(card), path_in_repo=CARD, repo_id=place.repo_id
    )


def _mebibytes_of(folder):
    return round(bytes_of(folder) / 2**20, 1)
