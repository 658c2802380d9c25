"""The embedder as a task of KerasHub: images of any size in, embeddings out."""

from pathlib import Path

import keras
import keras_hub
import numpy as np
import tensorflow as tf

from topdb_tf.data.decoding import resize_pixels
from topdb_tf.model.keras_defaults import keras_defaults
from topdb_tf.model.preset_files import CONVERTERS, write_record
from topdb_tf.model.preset_network import TopDBBackbone, checked_preset

_registered = keras.saving.register_keras_serializable(package="topdb_tf")


@_registered
class TopDBImageConverter(keras_hub.layers.ImageConverter):
    """Resizes RGB images, in [0, 255], as they are for training and evaluation."""

    backbone_cls = TopDBBackbone

    def call(self, inputs):
        if isinstance(inputs, list | tuple):
            return tf.stack([self.call(image) for image in inputs])
        return resize_pixels(tf.convert_to_tensor(inputs), self.image_size)


@_registered
class TopDBImageEmbedderPreprocessor(keras_hub.models.ImageClassifierPreprocessor):
    """What `TopDBImageEmbedder.predict` does with images first."""

    backbone_cls = TopDBBackbone
    image_converter_cls = TopDBImageConverter


@_registered
class TopDBImageEmbedder(keras_hub.models.Task):
    """An embedder of persons that comes from a preset, a task of KerasHub.

    `predict` takes RGB images of any size, uint8 or float in [0, 255]; called as a
    function, it takes them in the size of the network, `backbone.input_shape`.

    Args:
        backbone: `topdb_tf.model.preset_network.TopDBBackbone`.
        preprocessor: What resizes the images; none: they have the right size.
        **kwargs: Those of `keras_hub.models.Task`.

    Example:
        embedder = topdb_tf.TopDBImageEmbedder.from_preset("hf://user/people")
        vectors = embedder.predict(images)  # (batch, dim)
    """

    backbone_cls = TopDBBackbone
    preprocessor_cls = TopDBImageEmbedderPreprocessor

    def __init__(self, backbone, preprocessor=None, **kwargs):
        self.backbone = backbone
        self.preprocessor = preprocessor
        pixels = backbone.input
        super().__init__(inputs=pixels, outputs=backbone(pixels), **kwargs)

    @classmethod
    def from_model(cls, model: keras.Model) -> "TopDBImageEmbedder":
        """Returns the task of a model that `load_embedder` gave."""
        with keras_defaults("float32"):
            backbone = TopDBBackbone.from_model(model)
            return cls(backbone, _preprocessor_of(backbone))

    @classmethod
    def from_preset(
        cls, preset: str | Path, load_weights: bool = True, **kwargs
    ) -> "TopDBImageEmbedder":
        """Returns the embedder of a preset, whose files are checked first.

        Args:
            preset: "demo", which comes with the package; a folder; or an address,
                "hf://user/name" or "kaggle://user/model/keras/variant".
            load_weights: Whether it has the weights of the preset, or random ones.
            **kwargs: `dtype`, the precision of the feature maps.

        Raises:
            FileNotFoundError: If the preset cannot be fetched, or there is none.
            ValueError: If a file is missing or another than was published, if the
                preset is of another class or a newer version, or asks for more than
                to compute.
        """
        folder = checked_preset(preset, CONVERTERS)
        with keras_defaults("float32"):
            return super().from_preset(str(folder), load_weights, **kwargs)

    def save_to_preset(self, preset_dir: str | Path, max_shard_size=None) -> None:
        """Writes the preset into a folder, with the sums by which it is checked."""
        del max_shard_size  # the weights are one file
        folder = Path(preset_dir)
        self.backbone.save_to_preset(str(folder), max_shard_size=None)
        preprocessor = self.preprocessor or _preprocessor_of(self.backbone)
        preprocessor.save_to_preset(str(folder))
        write_record(folder)


def _preprocessor_of(backbone):
    size = tuple(int(length) for length in np.array(backbone.input_shape[1:3]))
    converter = TopDBImageConverter(
        image_size=size, crop_to_aspect_ratio=False, antialias=True
    )
    return TopDBImageEmbedderPreprocessor(converter)
