"""Training: from settings to a run's folder."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from topdb_tf.config import Config
from topdb_tf.data.check import check_split
from topdb_tf.data.records import labels_of
from topdb_tf.progress import duration_text, progress_bar
from topdb_tf.recipe.environment import (
    describe_device,
    environment,
    load_tensorflow,
    set_precision,
)
from topdb_tf.recipe.scoring import (
    Embeddings,
    read_data,
    score_lines,
    score_set,
    scores_of,
    write_scores,
)
from topdb_tf.run_folder import RunFolder, new_run, write_whole

Say = Callable[[str], None]
_SECONDS_BETWEEN_LINES = 60


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
        NonFiniteLossError: If a loss becomes NaN or infinite.
    """
    load_tensorflow()
    import keras

    run = new_run(run_dir)
    split = _checked_data(config, say)
    keras.utils.set_random_seed(config.train.seed)
    precision = set_precision(config.train.precision)
    trainer, embedder = build_trainer(config, num_pids=split.num_pids)
    facts = {
        "seed": config.train.seed,
        "precision": precision,
        "trainable_parameters": _count(trainer.network.trainable_weights),
        "embedding_dim": embedder.output_shape[-1],
    }
    _describe(config, split, facts, say)
    batches = _training_batches(config, split)
    run.path.mkdir(parents=True, exist_ok=True)
    write_whole(run.config, config.to_yaml())
    write_whole(run.environment, json.dumps(environment(**facts), indent=2) + "\n")
    _train(trainer, embedder, batches, Embeddings(split, config), config, run, say)
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
    from topdb_tf.training.optimizer import AdamWithL2
    from topdb_tf.training.trainer import ReidTrainer

    network = _build_network(config, num_pids)
    trainer = ReidTrainer(
        network,
        cross_entropy=LabelSmoothedCrossEntropy(config.train.label_smoothing),
        triplet=BatchHardTripletLoss(config.train.margin),
    )
    trainer.compile(
        optimizer=AdamWithL2(_peak_rate(config), l2=config.train.l2),
        jit_compile=config.train.xla,
    )
    return trainer, embedder(network)


def rate_of_epoch(config: Config) -> Callable[[int], float]:
    """Returns the function from an epoch, counted from 1, to its learning rate."""
    from topdb_tf.training.schedules import learning_rate_at

    train, peak = config.train, _peak_rate(config)

    def rate(epoch):
        return learning_rate_at(
            epoch,
            peak=peak,
            warmup=train.warmup,
            warmup_epochs=train.warmup_epochs,
            drop_epochs=train.drop_epochs,
        )

    return rate


def _peak_rate(config):
    from topdb_tf.training.schedules import scaled_learning_rate

    return scaled_learning_rate(
        config.train.learning_rate,
        batch_size=config.data.batch_size,
        reference_batch_size=config.train.reference_batch_size,
    )


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


def _train(trainer, embedder, batches, embeddings, config, run, say):
    scores = {}

    def score():
        results = [score_set(embeddings.retrieval_set(embedder), config)]
        scores.update(
            scores_of(results, dataset=config.data.split, model=run.embedder.name)
        )
        return {"mean_ap": scores["mean_ap"], "rank_1": scores["cmc"]["1"]}

    start = time.monotonic()
    # Keras's bar goes to standard output, which is for results; a file gets lines.
    with contextlib.redirect_stdout(sys.stderr):
        trainer.fit(
            batches.dataset(),
            epochs=config.train.epochs,
            shuffle=False,  # the plan of the batches has done it
            verbose=1 if sys.stderr.isatty() else 0,
            callbacks=_callbacks(score, batches, embedder, config, run, say),
        )
    if config.evaluation.rerank:
        reranked = score_set(embeddings.retrieval_set(embedder), config, rerank=True)
        scores["reranked"] = reranked.to_dict()
    write_scores(run.scores, scores)
    duration = duration_text(time.monotonic() - start)
    say(f"trained and scored in {duration}: {run.path}")
    for line in score_lines(scores):
        say(line)


def _callbacks(score, batches, embedder, config, run, say):
    import keras

    from topdb_tf.training import callbacks

    epochs = config.train.epochs
    # The order matters: each one sees what those before it put into the log.
    return [
        callbacks.LearningRateByEpoch(rate_of_epoch(config), batches),
        callbacks.StopAtNonFinite(),
        callbacks.RetrievalScore(
            score, every=config.train.evaluate_every, num_epochs=epochs
        ),
        callbacks.KeepLastAndBest(run, embedder),
        callbacks.LogFile(run.log),
        keras.callbacks.TensorBoard(run.tensorboard, write_graph=False),
        callbacks.TimeLeft(
            say,
            num_epochs=epochs,
            every=None if sys.stderr.isatty() else _SECONDS_BETWEEN_LINES,
        ),
    ]


def _describe(config, split, facts, say):
    data, rate = config.data, rate_of_epoch(config)
    say(
        f"{split.name}: {len(split.train):,} training images of {split.num_pids:,} "
        f"identities, {len(split.query):,} queries, {len(split.gallery):,} in the "
        "gallery"
    )
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


def _count(weights):
    return sum(weight.value.shape.num_elements() for weight in weights)
