import numpy as np
import pytest

from tests.test_protocol import assert_same_scores, random_set
from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.retrieval.protocol import score
from topdb_tf.retrieval.single_shot import SingleShot


def test_single_shot_by_hand():
    # The query's match is at 2. Person 2 is at 1 and 3, of which one is drawn: the
    # first rank is 2 if it is 1, else 1. Junk at 0 and pid -1 at 0 are never drawn.
    gallery = np.array([[2.0], [1.0], [3.0], [0.0], [0.0]], "float32")
    result = score(
        RetrievalSet(
            np.zeros((1, 1), "float32"),
            gallery,
            np.array([1]),
            np.array([1, 2, 2, 1, -1]),
            np.array([1]),
            np.array([2, 2, 2, 1, 2]),
        ),
        single_shot=SingleShot(num_draws=400, seed=1),
    )
    first = result.scores.queries.first_match_rank
    assert first.shape == (1, 400)
    assert set(first.ravel().tolist()) == {1, 2}
    share = np.mean(first == 1)
    assert 0.4 < share < 0.6
    assert result.scores.cmc[0] == share
    assert result.scores.mean_ap == pytest.approx(share + (1 - share) / 2)
    assert result.protocol.single_shot == SingleShot(400, seed=1)


def test_single_shot_is_repeatable_and_independent_of_memory():
    retrieval_set = random_set()
    options = {"single_shot": SingleShot(num_draws=3, seed=5)}
    plain = score(retrieval_set, **options)
    tight = score(retrieval_set, memory_limit=250_000, **options)
    assert_same_scores(plain.scores, tight.scores)
    assert plain.scores.num_valid_queries == 40
    with pytest.raises(ValueError, match="num_draws=0"):
        SingleShot(num_draws=0)
