"""Commands that draw figures."""

import click


@click.group()
def figure():
    """Draws figures of a run: what the network looks at, and what it finds."""
