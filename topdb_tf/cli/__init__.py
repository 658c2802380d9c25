"""The command line: parse, call the recipe, print."""

import click

from topdb_tf import __version__
from topdb_tf.cli import (
    checkpoints,
    curve_figures,
    deciding,
    embedding,
    figures,
    scoring,
    serving,
    training,
)
from topdb_tf.serving.errors import ServingError
from topdb_tf.training.errors import (
    BatchTooLargeError,
    CheckpointError,
    NonFiniteLossError,
    TrainingInterrupted,
    WorkerLostError,
)

_EXPLAINED = (
    ValueError,
    FileNotFoundError,
    FileExistsError,
    NonFiniteLossError,
    BatchTooLargeError,
    CheckpointError,
    WorkerLostError,
    ServingError,
)


class _Commands(click.Group):
    """Turns what a user can mend into one line and a non-zero status."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except _EXPLAINED as error:
            if ctx.params.get("traceback"):
                raise
            raise click.ClickException(" ".join(str(error).split())) from error
        except TrainingInterrupted as stop:
            click.echo(stop, err=True)
            # As the shell has it for a process that a signal ended: 130 for Ctrl-C.
            ctx.exit(128 + stop.signal_number)


@click.group(cls=_Commands)
@click.version_option(__version__)
@click.option("--traceback", is_flag=True, help="Show where an error came from.")
def main(traceback):
    """Trains, evaluates and serves Top-DB-Net for person re-identification.

    Progress and messages go to standard error, results to standard output.
    """


for _command in (
    training.fit,
    training.demo,
    training.info,
    training.table,
    scoring.evaluate,
    scoring.score,
    serving.export,
    embedding.embed,
    deciding.calibrate,
    deciding.match,
    figures.figure,
    checkpoints.convert,
):
    main.add_command(_command)

for _command in (
    curve_figures.cmc,
    curve_figures.training,
    curve_figures.distances,
    curve_figures.cameras,
    curve_figures.embedding_map,
):
    figures.figure.add_command(_command)
