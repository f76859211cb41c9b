"""What `long_speech` measures tells sound from damage, and what it bounds is told."""

from __future__ import annotations

import long_speech
import numpy as np
import pytest

from edgeae.bench.speech_codec import made_talk

GOOD = {
    "count": 180_000,
    "not_finite": 0,
    "peak_ratio": 1.0,
    "edges_that_stand_out": 30,
    "middles_that_stand_out": 30,
    "drift_db": 0.02,
    "state_growth": 1.0,
    "silence_rms": 1e-5,
    "silence_bit_per_s": 200,
    "memory_growth_mb": 0.5,
}


def test_frames_that_are_not_joined_click_and_what_is_whole_does_not():
    talk = made_talk(320 * 200)
    talk += 1e-4 * np.random.default_rng(0).standard_normal(len(talk)).astype(np.float32)
    edges, middles = long_speech.clicks(talk)
    assert edges <= middles + 3
    cut = talk.reshape(-1, 320).copy()
    cut[10::4] = 0
    assert long_speech.clicks(cut.ravel())[0] > middles + 15
    # Two parts have the edges of the whole.
    parts = long_speech.clicks(cut[:100].ravel()), long_speech.clicks(cut[98:].ravel(), 640)
    assert np.array_equal(sum(parts), long_speech.clicks(cut.ravel()))


def test_the_distance_of_spectra_is_in_decibels():
    talk = made_talk(320 * 50)
    assert long_speech.distance_db(talk, talk) == 0
    near, far = (long_speech.distance_db(talk, gain * talk) for gain in (0.9, 0.5))
    # Less than 6 dB: what is faint is beside a floor.
    assert 0 < near < 1 < 3 < far < 6.1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("not_finite", 1),
        ("peak_ratio", 3.0),
        ("edges_that_stand_out", 60),
        ("drift_db", -0.2),
        ("drift_db", float("nan")),
        ("state_growth", 1.2),
        ("silence_rms", 1e-3),
        ("silence_bit_per_s", 5000),
        ("memory_growth_mb", 30.0),
    ],
)
def test_what_is_beyond_a_bound_is_told(key, value):
    assert long_speech.broken(GOOD) == []
    (line,) = long_speech.broken({**GOOD, key: value})
    assert "expected at most" in line
