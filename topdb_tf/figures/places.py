"""A map of the images of some persons, as a run's model places them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from topdb_tf.data.market import DISTRACTOR_PID, JUNK_PID
from topdb_tf.data.records import Split, pids_of
from topdb_tf.drawing.embedding_map import embedding_map_figure
from topdb_tf.evaluate.embedding import Embedded, only_persons
from topdb_tf.figures.view import View
from topdb_tf.texts import check_one_of, listed

METHODS = ("tsne", "pca")
_PERPLEXITY = 30
_FEWEST = 5  # images of a map


@dataclass(frozen=True)
class EmbeddingMap:
    """The places of the images of some persons, those of the query first.

    Points have the shape `(num_images, 2)`. t-SNE has a seed and a perplexity, and the
    axes of a PCA explain shares of the variance.
    """

    embedded: Embedded
    method: str
    seed: int
    points: np.ndarray
    perplexity: float | None = None
    explained: Sequence[float] = ()

    @property
    def pids(self) -> np.ndarray:
        """Whom each image shows."""
        images = self.embedded.images
        return np.concatenate([images.query_pids, images.gallery_pids])

    @property
    def camids(self) -> np.ndarray:
        """The camera of each image, negative where none is known."""
        images = self.embedded.images
        return np.concatenate([images.query_camids, images.gallery_camids])

    @property
    def names(self) -> Mapping[int, str]:
        """The names of the persons that have one."""
        pid_names = self.embedded.split.pid_names
        return {pid: name for pid, name in pid_names.items() if pid in self.pids}

    @property
    def camera_names(self) -> Mapping[int, str]:
        """The names of the cameras that have another one than their number."""
        names, shown = self.embedded.split.camera_names, self.camids
        return {n: names[n] for n in names if n in shown and names[n] != str(n)}

    def to_dict(self) -> dict:
        """Returns what `--json` prints of it."""
        quality = {"perplexity": self.perplexity}
        if self.method == "pca":
            quality = {"explained": list(self.explained)}
        num_queries = len(self.embedded.images.query_pids)
        return {
            **self.embedded.to_dict(),
            "metric": self.embedded.evaluation.metric,
            "names": {str(pid): name for pid, name in self.names.items()},
            "camera_names": {str(n): name for n, name in self.camera_names.items()},
            "method": self.method,
            "seed": self.seed,
            **quality,
            "points": self.points.tolist(),
            "pids": self.pids.tolist(),
            "camids": self.camids.tolist(),
            "is_query": [place < num_queries for place in range(len(self.pids))],
        }


def persons_of_map(split: Split, persons: Sequence[str], num_pids: int) -> list[int]:
    """Returns the persons of query and gallery whose images a map shows.

    They are named by number or by the name that their owner gave them. Where none is,
    they are those with the most images.
    """
    pids = _pids_of_names(split, persons) or most_seen(split, num_pids)
    count = int(np.isin(pids_of(split.query + split.gallery), pids).sum())
    if count < _FEWEST:
        raise ValueError(
            f"A map needs at least {_FEWEST} images. Name more persons. "
            f"Received: {count} images"
        )
    return pids


def map_of(
    embedded: Embedded, pids: Sequence[int], *, method: str = "tsne", seed: int = 1
) -> View:
    """Returns places in a plane of the test images of some persons.

    Features are normalised first if the metric of the run is cosine. t-SNE starts from
    the principal components; its perplexity is 30, or a third of the images if that
    is less. The same seed gives the same map on the same machine.

    Source: van der Maaten and Hinton, Visualizing Data using t-SNE, JMLR 2008.
    """
    embedded = only_persons(embedded, pids)
    images = embedded.images
    features = np.concatenate([images.query_features, images.gallery_features])
    if embedded.evaluation.metric == "cosine":
        norms = np.linalg.norm(features, axis=1, keepdims=True)
        features = features / np.where(norms > 0, norms, 1)
    facts = _placed(embedded, features, method, seed)
    return View(facts, lambda width: _picture(facts, width))


def most_seen(split: Split, num_pids: int) -> list[int]:
    """Returns the persons of query and gallery with the most images, most first."""
    pids = pids_of(split.query + split.gallery)
    persons, counts = np.unique(pids, return_counts=True)
    known = persons != JUNK_PID
    if DISTRACTOR_PID not in pids_of(split.query):
        known &= persons != DISTRACTOR_PID
    order = np.argsort(-counts[known], kind="stable")
    return persons[known][order[:num_pids]].tolist()


def _picture(facts: EmbeddingMap, width: float):
    if facts.method == "pca":
        shares = " and ".join(f"{share:.0%}" for share in facts.explained)
        title = f"PCA, axes with {shares} of the variance"
    else:
        title = f"t-SNE, perplexity {facts.perplexity:.3g}"
    has_cameras = facts.camids.min() >= 0
    cameras = listed([f"{n} {name}" for n, name in sorted(facts.camera_names.items())])
    cameras = f" ({cameras})" if cameras else ""
    return embedding_map_figure(
        facts.points,
        facts.pids,
        facts.camids if has_cameras else None,
        names=facts.names,
        title=f"{title}; digits: cameras{cameras}" if has_cameras else title,
        width=width,
    )


def _pids_of_names(split, persons):
    by_name = {str(pid): pid for pid in pids_of(split.query + split.gallery).tolist()}
    by_name |= {split.pid_names.get(pid, name): pid for name, pid in by_name.items()}
    missing = [name for name in persons if name not in by_name]
    if missing:
        raise ValueError(
            f"Every person must have an image in the query or gallery of {split.name}. "
            f"Received: {', '.join(missing)}, of whom there is none"
        )
    return [by_name[name] for name in persons]


def _placed(embedded, features, method, seed) -> EmbeddingMap:
    check_one_of("method", method, METHODS)
    from threadpoolctl import threadpool_limits

    # Sums of several threads come in any order, and maps magnify their rounding.
    with threadpool_limits(1):
        if method == "pca":
            from sklearn.decomposition import PCA

            pca = PCA(n_components=2, svd_solver="full")
            points = pca.fit_transform(features)
            explained = pca.explained_variance_ratio_.tolist()
            return EmbeddingMap(embedded, method, seed, points, explained=explained)
        from sklearn.manifold import TSNE

        perplexity = min(_PERPLEXITY, (len(features) - 1) / 3)
        tsne = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1)
        points = tsne.fit_transform(features)
        return EmbeddingMap(embedded, method, seed, points, perplexity=perplexity)
