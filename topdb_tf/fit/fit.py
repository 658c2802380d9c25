"""Training: from settings to a run's folder."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from topdb_tf.data.checks.names import check_names
from topdb_tf.data.checks.split import FEW_PIDS, check_split
from topdb_tf.data.joint.joining import numbers_of_parts
from topdb_tf.data.records import DataCounts, labels_of, pids_of
from topdb_tf.data.trees.levels import AUTO
from topdb_tf.evaluate.embedding import Embedder
from topdb_tf.files import write_whole
from topdb_tf.fit.loop import Training, choice_lines, option_lines, train
from topdb_tf.fit.resume import (
    fitting,
    how_it_ended,
    restore_log,
    warn_of_another_machine,
    warn_of_other_replicas,
)
from topdb_tf.fit.workers import (
    begin,
    check_same,
    checkpoint_of_run,
    how_to_restart,
    own_folder,
    replica_lines,
    same_precision,
)
from topdb_tf.progress import progress_bar
from topdb_tf.runs.data import located, read_divided, write_division
from topdb_tf.runs.folder import Run, RunFolder, new_run, open_run
from topdb_tf.runs.machine import current_environment, set_precision
from topdb_tf.runs.network import (
    as_begun,
    build_trainer,
    check_network,
    networks_of_phases,
    rate_of_epoch,
)
from topdb_tf.runs.recipes import check_same_settings
from topdb_tf.runs.settings import Config
from topdb_tf.texts import Say, silent
from topdb_tf.training.distribution import explained_losses, read_cluster
from topdb_tf.training.state import restore


def fit(
    config: Config, run_dir: Path, *, callbacks: Sequence = (), say: Say
) -> Run | None:
    """Trains a network and writes all of the run into its folder.

    Everything that can be wrong with the data, the settings or the weights is found
    before the first step.

    Args:
        config: Settings of the run.
        run_dir: The run's folder, new or empty.
        callbacks: Further callbacks of Keras; they come after those of the run, and
            find the scores of an epoch in its logs.
        say: Function that shows a line.

    Returns:
        The run, or nothing on a worker that is not the chief.

    Raises:
        FileExistsError: If the folder holds something already.
        FileNotFoundError: If data or weights are missing.
        ValueError: If data or settings cannot be used.
        NonFiniteLossError: If a loss or gradient becomes NaN or infinite.
        BatchTooLargeError: If a batch does not fit into memory.
        CheckpointError: If the state of the training cannot be written.
        WorkerLostError: If another worker does not answer any more.
        TrainingInterrupted: At Ctrl-C or SIGTERM, when the state is saved.
    """
    config = located(config)
    cluster = read_cluster(config.train.strategy)
    run = new_run(run_dir) if cluster.is_chief else RunFolder(Path(run_dir))
    if config.train.freeze_epochs and config.model.weights == "none":
        say("warning: the backbone that is frozen at first has random weights")
    with explained_losses(cluster, how_to_restart(run)):
        parts, distribution = _begun(config, cluster, say)
        say = say if cluster.is_chief else silent
        training = _prepared(config, parts, say, distribution)
        with own_folder(run, cluster, is_new=True) as folder:
            write_whole(folder.config_file, config.to_yaml())
            write_division(folder, config, *parts)
            write_whole(folder.environment, training.environment.to_json())
            train(training, folder, callbacks=callbacks)
    return open_run(run_dir) if cluster.is_chief else None


def resume(
    run_dir: Path, *, overrides: Iterable[str] = (), force: bool = False, say: Say
) -> Run | None:
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

    Returns:
        The run, or nothing on a worker that is not the chief.

    Raises:
        FileNotFoundError: If there is no run, or no checkpoint in it.
        ValueError: If the settings or the training images are others, if the
            checkpoint is of another network, or if another process trains there.
    """
    run = open_run(run_dir, overrides, say=say)
    config, saved = run.config, run.saved.data
    data = replace(
        config.data,
        layout=saved.layout if config.data.layout == AUTO else config.data.layout,
        pattern=config.data.pattern or saved.pattern,
    )
    config = replace(config, data=data)
    check_same_settings(run.saved, config, force=force)
    cluster = read_cluster(config.train.strategy)
    if ended := how_it_ended(run.folder, config):
        say(f"{run.path} is finished: {ended}.")
        return run if cluster.is_chief else None
    with (
        explained_losses(cluster, how_to_restart(run.folder)),
        own_folder(run.folder, cluster) as folder,
    ):
        parts, distribution = _begun(config, cluster, say, run)
        say = say if cluster.is_chief else silent
        checkpoint = checkpoint_of_run(run.folder, distribution, say)
        config_of_state = as_begun(config, run.saved, checkpoint)
        training = _prepared(config_of_state, parts, say, distribution)
        num_steps = training.batches.num_batches
        checkpoint = fitting(
            checkpoint, training.training_images, num_steps=num_steps, force=force
        )
        restore(training.trainer, checkpoint.arrays)
        restore_log(folder, checkpoint)
        warn_of_another_machine(run.folder, training.environment, say)
        warn_of_other_replicas(checkpoint, distribution.num_replicas, say)
        write_whole(folder.config_file, config.to_yaml())
        epoch, step = checkpoint.position
        say(f"resumed after {epoch} epochs and {step} of {num_steps} steps")
        train(training, folder, resumed=checkpoint)
    return run if cluster.is_chief else None


def _begun(config, cluster, say, run=None):
    """Returns the data set, the part of it to validate on, and the devices.

    The data set comes first, since TensorFlow takes seconds, but not where workers
    would wait for one that has found an error in it.
    """
    say_once = say if cluster.is_chief else silent
    is_alone = config.train.strategy == "none"
    parts = _checked_parts(config, say_once, run) if is_alone else None
    distribution = begin(config, cluster, say)
    return parts or _checked_parts(config, say_once, run), distribution


def _prepared(config, parts, say, distribution):
    """Reads the images and builds the trainer; nothing is written yet."""
    import keras
    import tensorflow as tf

    split, validation = parts
    check_network(config)
    keras.utils.set_random_seed(config.train.seed)
    if config.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    training_images = _checksum_of(split.train)
    check_same(
        distribution,
        replace(config.data, root=None, threads=0),
        config.model,
        config.train,
        training_images,
    )
    precision = same_precision(distribution, set_precision(config.train.precision))
    trainer, embedder = build_trainer(
        config, num_pids=split.num_pids, distribution=distribution
    )
    # Keras would do so in the first step, but a state is restored before it.
    with distribution.scope():
        trainer.optimizer.build(trainer.network.trainable_variables)
    weights = trainer.network.trainable_weights
    training = Training(
        config=config,
        say=say,
        trainer=trainer,
        embedder=embedder,
        networks=networks_of_phases(config, trainer.network),
        batches=_training_batches(config, split),
        embedder_of_test=Embedder(split, config, distribution),
        embedder_of_validation=validation
        and Embedder(validation, config, distribution),
        training_images=training_images,
        environment=current_environment(
            seed=config.train.seed,
            precision=precision,
            trainable_parameters=sum(w.value.shape.num_elements() for w in weights),
            embedding_dim=embedder.output_shape[-1],
            data=tuple(map(DataCounts.of, split.data_sets)),
        ),
        distribution=distribution,
    )
    _describe(training, split)
    return training


def _checked_parts(config, say, run):
    """Returns the data set, without those held out to validate on, and these."""
    split, validation = read_divided(config, run=run, say=say)
    for finding in _findings(split, config):
        if finding.severity == "error" or finding.kind == FEW_PIDS:
            fix = finding.fix
            if validation and finding.kind == FEW_PIDS:
                fix += (
                    f" Or a smaller data.validation_share, which holds out "
                    f"{len(set(pids_of(validation.gallery))):,} others."
                )
            raise ValueError(f"{finding.message} {fix}")
        if finding.severity == "note" or finding.kind == "one-camera":
            continue  # that of cameras was said when the images were read
        say(f"warning: {finding.message} {finding.fix}")
    return split, validation


def _findings(split, config):
    """Returns what would spoil a training on a data set, or on several as one."""
    data, findings = config.data, []
    if data.balance:
        _check_balance(split, data)
    for part in split.data_sets:
        of_part = [
            *check_names(part, None),
            *check_split(
                part,
                images_per_pid=data.images_per_pid,
                batch_size=None if split.parts else data.batch_size,
                ignore_cameras=config.evaluation.ignore_cameras or not part.has_cameras,
            ),
        ]
        if split.parts:
            of_part = [
                one._replace(message=f"{part.name}: {one.message}") for one in of_part
            ]
        findings += of_part
    if split.parts:
        sizes = {"images_per_pid": data.images_per_pid, "batch_size": data.batch_size}
        whole = check_split(split, **sizes)
        findings += [finding for finding in whole if finding.kind == FEW_PIDS]
    return findings


def _check_balance(split, data):
    if not split.parts:
        raise ValueError(
            "`data.balance` needs several data sets, joined by `+`, such as --dataset "
            f"market1501+cuhk03-labeled. Received: {data.dataset}"
        )
    share = -(-data.pids_per_batch // len(split.parts))
    fewest = min(split.parts, key=lambda part: part.num_pids)
    if 0 < fewest.num_pids < share:
        most = fewest.num_pids * len(split.parts) * data.images_per_pid
        raise ValueError(
            f"With `data.balance` a batch of {data.batch_size} images takes {share} "
            f"identities of each data set, and {fewest.name} has {fewest.num_pids} to "
            f"train on. fit: --set data.batch_size={most}, or a smaller multiple of "
            f"{data.images_per_pid}, or data.balance=false."
        )


def _training_batches(config, split):
    from topdb_tf.data.decoding import decode_images
    from topdb_tf.data.pipeline import PixelOptions, TrainingBatches

    data = config.data
    options = PixelOptions(
        image_size=data.image_size,
        flip=data.flip,
        zoom=data.zoom,
        erase=data.erase,
        dtype="uint8",  # as images are; faster to make and to move than float32
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
        parts=numbers_of_parts(split) if data.balance else None,
    )


def _describe(training, split):
    config, say = training.config, training.say
    data, rate = config.data, rate_of_epoch(config)
    for counts in training.environment.data:
        say(str(counts))
    if split.parts:
        say(str(DataCounts.of(split)))
        drawn = "as many of each data set" if data.balance else "of all as one"
        say(
            f"the identities of a batch are drawn {drawn} (data.balance="
            f"{str(data.balance).lower()}); scores while training are of all queries "
            "in one gallery of all"
        )
    if training.embedder_of_validation is not None:
        held_out = training.embedder_of_validation.split
        num_pids = held_out.counts("gallery").pids
        say(
            f"held out for validation: {num_pids:,} identities, "
            f"{len(held_out.query):,} queries, {len(held_out.gallery):,} in the "
            f"gallery (data.validation_share={data.validation_share:g}, "
            f"data.division_seed={data.division_seed})"
        )
        for part in held_out.parts:
            num_pids = part.counts("gallery").pids
            say(f"of {part.name}: {num_pids:,} identities")
    environment = training.environment
    say(
        f"{config.model.backbone}, {data.image_height} x {data.image_width}: "
        f"{environment.trainable_parameters:,} trainable parameters, embedding of "
        f"{environment.embedding_dim}"
    )
    say(
        f"{environment.device}; precision {environment.precision}; XLA "
        f"{'on' if config.train.xla else 'off'}"
    )
    peak = max(rate(epoch) for epoch in range(1, config.train.epochs + 1))
    say(
        f"batches of {data.pids_per_batch} identities x {data.images_per_pid} images; "
        f"learning rate up to {peak:g}; {config.train.epochs} epochs"
    )
    for line in replica_lines(config, training.distribution):
        say(line)
    for line in option_lines(config, num_batches=training.batches.num_batches):
        say(line)
    for line in choice_lines(config):
        say(line)


def _checksum_of(records):
    names = [(record.path.name, record.pid, record.camid) for record in records]
    return hashlib.sha256(repr(names).encode()).hexdigest()
