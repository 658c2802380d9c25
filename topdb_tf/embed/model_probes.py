"""What a model makes of a few drawn images: whether two models are the same."""

import base64
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from topdb_tf.embed.client import ServingClient
from topdb_tf.export.probes import probe_images
from topdb_tf.files import sha256_of
from topdb_tf.runs.folder import RunFolder

_NUM_PROBES = 4
_LARGEST_DIFFERENCE = 0.05


def probe_features(client: ServingClient) -> np.ndarray:
    """Returns the embeddings of four drawn images, float32 `(4, dim)`.

    The images are the same everywhere and always, in files without loss.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.png" for number in range(_NUM_PROBES)]
        for path, image in zip(paths, probe_images(_NUM_PROBES), strict=True):
            Image.fromarray(image).save(path)
        return client.embed(paths).embeddings


def probe_difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Returns how far probes are from what is expected, relative to their length.

    Args:
        found: float32 of shape `(4, dim)`.
        expected: The same; infinity is returned for another shape.
    """
    found, expected = np.float64(found), np.float64(expected)
    if found.shape != expected.shape:
        return float("inf")
    lengths = np.linalg.norm(expected, axis=1)
    return float((np.linalg.norm(found - expected, axis=1) / lengths).max())


def check_same_model(found: np.ndarray, model: dict) -> None:
    """Raises `ValueError` unless probes are those of the model of an index.

    Rounding, by another device or batch size, is let pass; another epoch is not.

    Args:
        found: What `probe_features` returned.
        model: What `model_facts` returned.
    """
    difference = probe_difference(found, probes_of(model))
    if difference > _LARGEST_DIFFERENCE:
        raise ValueError(
            "Images must be embedded by the model that made the index, "
            f"{model['name']}: distances between the embeddings of two models mean "
            "nothing. Name that model, or build an index with the other one. "
            f"Received: embeddings of drawn images that differ by {difference:.1%}"
        )


def model_facts(
    probes: np.ndarray, *, model: Path | None = None, server: str | None = None
) -> dict:
    """Returns what an index records of the model that made its embeddings.

    Args:
        probes: What `probe_features` returned.
        model: Where the model lies, as `open_client` takes it, if that is known.
        server: Else the address of its server.

    Returns:
        `name`; `path` and `sha256` of the `.keras` file, or `None`; and `probes`,
        base64 of float32 numbers.
    """
    path = keras_file(model)
    name = str(path or model or server or "unknown, of a file of features")
    return {
        "name": name,
        "path": None if model is None else str(Path(model).resolve()),
        "sha256": None if path is None else sha256_of(path),
        "probes": base64.b64encode(probes.astype("<f4").tobytes()).decode(),
    }


def keras_file(model: Path | None) -> Path | None:
    """Returns the `.keras` file of a model that is a run's folder or such a file."""
    if model is None:
        return None
    run = RunFolder(Path(model))
    if Path(model).is_file():
        return Path(model)
    return run.embedder if run.holds_run else None


def probes_of(model: dict) -> np.ndarray:
    """Returns the probes in what `model_facts` returned, float32 `(4, dim)`."""
    numbers = np.frombuffer(base64.b64decode(model["probes"]), "<f4")
    return numbers.reshape(_NUM_PROBES, -1)
