import hashlib

import numpy as np
import pytest

from topdb_tf.export.probes import Differences, compare, probe_images


def test_the_first_four_images_are_those_that_indexes_were_made_with():
    images = probe_images()
    assert (images.dtype, images.shape) == (np.uint8, (8, 128, 64, 3))
    first = hashlib.sha256(images[:4].tobytes()).hexdigest()
    assert first == "6c1bbff96012c138b318f224a20871a0e55c918fc33158493151e3b8bfdc2d15"
    np.testing.assert_array_equal(probe_images(4), images[:4])


def test_no_image_is_drawn_twice():
    assert len(np.unique(probe_images(), axis=0)) == 8


def test_differences_by_hand():
    # Cosines 24 / 25 and 1; components 1 and 2 apart at most.
    found, expected = [[3.0, 4.0], [0.0, 3.0]], [[4.0, 3.0], [0.0, 1.0]]
    differences = compare(np.array(found), np.array(expected))
    assert differences == Differences(2.0, pytest.approx(0.96), pytest.approx(0.98))
