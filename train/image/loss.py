"""The rate-distortion loss of the photo codec."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from train.image.network import distortion_weight


@dataclass(frozen=True)
class RateDistortion:
    """Bits per pixel plus lambda times the mean squared error of 8-bit values.

    Lambda spans a factor of 200 over the quality levels; each level's loss is divided by lambda **
    `balance`, so that a percent of rate weighs about the same at every level.
    """

    balance: float = 0.5


def rate_distortion(
    pixels: torch.Tensor,
    restored: torch.Tensor,
    bits: torch.Tensor,
    level: torch.Tensor,
    config: RateDistortion,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The loss (a scalar), bits per pixel (N,) and mean squared error (N,), float32.

    Args:
        pixels, restored: float32 (N, 3, H, W) in [0, 1].
        bits: those of each image, float32 (N,).
        level: quality levels, float32 (N,) in [0, 1].
        config: what weighs how much.
    """
    bits_per_pixel = bits / (pixels.shape[2] * pixels.shape[3])
    error = (restored - pixels).square().mean((1, 2, 3))
    weight = distortion_weight(level)
    middle = distortion_weight(torch.tensor(0.5))
    balance = (middle / weight) ** config.balance
    loss = balance * (bits_per_pixel + weight * 255**2 * error)
    return loss.mean(), bits_per_pixel, error
