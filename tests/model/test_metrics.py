"""The metrics against values worked out by hand, and against independent formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeae.metrics import bits_per_pixel, ms_ssim, prd_percent, psnr_db, roc_auc, si_sdr_db


def picture(seed: int = 0, shape: tuple[int, ...] = (192, 208, 3)) -> np.ndarray:
    """A smooth picture with some texture, so that structure means something."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    base = 120 + 80 * np.sin(rows / 17)[..., None] * np.cos(columns / 23)[..., None]
    return np.clip(base + rng.normal(0, 8, shape), 0, 255).astype(np.uint8)


def test_psnr_of_a_single_known_error() -> None:
    a = np.zeros((2, 2, 3), np.uint8)
    b = a.copy()
    b[0, 0, 0] = 12  # mean squared error 144 / 12 = 12
    assert psnr_db(a, b) == pytest.approx(10 * math.log10(255**2 / 12), abs=1e-12)


def test_psnr_of_equal_pictures_is_infinite_and_of_black_and_white_is_zero() -> None:
    a = np.zeros((5, 7, 3), np.uint8)
    assert psnr_db(a, a) == math.inf
    assert psnr_db(a, np.full_like(a, 255)) == 0.0


def test_psnr_does_not_wrap_around_in_uint8() -> None:
    a, b = np.full((4, 4), 250, np.uint8), np.full((4, 4), 5, np.uint8)
    assert psnr_db(a, b) == psnr_db(b, a) == pytest.approx(20 * math.log10(255 / 245))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8)),
        (np.zeros((0, 2), np.uint8), np.zeros((0, 2), np.uint8)),
        (np.zeros((2, 2), np.float32), np.zeros((2, 2), np.uint8)),
    ],
)
def test_psnr_refuses_what_it_cannot_compare(a: np.ndarray, b: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected (one shape|uint8)"):
        psnr_db(a, b)


def test_bits_per_pixel_counts_all_bytes_and_no_channels() -> None:
    assert bits_per_pixel(100, (10, 20, 3)) == 4.0
    assert bits_per_pixel(100, (10, 20)) == 4.0
    with pytest.raises(ValueError, match=r"shape is \(0, 2, 3\), expected \(H, W\)"):
        bits_per_pixel(1, (0, 2, 3))


def test_ms_ssim_of_equal_pictures_is_one() -> None:
    assert ms_ssim(picture(), picture()) == pytest.approx(1.0, abs=1e-12)


def test_ms_ssim_of_two_constants_is_the_luminance_term_of_the_last_scale() -> None:
    a, b = np.full((176, 176), 100, np.uint8), np.full((176, 176), 150, np.uint8)
    c1 = (0.01 * 255) ** 2
    luminance = (2 * 100 * 150 + c1) / (100**2 + 150**2 + c1)
    assert ms_ssim(a, b) == pytest.approx(luminance**0.1333, rel=1e-9)


def test_ms_ssim_agrees_with_a_direct_two_dimensional_formula() -> None:
    a = picture(1)[:, :, :1]
    b = np.clip(a.astype(int) + np.random.default_rng(2).normal(0, 15, a.shape), 0, 255)
    b = b.astype(np.uint8)
    taps = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(taps, taps) / taps.sum() ** 2

    def smooth(x: np.ndarray) -> np.ndarray:
        patches = np.lib.stride_tricks.sliding_window_view(x, (11, 11))
        return np.einsum("ijkl,kl->ij", patches, window)

    x, y = a[:, :, 0].astype(float), b[:, :, 0].astype(float)
    c1, c2 = 2.55**2, 7.65**2
    expected = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        mx, my = smooth(x), smooth(y)
        contrast = (2 * (smooth(x * y) - mx * my) + c2) / (
            smooth(x * x) - mx**2 + smooth(y * y) - my**2 + c2
        )
        if scale == 4:
            contrast = contrast * (2 * mx * my + c1) / (mx**2 + my**2 + c1)
        expected *= contrast.mean() ** weight
        x, y = (
            z.reshape(z.shape[0] // 2, 2, -1, 2).mean((1, 3)) if scale < 4 else z for z in (x, y)
        )
    assert 0.5 < expected < 0.999
    assert ms_ssim(a, b) == pytest.approx(expected, rel=1e-9)


def test_ms_ssim_falls_as_noise_grows_and_means_over_channels() -> None:
    a = picture()
    rng = np.random.default_rng(3)
    noisy = [np.clip(a + rng.normal(0, s, a.shape), 0, 255).astype(np.uint8) for s in (5, 20, 60)]
    scores = [ms_ssim(a, b) for b in noisy]
    assert scores == sorted(scores, reverse=True)
    each = [ms_ssim(a[:, :, c], noisy[1][:, :, c]) for c in range(3)]
    assert scores[1] == pytest.approx(np.mean(each), rel=1e-12)


def test_ms_ssim_refuses_pictures_too_small_for_five_scales() -> None:
    small = np.zeros((175, 500, 3), np.uint8)
    with pytest.raises(ValueError, match="500x175, expected sides of at least 176 pixels"):
        ms_ssim(small, small)


def test_si_sdr_of_a_hand_computed_case() -> None:
    # reference (1, -1, 1, -1), noise (1, 1, -1, -1) / 10: orthogonal, both of mean zero
    reference = np.array([1.0, -1, 1, -1])
    estimate = 3 * (reference + 0.1 * np.array([1.0, 1, -1, -1])) + 5
    assert si_sdr_db(reference, estimate) == pytest.approx(20.0, abs=1e-9)


def test_si_sdr_ignores_gain_and_offset_and_is_infinite_without_distortion() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=1000)
    assert si_sdr_db(x, -0.25 * x + 3) == math.inf
    y = x + 0.3 * rng.normal(size=1000)
    assert si_sdr_db(x, y) == pytest.approx(si_sdr_db(7 * x - 1, 0.1 * y + 2), abs=1e-9)


def test_si_sdr_of_channels_is_the_mean_of_the_channels() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 500, 2))
    each = [si_sdr_db(x[:, c], y[:, c]) for c in (0, 1)]
    assert si_sdr_db(x, y) == pytest.approx(np.mean(each))


def test_si_sdr_refuses_silence_and_nan() -> None:
    with pytest.raises(ValueError, match="reference is constant"):
        si_sdr_db(np.ones(10), np.arange(10.0))
    with pytest.raises(ValueError, match="NaN"):
        si_sdr_db(np.arange(3.0), np.array([0.0, np.nan, 1.0]))


def test_prd_removes_the_mean_of_the_reference() -> None:
    reference = np.array([1001.0, 999.0, 1001.0, 999.0])
    estimate = reference + np.array([0.1, 0.1, -0.1, -0.1])
    assert prd_percent(reference, estimate) == pytest.approx(10.0)
    assert prd_percent(reference, reference) == 0.0


def test_auc_of_hand_computed_cases() -> None:
    assert roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.75
    assert roc_auc([0, 1], [0.0, 1.0]) == 1.0
    assert roc_auc([0, 1], [1.0, 0.0]) == 0.0
    assert roc_auc([0, 1, 0, 1], [5, 5, 5, 5]) == 0.5


@given(
    st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=30).filter(
        lambda rows: len({label for label, _ in rows}) == 2
    )
)
def test_auc_equals_the_count_of_ordered_pairs(rows: list[tuple[bool, int]]) -> None:
    strange = [score for label, score in rows if label]
    normal = [score for label, score in rows if not label]
    wins = sum((s > n) + 0.5 * (s == n) for s in strange for n in normal)
    labels, scores = zip(*rows, strict=True)
    assert roc_auc(labels, scores) == pytest.approx(wins / (len(strange) * len(normal)))


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 1], [0.0, 1.0], "at least one of each"),
        ([0, 2], [0.0, 1.0], "expected 0 and 1"),
        ([0, 1], [0.0, math.nan], "finite"),
        ([0, 1], [0.0], r"expected \(n,\) of both"),
    ],
)
def test_auc_refuses_what_has_no_area(labels: list[int], scores: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        roc_auc(labels, scores)
