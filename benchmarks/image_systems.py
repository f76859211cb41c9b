"""Denoisers of images and methods that fill holes, as `benchmarks.images` compares them.

Every denoiser is told the standard deviation of the noise in 8-bit values, or None. Packages that
are not installed are left out: bm3d, opencv-python-headless, scikit-image with PyWavelets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import edgeae
from edgeae.image.denoiser import ImageDenoiser

__all__ = ["Denoiser", "Filler", "fillers", "ours", "our_filler", "peers", "through_graph"]

# What is tried on real noise, whose sigma nobody knows: the best one for a file counts.
TRIALS = (2.0, 3.0, 4.5, 6.0, 8.0, 10.0, 15.0)

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Denoiser:
    """A denoiser: uint8 (H, W, 3) and sigma to uint8; `planes` takes float noise, unclipped.

    `trials` are the sigmas that are tried on real noise, where nobody knows it; `slow` ones are
    measured on a stated part of the files.
    """

    name: str
    clean: Callable[[Pixels, float | None], Pixels]
    planes: Callable[[Floats, float], Floats] | None = None
    trials: tuple[float | None, ...] = (None,)
    told: bool = True
    slow: bool = False


@dataclass(frozen=True)
class Filler:
    """Fills what a mask (H, W) hides of uint8 (H, W, 3)."""

    name: str
    fill: Callable[[Pixels, Mask], Pixels]


def through_graph(model: ImageDenoiser, noisy: Floats, sigma: float) -> Floats:
    """What the model's graph makes of float pixels (H, W, 3) in [0, 1], those beyond included, as
    published figures are measured: an image of 8 bits would clip the noise."""
    height, width = noisy.shape[:2]
    stride = model.bundle.manifest.layout["stride"]
    wide = np.pad(noisy, ((0, -height % stride), (0, -width % stride), (0, 0)), mode="edge")
    planes = np.ascontiguousarray(wide.transpose(2, 0, 1)[None], np.float32)
    ones = np.ones_like(planes[:, :1])
    (found,) = model.graphs["denoiser"](planes, np.float32(sigma / 255) * ones, ones)
    restored: Floats = found[0, :, :height, :width].transpose(1, 2, 0)
    return restored


def ours(model: str, precision: str) -> list[Denoiser]:
    """The bundled denoiser, told the level and blind."""
    loaded = edgeae.load(model, precision=precision)
    assert isinstance(loaded, ImageDenoiser)
    most = loaded.highest_level
    return [
        Denoiser(
            f"edgeae {precision}, told",
            lambda noisy, sigma: loaded.denoise(noisy, strength=min(sigma or 0.0, most)),
            planes=lambda noisy, sigma: through_graph(loaded, noisy, sigma),
        ),
        Denoiser(
            f"edgeae {precision}, blind", lambda noisy, sigma: loaded.denoise(noisy), told=False
        ),
    ]


def our_filler(model: str, precision: str) -> Filler:
    """The bundled denoiser filling holes."""
    loaded = edgeae.load(model, precision=precision)
    assert isinstance(loaded, ImageDenoiser)
    return Filler(f"edgeae {precision}", loaded.fill)


def peers(missing: dict[str, str]) -> list[Denoiser]:
    """The denoisers of other packages; what lacks is noted in `missing`, name to package."""
    found = []
    for name, package, make in (
        ("BM3D", "bm3d", _bm3d),
        ("non-local means", "opencv-python-headless", _non_local_means),
        ("wavelet shrinkage", "scikit-image PyWavelets", _wavelet),
    ):
        try:
            found.append(make(name))
        except ImportError:
            missing[name] = package
    return found


def _bm3d(name: str) -> Denoiser:
    import bm3d

    def planes(noisy: Floats, sigma: float) -> Floats:
        restored: Floats = np.asarray(bm3d.bm3d_rgb(noisy, sigma / 255), np.float32)
        return restored

    return Denoiser(
        name,
        lambda noisy, sigma: _eight_bits(planes(_floats(noisy), sigma or 0.0)),
        planes=planes,
        trials=TRIALS,
        slow=True,
    )


def _non_local_means(name: str) -> Denoiser:
    import cv2

    cv2.setNumThreads(1)

    def clean(noisy: Pixels, sigma: float | None) -> Pixels:
        # One filter strength for all files: 0.8 of the noise level.
        strength = 0.8 * float(sigma or 0.0)
        restored: Any = cv2.fastNlMeansDenoisingColored(noisy, None, strength, strength, 7, 21)
        return np.asarray(restored, np.uint8)

    return Denoiser(name, clean, trials=TRIALS)


def _wavelet(name: str) -> Denoiser:
    import pywt  # noqa: F401  scikit-image asks for it only when it runs
    from skimage.restoration import denoise_wavelet

    def planes(noisy: Floats, sigma: float | None) -> Floats:
        restored: Any = denoise_wavelet(
            noisy,
            sigma=None if sigma is None else sigma / 255,
            channel_axis=-1,
            convert2ycbcr=True,
            method="BayesShrink",
            rescale_sigma=True,
        )
        return np.asarray(restored, np.float32)

    return Denoiser(
        name,
        lambda noisy, sigma: _eight_bits(planes(_floats(noisy), sigma)),
        planes=planes,
        trials=(None, *TRIALS),
    )


def fillers(missing: dict[str, str]) -> list[Filler]:
    """OpenCV's two methods, radius 3."""
    try:
        import cv2
    except ImportError:
        missing["Telea and Navier-Stokes"] = "opencv-python-headless"
        return []

    def method(flag: int) -> Callable[[Pixels, Mask], Pixels]:
        return lambda image, mask: np.asarray(
            cv2.inpaint(image, mask.astype(np.uint8) * 255, 3, flag), np.uint8
        )

    return [
        Filler("OpenCV Telea", method(cv2.INPAINT_TELEA)),
        Filler("OpenCV Navier-Stokes", method(cv2.INPAINT_NS)),
    ]


def _floats(image: Pixels) -> Floats:
    return image.astype(np.float32) / np.float32(255)


def _eight_bits(planes: Floats) -> Pixels:
    rounded: Pixels = np.rint(planes.clip(0, 1) * 255).astype(np.uint8)
    return rounded
