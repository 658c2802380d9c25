"""What a worker of a cluster does: it embeds images and writes them, by parts."""

import io
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from topdb_tf.embed.errors import ServingError
from topdb_tf.embed.model_probes import probe_features
from topdb_tf.embed.places import is_uri, read_uri
from topdb_tf.embed.projection import read_projection
from topdb_tf.embed.source import open_client
from topdb_tf.export.probes import probe_images
from topdb_tf.files import whole_file
from topdb_tf.parquet_files import SUFFIX, write_arrays
from topdb_tf.runs.plugins import load_plugins
from topdb_tf.texts import one_line

TRIES = "_tries-"
"""How files begin that count how often a part was begun, until it is done."""
_READERS, _MOST_TRIES = 8, 3


class ImageTable(NamedTuple):
    """Images of a part of a data set, "" if of none, and other columns as NPZ has."""

    part: str
    paths: np.ndarray
    columns: dict[str, np.ndarray]

    def rows(self, start: int, stop: int) -> "ImageTable":
        """Returns some that stand beside each other."""
        columns = {name: values[start:stop] for name, values in self.columns.items()}
        return ImageTable(self.part, self.paths[start:stop], columns)


class PartWriter:
    """A worker: it loads the model once, and writes part after part."""

    def __init__(self, source, out, codes, root, num_threads, plugins):
        # Read by TensorFlow when it is loaded, which is below.
        for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"):
            os.environ[name] = str(num_threads)
        load_plugins(plugins)
        self._client = open_client(source)
        self._pca = read_projection(source.pca) if source.pca else None
        self._probes = probe_features(self._client)
        self._out, self._codes, self._root = out, codes, root
        file = io.BytesIO()
        Image.fromarray(probe_images(1)[0]).save(file, "PNG")
        self._drawn = file.getvalue()

    def __call__(self, batch):
        numbers = [int(number) for number in batch["part"]]
        for number, task in zip(numbers, batch["task"], strict=True):
            tries = self._count_try(number)
            self._write(part_file(self._out, number), pickle.loads(task))  # noqa: S301
            tries.unlink(missing_ok=True)
        return {"part": numbers, "process": [os.getpid()] * len(numbers)}

    def _count_try(self, number):
        """Returns the file that counts how often a part was begun.

        Raises `ServingError` where it ended the processes that tried, as by memory.
        """
        tries = self._out / f"{TRIES}{number:06d}"
        with tries.open("a") as file:
            file.write(".")
        if tries.stat().st_size > _MOST_TRIES:
            raise ServingError(f"part {number} has ended {_MOST_TRIES} workers")
        return tries

    def _write(self, file, images):
        features, errors = self._embedded(images.paths)
        probes = self._probes
        if self._pca is not None:
            features, probes = map(self._pca.reduced, (features, probes))
        arrays = images.columns | {"paths": images.paths, "features": features}
        prefix = f"{images.part}_" if images.part else ""
        columns = {f"{prefix}{name}": array for name, array in arrays.items()}
        columns |= {"errors": errors, "probe_features": probes}
        with whole_file(file) as partial:
            write_arrays(
                partial, columns | {"probe_features": probes}, codes=self._codes
            )

    def _embedded(self, paths):
        """Returns the features of images, zeros for bad ones, and what is bad."""
        with ThreadPoolExecutor(_READERS) as pool:
            images = list(pool.map(lambda path: _image_at(self._root, path), paths))
        errors = [image if isinstance(image, str) else "" for image in images]
        asked = np.array([n for n, error in enumerate(errors) if not error], int)
        # The last one is good, since a client refuses to embed nothing but bad images.
        answer = self._client.embed(
            [*(images[n] for n in asked), self._drawn], skip_bad=True
        )
        kept = answer.kept[:-1]
        features = np.zeros((len(paths), answer.embeddings.shape[1]), np.float32)
        features[asked[kept]] = answer.embeddings[:-1]
        for place, failure in zip(np.delete(asked, kept), answer.failures, strict=True):
            errors[place] = failure.reason
        return features, errors


def part_file(out: Path, number: int) -> Path:
    """Returns where a part is written."""
    return out / f"part-{number:06d}{SUFFIX}"


def _image_at(root, path):
    """Returns what a client takes of an image, or a text that says what is wrong."""
    if not is_uri(path):
        return root / path
    try:
        return read_uri(path) or "the file is empty"
    except (OSError, ValueError) as error:
        return one_line(str(error)) or type(error).__name__
