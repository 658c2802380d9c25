"""The network of a preset: a backbone of KerasHub from pixels to embeddings."""

import json
from pathlib import Path

import keras
import keras_hub

# Loading a network needs the layers that these modules register.
from topdb_tf.model import layers, normalization  # noqa: F401
from topdb_tf.model.folding import in_precision
from topdb_tf.model.keras_defaults import keras_defaults
from topdb_tf.model.keras_files import check_config_file, of_any_keras
from topdb_tf.model.preset_files import CONFIG, WEIGHTS, check_preset, preset_folder


@keras.saving.register_keras_serializable(package="topdb_tf")
class TopDBBackbone(keras_hub.models.Backbone):
    """The network from pixels to embeddings, as KerasHub keeps networks.

    Args:
        network: Config of the functional model, as in its `.keras` file.
        dtype: Precision of the feature maps, of `topdb_tf.model.folding.DTYPES`.
            Defaults to that of the network.
        **kwargs: `name` and `trainable`.
    """

    def __init__(self, network, *, dtype=None, **kwargs):
        model = keras.saving.deserialize_keras_object(network)
        if dtype is not None:
            model = in_precision(model, keras.dtype_policies.get(dtype).name)
        super().__init__(inputs=model.input, outputs=model.output, **kwargs)
        # A text, as Keras makes other things of the parts of a model.
        config = of_any_keras(keras.saving.serialize_keras_object(model))
        self._network = json.dumps(config)

    @classmethod
    def from_model(cls, model):
        """Returns the backbone that gives the numbers of a functional model."""
        backbone = cls(keras.saving.serialize_keras_object(model))
        backbone.set_weights(model.get_weights())
        return backbone

    @classmethod
    def from_preset(cls, preset, load_weights=True, **kwargs):
        folder = checked_preset(preset)
        with keras_defaults("float32"):
            return super().from_preset(str(folder), load_weights, **kwargs)

    def get_config(self):
        return {
            "name": self.name,
            "trainable": self.trainable,
            "network": json.loads(self._network),
        }


def checked_preset(name: Path | str, configs: tuple[str, ...] = ()) -> Path:
    """Returns the folder of a preset that is whole and can run no code.

    The configs are those that are loaded beside that of the network.
    """
    folder = preset_folder(name)
    if folder is None:
        raise FileNotFoundError(
            f"There is no preset at {name}. Name its folder, `demo`, or an address "
            "such as hf://user/name."
        )
    check_preset(folder)
    check_config_file(folder / CONFIG, folder / WEIGHTS)
    for config in configs:
        check_config_file(folder / config)
    return folder


def load_preset_network(folder: Path):
    """Returns the functional model of a preset, from pixels to embeddings."""
    backbone = TopDBBackbone.from_preset(folder)
    return keras.Model(backbone.input, backbone.output)
