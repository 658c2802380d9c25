import pytest

from topdb_tf.training.schedules import learning_rate_at, scaled_learning_rate


def test_the_paper_warms_up_linearly_and_then_steps_down():
    def rate(epoch):
        return learning_rate_at(epoch, peak=5e-4)

    # 5e-4 * 1/50 = 1e-5 in the first epoch, the peak at 50, a tenth from 200 and 300.
    assert rate(1) == pytest.approx(1e-5)
    assert rate(25) == pytest.approx(2.5e-4)
    assert [rate(e) for e in (50, 199)] == [5e-4, 5e-4]
    assert [rate(e) for e in (200, 299, 300, 400)] == pytest.approx(
        [5e-5, 5e-5, 5e-6, 5e-6]
    )


def test_the_authors_climb_a_staircase():
    # Their table: epochs 1-4 5e-5, 5-9 1e-4, 10-14 1.5e-4 … 45-49 5e-4.
    table = {1: 5e-5, 4: 5e-5, 5: 1e-4, 9: 1e-4, 10: 1.5e-4, 44: 4.5e-4, 45: 5e-4}
    for epoch, expected in table.items():
        rate = learning_rate_at(epoch, peak=5e-4, warmup="staircase")
        assert rate == pytest.approx(expected), epoch


def test_without_warm_up_the_first_epoch_has_the_peak():
    assert learning_rate_at(1, peak=0.1, warmup_epochs=0) == 0.1


def test_an_unknown_warm_up_is_refused():
    with pytest.raises(ValueError, match="linear, staircase.*cosine"):
        learning_rate_at(1, peak=0.1, warmup="cosine")


def test_the_rate_grows_with_the_batch():
    rate = scaled_learning_rate(1e-3, batch_size=32, reference_batch_size=128)
    assert rate == pytest.approx(2.5e-4)
