"""What the answers of a model server must be, whatever protocol brings them."""

import numpy as np

from topdb_tf.embed.address import ModelChoice
from topdb_tf.embed.errors import ServingError, UnavailableError

MOST_NUMBERS = 1 << 15
"""The longest embedding that is read: what is longer is none."""
SLACK = 1 << 20
"""Bytes that an answer may have beside its numbers."""


def checked_rows(rows, address: str, shown: str) -> np.ndarray:
    """Returns the lists of numbers in an answer as float32 `(batch, dim)`.

    They must all be of one length; an error names the address, and shows the answer.
    """
    is_grid = isinstance(rows, list) and all(isinstance(row, list) for row in rows)
    if is_grid:
        # A text, a truth value and a null can be made numbers, which would be wrong.
        kinds = {type(number) for row in rows for number in row}
        is_grid = kinds <= {int, float} and len(set(map(len, rows))) == 1
    if not is_grid:
        raise ServingError(
            f"{address} must answer with `outputs`, a list of numbers for each image. "
            f"Received: {shown}"
        )
    try:
        with np.errstate(over="ignore"):  # the client refuses what is infinite
            return np.array(rows, np.float64).astype(np.float32)
    except OverflowError as error:
        raise ServingError(f"{address} gave numbers that are none: {error}.") from error


def newest_of(versions: list[int], model: ModelChoice, address: str) -> ModelChoice:
    """Returns the choice of the newest version that is ready, or of the wanted one."""
    if not versions:
        raise UnavailableError(
            f"No version of model {model.name} is ready at {address}."
        )
    newest = max(versions)
    if not 0 <= newest < 2**63 or model.version not in (None, newest):
        raise ServingError(
            f"{address} must tell of version {model.version} of model {model.name}. "
            f"Received: versions {versions[:5]}"
        )
    return ModelChoice(model.name, newest)
