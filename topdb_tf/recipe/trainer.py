"""The trainer of a run's settings."""

from topdb_tf.config import Config
from topdb_tf.progress import quieted
from topdb_tf.recipe.loop import peak_rate
from topdb_tf.recipe.options import build_optimizer
from topdb_tf.training.distribution import Distribution


def build_trainer(
    config: Config, *, num_pids: int, distribution: Distribution | None = None
):
    """Returns the compiled trainer of a run's settings, and its embedder.

    Args:
        config: Settings of the run.
        num_pids: Number of training identities.
        distribution: The devices that train together; one without.

    Raises:
        ValueError: If the settings do not make a network.
        FileNotFoundError: If the backbone's weights cannot be had.
    """
    from topdb_tf.model.network import embedder
    from topdb_tf.training.losses import BatchHardTripletLoss, LabelSmoothedCrossEntropy
    from topdb_tf.training.trainer import ReidTrainer

    distribution = distribution or Distribution()
    with distribution.scope():
        network = _build_network(config, num_pids)
        if distribution.num_replicas > 1 and config.train.statistics == "synchronized":
            _synchronize(network)
    trainer = ReidTrainer(
        network,
        cross_entropy=LabelSmoothedCrossEntropy(config.train.label_smoothing),
        triplet=BatchHardTripletLoss(config.train.margin),
        mining=config.train.mining,
        strategy=distribution.strategy,
    )
    with distribution.scope():
        trainer.compile(
            optimizer=build_optimizer(config, network, rate=peak_rate(config)),
            jit_compile=config.train.xla,
        )
    return trainer, embedder(network)


def _build_network(config, num_pids):
    from topdb_tf.model.backbones import build_backbone
    from topdb_tf.model.checkpoints import load_backbone_weights
    from topdb_tf.model.layers import BatchDropBlock, TopDropBlock
    from topdb_tf.model.network import build_network

    model = config.model
    if model.drop == "top":
        drop_block = TopDropBlock(
            model.height_ratio, model.relevance, name="top_drop_block"
        )
    else:
        drop_block = BatchDropBlock(
            model.height_ratio, seed=config.train.seed, name="batch_drop_block"
        )
    backbone = build_backbone(model.backbone, config.data.image_size)
    with quieted():
        load_backbone_weights(backbone, model.backbone, model.weights)
    return build_network(
        backbone,
        num_pids=num_pids,
        drop_block=drop_block,
        streams=model.streams,
        mask_from=model.mask_from,
        num_bottlenecks=model.num_bottlenecks,
        neck=model.neck,
    )


def _synchronize(network):
    """Has the statistics of all batch normalisations taken over all replicas."""
    import keras

    from topdb_tf.model.normalization import FusedBatchNormalization

    for layer in network.layers:
        if isinstance(layer, keras.Model):
            _synchronize(layer)
        elif isinstance(layer, FusedBatchNormalization):
            layer.synchronized = True
