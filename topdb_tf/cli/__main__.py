"""`python -m topdb_tf.cli`."""

from topdb_tf.cli import main

main()
