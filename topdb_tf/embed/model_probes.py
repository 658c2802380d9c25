"""What a model makes of a few drawn images: whether two models are the same."""

import base64
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from topdb_tf.embed.client import ServingClient
from topdb_tf.embed.errors import ServingError
from topdb_tf.embed.retries import Deadline
from topdb_tf.export.probes import probe_images
from topdb_tf.files import sha256_of, temporary_folder
from topdb_tf.runs.models import find_model, is_named, model_name, weights_of
from topdb_tf.same_model import differ, largest_difference

_NUM_PROBES = 4


@dataclass(frozen=True)
class RecordedModel:
    """The model that made the embeddings of an index, as the index records it.

    The probes are its embeddings of the drawn images, base64 of float32 numbers. Where
    a PCA reduces the embeddings, its file, and they are reduced as well.
    """

    name: str
    path: str | None
    sha256: str | None
    probes: str
    pca: str | None = None

    def probe_features(self) -> np.ndarray:
        """Returns its embeddings of the drawn images, float32 `(4, dim)`."""
        numbers = np.frombuffer(base64.b64decode(self.probes), "<f4")
        return numbers.reshape(_NUM_PROBES, -1)

    def check(self, dim: int) -> None:
        """Raises `TypeError` or `ValueError` unless probes are of this length."""
        probes = self.probe_features()
        if probes.shape[1] != dim or not np.isfinite(probes).all() or not probes.any():
            raise TypeError("`probes` must be embeddings as long as those of the index")


def recorded_model(
    probes: np.ndarray,
    *,
    model: Path | None,
    server: str | None,
    pca: Path | None = None,
) -> RecordedModel:
    """Returns what an index records of the model, or server, that made its probes."""
    file = path = name = find_model(model)
    if model is not None:
        path = model_name(model)
        name = path if is_named(model) else file or model
    return RecordedModel(
        name=str(name or server or "unknown, of a file of features"),
        path=path,
        sha256=None if file is None else sha256_of(weights_of(file)),
        probes=base64.b64encode(probes.astype("<f4").tobytes()).decode(),
        pca=None if pca is None else str(pca.resolve()),
    )


def probe_features(
    client: ServingClient, deadline: Deadline | None = None
) -> np.ndarray:
    """Returns the embeddings of four drawn images, float32 `(4, dim)`.

    The images are the same everywhere and always, in files without loss.

    Raises:
        ServingError: If the model does not tell them apart, or gives them embeddings
            that depend on their order, as those of another image do.
    """
    with temporary_folder() as folder:
        paths = [folder / f"drawn-{number}.png" for number in range(_NUM_PROBES)]
        for path, image in zip(paths, probe_images(_NUM_PROBES), strict=True):
            Image.fromarray(image).save(path)
        probes = client.embed(paths, timeout=deadline).embeddings
        swapped = [paths[1], paths[0], *paths[2:]]
        again = client.embed(swapped, timeout=deadline).embeddings[[1, 0, 2, 3]]
    if not (probes != probes[0]).any():
        raise ServingError(
            "The model must tell images apart: four drawn ones have one and the same "
            f"embedding. Is it a trained one? Received: {probes[0, :3].tolist()} …"
        )
    if differ(largest_difference(again, probes)):
        raise ServingError(
            "The embeddings of a model must be in the order of the images: those of "
            "four drawn ones change with it."
        )
    return probes


def check_same_model(probes: np.ndarray | None, model: RecordedModel | None) -> None:
    """Raises `ValueError` unless probes are those of the model of an index.

    Rounding, by another device or batch size, is let pass; another epoch is not. What
    is `None` is not known, and let pass.
    """
    if probes is None or model is None:
        return
    difference = largest_difference(probes, model.probe_features())
    if differ(difference):
        raise ValueError(
            "Images must be embedded by the model that made the index, "
            f"{model.name}: distances between the embeddings of two models mean "
            "nothing. Name that model, or build an index with the other one. "
            f"Received: embeddings of drawn images that differ by {difference:.1%}"
        )
