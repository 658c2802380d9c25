import numpy as np
import pytest

from topdb_tf.data.sampler import pk_batches


def plan_of(labels, pids_per_batch=2, images_per_pid=2, seed=0, epoch=0, **options):
    return pk_batches(
        np.array(labels),
        pids_per_batch=pids_per_batch,
        images_per_pid=images_per_pid,
        seed=seed,
        epoch=epoch,
        **options,
    )


@pytest.fixture
def labels():
    rng = np.random.default_rng(0)
    return rng.permutation(np.repeat(np.arange(30), rng.integers(4, 15, 30)))


def test_every_batch_has_p_identities_with_k_neighbouring_images(labels):
    plan = plan_of(labels, pids_per_batch=5, images_per_pid=4)
    batches = labels[plan].reshape(len(plan), 5, 4)
    np.testing.assert_array_equal(batches, batches[:, :, :1].repeat(4, axis=2))
    assert all(len(set(pids)) == 5 for pids in batches[:, :, 0])


def test_no_image_occurs_twice_in_an_epoch(labels):
    plan = plan_of(labels, pids_per_batch=5, images_per_pid=4)
    assert len(np.unique(plan)) == plan.size


def test_the_epoch_ends_when_too_few_identities_have_groups_left():
    # Groups of two: identity 0 has two of them, identity 1 has one.
    plan = plan_of([0, 0, 0, 0, 1, 1])
    assert plan.shape == (1, 4)


def test_the_remainder_of_an_identity_is_left_out():
    # Five images of each make two groups of two, and one image is left over.
    plan = plan_of([0, 1] * 5)
    assert plan.shape == (2, 4)
    assert len(np.unique(plan)) == 8


def test_another_image_is_left_out_in_another_epoch():
    # Four of five images are taken each time: 0.8 of 500 epochs, deviation 9.
    counts = sum(
        np.bincount(plan_of([0, 1] * 5, epoch=epoch).ravel(), minlength=10)
        for epoch in range(500)
    )
    assert counts.sum() == 500 * 8
    np.testing.assert_allclose(counts, 400, atol=40)


def test_an_identity_with_too_few_images_repeats_its_own():
    plan = plan_of([0, 0, 0, 0, 1], images_per_pid=4)
    assert plan.shape == (1, 8)
    assert np.count_nonzero(plan == 4) == 4
    assert set(plan.ravel()) == {0, 1, 2, 3, 4}


def test_a_short_identity_is_sampled_with_replacement():
    # Two images, four draws: a single image fills the group in 1/8 of the epochs.
    single = [
        len(set(plan_of([0, 0, 1, 1], images_per_pid=4, epoch=epoch)[0, :4])) == 1
        for epoch in range(800)
    ]
    assert 60 < sum(single) < 140


def test_the_plan_is_the_same_for_the_same_seed_and_epoch(labels):
    np.testing.assert_array_equal(
        plan_of(labels, seed=3, epoch=7), plan_of(labels, seed=3, epoch=7)
    )


@pytest.mark.parametrize("other", [{"epoch": 1}, {"seed": 1}])
def test_the_plan_differs_between_seeds_and_between_epochs(labels, other):
    options = {"pids_per_batch": 5, "num_batches": 8}
    plan = plan_of(labels, **options)
    assert (plan != plan_of(labels, **options, **other)).mean() > 0.9


def test_labels_may_be_any_integers():
    np.testing.assert_array_equal(plan_of([0, 1, 2] * 4), plan_of([-1, 1500, 1501] * 4))


def test_a_fixed_length_cuts_a_longer_plan(labels):
    plan = plan_of(labels)
    np.testing.assert_array_equal(plan_of(labels, num_batches=3), plan[:3])


def test_a_fixed_length_continues_a_shorter_plan_with_a_fresh_draw(labels):
    plan = plan_of(labels)
    longer = plan_of(labels, num_batches=len(plan) + 2)
    assert len(longer) == len(plan) + 2
    np.testing.assert_array_equal(longer[: len(plan)], plan)
    assert len(np.unique(longer[len(plan) :])) == longer[len(plan) :].size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pids_per_batch": 3}, r"different identities.*num_pids=2"),
        ({"pids_per_batch": 1}, "`pids_per_batch` must be at least 2"),
        ({"images_per_pid": 1}, "`images_per_pid` must be at least 2"),
        ({"seed": -1}, "must not be negative.*seed=-1"),
        ({"epoch": -1}, "must not be negative.*epoch=-1"),
        ({"num_batches": 0}, "`num_batches` must be at least 1"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        plan_of([0, 0, 1, 1], **options)


def test_labels_that_are_no_integers_are_refused():
    with pytest.raises(ValueError, match="`labels` must be integers"):
        plan_of([0.0, 1.0])
