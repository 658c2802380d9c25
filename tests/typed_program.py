"""A program that uses every public name, for the type checker alone: it is never run.

A line that ends in `# wrong` must be an error of types.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np

import topdb_tf

if TYPE_CHECKING:
    from topdb_tf.data.records import Split
    from topdb_tf.evaluate.scores import Scores


@topdb_tf.register_backbone("mine")
def backbone(image_size: tuple[int, int]) -> keras.Model:
    return keras.Model()


@topdb_tf.register_stream("mine", at_inference=False)
def stream(maps):
    return maps


@topdb_tf.register_drop_block("mine")
def drop_block(*, height_ratio: float, relevance: str, seed: int) -> keras.Layer:
    return topdb_tf.TopDropBlock(height_ratio, relevance, name="mine")


@topdb_tf.register_loss("mine", on="logits")
class Loss(keras.losses.Loss):
    """A loss of one's own."""


@topdb_tf.register_dataset("mine")
def reader(root: Path) -> "Split":
    raise NotImplementedError


run = topdb_tf.fit(
    Path("people"),
    recipe="light",
    run_dir="runs/people",
    settings={"train.epochs": 2},
    callbacks=[keras.callbacks.TerminateOnNaN()],
    triplet=Loss(),
)
scores: "Scores" = topdb_tf.evaluate(run, rerank=True)
folder: Path = run.folder.path

embedder = topdb_tf.Embedder(folder, best=True, batch_size=8, channel_order="BGR")
embedder = topdb_tf.Embedder(run)
vectors: np.ndarray = embedder(["a.jpg", np.zeros((128, 64, 3), "uint8")])
model: keras.Model = topdb_tf.load_embedder("runs/people/embedder.keras")
preset = topdb_tf.TopDBImageEmbedder.from_preset("hf://user/people", dtype="float16")
topdb_tf.TopDBImageEmbedder(preset.backbone).save_to_preset("people-preset")
network: keras.Model = topdb_tf.build_network(
    backbone((384, 128)), num_pids=751, drop_block=topdb_tf.TopDropBlock(0.3)
)

first = topdb_tf.load_features("a.npz")
tracks = topdb_tf.pool(first.query_features, ["a", "a", "b"], how="median").tracklets
scores = topdb_tf.score([[0.0]], [[0.1]], ["a"], ["a"], metric="cosine", rerank=True)
table: np.ndarray = scores.per_query()
shares: list[tuple[str, float]] = scores.metrics()
record: dict = scores.to_dict()
distances: np.ndarray = topdb_tf.rerank(vectors, vectors, metric="cosine")
interval = topdb_tf.compare(first, "b.npz").differences["mean_ap"]

topdb_tf.score([[0.0]], [[0.1]], ["a"], ["a"], metric=1)  # wrong
topdb_tf.fit("people", epochs=2)  # wrong
topdb_tf.evaluate(1.0)  # wrong
topdb_tf.load_embedder(1)  # wrong
topdb_tf.build_network(backbone((384, 128)), num_pids="751")  # wrong
topdb_tf.register_loss(Loss)  # wrong
topdb_tf.Embedder("runs/people").embed("a.jpg")  # wrong
names: list[str] = scores.metrics()  # wrong
topdb_tf.embed("a.jpg")  # wrong
