"""A training run, from settings to its folder.

The room can be called: `topdb_tf.fit(…)` is `topdb_tf.fit.recipe.fit`.
"""

import sys
from types import ModuleType


class _Room(ModuleType):
    def __call__(self, *args, **options):
        return _function()(*args, **options)

    @property
    def __signature__(self):
        import inspect

        return inspect.signature(_function())


def _function():
    from topdb_tf.fit.recipe import fit

    return fit


sys.modules[__name__].__class__ = _Room
