"""The photo codec: a linear block transform and, on top of it, what a network learns to add.

Both halves hold a 16x16 principal-component transform of photographs as a linear path and start as
exactly that transform (the last layers of the network are zero). Training then only has to learn
what a block transform cannot do: deblocking, decorrelation across blocks, texture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from train.entropy_model import ContextModel, steps_at
from train.layers import SeparableResidual, begin_at_zero

STRIDE = 16
# Quality levels with learned steps; between them steps are interpolated on a logarithmic scale.
LEARNED_QUALITIES = 9
# The finest level has 200 times the weight on distortion of the coarsest: about 0.1 to 1.5 bit per
# pixel.
COARSEST_LAMBDA, LAMBDA_RATIO = 0.0008, 200.0
# Latents are divided by this in front of the synthesis network: the optimal step at lambda 0.013.
REFERENCE_STEP = 0.175


def distortion_weight(level: torch.Tensor) -> torch.Tensor:
    """Lambda of quality levels in [0, 1], float32 of any shape, for the mean squared error of 8-bit
    values: of the same shape.
    """
    return COARSEST_LAMBDA * LAMBDA_RATIO**level


@dataclass(frozen=True)
class PhotoNetwork:
    """Sizes of the photo codec. `slices` are the groups in which latent channels are coded."""

    slices: tuple[int, ...] = (8, 24, 64, 96, 128)
    analysis_channels: int = 128
    analysis_blocks: int = 4
    synthesis_channels: int = 128
    synthesis_blocks: int = 6
    synthesis_expansion: int = 2
    context_channels: int = 64


class Analysis(nn.Module):
    """Pixels in [0, 1], (N, 3, H, W), to latents (N, latent, H / 16, W / 16)."""

    def __init__(self, config: PhotoNetwork) -> None:
        super().__init__()
        latent, channels = sum(config.slices), config.analysis_channels
        self.linear = nn.Conv2d(3 * STRIDE**2, latent, 1)
        self.enter = nn.Conv2d(3 * 64, channels, 1)
        self.blocks = nn.Sequential(
            *(SeparableResidual(channels) for _ in range(config.analysis_blocks))
        )
        self.leave = nn.Conv2d(4 * channels, latent, 1)
        begin_at_zero(self.leave)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        cells = F.pixel_unshuffle(pixels, 8)
        with torch.autocast(pixels.device.type, enabled=False):
            linear = self.linear(F.pixel_unshuffle(cells, 2))
        return linear + self._learned(cells)

    def learned(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the network adds to the linear path."""
        return self._learned(F.pixel_unshuffle(pixels, 8))

    def _learned(self, cells: torch.Tensor) -> torch.Tensor:
        return self.leave(F.pixel_unshuffle(self.blocks(self.enter(cells - 0.5)), 2))


class Synthesis(nn.Module):
    """Latents (N, latent, h, w) and a quality level (N, 1, 1, 1) in [0, 1] to pixels (N, 3, 16 h,
    16 w)."""

    def __init__(self, config: PhotoNetwork) -> None:
        super().__init__()
        latent, channels = sum(config.slices), config.synthesis_channels
        self.linear = nn.Conv2d(latent, 3 * STRIDE**2, 1)
        self.enter = nn.Conv2d(latent, 4 * channels, 1)
        self.condition = nn.Conv2d(1, 4 * channels, 1, bias=False)
        self.blocks = nn.Sequential(
            *(
                SeparableResidual(channels, expansion=config.synthesis_expansion)
                for _ in range(config.synthesis_blocks)
            )
        )
        self.leave = nn.Conv2d(channels, 3 * 64, 1)
        begin_at_zero(self.leave)

    def forward(self, latents: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        with torch.autocast(latents.device.type, enabled=False):
            linear = F.pixel_shuffle(self.linear(latents), 2)
        entered = self.enter(latents / REFERENCE_STEP) + self.condition(level)
        cells = self.leave(self.blocks(F.pixel_shuffle(entered, 2)))
        return F.pixel_shuffle(linear + cells, 8)


class PhotoCodec(nn.Module):
    """Analysis, quantization steps per quality level, context model, synthesis."""

    # They begin as a good transform, which a full learning rate would shake.
    slow_layers = ("analysis.linear.", "synthesis.linear.")

    def __init__(self, config: PhotoNetwork) -> None:
        super().__init__()
        self.config = config
        latent = sum(config.slices)
        self.analysis = Analysis(config)
        self.synthesis = Synthesis(config)
        self.context = ContextModel(config.slices, config.context_channels)
        # At a high rate the best step of an orthonormal transform is 0.02 / sqrt(lambda).
        levels = torch.linspace(0, 1, LEARNED_QUALITIES)
        steps = 0.02 / distortion_weight(levels).sqrt()
        self.log_steps = nn.Parameter(steps.log()[:, None].repeat(1, latent))

    def steps(self, level: torch.Tensor) -> torch.Tensor:
        """Quantization steps (N, latent, 1, 1) of quality levels (N,) in [0, 1]."""
        return steps_at(self.log_steps, level)

    def forward(
        self, pixels: torch.Tensor, level: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Restored pixels and the bits of every image (N,), differentiable.

        Rounding is straight-through for the distortion, and uniform noise for the rate (Minnen and
        Singh 2020).
        """
        latents = self.analysis(pixels).float()
        steps = self.steps(level)
        scaled = latents / steps
        symbols = scaled + (self.context.rounded(scaled, level) - scaled).detach()
        noisy = scaled + torch.rand_like(scaled) - 0.5 if self.training else symbols
        bits = self.context(noisy, symbols.detach(), level)
        return self.synthesis(symbols * steps, level[:, None, None, None]), bits

    def widened(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The weights of a codec with a narrower context model, put into this one's shapes."""
        prefix = "context."
        inner = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
        wide = {prefix + name: value for name, value in self.context.widened(inner).items()}
        return {**state, **wide}

    @torch.no_grad()
    def start_linear(self, crops: np.ndarray) -> None:
        """Start from the principal components of uint8 crops (count, 16, 16, 3).

        The pixel order inside a block is that of two pixel_unshuffle calls, by 8 and by 2.
        """
        pixels = torch.from_numpy(crops).permute(0, 3, 1, 2).double() / 255
        vectors = F.pixel_unshuffle(F.pixel_unshuffle(pixels, 8), 2).flatten(1)
        mean = vectors.mean(0)
        variances, components = torch.linalg.eigh(torch.cov((vectors - mean).T))
        latent = sum(self.config.slices)
        components = components.flip(1)[:, :latent]
        deviations = variances.flip(0)[:latent].clamp_min(0).sqrt()
        forward, back = self.analysis.linear, self.synthesis.linear
        assert forward.bias is not None and back.bias is not None
        forward.weight.copy_(components.T[:, :, None, None])
        forward.bias.copy_(-(mean @ components))
        # The inverse gives pixels in the same order; pixel_shuffle by 2 then 8 undoes it.
        back.weight.copy_(components[:, :, None, None])
        back.bias.copy_(mean)
        self.context.start_scales(deviations.float(), self.log_steps)


def level_of_quality(quality: float) -> float:
    """The level in [0, 1] of a quality in 1..9."""
    if not 1 <= quality <= LEARNED_QUALITIES or math.isnan(quality):
        raise ValueError(f"quality is {quality}, expected 1 to {LEARNED_QUALITIES}")
    return (quality - 1) / (LEARNED_QUALITIES - 1)
