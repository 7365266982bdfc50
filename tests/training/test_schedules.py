import math

import pytest

from boustro.training.schedules import (
    FINAL_LEARNING_RATE,
    LatentSettings,
    kl_weight,
    latent_warmup,
    learning_rate_factor,
    next_pressure,
    progress,
    reviving_weight,
)


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


def test_latent_warmup_doubles_segments_and_moves_floor_and_weight_linearly():
    first, final = LatentSettings(16, 12.0, 1.0), LatentSettings(128, 2.0, 0.0)
    assert latent_warmup(0.0, 0.4, first, final) == first
    assert latent_warmup(0.1, 0.4, first, final) == LatentSettings(16, pytest.approx(9.5), pytest.approx(0.75))
    assert latent_warmup(0.2, 0.4, first, final) == LatentSettings(32, pytest.approx(7.0), pytest.approx(0.5))
    assert latent_warmup(0.32, 0.4, first, final) == LatentSettings(64, pytest.approx(4.0), pytest.approx(0.2))
    assert latent_warmup(0.4, 0.4, first, final) == final
    assert latent_warmup(0.0, 0.0, first, final) == final


def test_latent_warmup_never_leaves_the_model_s_own_segment_length():
    first = LatentSettings(32, 12.0, 1.0)
    lengths = [latent_warmup(p / 100, 0.9, first, LatentSettings(100, 0.0, 0.0)).segment_length for p in range(100)]
    assert sorted(set(lengths)) == [32, 64, 100] and lengths == sorted(lengths)
    assert latent_warmup(0.1, 0.9, first, LatentSettings(16, 0.0, 0.0)).segment_length == 16


def test_pressure_rises_above_the_floor_and_falls_below_it_within_its_bounds():
    assert next_pressure(0.5, kl=4.0, floor=4.0) == 0.5
    assert next_pressure(0.5, kl=6.0, floor=4.0) == pytest.approx(0.5 * math.exp(0.05))
    assert next_pressure(0.5, kl=2.0, floor=4.0) == pytest.approx(0.5 * math.exp(-0.05))
    assert next_pressure(0.5, kl=0.1, floor=0.0) == pytest.approx(0.5 * math.exp(0.1))
    assert next_pressure(0.99, kl=100.0, floor=1.0) == 1.0
    assert next_pressure(0.001, kl=0.0, floor=1.0) == 0.001


def test_pressure_settles_where_the_rate_is_the_floor():
    pressure = 1.0
    for _ in range(300):
        kl = 0.8 / pressure  # a latent that says less the more it costs
        pressure = next_pressure(pressure, kl, floor=2.0)
    assert 0.8 / pressure == pytest.approx(2.0, rel=1e-3)


def test_a_silent_latent_is_asked_for_more():
    assert [reviving_weight(p, 0.05, 1.0) for p in (1.0, 0.05, 0.005)] == [0.05, 0.05, 0.05]
    assert reviving_weight(math.sqrt(0.001 * 0.005), 0.05, 1.0) == pytest.approx(0.525)
    assert reviving_weight(0.001, 0.05, 1.0) == pytest.approx(1.0)
    assert reviving_weight(0.001, 0.05, 0.0) == 0.05
