"""An embedder for other programs: paths, pixels and PIL images in, features out."""

import io
import warnings
from collections.abc import Iterable, Mapping, Set
from os import PathLike, fspath
from pathlib import Path

import numpy as np
from PIL import Image

from topdb_tf.embed.source import Source, open_client
from topdb_tf.files import user_path
from topdb_tf.model.preset_files import DEMO_NOTE, hub_address, is_demo
from topdb_tf.runs.folder import Run, RunFolder, open_run
from topdb_tf.texts import check_one_of

_ORDERS = ("RGB", "BGR")


class Embedder:
    """Embeds images of persons by a trained model.

    Images are decoded and resized as when the model was scored, whatever their size.
    The model is loaded once; any number of threads may call it.

    Args:
        model: A run or its folder, a `.keras` file of one, a folder that
            `topdb-tf export` wrote, or a preset: its folder, an address such as
            "hf://user/name", or "demo", which comes with the package.
        best: Of a run, whether to take the model of the best epoch instead of the last.
        batch_size: Images that are embedded at a time.
        channel_order: Of the pixels in arrays: "RGB", or "BGR" as OpenCV has them.

    Raises:
        FileNotFoundError: If there is no such model.
        ValueError: If it is not one that embeds images.

    Example:
        embedder = topdb_tf.Embedder("runs/people")
        vectors = embedder(["a.jpg", "b.jpg", frame])  # float32, (3, dim)
    """

    def __init__(
        self,
        model: Run | str | PathLike,
        *,
        best: bool = False,
        batch_size: int = 32,
        channel_order: str = "RGB",
    ):
        check_one_of("channel_order", channel_order, _ORDERS)
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(
                "`batch_size` must be a whole number of images, at least 1. "
                f"Received: batch_size={batch_size!r}"
            )
        path = model.path if isinstance(model, Run) else user_path(model)
        if best or RunFolder(path).holds_run:
            path = open_run(path).model(best=best)
        elif is_demo(path):
            warnings.warn(DEMO_NOTE, stacklevel=2)
        self.model = path
        self.channel_order = channel_order
        self._client = open_client(Source(model=path, batch_size=batch_size))

    def __repr__(self):
        return f"Embedder({str(hub_address(self.model) or self.model)!r})"

    def __call__(self, images) -> np.ndarray:
        """Returns the embeddings of one image or of many.

        Args:
            images: One image or several, in a list, an iterable or a batch. An image
                is the path of a file, the bytes of a JPEG or PNG file, uint8 pixels of
                shape `(height, width, 3)`, or an image of PIL.

        Returns:
            float32 array of shape `(num_images, dim)`, in the order of the images.

        Raises:
            BadImageError: If an image cannot be embedded; it is named.
            ValueError: If something is no image, or there is none.
        """
        several = [images] if _is_one(images) else _listed(images)
        contents = [
            image if isinstance(image, Path | bytes) else self._png(place, image)
            for place, image in enumerate(map(_with_paths, several))
        ]
        return self._client.embed(contents).embeddings

    def _png(self, place, image):
        """Returns pixels as a file without loss, which every model decodes alike."""
        if not isinstance(image, Image.Image):
            image = Image.fromarray(self._pixels(place, image))
        file = io.BytesIO()
        image.convert("RGB").save(file, "PNG", compress_level=0)
        return file.getvalue()

    def _pixels(self, place, image):
        pixels = np.asarray(image)
        is_rgb = pixels.ndim == 3 and pixels.shape[-1] == 3 and pixels.size
        if pixels.dtype != np.uint8 or not is_rgb:
            raise ValueError(
                "An image must be a path, the bytes of a file, an image of PIL, or "
                "pixels: uint8 in [0, 255], of shape (height, width, 3). Received: "
                f"image {place} of type {type(image).__name__}, pixels of shape "
                f"{pixels.shape} and type {pixels.dtype}"
            )
        return pixels[..., ::-1] if self.channel_order == "BGR" else pixels


def _is_one(images):
    is_one = isinstance(images, str | PathLike | bytes | bytearray | Image.Image)
    return is_one or getattr(images, "ndim", 4) < 4


def _listed(images):
    if not isinstance(images, Iterable) or isinstance(images, Mapping | Set):
        raise ValueError(
            "`images` must be an image, or several of them in an order. "
            f"Received: {type(images).__name__}"
        )
    return list(images)


def _with_paths(image):
    if isinstance(image, bytearray):
        return bytes(image)
    return Path(fspath(image)) if isinstance(image, str | PathLike) else image
