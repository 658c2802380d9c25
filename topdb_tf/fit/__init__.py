"""A training run, from settings to its folder.

The room can be called: `topdb_tf.fit(…)` is `topdb_tf.fit.recipe.fit`.
"""

from topdb_tf.rooms import make_callable

make_callable(__name__, "topdb_tf.fit.recipe")
