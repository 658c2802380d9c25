"""A model on a data set: embedded once, scored, averaged, calibrated, compared.

The room can be called: `topdb_tf.evaluate(…)` is `topdb_tf.evaluate.evaluate.evaluate`.
"""

from topdb_tf.rooms import make_callable

make_callable(__name__, "topdb_tf.evaluate.evaluate")
