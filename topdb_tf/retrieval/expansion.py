"""Average query expansion: features replaced by the mean of their neighbours."""

import numpy as np

from topdb_tf.retrieval.distances import FeatureDistances
from topdb_tf.retrieval.neighbors import nearest_neighbors
from topdb_tf.retrieval.parallel import Workers

_BLOCK_BYTES = 64 << 20
_ROWS = 256


def expand_features(
    query_features: np.ndarray,
    gallery_features: np.ndarray,
    *,
    k: int = 5,
    metric: str = "sqeuclidean",
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the features of every image, averaged over its `k` nearest images.

    An image is among its own nearest, so `k=1` changes nothing. Neighbours are taken
    from queries and gallery alike. No camera or identity is looked at.

    Source: Chum et al., Total Recall, ICCV 2007 (average query expansion; here of
    gallery images as well).

    Args:
        query_features: Shape `(num_queries, dim)`.
        gallery_features: Shape `(num_gallery, dim)`.
        k: Number of images that are averaged, at least 1; all if there are fewer.
        metric: One of `topdb_tf.retrieval.distances.METRICS`.

    Returns:
        New features of queries and gallery of the same shapes, float64 if one is.

    Raises:
        ValueError: If `k` is below 1, shapes do not fit, or features are not finite.

    Example:
        >>> import numpy as np
        >>> from topdb_tf.retrieval.expansion import expand_features
        >>> expand_features(np.array([[0.0]]), np.array([[1.0], [9.0]]), k=2)
        (array([[0.5]]), array([[0.5], [5. ]]))
    """
    if k < 1:
        raise ValueError(f"`k` must be at least 1. Received: {k=}")
    source = FeatureDistances(query_features, gallery_features, metric)
    with Workers() as workers:
        neighbors = nearest_neighbors(source, k, workers=workers, memory=_BLOCK_BYTES)
    features = np.concatenate([query_features, gallery_features])
    features = features.astype(np.result_type(features, np.float32), copy=False)
    expanded = np.empty_like(features)
    for start in range(0, source.num_images, _ROWS):
        ids = neighbors.ids[start : start + _ROWS]
        numbers, places = np.unique(ids, return_inverse=True)
        near = features[numbers][places.reshape(ids.shape)]
        expanded[start : start + _ROWS] = near.mean(axis=1)
    return expanded[: source.num_queries], expanded[source.num_queries :]
