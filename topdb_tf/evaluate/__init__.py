"""A model on a data set: embedded once, scored, averaged, calibrated, compared.

The room can be called: `topdb_tf.evaluate(…)` is `topdb_tf.evaluate.evaluate.evaluate`.
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
    from topdb_tf.evaluate.evaluate import evaluate

    return evaluate


sys.modules[__name__].__class__ = _Room
