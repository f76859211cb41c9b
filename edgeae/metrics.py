"""How good a restored signal is: the few figures that edgeae reports, in plain numpy.

Every function takes the reference first. None of them guesses: arrays whose shape, dtype or range
does not fit are a ValueError that says what came.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["bits_per_pixel", "ms_ssim", "prd_percent", "psnr_db", "roc_auc", "si_sdr_db", "ssim"]

# Wang, Simoncelli, Bovik, "Multi-scale structural similarity for image quality assessment"
# (Asilomar 2003), section 4: the weights of the five scales, and K1, K2, the 11-tap window with
# sigma 1.5 of Wang et al. (2004).
_MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_SSIM_WINDOW, _SSIM_SIGMA, _SSIM_K1, _SSIM_K2 = 11, 1.5, 0.01, 0.03
# The smallest scale must still hold one window, and every halving rounds down.
_MS_SSIM_SMALLEST_SIDE = _SSIM_WINDOW * 2 ** (len(_MS_SSIM_WEIGHTS) - 1)


def psnr_db(reference: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels, peak 255; inf when equal.

    Both arrays are uint8 of one shape, at least one value. ValueError otherwise.
    """
    _check_images(reference, other)
    difference = np.subtract(reference, other, dtype=np.int32).ravel()
    # int64: a 16,000 x 16,000 RGB image of total loss sums to 5e13
    squared = int(np.einsum("i,i->", difference, difference, dtype=np.int64))
    if squared == 0:
        return math.inf
    return 10.0 * math.log10(255.0**2 * difference.size / squared)


def ms_ssim(reference: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Multi-scale structural similarity, at most 1 (equal); the mean over the channels.

    uint8 (H, W) or (H, W, C), each side at least 176 pixels (five scales of an 11-pixel window).
    Each channel of RGB counts alike, as in the papers on learned codecs; luma alone would score
    higher. Source: Wang, Simoncelli, Bovik 2003; whole windows only, 2 x 2 means between scales.
    ValueError for other arrays.
    """
    _check_images(reference, other)
    if reference.ndim not in (2, 3):
        raise ValueError(f"images have shape {reference.shape}, expected (H, W) or (H, W, C)")
    if min(reference.shape[:2]) < _MS_SSIM_SMALLEST_SIDE:
        raise ValueError(
            f"images are {reference.shape[1]}x{reference.shape[0]}, expected sides of at least "
            f"{_MS_SSIM_SMALLEST_SIDE} pixels for the five scales of MS-SSIM"
        )
    channels = np.atleast_3d(reference), np.atleast_3d(other)
    return float(
        np.mean([_ms_ssim_plane(x, y) for x, y in zip(*map(_planes, channels), strict=True)])
    )


def ssim(reference: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Structural similarity, at most 1 (equal); the mean over pixels and channels.

    Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity":
    the window, K1 and K2 of `ms_ssim`, at the full size alone.

    Raises:
        ValueError: no uint8 images (H, W, C) of one shape with 11 pixels or more a side.
    """
    _check_images(reference, other)
    if reference.ndim != 3 or min(reference.shape[:2]) < _SSIM_WINDOW:
        raise ValueError(
            f"images must be (H, W, C) with {_SSIM_WINDOW} pixels or more a side, "
            f"got {reference.shape}"
        )
    found = []
    for x, y in zip(_planes(reference), _planes(other), strict=True):
        luminance, contrast = _ssim_terms(x, y)
        found.append(float(np.mean(luminance * contrast)))
    return float(np.mean(found))


def bits_per_pixel(size_bytes: int, shape: Sequence[int]) -> float:
    """Bits per pixel of a file of `size_bytes`, headers included, for an image (H, W[, C])."""
    if size_bytes < 0:
        raise ValueError(f"size_bytes is {size_bytes}, expected at least 0")
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise ValueError(f"shape is {tuple(shape)}, expected (H, W) or (H, W, C), all at least 1")
    return 8.0 * size_bytes / (shape[0] * shape[1])


def si_sdr_db(reference: ArrayLike, estimate: ArrayLike) -> float:
    """Scale-invariant signal-to-distortion ratio in dB, means removed; inf when proportional.

    -inf where nothing of the reference is in the estimate. Source: Le Roux, Wisdom, Erdogan,
    Hershey, "SDR: half-baked or well done?" (ICASSP 2019), eq. 4.

    Args:
        reference, estimate: finite numbers of any type and unit, (frames,), or (frames, channels)
            and then the mean of the channels' figures.

    Raises:
        ValueError: another shape, NaN or infinity, or a silent reference.
    """
    target, other = _check_signals(reference, estimate)
    if target.ndim == 2:
        return float(np.mean([si_sdr_db(a, b) for a, b in zip(target.T, other.T, strict=True)]))
    target = target - target.mean()
    other = other - other.mean()
    energy = float(target @ target)
    if energy == 0.0:
        raise ValueError("reference is constant, expected a signal that changes")
    projected = (float(target @ other) / energy) * target
    residual = other - projected
    signal, distortion = float(projected @ projected), float(residual @ residual)
    if signal == 0.0:
        return -math.inf
    # What float64 leaves of an exact multiple is rounding, not distortion.
    if distortion <= signal * (np.finfo(np.float64).eps * 4) ** 2:
        return math.inf
    return 10.0 * math.log10(signal / distortion)


def prd_percent(reference: ArrayLike, estimate: ArrayLike) -> float:
    """Percentage root-mean-square difference with the mean of the reference removed, 0 when equal.

    100 * ||reference - estimate|| / ||reference - mean(reference)||, over all samples and channels
    together, each channel's own mean removed. Keeping the mean (PRD of raw ADC counts, common for
    ECG) flatters by the offset: see Zigel, Cohen, Katz 2000.

    Args:
        reference, estimate: finite numbers of any type and unit, (frames,) or (frames, channels).

    Raises:
        ValueError: another shape, NaN or infinity, or a constant reference.
    """
    target, other = _check_signals(reference, estimate)
    spread = float(np.linalg.norm(target - target.mean(axis=0)))
    if spread == 0.0:
        raise ValueError("reference is constant, expected a signal that changes")
    return 100.0 * float(np.linalg.norm(target - other)) / spread


def roc_auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve in [0, 1]: how often a strange one scores above a normal one.

    `labels` (n,) are 0 or 1 (or bool), 1 the strange ones; `scores` (n,) are finite; ties count
    half. Equals the Mann-Whitney U statistic over n0 * n1. ValueError unless both kinds are there.
    """
    truth, values = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != values.shape:
        raise ValueError(
            f"labels and scores have shapes {truth.shape} and {values.shape}, expected (n,) of both"
        )
    if not np.isin(truth, (0, 1)).all():
        raise ValueError(f"labels are {np.unique(truth)[:5].tolist()}, expected 0 and 1")
    if not np.isfinite(values).all():
        raise ValueError("scores hold NaN or infinity, expected finite numbers")
    strange = truth.astype(bool)
    n1 = int(strange.sum())
    n0 = strange.size - n1
    if n0 == 0 or n1 == 0:
        raise ValueError(f"labels are {n0} zeros and {n1} ones, expected at least one of each")
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(count) - (count - 1) / 2.0
    return float((mean_rank[group][strange].sum() - n1 * (n1 + 1) / 2.0) / (n0 * n1))


def _check_images(reference: NDArray[np.uint8], other: NDArray[np.uint8]) -> None:
    for array in (reference, other):
        if not isinstance(array, np.ndarray) or array.dtype != np.uint8:
            came = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise ValueError(f"an image is {came}, expected uint8")
    if reference.shape != other.shape or reference.size == 0:
        raise ValueError(
            f"images have shapes {reference.shape} and {other.shape}, expected one shape with at "
            "least one pixel"
        )


def _check_signals(
    reference: ArrayLike, estimate: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    target = np.asarray(reference, dtype=np.float64)
    other = np.asarray(estimate, dtype=np.float64)
    if target.ndim not in (1, 2) or target.shape != other.shape or target.size == 0:
        raise ValueError(
            f"signals have shapes {target.shape} and {other.shape}, expected one shape, (frames,) "
            "or (frames, channels), with at least one frame"
        )
    if not (np.isfinite(target).all() and np.isfinite(other).all()):
        raise ValueError("signals hold NaN or infinity, expected finite numbers")
    return target, other


def _planes(image: NDArray[Any]) -> list[NDArray[np.float64]]:
    return [image[:, :, channel].astype(np.float64) for channel in range(image.shape[2])]


def _ms_ssim_plane(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """MS-SSIM of one channel: contrast-structure at four scales times SSIM at the last."""
    result = 1.0
    for scale, weight in enumerate(_MS_SSIM_WEIGHTS):
        luminance, contrast = _ssim_terms(x, y)
        last = scale == len(_MS_SSIM_WEIGHTS) - 1
        term = float(np.mean(luminance * contrast) if last else np.mean(contrast))
        # A negative mean (anti-correlated images) has no real power: it counts as no similarity.
        result *= max(term, 0.0) ** weight
        if not last:
            x, y = _half(x), _half(y)
    return result


def _ssim_terms(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    c1, c2 = (_SSIM_K1 * 255.0) ** 2, (_SSIM_K2 * 255.0) ** 2
    mean_x, mean_y = _gaussian(x), _gaussian(y)
    xx = _gaussian(x * x) - mean_x * mean_x
    yy = _gaussian(y * y) - mean_y * mean_y
    xy = _gaussian(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    return luminance, (2 * xy + c2) / (xx + yy + c2)


def _gaussian(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """The plane filtered by the separable window, only where the window fits whole."""
    position = np.arange(_SSIM_WINDOW) - _SSIM_WINDOW // 2
    taps = np.exp(-(position**2) / (2 * _SSIM_SIGMA**2))
    taps /= taps.sum()
    for axis in (0, 1):
        length = plane.shape[axis] - _SSIM_WINDOW + 1
        sliced = [
            plane[i : i + length] if axis == 0 else plane[:, i : i + length]
            for i in range(_SSIM_WINDOW)
        ]
        plane = sliced[_SSIM_WINDOW // 2] * taps[_SSIM_WINDOW // 2]
        for i in range(_SSIM_WINDOW // 2):  # the window is symmetric: half the products
            plane += (sliced[i] + sliced[-1 - i]) * taps[i]
    return plane


def _half(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    rows, columns = plane.shape[0] // 2 * 2, plane.shape[1] // 2 * 2
    even = plane[:rows, :columns]
    return 0.25 * (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2])
