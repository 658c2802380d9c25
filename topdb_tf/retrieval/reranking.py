"""Re-ranking by k-reciprocal encoding, exact, in memory linear in the images."""

from dataclasses import dataclass

import numpy as np

from topdb_tf.retrieval.distances import MatrixDistances
from topdb_tf.retrieval.encoding import Sparse, average_rows, encode, transpose
from topdb_tf.retrieval.neighbors import nearest_neighbors
from topdb_tf.retrieval.parallel import Buffer, Workers, compiled
from topdb_tf.texts import check_one_of

INPUTS = ("squared", "euclidean")
_GRAIN = 32


@dataclass(frozen=True)
class Reranking:
    """Parameters of the re-ranking; they must follow the images an identity has.

    Args:
        k1: Number of neighbours of which k-reciprocal ones are kept, at least 1.
        k2: Number of neighbours whose encodings are averaged, at least 1.
        lambda_value: Share of the original distance in the final one, in [0, 1].
        input: The distances that are given in and squared there: `"squared"`, squared
            Euclidean ones, as in the authors' tables, or `"euclidean"`, as in the
            re-ranking paper.

    Raises:
        ValueError: If a parameter is out of its range.
    """

    k1: int = 20
    k2: int = 6
    lambda_value: float = 0.3
    input: str = "squared"

    def __post_init__(self):
        if self.k1 < 1 or self.k2 < 1:
            raise ValueError(
                "`k1` and `k2` must be at least 1. "
                f"Received: k1={self.k1}, k2={self.k2}"
            )
        if not 0 <= self.lambda_value <= 1:
            raise ValueError(
                "`lambda_value` must be a share, in [0, 1]. "
                f"Received: lambda_value={self.lambda_value}"
            )
        check_one_of("input", self.input, INPUTS)


class RerankedDistances:
    """Re-ranked distances of queries to the gallery, some queries at a time.

    The final distance is `(1 - lambda_value)` times the Jaccard distance of the
    k-reciprocal encodings plus `lambda_value` times the squared original distance
    over the largest in the query's row. Encodings are sparse; nothing of the size of
    all pairs is ever kept, and nothing is approximated.

    Where the paper and its authors' code differ, this follows the code, which gave
    all published figures: a set joins if more than two thirds of it are shared (the
    paper: at least), and encodings are scaled to a sum of 1.

    Source: Zhong et al., Re-ranking Person Re-identification with k-reciprocal
    Encoding, CVPR 2017 (https://arxiv.org/abs/1701.08398).

    Args:
        source: Distances among all images, to be squared, such as
            `topdb_tf.retrieval.distances.FeatureDistances`.
        parameters: Parameters of the re-ranking.
        workers: Threads that are used.
        memory: Bytes that a block of distances may take.
        advance: Called with the number of distances computed since its last call.
    """

    def __init__(self, source, parameters, *, workers, memory, advance=None):
        self._source, self._lambda = source, parameters.lambda_value
        self.num_queries, self.num_gallery = source.num_queries, source.num_gallery
        self.num_images = source.num_images
        k1, k2 = parameters.k1, parameters.k2
        passed = {"workers": workers, "memory": memory}
        k = max(k1 + 1, k2)
        neighbors = nearest_neighbors(source, k, advance=advance, **passed)
        encodings = encode(source, neighbors, k1, **passed)
        if k2 > 1:
            encodings = average_rows(encodings, neighbors.ids[:, :k2], workers)
        self._inverted = transpose(encodings, self.num_queries)
        end = encodings.ends[self.num_queries]
        self._encodings = Sparse(
            encodings.ends[: self.num_queries + 1],
            encodings.columns[:end].copy(),
            encodings.values[:end].copy(),
        )
        largest = neighbors.largest[: self.num_queries]
        self._largest = np.where(largest > 0, largest, np.float32(1))

    def begin(self, rows, columns, buffer: Buffer) -> np.ndarray:
        """Returns unfinished original distances of queries to the whole gallery."""
        return self._source.begin(rows, columns, buffer)

    def finish(self, start, stop, block, rows, columns) -> None:
        """Makes re-ranked distances of the rows `start` to `stop`, in place."""
        self._source.finish(start, stop, block, rows, columns)
        shares = np.float32(1 - self._lambda), np.float32(self._lambda)
        own = self._encodings._replace(
            ends=self._encodings.ends[rows.start : rows.stop + 1]
        )
        largest = self._largest[rows]
        _rerank_rows(start, stop, block, own, self._inverted, largest, shares)


def rerank_distances(
    query_gallery: np.ndarray,
    query_query: np.ndarray,
    gallery_gallery: np.ndarray,
    parameters: Reranking | None = None,
) -> np.ndarray:
    """Returns re-ranked distances, from distances among all images.

    From features, `topdb_tf.retrieval.protocol.score` does the same without a matrix.

    Source: Zhong et al., Re-ranking Person Re-identification with k-reciprocal
    Encoding, CVPR 2017 (https://arxiv.org/abs/1701.08398).

    Args:
        query_gallery: Shape `(num_queries, num_gallery)`. All are squared here;
            `parameters.input` is of no concern.
        query_query: Shape `(num_queries, num_queries)`, symmetric.
        gallery_gallery: Shape `(num_gallery, num_gallery)`, symmetric.
        parameters: Defaults to `Reranking()`.

    Returns:
        float32 array of shape `(num_queries, num_gallery)`.

    Raises:
        ValueError: If shapes do not fit or distances are not finite.

    Example:
        >>> import numpy as np
        >>> from topdb_tf.retrieval.reranking import rerank_distances
        >>> zero, one = np.zeros((1, 1)), np.ones((1, 1))
        >>> rerank_distances(one, zero, zero)
        array([[0.3]], dtype=float32)
    """
    source = MatrixDistances(query_gallery, query_query, gallery_gallery)
    if source.num_queries == 0 or source.num_gallery == 0:
        raise ValueError(
            "There must be at least one query and one gallery image. "
            f"Received: shape={query_gallery.shape}"
        )
    with Workers() as workers:
        reranked = RerankedDistances(
            source, parameters or Reranking(), workers=workers, memory=64 << 20
        )
        rows = slice(0, source.num_queries)
        columns = slice(source.num_queries, source.num_images)
        buffer = Buffer(source.num_queries * source.num_gallery)
        block = reranked.begin(rows, columns, buffer)
        workers.run(reranked.finish, len(block), block, rows, columns, grain=_GRAIN)
        return block


@compiled
def _rerank_rows(start, stop, block, encodings, inverted, largest, shares):
    """Replaces distances by final ones, adding up in the order of the columns."""
    shared = np.empty(block.shape[1], np.float32)
    jaccard_share, original_share = shares
    for i in range(start, stop):
        row = block[i]
        for j in range(row.size):
            shared[j] = 0
        for place in range(encodings.ends[i], encodings.ends[i + 1]):
            column, value = encodings.columns[place], encodings.values[place]
            for other in range(inverted.ends[column], inverted.ends[column + 1]):
                shared[inverted.columns[other]] += min(value, inverted.values[other])
        for j in range(row.size):
            jaccard = np.float32(1) - shared[j] / (np.float32(2) - shared[j])
            original = row[j] * row[j] / largest[i]
            row[j] = jaccard * jaccard_share + original * original_share
