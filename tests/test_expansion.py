import numpy as np
import pytest

from tests.test_reranking import clustered_features
from topdb_tf.retrieval.distances import pairwise_distances
from topdb_tf.retrieval.expansion import expand_features


def test_expanded_features_are_means_of_the_nearest():
    query, gallery = clustered_features(20, 300)
    joint = np.concatenate([query, gallery])
    order = np.argsort(pairwise_distances(joint, joint), axis=1, kind="stable")
    expanded = np.concatenate(expand_features(query, gallery, k=4))
    np.testing.assert_allclose(expanded, joint[order[:, :4]].mean(axis=1), rtol=1e-6)


def test_expansion_by_one_changes_nothing():
    query, gallery = clustered_features(3, 20)
    for before, after in zip(
        (query, gallery), expand_features(query, gallery, k=1), strict=True
    ):
        np.testing.assert_array_equal(before, after)
    with pytest.raises(ValueError, match="k=0"):
        expand_features(query, gallery, k=0)
