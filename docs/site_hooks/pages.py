"""Hooks of MkDocs: the page of all commands, made from the commands themselves."""

import html
import inspect
import re

import click

from topdb_tf.cli import main

_LIST = "<!-- the commands -->"


def on_page_markdown(markdown, *, page, config, files):
    """Puts the list of the commands where `commands.md` asks for it."""
    return markdown.replace(_LIST, "\n".join(list_of_commands(main)))


def list_of_commands(group, above="topdb-tf"):
    """Yields the Markdown of the commands of a group, those of groups in it too."""
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        yield from _of_command(command, f"{above} {name}")
        if isinstance(command, click.Group):
            yield from list_of_commands(command, f"{above} {name}")


def _of_command(command, name):
    parent = click.Context(click.Group(), info_name=name.rpartition(" ")[0])
    context = click.Context(command, info_name=name.rpartition(" ")[2], parent=parent)
    depth = name.count(" ") + 1
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"{'#' * depth} {name}\n"
    yield f"```text\n{name} {usage}\n```\n"
    for paragraph in re.split(r"\n{2,}", inspect.cleandoc(command.help or "")):
        if paragraph.startswith("\b"):
            lines = paragraph.removeprefix("\b").strip()
            yield f"```bash\n{lines}\n```\n"
        else:
            yield f"{paragraph}\n"
    options = [param for param in command.params if isinstance(param, click.Option)]
    if options:
        yield "| option | meaning |\n|---|---|"
        for option in options:
            names, meaning = option.get_help_record(context)
            yield f"| <code>{_cell(names)}</code> | {_cell(meaning)} |"
        yield ""


def _cell(text):
    """Returns a text in which nothing is Markdown's, or a table's."""
    text = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"[|\[\]*_`]", lambda sign: f"&#{ord(sign[0])};", text)
