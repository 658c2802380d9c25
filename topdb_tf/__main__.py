"""`python -m topdb_tf`: the command line."""

from topdb_tf.cli import main

if __name__ == "__main__":
    main(prog_name="topdb-tf")
