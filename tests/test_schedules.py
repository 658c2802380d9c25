import pytest

from topdb_tf.training.schedules import (
    cosine_rate_at,
    is_plateau,
    is_scored,
    learning_rate_at,
    scaled_learning_rate,
)


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


def test_after_the_warm_up_the_rate_falls_as_half_a_cosine():
    def rate(epoch):
        return cosine_rate_at(epoch, peak=8.0, num_epochs=13, warmup_epochs=2)

    # Warm-up: half the peak, the peak. Zero would be at 14, 12 epochs after epoch 2:
    # a quarter of the way 8 * (1 + sqrt(1/2)) / 2, half way 4; at the last epoch
    # 8 * (1 + cos(11/12 pi)) / 2 = 4 * (1 - 0.9659258) = 0.1362968.
    assert [rate(1), rate(2)] == [4.0, 8.0]
    assert rate(5) == pytest.approx(4 * (1 + 0.5**0.5))
    assert rate(8) == pytest.approx(4.0)
    assert rate(13) == pytest.approx(0.1362968, rel=1e-6)


def test_without_warm_up_the_cosine_begins_at_the_peak():
    # Of four epochs: cos of 0, 45, 90 and 135 degrees.
    rates = [
        cosine_rate_at(e, peak=2.0, num_epochs=4, warmup_epochs=0) for e in (1, 2, 3, 4)
    ]
    assert rates == pytest.approx([2.0, 1 + 0.5**0.5, 1.0, 1 - 0.5**0.5])


def test_a_cosine_keeps_the_authors_staircase():
    options = {"peak": 5e-4, "warmup": "staircase", "warmup_epochs": 50}
    for epoch in (1, 4, 5, 44, 49):
        expected = learning_rate_at(epoch, **options)
        assert cosine_rate_at(epoch, num_epochs=60, **options) == expected


def test_a_warm_up_to_the_end_is_refused():
    with pytest.raises(ValueError, match="must end before the last epoch"):
        cosine_rate_at(1, peak=1.0, num_epochs=5, warmup_epochs=5)


def test_epochs_are_scored_every_few_and_at_the_end():
    scored = [e for e in range(1, 9) if is_scored(e, every=3, num_epochs=8)]
    assert scored == [3, 6, 8]
    assert [e for e in range(1, 9) if is_scored(e, every=0, num_epochs=8)] == [8]


def test_a_plateau_is_counted_in_scored_epochs():
    def stops(best_epoch, stop_after):
        def scored(epoch):
            return epoch % 3 == 0

        return [
            epoch
            for epoch in range(1, 20)
            if is_plateau(epoch, best_epoch, stop_after=stop_after, scored=scored)
        ]

    # Scored are 3, 6, 9 … 18. After the best at 6 the second one without a better is
    # 12; were training to go on, it would also end after the later ones.
    assert stops(best_epoch=6, stop_after=2) == [12, 15, 18]
    assert stops(best_epoch=0, stop_after=3) == [9, 12, 15, 18]
    assert stops(best_epoch=6, stop_after=0) == []


def test_rates_do_not_fall_while_they_warm_up():
    options = {"peak": 1.0, "warmup_epochs": 4, "decay_epochs": (2,)}
    rates = [learning_rate_at(epoch, **options) for epoch in (1, 2, 3, 4)]
    assert rates == [0.25, 0.5, 0.75, 0.1]
