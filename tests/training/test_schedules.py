import pytest

from boustro.training.schedules import FINAL_LEARNING_RATE, kl_weight, learning_rate_factor, progress


def test_learning_rate_rises_linearly_then_follows_a_cosine():
    assert learning_rate_factor(0.0, 0.1) == 0.0
    assert learning_rate_factor(0.05, 0.1) == pytest.approx(0.5)
    assert learning_rate_factor(0.1, 0.1) == pytest.approx(1.0)
    assert learning_rate_factor(0.55, 0.1) == pytest.approx((1 + FINAL_LEARNING_RATE) / 2)
    assert learning_rate_factor(1.0, 0.1) == pytest.approx(FINAL_LEARNING_RATE)
    assert learning_rate_factor(0.0, 0.0) == 1.0


def test_kl_weight_rises_to_one_and_stays():
    assert [kl_weight(p, 0.2) for p in (0.0, 0.1, 0.2, 1.0)] == pytest.approx([0.0, 0.5, 1.0, 1.0])
    assert kl_weight(0.0, 0.0) == 1.0


def test_progress_follows_the_nearest_limit():
    assert progress(5, 20, 30.0, None) == 0.25
    assert progress(5, None, 30.0, 60.0) == 0.5
    assert progress(5, 20, 30.0, 60.0) == 0.5
    assert progress(25, 20, 0.0, None) == 1.0
    assert progress(5, None, 30.0, None) == 0.0
