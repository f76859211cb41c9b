"""The rate-distortion loss of the photo codec, and MS-SSIM as a part of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from train.image.network import distortion_weight

__all__ = ["RateDistortion", "distortion", "ms_ssim", "rate_distortion"]

# Wang, Simoncelli and Bovik 2003: weights of the scales from fine to coarse, the window's deviation
# and size, the constants for values in [0, 1].
_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_DEVIATION, _WINDOW = 1.5, 11
_C1, _C2 = 0.01**2, 0.03**2
# What 1 - MS-SSIM weighs against the mean squared error of values in [0, 1]: with it both ask for
# about the same bits (the lambdas of Begaint et al. 2020, CompressAI, are so far apart).
_SSIM_SHARE = 1 / 51


@dataclass(frozen=True)
class RateDistortion:
    """Bits per pixel plus lambda times the mean squared error of 8-bit values.

    Lambda spans a factor of 200 over the quality levels; each level's loss is divided by lambda **
    `balance`, so that a percent of rate weighs about the same at every level. The share `ms_ssim`
    of the distortion is 1 - MS-SSIM instead, so weighted that about as many bits are spent.
    """

    balance: float = 0.5
    ms_ssim: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.ms_ssim <= 1:
            raise ValueError(f"ms_ssim is {self.ms_ssim}, expected between 0 and 1")


def distortion(
    pixels: torch.Tensor, restored: torch.Tensor, config: RateDistortion
) -> torch.Tensor:
    """What lambda weighs, (N,): the mean squared error of 8-bit values, or what stands for it.

    Args:
        pixels, restored: float32 (N, 3, H, W) in [0, 1].
        config: how much of it is MS-SSIM.
    """
    error = (restored - pixels).square().mean((1, 2, 3))
    if config.ms_ssim:
        unlike = _SSIM_SHARE * (1 - ms_ssim(pixels, restored))
        error = torch.lerp(error, unlike, config.ms_ssim)
    return 255**2 * error


def rate_distortion(
    pixels: torch.Tensor,
    restored: torch.Tensor,
    bits: torch.Tensor,
    level: torch.Tensor,
    config: RateDistortion,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss (a scalar) and bits per pixel (N,), float32.

    Args:
        pixels, restored: float32 (N, 3, H, W) in [0, 1].
        bits: those of each image, float32 (N,).
        level: quality levels, float32 (N,) in [0, 1].
        config: what weighs how much.
    """
    bits_per_pixel = bits / (pixels.shape[2] * pixels.shape[3])
    weight = distortion_weight(level)
    middle = distortion_weight(torch.tensor(0.5)).item()
    balance = (middle / weight) ** config.balance
    loss = balance * (bits_per_pixel + weight * distortion(pixels, restored, config))
    return loss.mean(), bits_per_pixel


def ms_ssim(pixels: torch.Tensor, restored: torch.Tensor) -> torch.Tensor:
    """MS-SSIM of images (N, 3, H, W) in [0, 1], from 176 pixels a side; the mean of R, G, B: (N,).

    Of Wang, Simoncelli and Bovik 2003. In whole float32: variances are differences of large
    numbers.
    """
    size = torch.arange(_WINDOW, device=pixels.device) - _WINDOW // 2
    window = torch.exp(-(size.float() ** 2) / (2 * _DEVIATION**2))
    row = (window / window.sum()).expand(pixels.shape[1], 1, 1, _WINDOW)
    total = torch.ones((), device=pixels.device)
    exact = torch.backends.cudnn.flags(
        enabled=True, benchmark=torch.backends.cudnn.benchmark, allow_tf32=False
    )
    with exact, torch.autocast(pixels.device.type, enabled=False):
        for scale, weight in enumerate(_SCALES):
            if scale:
                pixels, restored = F.avg_pool2d(pixels, 2), F.avg_pool2d(restored, 2)
            like = _likeness(pixels, restored, row, light=scale == len(_SCALES) - 1)
            # A fractional power has no derivative at zero.
            total = total * like.mean((2, 3)).clamp_min(1e-4) ** weight
    return total.mean(1)


def _likeness(
    pixels: torch.Tensor, restored: torch.Tensor, row: torch.Tensor, *, light: bool
) -> torch.Tensor:
    """Contrast and structure of every window, with `light` also its mean: (N, 3, h, w)."""
    planes = torch.cat([pixels, restored, pixels**2, restored**2, pixels * restored])
    planes = F.conv2d(planes, row, groups=len(row))
    planes = F.conv2d(planes, row.transpose(2, 3), groups=len(row))
    a, b, aa, bb, ab = planes.chunk(5)
    like = (2 * (ab - a * b) + _C2) / (aa - a**2 + bb - b**2 + _C2)
    return like * (2 * a * b + _C1) / (a**2 + b**2 + _C1) if light else like
