"""The photo codec: a linear block transform and what a network learns to make of it.

Both halves carry a stream of float values that begins as principal components of photographs, first
of 8x8 cells, then of four cells together, and residual blocks that change it. The blocks begin as
nothing, so that the codec begins as exactly that 16x16 transform: training only has to learn what a
block transform cannot do, such as deblocking, decorrelation across blocks, texture.

The decoder and the contexts alone fix what a file's bytes mean. So there is an encoder for each
effort: all are trained at once, each with the same decoder.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from train.entropy_model import ContextModel, steps_at
from train.layers import DenseResidual, begin_at_zero

STRIDE, CELL = 16, 8
_CELL_VALUES = 3 * CELL**2
# Quality levels with learned steps; between them steps are interpolated on a logarithmic scale.
LEARNED_QUALITIES = 9
# The finest level has 200 times the weight on distortion of the coarsest: about 0.1 to 1.5 bit per
# pixel.
COARSEST_LAMBDA, LAMBDA_RATIO = 0.0008, 200.0
# Components are divided by this power of their standard deviation: blocks should see the fine ones
# beside the coarse ones, but not noise as large as light. And no component by less than the last.
_EVENING, _LEAST_DEVIATION = 0.5, 0.01


def distortion_weight(level: torch.Tensor) -> torch.Tensor:
    """Lambda of quality levels in [0, 1], float32 of any shape, for the mean squared error of 8-bit
    values: of the same shape.
    """
    return COARSEST_LAMBDA * LAMBDA_RATIO**level


@dataclass(frozen=True)
class Encoder:
    """Sizes of an encoder: blocks at 1/4, at 1/8 and at 1/16 of the image's size.

    A block at 1/8 has `hidden` channels inside. At 1/4 there are `fine_channels` throughout.
    """

    channels: int = 96
    blocks: int = 2
    hidden: int = 48
    deep_blocks: int = 1
    deep_hidden: int = 64
    fine_channels: int = 0
    fine_blocks: int = 0


@dataclass(frozen=True)
class PhotoNetwork:
    """Sizes of the photo codec. `slices` are the groups in which latent channels are coded.

    `components` are those of an 8x8 cell's 192 that the linear start keeps. `best` is left out
    where it has no channels.
    """

    slices: tuple[int, ...] = (8, 24, 64, 160)
    components: int = 96
    fast: Encoder = Encoder()
    best: Encoder = Encoder(128, 5, 128, 2, 96, 64, 3)
    synthesis_channels: int = 112
    synthesis_blocks: int = 4
    synthesis_hidden: int = 112
    synthesis_deep_blocks: int = 2
    synthesis_deep_hidden: int = 64
    context_channels: tuple[int, ...] = (96, 96, 96, 64)

    @property
    def encoders(self) -> dict[str, Encoder]:
        """Encoders by their effort."""
        return {"fast": self.fast} | ({"best": self.best} if self.best.channels else {})


class Analysis(nn.Module):
    """Pixels in [0, 1], (N, 3, H, W), to latents (N, latent, H / 16, W / 16)."""

    unit: torch.Tensor

    def __init__(self, size: Encoder, latent: int) -> None:
        super().__init__()
        channels, fine = size.channels, size.fine_channels
        self.enter = nn.Conv2d(_CELL_VALUES, channels, 1)
        self.fine_enter = nn.Conv2d(48, fine, 1) if fine else None
        self.fine_blocks = nn.Sequential(
            *(DenseResidual(fine, fine) for _ in range(size.fine_blocks))
        )
        self.fine_leave = nn.Conv2d(4 * fine, channels, 1) if fine else None
        if self.fine_leave is not None:
            begin_at_zero(self.fine_leave)
        self.blocks = nn.Sequential(
            *(DenseResidual(channels, size.hidden) for _ in range(size.blocks))
        )
        self.leave = nn.Conv2d(4 * channels, latent, 1)
        self.deep_blocks = nn.Sequential(
            *(DenseResidual(latent, size.deep_hidden) for _ in range(size.deep_blocks))
        )
        # Latents in units that make them about as large as each other: blocks work on those.
        self.register_buffer("unit", torch.ones(latent, 1, 1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        with torch.autocast(pixels.device.type, enabled=False):
            x = self.enter(F.pixel_unshuffle(pixels, CELL))
        if self.fine_enter is not None and self.fine_leave is not None:
            fine = self.fine_enter(F.pixel_unshuffle(pixels - 0.5, 4))
            x = x + self.fine_leave(F.pixel_unshuffle(self.fine_blocks(fine.float()), 2))
        x = self.blocks(x)
        with torch.autocast(pixels.device.type, enabled=False):
            y = self.leave(F.pixel_unshuffle(x, 2))
        return self.deep_blocks(y) * self.unit


class Synthesis(nn.Module):
    """Latents (N, latent, h, w) and a quality level (N, 1, 1, 1) in [0, 1] to pixels (N, 3, 16 h,
    16 w)."""

    unit: torch.Tensor

    def __init__(self, config: PhotoNetwork) -> None:
        super().__init__()
        latent, channels = sum(config.slices), config.synthesis_channels
        self.deep_condition = nn.Conv2d(1, latent, 1, bias=False)
        self.deep_blocks = nn.Sequential(
            *(
                DenseResidual(latent, config.synthesis_deep_hidden)
                for _ in range(config.synthesis_deep_blocks)
            )
        )
        self.enter = nn.Conv2d(latent, 4 * channels, 1)
        self.condition = nn.Conv2d(1, 4 * channels, 1, bias=False)
        self.blocks = nn.Sequential(
            *(
                DenseResidual(channels, config.synthesis_hidden)
                for _ in range(config.synthesis_blocks)
            )
        )
        self.leave = nn.Conv2d(channels, _CELL_VALUES, 1)
        begin_at_zero(self.deep_condition)
        begin_at_zero(self.condition)
        self.register_buffer("unit", torch.ones(latent, 1, 1))

    def forward(self, latents: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        y = self.deep_blocks(latents / self.unit + self.deep_condition(level))
        with torch.autocast(latents.device.type, enabled=False):
            x = self.enter(y) + self.condition(level)
        x = self.blocks(F.pixel_shuffle(x, 2))
        with torch.autocast(latents.device.type, enabled=False):
            return F.pixel_shuffle(self.leave(x), CELL)


class PhotoCodec(nn.Module):
    """An analysis for each effort, steps of quantization for each quality level, context model,
    synthesis."""

    # They begin as a good transform, which a full learning rate would shake.
    slow_layers = (
        "encoders.fast.enter.",
        "encoders.fast.leave.",
        "encoders.best.enter.",
        "encoders.best.leave.",
        "synthesis.enter.",
        "synthesis.leave.",
    )

    def __init__(self, config: PhotoNetwork) -> None:
        super().__init__()
        self.config = config
        latent = sum(config.slices)
        self.encoders = nn.ModuleDict(
            {effort: Analysis(size, latent) for effort, size in config.encoders.items()}
        )
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
        """Restored pixels and the bits of every image under each effort, (efforts * N, 3, H, W) and
        (efforts * N,), the first effort's first; differentiable.

        Rounding is straight-through for the distortion. The bits' derivatives by the latents are
        those of latents with uniform noise (Minnen and Singh 2020), by the contexts' weights those
        of the symbols.
        """
        latents = torch.cat([encoder(pixels).float() for encoder in self.encoders.values()])
        level = level.repeat(len(self.encoders))
        steps = self.steps(level)
        scaled = latents / steps
        with torch.autocast(pixels.device.type, enabled=False):
            symbols, bits = self.context.coded(scaled, level)
            held = scaled + (symbols - scaled).detach()
        return self.synthesis(held * steps, level[:, None, None, None]), bits

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
        count = self.config.components
        there = torch.from_numpy(crops).to(self.log_steps.device)
        pixels = there.permute(0, 3, 1, 2).double() / 255
        cells = F.pixel_unshuffle(pixels, CELL)
        vectors = cells.permute(0, 2, 3, 1).flatten(0, 2)
        mean = vectors.mean(0)
        cell_basis, deviations = _components(vectors, count)
        # (blocks, count * 4), as pixel_unshuffle of the stream by 2 gives it.
        stream = torch.einsum("nchw,kc->nkhw", cells - mean[:, None, None], cell_basis)
        block_basis, latent_deviations = _components(
            F.pixel_unshuffle(stream, 2).flatten(1), sum(self.config.slices)
        )
        unit = latent_deviations.clamp_min(_LEAST_DEVIATION) ** _EVENING
        size = deviations.clamp_min(_LEAST_DEVIATION) ** _EVENING
        sizes = size.repeat_interleave(4)
        for encoder in self.encoders.values():
            assert isinstance(encoder, Analysis) and encoder.enter.bias is not None
            encoder.enter.weight[:count] = (cell_basis / size[:, None])[:, :, None, None]
            encoder.enter.bias[:count] = -(cell_basis @ mean) / size
            encoder.leave.weight.zero_()
            linear = block_basis * sizes / unit[:, None]
            encoder.leave.weight[:, : 4 * count] = linear[:, :, None, None]
            assert encoder.leave.bias is not None
            encoder.leave.bias.zero_()
            encoder.unit.copy_(unit[:, None, None])
        back = self.synthesis
        assert back.enter.bias is not None and back.leave.bias is not None
        back.unit.copy_(unit[:, None, None])
        linear = (block_basis * unit[:, None]).T / sizes[:, None]
        back.enter.weight[: 4 * count] = linear[:, :, None, None]
        back.enter.bias.zero_()
        back.leave.weight.zero_()
        back.leave.weight[:, :count] = (cell_basis.T * size)[:, :, None, None]
        back.leave.bias.copy_(mean)
        self.context.start_scales(latent_deviations.float(), self.log_steps)


def _components(vectors: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first principal components (count, values) of vectors (n, values) and the standard
    deviations (count,) along them."""
    variances, components = torch.linalg.eigh(torch.cov(vectors.T))
    return components.flip(1)[:, :count].T, variances.flip(0)[:count].clamp_min(0).sqrt()


def level_of_quality(quality: float) -> float:
    """The level in [0, 1] of a quality in 1..9."""
    if not 1 <= quality <= LEARNED_QUALITIES or math.isnan(quality):
        raise ValueError(f"quality is {quality}, expected 1 to {LEARNED_QUALITIES}")
    return (quality - 1) / (LEARNED_QUALITIES - 1)
