"""Holes filled smoothly, as the package fills them before the network sees an image.

The package's own code works on the pixels of holes alone; here whole batches are worked on, and a
test holds both equal, since training may not import the package.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

__all__ = ["smooth_fill"]

# As in `edgeae.image.interpolation`.
MEMBRANE_STEPS, PLATE_STEPS = 8, 20
_ROUNDING = 1e-12


@torch.no_grad()
def smooth_fill(pixels: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Pixels (N, 3, H, W) in [0, 1] with smooth holes, which are where `known` (N, 1, H, W) is 0,
    not everywhere in an image."""
    some = (known == 0).any(dim=3).any(dim=2).any(dim=1)
    if not bool(some.any()):
        return pixels
    filled = pixels.clone()
    known, holed = known[some], pixels[some]
    start = _membrane(holed * known, known)
    plate = _relaxed(start, known == 0, PLATE_STEPS, bending=True)
    filled[some] = torch.where(known == 0, plate.clamp(0, 1), holed)
    return filled


def _membrane(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    hidden = weights == 0
    if not bool(hidden.any()):
        return values
    height, width = weights.shape[2:]
    even = 0, width % 2, 0, height % 2
    sums = 4 * F.avg_pool2d(F.pad(values * weights, even), 2)
    counts = 4 * F.avg_pool2d(F.pad(weights, even), 2)
    coarse = _membrane(sums / counts.clamp_min(1e-6), counts.clamp_max(1))
    pulled = F.interpolate(coarse, scale_factor=2.0, mode="nearest")[:, :, :height, :width]
    return _relaxed(torch.where(hidden, pulled, values), hidden, MEMBRANE_STEPS, bending=False)


def _relaxed(
    values: torch.Tensor, hidden: torch.Tensor, steps: int, *, bending: bool
) -> torch.Tensor:
    """Values (N, 3, h, w) after so many steps of conjugate gradients, for each plane its own."""
    residual = -_force(values, bending=bending) * hidden
    way = residual
    left = _product(residual, residual)
    for _ in range(steps):
        force = _force(way, bending=bending) * hidden
        going = left > _ROUNDING
        length = torch.where(going, left / _product(way, force).clamp_min(1e-30), 0.0)
        values = values + length * way
        residual = residual - length * force
        before, left = left, _product(residual, residual)
        way = residual + torch.where(going, left / before.clamp_min(1e-30), 0.0) * way
    return values


def _force(values: torch.Tensor, *, bending: bool) -> torch.Tensor:
    return _laplacian(_laplacian(values)) if bending else -_laplacian(values)


def _laplacian(values: torch.Tensor) -> torch.Tensor:
    wide = F.pad(values, (1, 1, 1, 1), mode="replicate")
    rows = wide[:, :, :-2, 1:-1] + wide[:, :, 2:, 1:-1]
    return rows + wide[:, :, 1:-1, :-2] + wide[:, :, 1:-1, 2:] - 4 * values


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a * b).sum((2, 3), keepdim=True)
