"""Options of the commands that embed images: by which model, and how it is asked."""

import dataclasses
import functools

import click

from topdb_tf.cli.options import (
    PATH,
    NumberRange,
    UserPath,
    count_option,
    note_on_demo,
    options_of,
)
from topdb_tf.runs.plugins import load_plugins


def _number_or_file(ctx, param, text):
    is_number = text is not None and text.isdecimal()
    return int(text) if is_number else text and PATH.convert(text, param, ctx)


_which_model = options_of(
    click.option(
        "--model",
        type=PATH,
        callback=note_on_demo,
        help="A run, an export, a .keras file, a preset (its folder or hf://USER/NAME) "
        "or demo, which comes with the package.",
    ),
    click.option(
        "--server", metavar="ADDRESS", help="Or a model server, [SCHEME://]HOST:PORT."
    ),
    click.option(
        "--protocol",
        type=click.Choice(["rest", "grpc"]),
        help="Of the server, where its address has no scheme.",
    ),
    click.option(
        "--model-name", default="topdb", show_default=True, help="On the server."
    ),
    count_option(
        "--version", least=0, most=2**63 - 1, help="On the server; the newest."
    ),
    click.option("--label", help="Label of the version instead, such as canary."),
    click.option(
        "--ca-file",
        type=UserPath(exists=True, dir_okay=False),
        help="Certificates (PEM) to trust, for https and grpcs.",
    ),
    click.option(
        "--plugin",
        multiple=True,
        metavar="MODULE",
        expose_value=False,
        callback=lambda ctx, _, names: load_plugins(names),
        help="Module that defines layers of a .keras file; may be repeated.",
    ),
)
_how_asked = options_of(
    count_option("--batch-size", default=32, help="Images a request."),
    count_option("--in-flight", most=1024, default=4, help="Requests at a time."),
    click.option("--skip-bad", is_flag=True, help="Leave bad images out."),
    click.option(
        "--timeout",
        type=NumberRange(0, min_open=True),
        help="Seconds for embedding them all.",
    ),
    click.option(
        "--pca",
        metavar="N|FILE",
        callback=_number_or_file,
        help="Keep fewer numbers: by the PCA in a file, or one that `embed` fits.",
    ),
)


def source_options(command):
    """Adds the options of what embeds images, given to the command as `source`."""
    return _which_model(_how_asked(_with_source(command)))


def model_options(command):
    """Adds those of `source_options` that matter for one image at a time."""
    return _which_model(_with_source(command))


def _with_source(command):
    @functools.wraps(command)
    def with_source(*args, model_name, version, label, in_flight=4, **others):
        from topdb_tf.embed.address import ModelChoice
        from topdb_tf.embed.source import Source

        names = {field.name for field in dataclasses.fields(Source)} & set(others)
        source = Source(
            choice=ModelChoice(model_name, version, label),
            max_in_flight=in_flight,
            **{name: others.pop(name) for name in names},
        )
        return command(*args, source=source, **others)

    return with_source
