"""Settings of a run: every default once, with what it may be."""

from dataclasses import dataclass, field

import yaml

from topdb_tf.data.trees.levels import AUTO, parse_layout
from topdb_tf.data.trees.name_pattern import parse_pattern
from topdb_tf.files import plain
from topdb_tf.model.variants import MAPS, NECKS, POOLS, check_bottlenecks
from topdb_tf.runs.fields import check_each, number_in, one_of
from topdb_tf.texts import Interval
from topdb_tf.training.choices import (
    MINING,
    SCHEDULES,
    STATISTICS,
    STRATEGIES,
    WARMUPS,
)

_EPOCHS = 99_999  # the names of checkpoints sort up to here
EPOCHS = Interval(f"[1, {_EPOCHS}]")
"""How many epochs a training may have."""
_UP_TO_EPOCHS = f"[0, {_EPOCHS}]"
_SEED = f"[0, {2**32 - 1}]"  # what NumPy takes
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
"""What a network may compute in; `auto` times the device and takes what pays."""
RENAMED = {
    "data.split": "data.dataset",
    "data.split_seed": "data.division_seed",
    "train.drop_epochs": "train.decay_epochs",
}
"""Settings that had another name before, which is read still, and their name now."""


@dataclass(frozen=True)
class DataConfig:
    """Which images are trained on and how they become batches.

    Args:
        dataset: Name of the data set, or the path of one's own: a CSV file or a folder;
            or several, joined by `+`.
        root: Folder that holds the data sets; none: $TOPDB_DATA, else `datasets/`.
        layout: What each level of one's own folders is, from the top: `split`,
            `person`, `camera`, or `*` for one that is not used, such as
            `camera/person`; `auto` judges by names and shape.
        pattern: What the names of one's own images in a folder tell, such as
            `{camid}-{date}-{pid}-{n}`; fields of other names are not used.
        check_counts: Whether a benchmark must be complete; `false` takes a subset.
        test_share: Share of one's own identities that are for the test, in (0, 1),
            where no split is given.
        division_seed: Seed of the draw of these identities, of those that are held
            out, and of their queries.
        validation_share: Share of the training identities, in [0, 1), that is held out
            of the training: they are what is scored while training and what the best
            epoch and `train.stop_after` go by. 0: the test is.
        image_height: In pixels, after resizing.
        image_width: In pixels, after resizing.
        sizes: Smaller images that a training begins with, before those of
            `image_height` and `image_width`: epochs, height and width of each, such as
            `[[40, 128, 64]]`.
        batch_size: Images a step; a multiple of `images_per_pid`.
        images_per_pid: Images of each identity in a batch, at least 2.
        balance: Whether a batch has as many identities of each of several data sets;
            without, of each as many as chance draws from all.
        flip: Probability of a horizontal flip.
        zoom: Probability of enlarging by 1.125 and cropping back.
        erase: Probability of erasing a random rectangle.
        threads: Batches made at a time; 0: as many as there are cores.
    """

    dataset: str = "market1501"
    root: str | None = None
    layout: str = AUTO
    pattern: str | None = None
    check_counts: bool = True
    test_share: float = number_in("(0, 1)", 0.3)
    division_seed: int = number_in(_SEED, 1)
    validation_share: float = number_in("[0, 1)", 0.0)
    image_height: int = number_in("[8, 4096]", 384)
    image_width: int = number_in("[8, 4096]", 128)
    sizes: tuple[tuple[int, ...], ...] = ()
    batch_size: int = number_in("[4, 65536]", 64)
    images_per_pid: int = number_in("[2, 1024]", 4)
    balance: bool = False
    flip: float = number_in("[0, 1]", 0.5)
    zoom: float = number_in("[0, 1]", 0.5)
    erase: float = number_in("[0, 1]", 0.5)
    threads: int = number_in("[0, 1024]", 0)

    def __post_init__(self):
        check_each("data", self)
        if self.layout != AUTO:
            parse_layout(self.layout)
        if self.pattern is not None:
            parse_pattern(self.pattern)
        limits = (1, _EPOCHS), (8, self.image_height), (8, self.image_width)
        for size in self.sizes:
            pairs = zip(size, limits, strict=False)
            if len(size) != 3 or any(not low <= n <= top for n, (low, top) in pairs):
                raise ValueError(
                    "`data.sizes` must hold the number of epochs, the height and the "
                    "width of each size, from 8 pixels to data.image_height and "
                    "data.image_width, such as [[40, 128, 64]]. Received: "
                    f"{[list(one) for one in self.sizes]}, image_height="
                    f"{self.image_height}, image_width={self.image_width}"
                )
        if self.batch_size % self.images_per_pid or self.pids_per_batch < 2:
            raise ValueError(
                "`data.batch_size` must be a multiple of `data.images_per_pid`, and "
                "hold at least two identities. Received: "
                f"batch_size={self.batch_size}, images_per_pid={self.images_per_pid}"
            )

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image_height, self.image_width

    @property
    def pids_per_batch(self) -> int:
        """Identities in a batch."""
        return self.batch_size // self.images_per_pid


@dataclass(frozen=True)
class ModelConfig:
    """The network: its backbone, its streams and what is dropped.

    Args:
        backbone: A name in `topdb_tf.model.backbones.BACKBONES`: `resnet50`,
            `mobilenet_v2` or `tiny`.
        weights: Start of the backbone: `imagenet`, `none`, a preset or a file.
        streams: Names of the streams, of `topdb_tf.model.network.STREAMS`.
        drop: A name in `topdb_tf.model.layers.DROP_BLOCKS`: `top` (Top DropBlock) or
            `batch` (one random block a batch).
        drop_from_epoch: The first epoch that drops; before it all rows are kept.
        height_ratio: Share of the rows that is dropped, below 1 with a width_ratio of
            1; of several, such as [0.2, 0.4], each has a top_drop stream of its own.
        width_ratio: Share of the columns that is dropped in these rows; 1: all.
        relevance: How the columns of a row count, a name in
            `topdb_tf.model.layers.RELEVANCES`: `mean` (paper) or `max` (authors).
        mask_from: Feature map that the rows are ranked on: `backbone` (paper) or
            `bottlenecks` (authors).
        num_bottlenecks: Bottlenecks between the backbone and the dropping streams.
        bottleneck_channels: Channels of the bottlenecks, such as 512, which are faster
            the fewer they are; 0: as many as the backbone has.
        pool: Pooling of the global stream, `average` (paper) or `gem`, a generalised
            mean with a trained exponent.
        neck: `no_shift`, `shift` (batch normalisation with a trained shift) or `none`.
    """

    backbone: str = "resnet50"
    weights: str = "imagenet"
    streams: tuple[str, ...] = ("global", "top_drop", "regularization")
    drop: str = "top"
    drop_from_epoch: int = number_in(f"[1, {_EPOCHS}]", 1)
    height_ratio: float | tuple[float, ...] = number_in("(0, 1]", 0.3)
    width_ratio: float = number_in("(0, 1]", 1.0)
    relevance: str = "mean"
    mask_from: str = one_of(*MAPS)
    num_bottlenecks: int = number_in("[0, 16]", 2)
    bottleneck_channels: int = number_in("[0, 65536]", 0)
    pool: str = one_of(*POOLS)
    neck: str = one_of(*NECKS)

    def __post_init__(self):
        check_each("model", self)
        if not self.streams or len(set(self.streams)) < len(self.streams):
            raise ValueError(
                "`model.streams` must name one stream or more, each once. "
                f"Received: {list(self.streams)}"
            )
        check_bottlenecks(self.num_bottlenecks, self.bottleneck_channels)
        self._check_ratios()

    def _check_ratios(self):
        ratios = self.height_ratios
        if not ratios or len(set(ratios)) < len(ratios):
            raise ValueError(
                "`model.height_ratio` must be a number or several, each once. "
                f"Received: {list(ratios)}"
            )
        if max(ratios) == self.width_ratio == 1:
            raise ValueError(
                "`model.height_ratio` must be a number in (0, 1), or 1 with a "
                "`model.width_ratio` below 1: together they would drop everything. "
                f"Received: height_ratio={self.height_ratio}, width_ratio=1"
            )
        if len(ratios) > 1 and "top_drop" not in self.streams:
            raise ValueError(
                "`model.height_ratio` must be one number without the stream top_drop. "
                f"Received: {list(ratios)}, streams={list(self.streams)}"
            )

    @property
    def height_ratios(self) -> tuple[float, ...]:
        """The share of the rows that each top_drop stream drops."""
        ratios = self.height_ratio
        return ratios if isinstance(ratios, tuple) else (ratios,)


@dataclass(frozen=True)
class TrainConfig:
    """Losses, optimizer, schedule and precision.

    Args:
        epochs: Passes over the training images.
        learning_rate: Peak at a batch of `reference_batch_size`; it is scaled in
            proportion to the images of an update.
        reference_batch_size: Batch that `learning_rate` is given for.
        accumulate_steps: Batches whose mean gradient makes one update; hard examples
            and batch statistics are still those of each batch.
        schedule: After the warm-up, `steps` (paper) or `cosine`, to zero at the end.
        warmup: `linear` (paper) or `staircase` (authors).
        warmup_epochs: Length of the warm-up.
        decay_epochs: Epochs at which the rate is divided by ten; for `steps`.
        l2: L2 penalty on every weight.
        clip_norm: Most length of the gradient of all weights together, without the L2
            penalty; 0: any.
        ema: Share that the moving average of the weights, which is then what is scored
            and saved, keeps at each update, such as 0.999; 0: no average.
        freeze_epochs: Epochs at the start in which the backbone is not trained.
        stop_after: Scored epochs without a better mAP after which training ends; 0:
            never.
        label_smoothing: Share of the target that the cross-entropy spreads over all
            identities.
        margin: Margin of the triplet loss, or `soft` for the soft margin.
        cross_entropy: Loss of the logits, a name in
            `topdb_tf.training.losses.CROSS_ENTROPIES`.
        triplet: Loss of the features, a name in `topdb_tf.training.losses.TRIPLETS`.
        precision: `auto`, `float32`, `bfloat16` or `float16`.
        xla: Whether the step is compiled by XLA.
        strategy: `none` (one device), `mirrored` (all GPUs of this machine) or
            `multiworker` (those of the machines in TF_CONFIG); every device trains on
            its part of `data.batch_size` images.
        mining: Where hard examples are looked for: `global`, in the whole batch, or
            `replica`, in the part of a device.
        statistics: Batch normalisation by the whole batch, `synchronized`, or by the
            part of a device, `replica`, which is faster.
        seed: Seed of weights, batches and augmentation.
        deterministic: Whether a GPU computes the same bits each time, which is slower;
            a CPU does anyway.
        evaluate_every: Epochs between retrieval scores; 0: after the last alone.
        checkpoint_minutes: Minutes between checkpoints within an epoch; 0: none. There
            is one after every epoch.
        keep_checkpoints: How many of the newest are kept, beside the best.
    """

    epochs: int = number_in(f"[1, {_EPOCHS}]", 400)
    learning_rate: float = number_in("[1e-12, 1000]", 1e-3)
    reference_batch_size: int = number_in("[1, 65536]", 128)
    accumulate_steps: int = number_in("[1, 65536]", 1)
    schedule: str = one_of(*SCHEDULES)
    warmup: str = one_of(*WARMUPS)
    warmup_epochs: int = number_in(_UP_TO_EPOCHS, 50)
    decay_epochs: tuple[int, ...] = number_in(f"[1, {_EPOCHS}]", (200, 300))
    l2: float = number_in("[0, 1000]", 5e-4)
    clip_norm: float = number_in("[0, 1e12]", 0.0)
    ema: float = number_in("[0, 0.999999]", 0.0)
    freeze_epochs: int = number_in(_UP_TO_EPOCHS, 0)
    stop_after: int = number_in(_UP_TO_EPOCHS, 0)
    label_smoothing: float = number_in("[0, 1)", 0.1)
    margin: float | str = number_in("[0, 1e12]", 0.3)
    cross_entropy: str = "label_smoothed"
    triplet: str = "batch_hard"
    precision: str = one_of(*PRECISIONS)
    xla: bool = False
    strategy: str = one_of(*STRATEGIES)
    mining: str = one_of(*MINING)
    statistics: str = one_of(*STATISTICS)
    seed: int = number_in(_SEED, 1)
    deterministic: bool = False
    evaluate_every: int = number_in(_UP_TO_EPOCHS, 30)
    checkpoint_minutes: float = number_in("[0, 1e6]", 15.0)
    keep_checkpoints: int = number_in(f"[1, {_EPOCHS}]", 2)

    def __post_init__(self):
        check_each("train", self)
        if len(set(self.decay_epochs)) < len(self.decay_epochs):
            raise ValueError(
                "`train.decay_epochs` must hold each epoch once: the rate is divided "
                f"by ten at each. Received: {list(self.decay_epochs)}"
            )
        if self.stop_after and not self.evaluate_every:
            raise ValueError(
                "`train.stop_after` needs scores while training: set "
                "`train.evaluate_every`. Received: "
                f"stop_after={self.stop_after}, evaluate_every=0"
            )
        if self.freeze_epochs >= self.epochs:
            raise ValueError(
                "`train.freeze_epochs` must be fewer than `train.epochs`. Received: "
                f"freeze_epochs={self.freeze_epochs}, epochs={self.epochs}"
            )
        if self.schedule == "cosine" and self.warmup_epochs >= self.epochs:
            raise ValueError(
                "With `train.schedule=cosine`, `train.warmup_epochs` must be fewer "
                f"than `train.epochs`. Received: warmup_epochs={self.warmup_epochs}, "
                f"epochs={self.epochs}"
            )


@dataclass(frozen=True)
class EvaluationConfig:
    """How embeddings are made and scored.

    Args:
        batch_size: Images embedded at a time.
        metric: `sqeuclidean` (paper), `euclidean` or `cosine`.
        rerank: Whether the k-reciprocal re-ranked scores are computed too.
        ignore_cameras: Whether images of the query's own camera count as matches; for
            data sets without camera numbers.
    """

    batch_size: int = number_in("[1, 65536]", 64)
    metric: str = one_of("sqeuclidean", "euclidean", "cosine")
    rerank: bool = False
    ignore_cameras: bool = False

    def __post_init__(self):
        check_each("evaluation", self)


@dataclass(frozen=True)
class Config:
    """Every setting of a run.

    Args:
        data: Images and batches.
        model: The network.
        train: Losses and optimizer.
        evaluation: The scores.
        plugins: Modules that are imported before the settings are used; they add
            parts of their own, such as by `topdb_tf.register_backbone`.
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    plugins: tuple[str, ...] = ()

    def __post_init__(self):
        epochs = self.train.epochs
        if sum(size[0] for size in self.data.sizes) >= epochs:
            raise ValueError(
                "`data.sizes` must leave an epoch for images of `data.image_height` x "
                "`data.image_width`. Received: "
                f"{[list(size) for size in self.data.sizes]}, train.epochs={epochs}"
            )
        if self.model.drop_from_epoch >= max(epochs, 2):
            raise ValueError(
                "`model.drop_from_epoch` must be less than `train.epochs`. Received: "
                f"drop_from_epoch={self.model.drop_from_epoch}, epochs={epochs}"
            )

    def to_yaml(self) -> str:
        """Returns all settings as YAML that `read_config` reads back."""
        return yaml.safe_dump(plain(self), sort_keys=False)
