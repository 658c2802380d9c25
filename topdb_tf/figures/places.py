"""A map of the images of some persons, as a run's model places them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from topdb_tf.data.market import DISTRACTOR_PID, JUNK_PID
from topdb_tf.data.records import Split, pids_of
from topdb_tf.drawing.embedding_map import embedding_map_figure
from topdb_tf.evaluate.embedding import embed_run
from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.runs.folder import RunFolder
from topdb_tf.runs.settings import Config

METHODS = ("tsne", "pca")
_PERPLEXITY = 30
_FEWEST = 5  # images of a map


def map_numbers(
    run: RunFolder,
    config: Config,
    *,
    persons: Sequence[str] = (),
    num_pids: int = 12,
    method: str = "tsne",
    seed: int = 1,
    **options,
) -> dict:
    """Returns places in a plane of the test images of some persons.

    Features are normalised first if the metric of the run is cosine. t-SNE starts from
    the principal components; its perplexity is 30, or a third of the images if that
    is less. The same seed gives the same map on the same machine.

    Source: van der Maaten and Hinton, Visualizing Data using t-SNE, JMLR 2008.

    Args:
        run: Folder of the run.
        config: Its settings.
        persons: Persons of query or gallery, by the number or the name that their
            owner gave them; none: those with the most images.
        num_pids: How many of those.
        method: `tsne` or `pca`.
        seed: Of t-SNE.
        **options: `dataset`, `best` and `say`, of
            `topdb_tf.evaluate.embedding.embed_run`.

    Returns:
        The facts of `topdb_tf.evaluate.embedding.Embedded`, `method`, `seed`,
        `metric`, the `perplexity` of
        t-SNE or the share of the variance that each axis has (`explained`), and
        for each image of the query and then of the gallery its `points`, `pids`,
        `camids` (negative where no cameras are known) and `is_query`; `names`, those
        of the pids that have one.

    Raises:
        FileNotFoundError: As `embed_run`.
        ValueError: If a person has no image, or there are fewer than 5 images.
    """
    found, split, facts = embed_run(
        run,
        config,
        choose=lambda split: _of_persons(split, persons, num_pids),
        **options,
    )
    facts["metric"] = config.evaluation.metric
    facts["names"] = {
        str(pid): name
        for pid, name in split.pid_names.items()
        if pid in found.query_pids or pid in found.gallery_pids
    }
    return places_of(found, facts, method=method, seed=seed)


def places_of(
    found: RetrievalSet, facts: dict, *, method: str = "tsne", seed: int = 1
) -> dict:
    """Returns what `map_numbers` does, from the embeddings of the images of the map.

    Args:
        found: The embeddings.
        facts: `run`, `dataset`, `model` and `metric`.
        method: `tsne` or `pca`.
        seed: Of t-SNE.
    """
    features = np.concatenate([found.query_features, found.gallery_features])
    if facts["metric"] == "cosine":
        norms = np.linalg.norm(features, axis=1, keepdims=True)
        features = features / np.where(norms > 0, norms, 1)
    points, how = _points(features, method, seed)
    return {
        **facts,
        "method": method,
        "seed": seed,
        **how,
        "points": points.tolist(),
        "pids": np.concatenate([found.query_pids, found.gallery_pids]).tolist(),
        "camids": np.concatenate([found.query_camids, found.gallery_camids]).tolist(),
        "is_query": [i < len(found.query_pids) for i in range(len(features))],
    }


def most_seen(split: Split, num_pids: int) -> list[int]:
    """Returns the persons of query and gallery with the most images, most first."""
    found = pids_of(split.query + split.gallery)
    persons, counts = np.unique(found, return_counts=True)
    known = persons != JUNK_PID
    if DISTRACTOR_PID not in pids_of(split.query):
        known &= persons != DISTRACTOR_PID
    order = np.argsort(-counts[known], kind="stable")
    return persons[known][order[:num_pids]].tolist()


def map_picture(numbers: dict, **options) -> Figure:
    """Returns the figure of what `map_numbers` returns.

    Args:
        numbers: The numbers.
        **options: `width`, of `topdb_tf.drawing.embedding_map.embedding_map_figure`.
    """
    if numbers["method"] == "pca":
        shares = " and ".join(f"{share:.0%}" for share in numbers["explained"])
        title = f"PCA, axes with {shares} of the variance"
    else:
        title = f"t-SNE, perplexity {numbers['perplexity']:.3g}"
    has_cameras = min(numbers["camids"]) >= 0
    return embedding_map_figure(
        np.array(numbers["points"]),
        np.array(numbers["pids"]),
        np.array(numbers["camids"]) if has_cameras else None,
        names={int(pid): name for pid, name in numbers.get("names", {}).items()},
        title=f"{title}; digits: cameras" if has_cameras else title,
        **options,
    )


def _of_persons(split, persons, num_pids):
    pids = _pids_of_names(split, persons) or most_seen(split, num_pids)
    query, gallery = (
        tuple(record for record in part if record.pid in pids)
        for part in (split.query, split.gallery)
    )
    if len(query) + len(gallery) < _FEWEST:
        raise ValueError(
            f"A map needs at least {_FEWEST} images. Name more persons. "
            f"Received: {len(query) + len(gallery)} images"
        )
    return replace(split, query=query, gallery=gallery)


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


def _points(features, method, seed):
    if method not in METHODS:
        raise ValueError(
            f"`method` must be one of {', '.join(METHODS)}. Received: {method=}"
        )
    from threadpoolctl import threadpool_limits

    # Sums of several threads come in any order, and maps magnify their rounding.
    with threadpool_limits(1):
        if method == "pca":
            from sklearn.decomposition import PCA

            pca = PCA(n_components=2, svd_solver="full")
            points = pca.fit_transform(features)
            return points, {"explained": pca.explained_variance_ratio_.tolist()}
        from sklearn.manifold import TSNE

        perplexity = min(_PERPLEXITY, (len(features) - 1) / 3)
        tsne = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1)
        return tsne.fit_transform(features), {"perplexity": perplexity}
