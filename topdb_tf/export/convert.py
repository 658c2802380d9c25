"""PyTorch checkpoints of the authors and of BDB, made into models of this package."""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

from topdb_tf.files import check_new_file, whole_file
from topdb_tf.model.torch_files import read_torch_file
from topdb_tf.runs.machine import load_tensorflow, set_precision
from topdb_tf.runs.network import build_trainer
from topdb_tf.runs.recipes import read_recipe
from topdb_tf.texts import duration_text

RECIPES = {"topdb": "authors", "no_reg": "no_reg", "no_drop": "no_drop", "bdb": "bdb"}
"""The recipe that builds the network of each variant."""
_ANY_NUMBER = 2  # of identities, where nothing is read into the classifiers


@dataclass(frozen=True)
class Conversion:
    """A checkpoint and the model that it was made into.

    Epoch and rank-1, a share, are the checkpoint's word; `None` where it does not say,
    as the number of identities is of a file without classifiers. Taken off is what was
    wrapped around the state dict.
    """

    checkpoint: Path
    model: Path
    variant: str
    num_pids: int | None
    epoch: int | None
    rank_1: float | None
    image_size: tuple[int, int]
    embedding_dim: int
    seconds: float
    taken_off: tuple[str, ...] = ()


def convert(
    checkpoint: Path,
    target: Path,
    *,
    variant: str | None = None,
    image_size: tuple[int, int] = (384, 128),
    force: bool = False,
) -> Conversion:
    """Writes the embedder with the weights of a PyTorch checkpoint.

    That is a file of `torch.save`, or `.safetensors`; its keys tell the variant where
    none is named. The target, `.keras`, appears whole or not at all.
    """
    start = time.monotonic()
    checkpoint, target = Path(checkpoint), Path(target)
    check_new_file(target, suffix=".keras", force=force)
    weights = read_torch_file(checkpoint)
    load_tensorflow()
    from topdb_tf.model.state_dict import describe_state_dict, load_state_dict

    with _expected_in(checkpoint, variant or "one of the variants"):
        description = describe_state_dict(weights.state_dict)
    variant = variant or description.variant
    num_pids = description.num_pids
    network, embedder = _build(variant, num_pids or _ANY_NUMBER, image_size)
    needed = embedder if num_pids is None else network
    with _expected_in(checkpoint, variant):
        load_state_dict(network, weights.state_dict, needed=needed)
    with whole_file(target) as partial:
        embedder.save(partial)
    return Conversion(
        checkpoint=checkpoint,
        model=target,
        variant=variant,
        num_pids=num_pids,
        epoch=weights.epoch,
        rank_1=weights.rank_1,
        image_size=tuple(image_size),
        embedding_dim=embedder.output_shape[-1],
        seconds=round(time.monotonic() - start, 1),
        taken_off=weights.taken_off,
    )


def convert_lines(conversion: Conversion) -> list[str]:
    """Returns what was converted for people."""
    epoch, rank_1, unknown = conversion.epoch, conversion.rank_1, "not in the file"
    height, width = conversion.image_size
    num_pids = conversion.num_pids
    taken_off = ", ".join(conversion.taken_off)
    return [
        f"checkpoint  {conversion.checkpoint}",
        *([f"taken off   {taken_off}"] if taken_off else []),
        f"variant     {conversion.variant}",
        f"identities  {f'{num_pids:,}' if num_pids else f'{unknown}: no classifiers'}",
        f"epoch       {unknown if epoch is None else epoch}",
        f"rank-1      {unknown if rank_1 is None else f'{rank_1:.1%}'}",
        f"model       {conversion.model}: {height} x {width} to "
        f"{conversion.embedding_dim}, in {duration_text(conversion.seconds)}",
    ]


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
    overrides = [f"data.image_height={height}", f"data.image_width={width}"]
    overrides.append("model.weights=none")
    set_precision("float32")
    config = read_recipe(RECIPES[variant], overrides)
    trainer, embedder = build_trainer(config, num_pids=num_pids)
    return trainer.network, embedder
