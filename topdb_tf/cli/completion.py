"""What a shell completes: commands, options, data sets, recipes and runs."""

from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from topdb_tf.cli.options import PROGRAM, UserPath, dataset_names
from topdb_tf.runs.recipes import recipes


class DatasetName(click.ParamType):
    """The name of a data set, or a path; checked where it is read."""

    name = "name"

    def shell_complete(self, ctx, param, incomplete):
        before = incomplete[: incomplete.rfind("+") + 1]
        names = [before + name for name in dataset_names()]
        return _beginning(names, incomplete) or _files(incomplete)


class RecipeName(click.ParamType):
    """The name of a recipe or a YAML file; checked where it is read."""

    name = "name"

    def shell_complete(self, ctx, param, incomplete):
        return _beginning(recipes(), incomplete) or _files(incomplete)


class RunPath(UserPath):
    """The folder of a run; those under `runs` are completed, and any other folder."""

    name = "path"

    def shell_complete(self, ctx, param, incomplete):
        configs = Path("runs").glob("**/config.yaml")
        folders = sorted(str(config.parent) for config in configs)
        return _beginning(folders, incomplete) or _files(incomplete)


TYPES = {
    "dataset": DatasetName(),
    "recipe": RecipeName(),
    "run": RunPath(),
    "runs": RunPath(),
    "resumed": RunPath(),
    "source": RunPath(),
}
"""The types by the name of the parameter, which is the same in all commands."""


def complete_names(group: click.Group) -> None:
    """Lets the names that commands take be completed, in all commands of a group."""
    for command in group.commands.values():
        if isinstance(command, click.Group):
            complete_names(command)
        for parameter in command.params:
            parameter.type = TYPES.get(parameter.name, parameter.type)


@click.command()
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell):
    """Prints what makes SHELL complete commands and names.

    SHELL is bash, zsh or fish. Put the line of yours into its start-up file.

    \b
    eval "$(topdb-tf completion bash)"
    eval "$(topdb-tf completion zsh)"
    topdb-tf completion fish
    """
    root = click.get_current_context().find_root().command
    variable = f"_{PROGRAM.replace('-', '_').upper()}_COMPLETE"
    script = get_completion_class(shell)(root, {}, PROGRAM, variable)
    click.echo(script.source())


def _beginning(names, incomplete):
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _files(incomplete):
    return [CompletionItem(incomplete, type="file")]
