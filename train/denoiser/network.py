"""The photo denoiser: a convolutional autoencoder with skips that also fills holes, and the small
network that tells how noisy a photograph is.

Everything is made of dense convolutions, ReLU and sub-pixel shuffles, which every runtime takes in
8 bits, and the finest convolutions see half resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from train.layers import begin_at_zero

# Noise levels are given at one value for a square of so many pixels a side.
LEVEL_STRIDE = 8
# What the estimator sees around such a square: one square of 2, one of 4 and two of 8 pixels.
LEVEL_REACH = 2 + 4 + 2 * 8
# The network sees levels times this, so that usual ones are about as large as pixels are.
LEVEL_GAIN = 4.0


@dataclass(frozen=True)
class DenoiserNetwork:
    """Sizes of the photo denoiser.

    `channels` are those at 1/2, 1/4, 1/8, ... of the resolution and `blocks` the residual blocks
    there on the way down; on the way up there are as many, but for the coarsest level.
    `inner` are the channels inside the blocks of the coarsest level, 0 for as many as around them:
    most of the weights are there. `level_channels` are those of the network that estimates the
    noise level. With `smooth_holes` the network is given holes filled smoothly and adds what lacks;
    without, it sees nothing there.
    """

    channels: tuple[int, ...] = (32, 80, 128)
    blocks: tuple[int, ...] = (1, 1, 2)
    inner: int = 0
    level_channels: int = 32
    smooth_holes: bool = False

    @property
    def stride(self) -> int:
        """Pixels of a side that the sides of what the network sees must be multiples of."""
        return max(LEVEL_STRIDE, 2 ** len(self.channels))

    @property
    def reach(self) -> int:
        """Pixels beyond which the network's input does not matter for a pixel, at most."""
        below = zip(self.blocks[:-1], (2 ** (i + 1) for i in range(len(self.blocks))), strict=False)
        around = sum(4 * blocks * side for blocks, side in below)
        coarsest = 2 ** len(self.channels)
        # Entry and exit see one square of 2 further, and squares are of the coarsest grid.
        return around + 2 * self.blocks[-1] * coarsest + 2 * 2 + coarsest

    def __post_init__(self) -> None:
        if not self.channels or len(self.channels) != len(self.blocks):
            raise ValueError(
                f"channels {self.channels} and blocks {self.blocks}, expected as many of each"
            )


class Residual(nn.Module):
    """x + conv(ReLU(conv(x))), dense and 3x3; begins as the identity."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, inner, 3, padding=1)
        self.second = nn.Conv2d(inner, channels, 3, padding=1)
        begin_at_zero(self.second)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(torch.relu(self.first(x)))


def _blocks(channels: int, count: int, inner: int) -> nn.Sequential:
    return nn.Sequential(*(Residual(channels, inner) for _ in range(count)))


class PhotoDenoiser(nn.Module):
    """Restores pixels (N, 3, H, W) in [0, 1], the sides multiples of `DenoiserNetwork.stride`."""

    def __init__(self, config: DenoiserNetwork) -> None:
        super().__init__()
        self.config = config
        widths = config.channels
        # Three colors, the noise level and what is known, of each 2x2 square.
        self.enter = nn.Conv2d(5 * 4, widths[0], 3, padding=1)
        inner = (*widths[:-1], config.inner or widths[-1])
        self.down_blocks = nn.ModuleList(map(_blocks, widths, config.blocks, inner))
        self.down = nn.ModuleList(
            nn.Conv2d(fine, coarse, 2, stride=2)
            for fine, coarse in zip(widths[:-1], widths[1:], strict=True)
        )
        self.up = nn.ModuleList(
            nn.Conv2d(coarse, 4 * fine, 1)
            for fine, coarse in zip(widths[:-1], widths[1:], strict=True)
        )
        self.up_blocks = nn.ModuleList(map(_blocks, widths[:-1], config.blocks[:-1], widths[:-1]))
        self.leave = nn.Conv2d(widths[0], 3 * 4, 3, padding=1)
        begin_at_zero(self.leave)
        self.estimator = LevelEstimator(config.level_channels)

    def forward(
        self,
        pixels: torch.Tensor,
        level: torch.Tensor,
        known: torch.Tensor,
        wrong: torch.Tensor,
        estimated: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Restored pixels and the estimated level (N, 1, H / 8, W / 8), for training.

        Args:
            pixels, known: as for `restore`.
            level: the true one, (N, 1, H / 8, W / 8).
            wrong: factor of the level that is told, (N, 1, 1, 1).
            estimated: whether the estimated level takes its place, bool (N, 1, 1, 1).
        """
        found = self.estimator(pixels * known + 0.5 * (1 - known)).float()
        told = torch.where(estimated, found, level * wrong)
        return self.restore(pixels, spread_level(told), known), found

    @torch.no_grad()
    def widened(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The weights of a network with fewer channels, or more inside of blocks, for this one.

        With more channels it does the same at first: what listens to new ones does not hear them
        yet. Of too many inside of a block, those that matter least to its sum go.
        """
        own = self.state_dict()
        given = dict(state)
        for name, weight in state.items():
            block = name.removesuffix(".first.weight")
            if block == name or name not in own or len(weight) <= len(own[name]):
                continue
            second = state[f"{block}.second.weight"]
            reach = weight.flatten(1).norm(dim=1) * second.transpose(0, 1).flatten(1).norm(dim=1)
            kept = reach.argsort(descending=True)[: len(own[name])].sort().values
            given[name] = weight[kept]
            given[f"{block}.first.bias"] = state[f"{block}.first.bias"][kept]
            given[f"{block}.second.weight"] = second[:, kept]
        return {
            name: _grown(weight, own[name], name) if name in own else weight
            for name, weight in given.items()
        }

    def blind_level(self, pixels: torch.Tensor) -> torch.Tensor:
        """The estimated level of every pixel, (N, 1, H, W)."""
        return spread_level(self.estimator(pixels))

    def restore(
        self, pixels: torch.Tensor, level: torch.Tensor, known: torch.Tensor
    ) -> torch.Tensor:
        """Pixels without noise and holes, (N, 3, H, W).

        Args:
            pixels: (N, 3, H, W) in [0, 1], in holes what `train.denoiser.interpolation` gives, or
                with a network without `smooth_holes` anything.
            level: standard deviation of the noise on the same scale, (N, 1, H, W).
            known: 1 where pixels are known, 0 in holes, (N, 1, H, W).
        """
        seen = pixels - 0.5
        if not self.config.smooth_holes:
            seen = seen * known
        x = torch.relu(
            self.enter(F.pixel_unshuffle(torch.cat((seen, LEVEL_GAIN * level, known), 1), 2))
        )
        skipped = []
        for i, blocks in enumerate(self.down_blocks):
            x = blocks(x)
            if i < len(self.down):
                skipped.append(x)
                x = torch.relu(self.down[i](x))
        for i in reversed(range(len(self.up))):
            x = skipped[i] + F.pixel_shuffle(self.up[i](x), 2)
            x = self.up_blocks[i](x)
        return seen + 0.5 + F.pixel_shuffle(self.leave(torch.relu(x)), 2)


def _grown(weight: torch.Tensor, new: torch.Tensor, name: str) -> torch.Tensor:
    """A weight in the corner of a larger one. New units of entries, of ways down and inside of
    blocks begin as `new` does; all other new weights are 0."""
    smaller = weight.ndim == new.ndim and all(
        a <= b for a, b in zip(weight.shape, new.shape, strict=True)
    )
    if weight.shape == new.shape or not smaller:
        return weight
    grown = torch.zeros_like(new)
    if name.startswith(("enter.", "down.")) or ".first." in name:
        grown[len(weight) :] = new[len(weight) :]
    grown[tuple(slice(side) for side in weight.shape)] = weight
    return grown


def spread_level(level: torch.Tensor) -> torch.Tensor:
    """A level for each pixel, (N, 1, H, W), of one for each square, (N, 1, H / 8, W / 8)."""
    return F.interpolate(level, scale_factor=LEVEL_STRIDE, mode="nearest")


class LevelEstimator(nn.Module):
    """Pixels (N, 3, H, W) in [0, 1] to the noise's standard deviation (N, 1, H / 8, W / 8)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fine = nn.Conv2d(3 * 4, channels // 2, 3, padding=1)
        self.halve = nn.Conv2d(channels // 2, channels, 2, stride=2)
        self.middle = nn.Conv2d(channels, channels, 3, padding=1)
        self.again = nn.Conv2d(channels, 2 * channels, 2, stride=2)
        self.coarse = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1)
        self.last = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1)
        self.leave = nn.Conv2d(2 * channels, 1, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.constant_(self.leave.bias, 0.08)  # type: ignore[arg-type]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.fine(F.pixel_unshuffle(pixels - 0.5, 2)))
        x = torch.relu(self.halve(x))
        x = torch.relu(self.middle(x))
        x = torch.relu(self.again(x))
        x = torch.relu(self.coarse(x))
        x = torch.relu(self.last(x))
        return torch.relu(self.leave(x))
