"""Commands that tell what can be set, and by which recipes it is."""

import shutil
import sys
import textwrap

import click

from topdb_tf.cli.options import AS_JSON, OVERRIDES, say, show
from topdb_tf.runs.recipes import read_recipe, recipe_headers, recipes

RECIPE = click.option(
    "--recipe",
    default="paper",
    show_default=True,
    help=f"{', '.join(recipes())}, or a YAML file.",
)
PLUGINS = click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="MODULE",
    help="Module that adds backbones, streams, losses, drop blocks; may be repeated.",
)


@click.command()
@RECIPE
@OVERRIDES
@AS_JSON
def settings(recipe, overrides, as_json):
    """Tells each setting: its value, what it may be and does.

    The values are those of a recipe; `fit` takes others by --set KEY=VALUE.

    \b
    topdb-tf settings
    topdb-tf settings --recipe light --set train.epochs=20 --json
    """
    from topdb_tf.runs.descriptions import described

    show(described(read_recipe(recipe, overrides, say=say)), _setting_lines, as_json)


@click.command("recipes")
@AS_JSON
def recipe_list(as_json):
    """Tells the recipes by name, and what each trains.

    \b
    topdb-tf recipes
    topdb-tf recipes --json
    """
    show(recipe_headers(), _recipe_lines, as_json)


def _setting_lines(described):
    """Returns a line for each setting; on a terminal in as many as are needed."""
    lines = [one.line() for one in described]
    if not sys.stdout.isatty():
        return lines
    width = shutil.get_terminal_size().columns
    return [textwrap.fill(line, width, subsequent_indent="    ") for line in lines]


def _recipe_lines(headers):
    width = max(len(recipe.name) for recipe in headers)
    return [f"{recipe.name:{width}}  {recipe.title}" for recipe in headers]
