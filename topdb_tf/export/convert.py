"""PyTorch checkpoints of the authors and of BDB, made into models of this package."""

import contextlib
import time
from pathlib import Path

from topdb_tf.files import whole_file
from topdb_tf.model.torch_files import read_torch_file
from topdb_tf.runs.machine import load_tensorflow, set_precision
from topdb_tf.runs.network import build_trainer
from topdb_tf.runs.recipes import read_recipe
from topdb_tf.texts import duration_text

RECIPES = {
    "topdb": "authors",
    "no_reg": "no_reg",
    "no_drop": "no_drop",
    "bdb": "bdb",
}
"""The recipe that builds the network of each variant."""


def convert(
    checkpoint: Path,
    target: Path,
    *,
    variant: str | None = None,
    image_size: tuple[int, int] = (384, 128),
    force: bool = False,
) -> dict:
    """Writes the embedder with the weights of a PyTorch checkpoint.

    Args:
        checkpoint: File of `torch.save`, or `.safetensors`.
        target: The `.keras` file to write; it appears whole or not at all.
        variant: Name in `RECIPES`; `None` tells it from the keys.
        image_size: Height and width of the images, in pixels.
        force: Whether a file that exists is replaced.

    Returns:
        What was found and written: `checkpoint`, `model`, `variant`, `num_pids`,
        `epoch` and `rank_1` (`None` where the file does not say), `image_size`,
        `embedding_dim`, `seconds`.

    Raises:
        FileExistsError: If the target exists and `force` is not set.
        FileNotFoundError: If there is no checkpoint, or no folder for the target.
        ValueError: If the file is no checkpoint, or its keys do not fit the variant.
    """
    start = time.monotonic()
    checkpoint, target = Path(checkpoint), Path(target)
    _check_target(target, force)
    file = read_torch_file(checkpoint)
    load_tensorflow()
    from topdb_tf.model.state_dict import describe_state_dict, load_state_dict

    with _expected_in(checkpoint, variant or "one of the variants"):
        found = describe_state_dict(file.state_dict)
    variant = variant or found.variant
    network, embedder = _build(variant, found.num_pids, image_size)
    with _expected_in(checkpoint, variant):
        load_state_dict(network, file.state_dict)
    with whole_file(target) as partial:
        embedder.save(partial)
    return {
        "checkpoint": str(checkpoint),
        "model": str(target),
        "variant": variant,
        "num_pids": found.num_pids,
        "epoch": file.epoch,
        "rank_1": file.rank_1,
        "image_size": list(image_size),
        "embedding_dim": embedder.output_shape[-1],
        "seconds": round(time.monotonic() - start, 1),
    }


def convert_lines(facts: dict) -> list[str]:
    """Returns what was converted for people."""
    height, width = facts["image_size"]
    rank_1 = "not in the file" if facts["rank_1"] is None else f"{facts['rank_1']:.1%}"
    epoch = "not in the file" if facts["epoch"] is None else facts["epoch"]
    return [
        f"checkpoint  {facts['checkpoint']}",
        f"variant     {facts['variant']}",
        f"identities  {facts['num_pids']:,}",
        f"epoch       {epoch}",
        f"rank-1      {rank_1}",
        f"model       {facts['model']}: {height} x {width} to "
        f"{facts['embedding_dim']}, in {duration_text(facts['seconds'])}",
    ]


def _check_target(target, force):
    if target.suffix != ".keras" or target.is_dir():
        raise ValueError(
            f"The model to write must be a file that ends in .keras. Received: {target}"
        )
    if target.exists() and not force:
        raise FileExistsError(
            f"{target} already exists. Choose another name, or pass --force."
        )
    if not target.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {target.parent} to write into.")


@contextlib.contextmanager
def _expected_in(checkpoint, variant):
    try:
        yield
    except ValueError as error:
        raise ValueError(
            f"{checkpoint} does not fit what it should hold, {variant}. {error}"
        ) from error


def _build(variant, num_pids, image_size):
    height, width = image_size
    overrides = [
        "model.weights=none",
        f"data.image_height={height}",
        f"data.image_width={width}",
    ]
    set_precision("float32")
    config = read_recipe(RECIPES[variant], overrides)
    trainer, embedder = build_trainer(config, num_pids=num_pids)
    return trainer.network, embedder
