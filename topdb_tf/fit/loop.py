"""The training loop of a run: its callbacks, where it begins, what it leaves."""

import contextlib
import dataclasses
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from topdb_tf.evaluate.embedding import Embedder, keep_features
from topdb_tf.evaluate.evaluate import scores_of
from topdb_tf.evaluate.scores import score_lines, score_set, write_scores
from topdb_tf.files import sha256_of, whole_file
from topdb_tf.fit.memory import explained_memory, scoring_memory, training_memory
from topdb_tf.fit.resume import has_stopped, scored_epochs, telling_the_way_on
from topdb_tf.progress import draws_on_terminal, training_bar
from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.retrieval.protocol import RetrievalResult
from topdb_tf.runs.data import origin_of
from topdb_tf.runs.folder import RunFolder, open_run
from topdb_tf.runs.machine import Environment
from topdb_tf.runs.network import phases_of, rate_of_epoch
from topdb_tf.runs.settings import Config
from topdb_tf.texts import duration_text
from topdb_tf.training.checkpoint_files import (
    START,
    Checkpoint,
    TrainingRecord,
    explained,
)
from topdb_tf.training.distribution import Distribution
from topdb_tf.training.schedules import Phase

_SECONDS_BETWEEN_LINES = 60


class Training(NamedTuple):
    """What a training works with.

    The trainer is compiled, its optimizer built; the embedder shares the weights that
    it trains, as do the networks, one for each phase. The batches are
    `TrainingBatches`, of images whose checksum is kept.
    """

    config: Config
    say: Callable[[str], None]
    trainer: Any
    embedder: Any
    networks: list[tuple[Phase, Any]]
    batches: Any
    embedder_of_test: Embedder
    training_images: str
    environment: Environment
    distribution: Distribution = Distribution()
    embedder_of_validation: Embedder | None = None

    @property
    def prefix(self) -> str:
        """What the names of scores begin with that are not of the test."""
        return "" if self.embedder_of_validation is None else "val_"

    def as_used(self):
        """Returns the context in which the network is as it is scored and saved."""
        from topdb_tf.training.averaging import as_used

        return as_used(self.trainer.network, self.trainer.optimizer)


class Scored(NamedTuple):
    """What the network scored after an epoch, and the embeddings that it did by."""

    retrieval_set: RetrievalSet
    result: RetrievalResult

    @property
    def mean_ap(self) -> float:
        """The mAP."""
        return self.result.scores.mean_ap

    @property
    def rank_1(self) -> float:
        """The rank-1 accuracy."""
        return self.result.scores.cmc[0]


def train(
    training: Training,
    run: RunFolder,
    *,
    resumed: Checkpoint | None = None,
    callbacks: Sequence = (),
) -> None:
    """Trains to the last epoch, or an early end, and writes the scores.

    The trainer is in the state of the checkpoint that is resumed.

    Raises:
        NonFiniteLossError: If a loss, gradient or weight becomes NaN or infinite.
        BatchTooLargeError: If a batch does not fit into memory.
        CheckpointError: If the state cannot be written.
        TrainingInterrupted: At Ctrl-C or SIGTERM, when the state is saved.
    """
    from topdb_tf.training.callbacks import RetrievalScore
    from topdb_tf.training.saving import Interruption

    config, precision = training.config, training.environment.precision
    start = time.monotonic()
    scoring = RetrievalScore(
        lambda: _score(training),
        scored=scored_epochs(config),
        prefix=training.prefix,
    )
    # Standard output is for results, whatever callbacks of others print.
    with (
        Interruption(f"go on with `topdb-tf fit --resume {run.path}`") as interruption,
        contextlib.redirect_stdout(sys.stderr),
        explained_memory(lambda: training_memory(config, precision)),
        telling_the_way_on(run),
        training_bar() as draw,
    ):
        time_left = _time_left(training, resumed, draw)
        ours = _callbacks(training, run, scoring, interruption, time_left, resumed)
        _fit(training, [*ours, *callbacks], resumed)
    if training.embedder_of_validation is not None:
        scored = _score_best(training, run)
    else:  # a callback ended it, or none was left
        scored = scoring.last or _score(training)
    scores = _written_scores(training, run, scored)
    duration = duration_text(time.monotonic() - start)
    for line in (f"trained and scored in {duration}: {run.path}", *score_lines(scores)):
        training.say(line)


def _score(training):
    """Returns what the network scores with the weights that it has now."""
    embedder = training.embedder_of_validation or training.embedder_of_test
    with training.as_used():
        return _scored(training, embedder, training.embedder)


def _score_best(training, run):
    """Returns what the best epoch scores in the test; its model becomes the run's."""
    from topdb_tf.model.extraction import load_embedder

    if not run.best_embedder.is_file():  # a callback ended it before any was scored
        with training.as_used():
            return _scored(training, training.embedder_of_test, training.embedder)
    with explained(run.embedder), whole_file(run.embedder) as partial:
        shutil.copyfile(run.best_embedder, partial)
    return _scored(training, training.embedder_of_test, load_embedder(run.embedder))


def _scored(training, embedder, model):
    config = training.config
    with explained_memory(lambda: scoring_memory(config)):
        retrieval_set = embedder.retrieval_set(model)
    return Scored(retrieval_set, score_set(retrieval_set, config))


def _written_scores(training, run, scored):
    """Writes the scores of a finished training, the re-ranked ones too if asked for."""
    config, images = training.config, scored.retrieval_set
    split = training.embedder_of_test.split
    used = open_run(run.path)
    scores = dataclasses.replace(
        scores_of(images, split, config, plain=scored.result),
        choice=used.choice(run.embedder),
        origin=origin_of(config.data.dataset, config.data.dataset),
        model=run.embedder.name,
        model_sha256=sha256_of(run.embedder),
    )
    write_scores(run.scores, scores)
    features = np.concatenate([images.query_features, images.gallery_features])
    keep_features(used, features, split, say=training.say)
    return scores


def _fit(training, callbacks, resumed):
    """Runs Keras's `fit` in each phase: first for what is left of an epoch, if any."""
    from topdb_tf.data.pipeline import Shard

    trainer, batches = training.trainer, training.batches
    cluster = training.distribution.cluster
    shard = Shard(cluster.index, cluster.num_workers)
    start = resumed.position if resumed else START
    epoch, step = start
    if resumed and not step:
        if has_stopped(training.config, epoch, resumed.record.best):
            return
    options = {
        "shuffle": False,  # the plan of the batches has done it
        "verbose": 0,  # `TimeLeft` tells what is to be told
        "callbacks": callbacks,
    }
    if step == batches.num_batches:
        _end_epoch(trainer, callbacks, epoch)
        epoch, step = epoch + 1, 0
    texts = _phase_texts(phase for phase, _ in training.networks)
    for text, (phase, network) in zip(texts, training.networks, strict=True):
        size, last = phase.image_size, phase.last_epoch
        if epoch < last and not trainer.stop_training:
            trainer.train_as(network)
            if 0 < epoch == phase.first_epoch - 1 and not step:
                training.say(f"epoch {epoch + 1}: {text} from here on")
        if step and epoch < last:
            rest = batches.epoch_dataset(
                epoch, first_step=step, shard=shard, image_size=size
            )
            trainer.fit(rest, initial_epoch=epoch, epochs=epoch + 1, **options)
            epoch, step = epoch + 1, 0
        if epoch < last and not trainer.stop_training:
            dataset = batches.dataset(shard, image_size=size)
            trainer.fit(dataset, initial_epoch=epoch, epochs=last, **options)
            epoch = last


def _phase_texts(phases):
    """Returns for people what is trained in each phase."""
    phases, texts = list(phases), []
    drop_late = not all(phase.drops for phase in phases)
    for phase in phases:
        height, width = phase.image_size
        drops = f", {'rows' if phase.drops else 'nothing'} dropped" if drop_late else ""
        texts.append(f"images of {height} x {width}{drops}")
    return texts


def _end_epoch(trainer, callbacks, epoch):
    """Does what follows the steps of an epoch, which are all done."""
    import keras

    callback_list = keras.callbacks.CallbackList(
        callbacks, model=trainer, epochs=epoch + 1, steps=0, verbose=0
    )
    callback_list.on_train_begin()
    callback_list.on_epoch_begin(epoch)
    callback_list.on_epoch_end(epoch, dict(trainer.get_metrics_result()))
    callback_list.on_train_end()


def _time_left(training, resumed, draw):
    """Returns what tells of the training: by a bar on a terminal, else by lines."""
    from topdb_tf.training.callbacks import TimeLeft

    config, draws = training.config, draws_on_terminal()
    is_told = training.distribution.cluster.is_chief
    return TimeLeft(
        training.say,
        num_epochs=config.train.epochs,
        prefix=training.prefix,
        every=None if draws else _SECONDS_BETWEEN_LINES,
        draw=draw if draws and is_told else None,
        batch_size=config.data.batch_size,
        start=resumed.position if resumed else START,
        phases=tuple(phase for phase, _ in training.networks),
    )


def _callbacks(training, run, scoring, interruption, time_left, resumed):
    import keras

    from topdb_tf.training import callbacks, saving
    from topdb_tf.training.state import finite, state_arrays

    config, say, trainer = training.config, training.say, training.trainer
    settings, start = config.train, resumed.position if resumed else START
    models = saving.KeepModels(
        run.embedder,
        run.best_embedder,
        training.embedder,
        metric=f"{training.prefix}mean_ap",
        best=resumed.record.best if resumed else None,
        as_used=training.as_used,
    )
    # The order matters: each one sees what those before it put into the log.
    return [
        callbacks.FreezeBackbone(
            trainer.network.get_layer("backbone"), settings.freeze_epochs, say=say
        ),
        callbacks.LearningRateByEpoch(rate_of_epoch(config), training.batches),
        callbacks.StopAtNonFinite(
            trainer.non_finite_gradient,
            check_state=lambda when: deque(finite(state_arrays(trainer), when), 0),
            start=start,
        ),
        callbacks.WarnOfCollapse(say),
        scoring,
        models,
        callbacks.LogFile(run.log),
        keras.callbacks.TensorBoard(run.tensorboard, write_graph=False),
        saving.Checkpoints(
            run.checkpoints,
            lambda: _record(training, models.best, run.log),
            num_steps=training.batches.num_batches,
            interruption=interruption,
            scored=scoring.scored,
            minutes=settings.checkpoint_minutes,
            keep=settings.keep_checkpoints,
            resumed=resumed,
        ),
        time_left,
        callbacks.StopAtPlateau(
            say,
            stop_after=settings.stop_after,
            scored=scoring.scored,
            best=lambda: models.best,
            keeps_best=training.embedder_of_validation is not None,
        ),
    ]


def _record(training, best, log):
    """Returns what a checkpoint tells of the training so far."""
    return TrainingRecord(
        precision=str(training.environment.precision),
        training_images=training.training_images,
        num_replicas=training.distribution.num_replicas,
        best=best,
        log=log.read_text(encoding="utf-8") if log.exists() else None,
    )


def option_lines(config: Config, *, num_batches: int) -> list[str]:
    """Returns what is said at the start of the options that are on.

    Raises:
        ValueError: If an epoch is too short for one update.
    """
    train, size, lines = config.train, config.data.batch_size, []
    if train.accumulate_steps > 1:
        if train.accumulate_steps > num_batches:
            raise ValueError(
                "`train.accumulate_steps` must be at most the batches of an epoch. "
                f"Received: accumulate_steps={train.accumulate_steps}, batches of an "
                f"epoch: {num_batches}"
            )
        lines.append(
            f"gradients of {train.accumulate_steps} batches make one update: effective "
            f"batch {size * train.accumulate_steps}, to which the learning rate is "
            "scaled; hard examples and batch statistics are those of each batch"
        )
    if train.warmup_epochs > train.epochs:
        lines.append(
            f"warning: the warm-up is longer than the training (train.warmup_epochs="
            f"{train.warmup_epochs}, train.epochs={train.epochs}): the learning rate "
            "does not reach its peak"
        )
    elif (
        train.schedule == "steps" and min(train.decay_epochs, default=0) > train.epochs
    ):
        lines.append(
            f"warning: the learning rate never falls: train.decay_epochs="
            f"{list(train.decay_epochs)} come after train.epochs={train.epochs}"
        )
    if train.schedule == "cosine":
        lines.append("after the warm-up the learning rate follows a cosine to zero")
    if train.clip_norm:
        lines.append(f"gradients longer than {train.clip_norm:g} are clipped to that")
    if train.ema:
        lines.append(
            f"scored and saved are moving averages of weights and batch statistics, "
            f"over about {1 / (1 - train.ema):,.0f} updates"
        )
    phases = phases_of(config)
    if len(phases) > 1:
        ends = [f", to epoch {phase.last_epoch}" for phase in phases]
        texts = zip(_phase_texts(phases), ends, strict=True)
        lines.append("; ".join(map("".join, texts)))
    if train.freeze_epochs:
        lines.append(f"the backbone is trained from epoch {train.freeze_epochs + 1} on")
    if train.stop_after:
        lines.append(
            f"training ends after {train.stop_after} scored epochs without a better mAP"
        )
    return lines


def choice_lines(config: Config) -> list[str]:
    """Returns what is said at the start of how the best epoch is chosen, if it is."""
    if config.data.validation_share:
        return [
            "the best epoch is chosen by the mAP of validation; its weights become the "
            "run's model, and the test is scored by them once, at the end"
        ]
    if any(map(scored_epochs(config), range(1, config.train.epochs))):
        return [
            "the best epoch is chosen on the test set; data.validation_share=0.2 would "
            "hold identities out of the training for that"
        ]
    return []
