"""Building blocks that every runtime takes: convolutions and ReLU."""

from __future__ import annotations

import torch
from torch import nn


def begin_at_zero(layer: nn.Conv2d) -> None:
    """Make a new layer give nothing until it has learned something."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class SeparableResidual(nn.Module):
    """x + pointwise(ReLU(pointwise(depthwise(x)))), shape (N, channels, H, W) kept.

    The last layer starts at zero, so that a new block is the identity.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.widen = nn.Conv2d(channels, channels, 1)
        self.narrow = nn.Conv2d(channels, channels, 1)
        begin_at_zero(self.narrow)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.narrow(torch.relu(self.widen(self.spatial(x))))


class DenseResidual(nn.Module):
    """x + pointwise(ReLU(3x3(x))), shape (N, channels, H, W) kept.

    The sum is in float32, also where the convolutions are not; the last layer starts at zero, so
    that a new block is the identity.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(channels, hidden, 3, padding=1)
        self.narrow = nn.Conv2d(hidden, channels, 1)
        begin_at_zero(self.narrow)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.narrow(torch.relu(self.spatial(x)))
