"""The trainer of a run's settings."""

import dataclasses
import inspect
import re
from collections.abc import Callable
from functools import partial

from topdb_tf.progress import quieted
from topdb_tf.runs.fields import check_choice
from topdb_tf.runs.machine import Precision
from topdb_tf.runs.settings import Config
from topdb_tf.training.checkpoint_files import Checkpoint
from topdb_tf.training.distribution import Distribution
from topdb_tf.training.schedules import Phase, phases


def check_network(config: Config) -> None:
    """Checks that there are the parts of a network that the settings name.

    They stand in tables of `topdb_tf.model`, to which others can be added.
    """
    from topdb_tf.model.backbones import BACKBONES
    from topdb_tf.model.layers import DROP_BLOCKS, RELEVANCES
    from topdb_tf.model.network import STREAMS
    from topdb_tf.training.losses import CROSS_ENTROPIES, TRIPLETS

    model = config.model
    check_choice("model.backbone", model.backbone, BACKBONES)
    check_choice("model.drop", model.drop, DROP_BLOCKS)
    check_choice("model.relevance", model.relevance, RELEVANCES)
    check_choice("train.cross_entropy", config.train.cross_entropy, CROSS_ENTROPIES)
    check_choice("train.triplet", config.train.triplet, TRIPLETS)
    for stream in model.streams:
        check_choice("model.streams", stream, STREAMS)
    if model.width_ratio != 1 and not _takes_width(DROP_BLOCKS[model.drop]):
        raise ValueError(
            "`model.width_ratio` must be 1 for a drop block whose function takes no "
            f"`width_ratio`. Received: width_ratio={model.width_ratio}, "
            f"drop={model.drop!r}"
        )


def build_trainer(
    config: Config, *, num_pids: int, distribution: Distribution | None = None
):
    """Returns the compiled trainer of a run's settings, and its embedder."""
    from topdb_tf.model.network import embedder
    from topdb_tf.training.losses import CROSS_ENTROPIES, TRIPLETS
    from topdb_tf.training.trainer import ReidTrainer

    distribution, train = distribution or Distribution(), config.train
    with distribution.scope():
        network = _build_network(config, num_pids)
        if distribution.num_replicas > 1 and config.train.statistics == "synchronized":
            _synchronize(network)
    trainer = ReidTrainer(
        network,
        cross_entropy=CROSS_ENTROPIES[train.cross_entropy](
            label_smoothing=train.label_smoothing
        ),
        triplet=TRIPLETS[train.triplet](margin=train.margin),
        mining=config.train.mining,
        strategy=distribution.strategy,
    )
    with distribution.scope():
        trainer.compile(
            optimizer=build_optimizer(config, network, rate=peak_rate(config)),
            jit_compile=config.train.xla,
        )
    return trainer, embedder(network)


def networks_of_phases(config: Config, network) -> list[tuple]:
    """Returns the phases of a training, each with the network that it trains.

    Raises:
        ValueError: If the network cannot take images of a size.
    """
    from topdb_tf.model.network import adapted

    data, networks = config.data, []
    for phase in phases_of(config):
        size, drops = phase.image_size, phase.drops
        own = network
        if size != data.image_size or not drops:
            try:
                own = adapted(network, size, drops=drops)
            except ValueError as error:
                setting = "data.sizes" if drops else "model.drop_from_epoch"
                # Keras sets what a layer says in bold, amid the layer's arguments.
                text = re.sub(r"(?s).*\x1b\[1m(.*)\x1b\[0m.*", r"\1", str(error))
                raise ValueError(
                    f"`{setting}` must be such that the network can be trained with "
                    f"images of {size[0]} x {size[1]}. {text}"
                ) from error
        networks.append((phase, own))
    return networks


def phases_of(config: Config) -> tuple[Phase, ...]:
    """Returns the phases of the training of some settings."""
    return phases(
        config.train.epochs,
        image_size=config.data.image_size,
        sizes=config.data.sizes,
        drop_from_epoch=config.model.drop_from_epoch,
    )


def _build_network(config, num_pids):
    from topdb_tf.model.backbones import build_backbone
    from topdb_tf.model.checkpoints import load_backbone_weights
    from topdb_tf.model.network import build_network

    check_network(config)
    model = config.model
    backbone = build_backbone(model.backbone, config.data.image_size)
    with quieted():
        load_backbone_weights(backbone, model.backbone, model.weights)
    return build_network(
        backbone,
        num_pids=num_pids,
        drop_block=_drop_blocks(config),
        streams=model.streams,
        mask_from=model.mask_from,
        num_bottlenecks=model.num_bottlenecks,
        bottleneck_channels=model.bottleneck_channels,
        pool=model.pool,
        neck=model.neck,
    )


def _drop_blocks(config):
    """Returns a layer for each ratio, with a name and a seed of its own."""
    from topdb_tf.model.layers import DROP_BLOCKS

    model, blocks = config.model, []
    make = DROP_BLOCKS[model.drop]
    if _takes_width(make):
        make = partial(make, width_ratio=model.width_ratio)
    for index, ratio in enumerate(model.height_ratios):
        seed = (config.train.seed + index) % 2**32
        block = make(height_ratio=ratio, relevance=model.relevance, seed=seed)
        if len(model.height_ratios) > 1:
            name = f"{block.name}_{index + 1}"
            block = type(block).from_config({**block.get_config(), "name": name})
        blocks.append(block)
    return blocks


def _takes_width(make):
    parameters = inspect.signature(make).parameters.values()
    return any(p.name == "width_ratio" or p.kind is p.VAR_KEYWORD for p in parameters)


def _synchronize(network):
    """Has the statistics of all batch normalisations taken over all replicas."""
    import keras

    from topdb_tf.model.normalization import FusedBatchNormalization

    for layer in network.layers:
        if isinstance(layer, keras.Model):
            _synchronize(layer)
        elif isinstance(layer, FusedBatchNormalization):
            layer.synchronized = True


def build_optimizer(config: Config, network, *, rate: float):
    """Returns the optimizer of a run, for a network that is not yet frozen."""
    from topdb_tf.training.averaging import moving_statistics
    from topdb_tf.training.optimizer import AdamWithL2

    train = config.train
    optimizer = AdamWithL2(
        rate,
        l2=train.l2,
        global_clipnorm=train.clip_norm or None,
        use_ema=train.ema > 0,
        ema_momentum=train.ema,
        gradient_accumulation_steps=(
            train.accumulate_steps if train.accumulate_steps > 1 else None
        ),
    )
    if train.ema:
        optimizer.average_too(moving_statistics(network))
    if train.freeze_epochs:
        backbone = network.get_layer("backbone")
        optimizer.let_start_late(backbone.trainable_variables)
    return optimizer


def rate_of_epoch(config: Config) -> Callable[[int], float]:
    """Returns the function from an epoch, counted from 1, to its learning rate."""
    from topdb_tf.training.schedules import cosine_rate_at, learning_rate_at

    train = config.train
    rate = partial(learning_rate_at, decay_epochs=train.decay_epochs)
    if train.schedule == "cosine":
        rate = partial(cosine_rate_at, num_epochs=train.epochs)
    warmup, length = train.warmup, train.warmup_epochs
    return partial(rate, peak=peak_rate(config), warmup=warmup, warmup_epochs=length)


def peak_rate(config: Config) -> float:
    """Returns the learning rate after the warm-up, for the images of an update."""
    from topdb_tf.training.schedules import scaled_learning_rate

    return scaled_learning_rate(
        config.train.learning_rate,
        batch_size=config.data.batch_size * config.train.accumulate_steps,
        reference_batch_size=config.train.reference_batch_size,
    )


def as_begun(config: Config, own: Config, checkpoint: Checkpoint) -> Config:
    """Returns the settings that build the network whose state a checkpoint holds.

    No weights are fetched for the backbone, and the precision is the one that `auto`
    chose when the run began.
    """
    model = dataclasses.replace(config.model, weights="none")
    train = config.train
    if train.precision == own.train.precision:
        precision = Precision.read(checkpoint.record.precision).name
        train = dataclasses.replace(train, precision=precision)
    return dataclasses.replace(config, model=model, train=train)
