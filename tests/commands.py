"""The command line, run inside the tests."""

from click.testing import CliRunner

from topdb_tf.cli import main


def topdb(*arguments, **options):
    """Returns what `topdb-tf` answers to some arguments, of any type."""
    return CliRunner().invoke(main, [str(one) for one in arguments], **options)


def refused(answer, *words, status=None):
    """Checks for one line of explanation with the words, and a status that is not 0."""
    assert answer.exit_code == status if status else answer.exit_code != 0
    line = answer.stderr.strip().splitlines()[-1]
    assert line.startswith("Error: ")
    for word in words:
        assert word in line
