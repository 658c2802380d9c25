"""Embeddings of fewer numbers: a rotation by PCA, kept in a file of its own."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from topdb_tf.files import whole_file
from topdb_tf.retrieval.features import (
    array_in,
    open_arrays,
)
from topdb_tf.same_model import differ, largest_difference
from topdb_tf.texts import Say, counted

MOST_IMAGES = 20_000
"""Images that a projection is fitted to at most."""


@dataclass(frozen=True)
class Projection:
    """A rotation that keeps the directions in which embeddings differ most.

    They are not whitened, so distances stay what they were, but for what is left out.

    Args:
        mean: Of the embeddings that it was fitted to, `(dim,)`.
        components: The directions, of length 1, `(num_kept, dim)`.
        probes: What the model of those embeddings made of drawn images, `(4, dim)`;
            empty if it is not known.
        variance_kept: Share of their variance in these directions.
    """

    mean: np.ndarray
    components: np.ndarray
    probes: np.ndarray
    variance_kept: float

    def __repr__(self):
        kept, dim = self.components.shape
        return f"Projection({dim} to {kept}, {self.variance_kept:.1%} of the variance)"

    def reduced(self, features: np.ndarray) -> np.ndarray:
        """Returns embeddings as float32 of shape `(num_images, num_kept)`.

        Raises:
            ValueError: If they are not as long as those it was fitted to.
        """
        if features.shape[1] != len(self.mean):
            raise ValueError(
                f"The PCA (--pca) must be of the model: it reduces {len(self.mean)} "
                f"numbers an image. Received: {features.shape[1]}"
            )
        return ((features - self.mean) @ self.components.T).astype(np.float32)

    def applied(self, embedding):
        """Returns the embedding of images reduced; one that is already stays as it is.

        Raises:
            ValueError: If the projection is of another model, or other lengths.
        """
        probes = embedding.probes
        if embedding.features.shape[1] == len(self.components):
            return embedding
        features = self.reduced(embedding.features)
        if probes is None or not len(self.probes):
            return embedding._replace(features=features, probes=None)
        if differ(largest_difference(probes, self.probes)):
            raise ValueError(
                "The PCA (--pca) must have been fitted to embeddings of the same "
                "model. Received: one of another model"
            )
        return embedding._replace(features=features, probes=self.reduced(probes))

    def write(self, file: Path) -> None:
        """Writes what `read_projection` reads."""
        with whole_file(file) as partial:
            np.savez(partial, **vars(self))


def fit_projection(
    features: np.ndarray, num_kept: int, probes: np.ndarray | None = None
) -> Projection:
    """Returns the projection of embeddings to some numbers, by scikit-learn's PCA.

    The embeddings should be of other persons than those that it is measured on.

    Raises:
        ValueError: If there are not more images and numbers than are to be kept.
    """
    from sklearn.decomposition import PCA

    num_images, dim = features.shape
    if not 0 < num_kept < min(num_images + 1, dim):
        raise ValueError(
            "A PCA (--pca) keeps fewer numbers than an embedding has, from at least as "
            f"many images. Received: {num_kept} of {dim} numbers, {num_images:,} images"
        )
    pca = PCA(num_kept, svd_solver="covariance_eigh").fit(np.float64(features))
    return Projection(
        mean=pca.mean_.astype(np.float32),
        components=pca.components_.astype(np.float32),
        probes=np.empty((0, dim), np.float32) if probes is None else probes,
        variance_kept=float(pca.explained_variance_ratio_.sum()),
    )


def read_projection(file: Path) -> Projection:
    """Returns the projection in a file that `topdb-tf embed --pca N` wrote.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or none.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"There is no PCA at {file}. `topdb-tf embed IMAGES --pca 256` writes one."
        )
    with open_arrays(file) as arrays:
        names = list(Projection.__dataclass_fields__)
        if missing := [name for name in names if name not in arrays]:
            raise ValueError(
                f"{file} must be a PCA that `topdb-tf embed --pca N` wrote. It has no "
                f"{missing[0]}. Received: {', '.join(arrays) or 'no array'}"
            )
        mean, components, probes, kept = (array_in(arrays, n, file) for n in names)
    dim, is_whole = mean.size, all(map(_is_finite, (mean, components, probes, kept)))
    is_whole = is_whole and mean.shape == (dim,) and components.shape[1:] == (dim,)
    if not is_whole or probes.shape[1:] != (dim,) or kept.shape or not len(components):
        raise ValueError(
            f"{file} must be a PCA that `topdb-tf embed --pca N` wrote, finite numbers "
            f"of fitting shapes. Received: {mean.shape}, {components.shape}, "
            f"{probes.shape}, {kept.shape}"
        )
    return Projection(mean, components, probes, float(kept))


def pca_file(out: Path) -> Path:
    """Returns where the PCA is kept that was fitted for a file of features."""
    return out.with_suffix(".pca.npz")


def check_pca_file(pca: Path | int | None, where: str) -> None:
    """Raises `ValueError` where a PCA must be one that was fitted before."""
    if isinstance(pca, int):
        raise ValueError(
            f"With {where} --pca must be a file: what is scored must not fit it. "
            "`topdb-tf embed OTHER_IMAGES --pca 256 --out NAME.npz` writes "
            f"NAME.pca.npz. Received: --pca {pca}"
        )


def fit_beside(embedding, num_kept: int, out: Path, say: Say) -> Projection:
    """Returns a PCA fitted to an embedding, written beside a file of features."""
    pca = fit_projection(embedding.features, num_kept, embedding.probes)
    pca.write(pca_file(out))
    images = counted(len(embedding.paths), "image")
    say(
        f"{pca_file(out)}: PCA to {num_kept} numbers, fitted to {images}; it keeps "
        f"{pca.variance_kept:.1%} of the variance. Name it for all others: --pca FILE"
    )
    return pca


def _is_finite(array):
    return array.dtype.kind == "f" and bool(np.isfinite(array).all())
