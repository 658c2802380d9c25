"""The embedder at work: loading it, and embedding many images in their order."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from topdb_tf.files import user_path

# Loading a model needs the layers that these modules register.
from topdb_tf.model import layers, normalization  # noqa: F401
from topdb_tf.model.folding import folded
from topdb_tf.model.keras_defaults import keras_defaults
from topdb_tf.model.keras_files import load_keras_file
from topdb_tf.model.preset_files import RECORD


@keras_defaults("float32")
def load_embedder(path: Path | str) -> keras.Model:
    """Returns the model in a file that `fit` wrote, or in a preset.

    Keras's global settings neither matter to the model nor are changed.

    Args:
        path: The `.keras` file, `embedder.keras` of a run, or the folder of a preset.

    Returns:
        `keras.Model` from RGB pixels, float32 in [0, 255] of shape
        `(batch, height, width, 3)`, to embeddings of shape `(batch, dim)`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no model of pixels to embeddings, or a weight is NaN or
            infinite.
    """
    path = user_path(path)
    if (path / RECORD).is_file():
        from topdb_tf.model.preset_network import load_preset_network

        embedder = load_preset_network(path)
    elif not path.is_file():
        inside = path / "embedder.keras"
        hint = f" That of the run is {inside}." if inside.is_file() else ""
        raise FileNotFoundError(f"There is no model at {path}.{hint}")
    else:
        embedder = _in_keras_file(path)
    shape = getattr(embedder, "input_shape", None)
    if not (isinstance(shape, tuple) and len(shape) == 4 and shape[-1] == 3):
        raise ValueError(
            f"{path} must hold a model of pixels (batch, height, width, 3). "
            f"Received: input_shape={shape}"
        )
    for weight in embedder.weights:
        if not np.isfinite(weight.numpy()).all():
            raise ValueError(
                f"{path} must hold finite weights: its training went wrong. Take the "
                f"model of another epoch, or train anew. Received: {weight.path}"
            )
    # Keras's own rounds the pixels of NumPy arrays to `keras.config.floatx()` first.
    embedder.predict = keras_defaults()(embedder.predict)
    return embedder


def _in_keras_file(path):
    try:
        return load_keras_file(path)
    except ValueError as error:
        raise ValueError(
            f"{path} must be a .keras file that `topdb-tf fit` wrote. Received: {error}"
        ) from error


def extract_embeddings(
    embedder,
    batches: Iterable,
    *,
    num_images: int,
    devices: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Returns the embeddings of all images of the batches.

    Args:
        embedder: Model from pixels `(batch, height, width, 3)` to embeddings
            `(batch, dim)`.
        batches: Pixels, float32 in [0, 255].
        num_images: Number of images in all batches.
        devices: Names of the devices that take the batches in turn; without,
            TensorFlow chooses one.
        progress: Called with the number of images done and of all.

    Returns:
        float32 array of shape `(num_images, dim)`.
    """
    functions = [_on_device(embedder, device) for device in devices or (None,)]
    embeddings = np.empty((num_images, embedder.output_shape[-1]), np.float32)
    done, batches = 0, iter(batches)
    with ThreadPoolExecutor(len(functions)) as pool:
        while group := list(itertools.islice(batches, len(functions))):
            for part in pool.map(lambda embed, pixels: embed(pixels), functions, group):
                embeddings[done : done + len(part)] = part
                done += len(part)
                if progress is not None:
                    progress(done, num_images)
    return embeddings


def _on_device(embedder, device):
    """Returns the function from pixels to embeddings of a copy on a device."""
    with tf.device(device):
        embed = inference_function(embedder)

    def embeddings(pixels):
        with tf.device(device):
            return embed(pixels).numpy()

    return embeddings


def inference_function(embedder) -> Callable:
    """Returns the function from pixels to embeddings at the speed of an export.

    Batch normalisation is folded into the convolutions, see
    `topdb_tf.model.folding.folded`; feature maps are computed in the precision in
    which the embedder has them. Later changes of the embedder's weights are not seen.

    Args:
        embedder: Model from pixels `(batch, height, width, 3)` to embeddings
            `(batch, dim)`.

    Returns:
        Function from float32 pixels in [0, 255] to float32 embeddings.
    """
    # A model has Keras's policy of when it was made, whatever its layers have.
    dtypes = {
        layer.compute_dtype
        for layer in embedder._flatten_layers()
        if not isinstance(layer, keras.Model)
    }
    halves = sorted(dtypes & {"bfloat16", "float16"})
    model = folded(embedder, dtype=halves[0] if halves else "float32")
    pixels_of_batch = tf.TensorSpec((None, *embedder.input_shape[1:]), tf.float32)

    @tf.function(input_signature=[pixels_of_batch], autograph=False)
    def embed(pixels):
        return model(pixels, training=False)

    # Traced here: two threads that make the first call at once can crash TensorFlow.
    return embed.get_concrete_function()
