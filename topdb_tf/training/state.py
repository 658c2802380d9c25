"""The state of a training: everything that the next step depends on."""

from collections.abc import Iterable, Iterator

import numpy as np

from topdb_tf.training.checkpoint_files import FIGURES, not_finite
from topdb_tf.training.errors import HOW_TO_STAY_FINITE, NonFiniteLossError


def state_arrays(trainer) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the name and value of every variable of a built trainer.

    These are the network's weights, moving statistics and seed generators, the
    optimizer's moments, iterations, learning rate and loss scale, and the running
    means of the epoch's figures.
    """
    for name, variable in _variables(trainer):
        yield name, np.asarray(variable)


def finite(
    arrays: Iterable[tuple[str, np.ndarray]], when: str
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the arrays of a state that a training can be gone on with from.

    Losses and gradients of a step are finite also where the weights that it leaves
    are not.

    Raises:
        NonFiniteLossError: If a weight, a moving statistic, an average or a value of
            the optimizer is NaN or infinite.
    """
    for name, array in arrays:
        if not name.startswith(FIGURES) and not_finite(array):
            raise NonFiniteLossError(
                f"The state {when} is not finite ({name.partition('/')[2]}), so it "
                f"was not saved. {HOW_TO_STAY_FINITE}"
            )
        yield name, array


def restore(trainer, arrays: dict[str, np.ndarray]) -> None:
    """Sets every variable of a built trainer to what `state_arrays` gave."""
    targets = dict(_variables(trainer))
    odd = [
        name
        for name in sorted(targets.keys() | arrays.keys())
        if name not in targets
        or name not in arrays
        or tuple(targets[name].shape) != arrays[name].shape
    ]
    if odd:
        raise ValueError(
            "The checkpoint must be one of this network and optimizer. Take the "
            "settings and the data that the run began with, or start a new run. "
            f"Received: {len(odd)} arrays that do not fit, such as {odd[0]}"
        )
    for name, variable in targets.items():
        variable.assign(arrays[name])


def restore_figures(trainer, arrays: dict[str, np.ndarray]) -> None:
    """Sets the running means of the epoch's figures alone.

    Keras forgets them whenever it begins an epoch, also in the middle of one.
    """
    for name, variable in _named(FIGURES, trainer.metrics_variables):
        variable.assign(arrays[name])


def _variables(trainer):
    yield from _named("network", trainer.network.variables)
    yield from _named("optimizer", trainer.optimizer.variables)
    yield from _named(FIGURES, trainer.metrics_variables)


def _named(group, variables):
    # Counted, because Keras numbers its names anew for each model of a process.
    for index, variable in enumerate(variables):
        yield f"{group}/{index:04d}/{variable.name}", variable
