"""Training: from settings to a run's folder."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from topdb_tf.config import Config
from topdb_tf.data.check import check_split
from topdb_tf.data.records import labels_of
from topdb_tf.progress import progress_bar
from topdb_tf.recipe.environment import (
    describe_device,
    environment,
    load_tensorflow,
    set_precision,
)
from topdb_tf.recipe.loop import Training, peak_rate, rate_of_epoch, train
from topdb_tf.recipe.options import build_optimizer, option_lines
from topdb_tf.recipe.resume import (
    as_begun,
    check_same_settings,
    fitting,
    how_it_ended,
    is_finished,
    restore_log,
    warn_of_another_machine,
)
from topdb_tf.recipe.scoring import Embeddings, read_data
from topdb_tf.recipe_files import read_config
from topdb_tf.run_folder import RunFolder, held, new_run, open_run, write_whole
from topdb_tf.training.checkpoint_files import newest_checkpoint
from topdb_tf.training.state import restore

Say = Callable[[str], None]


def fit(config: Config, run_dir: Path, *, say: Say) -> RunFolder:
    """Trains a network and writes all of the run into its folder.

    Everything that can be wrong with the data, the settings or the weights is found
    before the first step.

    Args:
        config: Settings of the run.
        run_dir: The run's folder, new or empty.
        say: Function that shows a line.

    Raises:
        FileExistsError: If the folder holds something already.
        FileNotFoundError: If data or weights are missing.
        ValueError: If data or settings cannot be used.
        NonFiniteLossError: If a loss or gradient becomes NaN or infinite.
        BatchTooLargeError: If a batch does not fit into memory.
        CheckpointError: If the state of the training cannot be written.
        TrainingInterrupted: At Ctrl-C or SIGTERM, when the state is saved.
    """
    run = new_run(run_dir)
    if config.train.freeze_epochs and config.model.weights == "none":
        say("warning: the backbone that is frozen at first has random weights")
    training = _prepared(config, run, say)
    run.path.mkdir(parents=True, exist_ok=True)
    with held(run):
        write_whole(run.config, config.to_yaml())
        facts = json.dumps(environment(**_facts_of_network(training)), indent=2)
        write_whole(run.environment, facts + "\n")
        train(training)
    return run


def resume(
    run_dir: Path, *, overrides: Iterable[str] = (), force: bool = False, say: Say
) -> RunFolder:
    """Goes on with a run from its newest whole checkpoint, to the same end.

    On the CPU, with as many cores, weights, log and scores are to the bit those of a
    run that was never interrupted; on a GPU they are with `train.deterministic`. A
    finished run is left as it is.

    Args:
        run_dir: The run's folder.
        overrides: Settings `section.key=value` to go on with. Those that change the
            result need `force`.
        force: Whether other settings or training images are accepted.
        say: Function that shows a line.

    Raises:
        FileNotFoundError: If there is no run, or no checkpoint in it.
        ValueError: If the settings or the training images are others, if the
            checkpoint is of another network, or if another process trains there.
    """
    run = open_run(run_dir)
    config = read_config(run.config, overrides)
    own = read_config(run.config)
    check_same_settings(own, config, force=force)
    if is_finished(run, config):
        say(f"{run.path} is finished: {how_it_ended(run, config)}.")
        return run
    with held(run):
        checkpoint = newest_checkpoint(run.checkpoints, say=say)
        training = _prepared(as_begun(config, own, checkpoint), run, say)
        num_steps = training.batches.num_batches
        checkpoint = fitting(
            checkpoint, training.facts, num_steps=num_steps, force=force
        )
        restore(training.trainer, checkpoint.arrays)
        restore_log(run, checkpoint)
        warn_of_another_machine(run, say)
        write_whole(run.config, config.to_yaml())
        epoch, step = checkpoint.position
        say(f"resumed after {epoch} epochs and {step} of {num_steps} steps")
        train(training, resumed=checkpoint)
    return run


def build_trainer(config: Config, *, num_pids: int):
    """Returns the compiled trainer of a run's settings, and its embedder.

    Args:
        config: Settings of the run.
        num_pids: Number of training identities.

    Raises:
        ValueError: If the settings do not make a network.
        FileNotFoundError: If the backbone's weights cannot be had.
    """
    from topdb_tf.model.network import embedder
    from topdb_tf.training.losses import BatchHardTripletLoss, LabelSmoothedCrossEntropy
    from topdb_tf.training.trainer import ReidTrainer

    network = _build_network(config, num_pids)
    trainer = ReidTrainer(
        network,
        cross_entropy=LabelSmoothedCrossEntropy(config.train.label_smoothing),
        triplet=BatchHardTripletLoss(config.train.margin),
    )
    trainer.compile(
        optimizer=build_optimizer(config, network, rate=peak_rate(config)),
        jit_compile=config.train.xla,
    )
    return trainer, embedder(network)


def _prepared(config, run, say):
    """Reads the data and builds the trainer; nothing is written yet."""
    load_tensorflow()
    import keras
    import tensorflow as tf

    split = _checked_data(config, say)
    keras.utils.set_random_seed(config.train.seed)
    if config.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    precision = set_precision(config.train.precision)
    trainer, embedder = build_trainer(config, num_pids=split.num_pids)
    # Keras would do so in the first step, but a state is restored before it.
    trainer.optimizer.build(trainer.network.trainable_variables)
    training = Training(
        config=config,
        run=run,
        say=say,
        trainer=trainer,
        embedder=embedder,
        batches=_training_batches(config, split),
        embeddings=Embeddings(split, config),
        facts={
            "precision": precision,
            "training_images": _sum_of_records(split.train),
        },
    )
    _describe(training, split)
    return training


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


def _checked_data(config, say):
    split = read_data(config.data.split, config)
    findings = check_split(
        split,
        images_per_pid=config.data.images_per_pid,
        ignore_cameras=config.evaluation.ignore_cameras,
    )
    for finding in findings:
        if finding.severity == "error":
            raise ValueError(f"{finding.message} {finding.fix}")
        say(f"warning: {finding.message} {finding.fix}")
    return split


def _training_batches(config, split):
    from topdb_tf.data.decoding import decode_images
    from topdb_tf.data.pipeline import PixelOptions, TrainingBatches

    data = config.data
    options = PixelOptions(
        image_size=data.image_size,
        flip=data.flip,
        zoom=data.zoom,
        erase=data.erase,
        num_threads=data.threads or os.cpu_count(),
    )
    with progress_bar("reading training images") as progress:
        images = decode_images(
            [record.path for record in split.train], progress=progress
        )
    return TrainingBatches(
        images,
        labels_of(split.train),
        options,
        pids_per_batch=data.pids_per_batch,
        images_per_pid=data.images_per_pid,
        seed=config.train.seed,
    )


def _describe(training, split):
    config, say = training.config, training.say
    data, rate = config.data, rate_of_epoch(config)
    say(
        f"{split.name}: {len(split.train):,} training images of {split.num_pids:,} "
        f"identities, {len(split.query):,} queries, {len(split.gallery):,} in the "
        "gallery"
    )
    facts = _facts_of_network(training)
    say(
        f"{config.model.backbone}, {data.image_height} x {data.image_width}: "
        f"{facts['trainable_parameters']:,} trainable parameters, embedding of "
        f"{facts['embedding_dim']}"
    )
    say(
        f"{describe_device()}; precision {facts['precision']}; XLA "
        f"{'on' if config.train.xla else 'off'}"
    )
    peak = max(rate(epoch) for epoch in range(1, config.train.epochs + 1))
    say(
        f"batches of {data.pids_per_batch} identities x {data.images_per_pid} images; "
        f"learning rate up to {peak:g}; {config.train.epochs} epochs"
    )
    for line in option_lines(config, num_batches=training.batches.num_batches):
        say(line)


def _facts_of_network(training):
    weights = training.trainer.network.trainable_weights
    return {
        "seed": training.config.train.seed,
        "precision": training.facts["precision"],
        "trainable_parameters": sum(
            weight.value.shape.num_elements() for weight in weights
        ),
        "embedding_dim": training.embedder.output_shape[-1],
    }


def _sum_of_records(records):
    names = [(record.path.name, record.pid, record.camid) for record in records]
    return hashlib.sha256(repr(names).encode()).hexdigest()
