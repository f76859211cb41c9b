"""The signal codec: a linear block transform and, on top of it, what a network learns to add.

A signal stands as four phases at a fourth of its rate, (N, 4, 1, T / 4), which is a reshape and no
work. Both halves hold a 16-point principal-component transform as a linear path and start as
exactly that transform.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from train.entropy_model import steps_at
from train.layers import begin_at_zero
from train.signal.codec_context import SignalContext

__all__ = ["PHASES", "STRIDE", "SignalCodecNetwork", "SignalNetwork", "folded", "unfolded"]

STRIDE, PHASES = 16, 4
LEARNED_QUALITIES = 9
# Quantization steps of an orthonormal transform of a signal with deviation 1: PRD about 22 % and
# 1.5 %.
COARSEST_STEP, STEP_RATIO = 2.2, 32.0
# Latents are divided by this in front of the synthesis network.
REFERENCE_STEP = 0.35


def step_of_level(level: torch.Tensor) -> torch.Tensor:
    """The quantization step that a level in [0, 1] begins with."""
    return COARSEST_STEP * STEP_RATIO**-level


def distortion_weight(level: torch.Tensor) -> torch.Tensor:
    """Bits a unit of squared error is worth at a level.

    At a high rate the error of a step is step ** 2 / 12 and falls by 2 ln 2 of itself a bit.
    """
    return 12 / (2 * math.log(2)) / step_of_level(level).square()


def folded(signal: torch.Tensor) -> torch.Tensor:
    """A signal (N, T) as its phases (N, 4, 1, T / 4)."""
    return signal.reshape(len(signal), -1, PHASES).transpose(1, 2)[:, :, None]


def unfolded(phases: torch.Tensor) -> torch.Tensor:
    """Phases (N, 4, 1, T / 4) as the signal (N, T) that `folded` was given."""
    return phases[:, :, 0].transpose(1, 2).reshape(len(phases), -1)


@dataclass(frozen=True)
class SignalNetwork:
    """Sizes of the signal codec. `slices` are the groups in which a step's channels are coded."""

    slices: tuple[int, ...] = (1, 1, 2, 4, 8)
    analysis_channels: int = 64
    analysis_dilations: tuple[int, ...] = (1, 2, 4)
    synthesis_channels: int = 64
    synthesis_dilations: tuple[int, ...] = (1, 2, 4, 8, 1)
    context_channels: int = 96
    context_dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    head_channels: int = 64


class Residual(nn.Module):
    """x + 1x1(ReLU(1x3(x))); begins as the identity."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.spread = nn.Conv2d(
            channels, channels, (1, 3), padding=(0, dilation), dilation=(1, dilation)
        )
        self.narrow = nn.Conv2d(channels, channels, 1)
        begin_at_zero(self.narrow)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.narrow(torch.relu(self.spread(x)))


class Analysis(nn.Module):
    """Phases (N, 4, 1, T / 4) and levels (N, 1, 1, 1) to latents (N, channels, 1, T / 16)."""

    def __init__(self, config: SignalNetwork) -> None:
        super().__init__()
        latent, channels = sum(config.slices), config.analysis_channels
        cell = STRIDE // PHASES
        self.linear = nn.Conv2d(PHASES, latent, (1, cell), stride=(1, cell))
        self.enter = nn.Conv2d(PHASES, channels, (1, 5), padding=(0, 2))
        self.condition = nn.Conv2d(1, channels, 1, bias=False)
        self.blocks = nn.Sequential(*(Residual(channels, d) for d in config.analysis_dilations))
        self.leave = nn.Conv2d(channels, latent, (1, cell), stride=(1, cell))
        begin_at_zero(self.leave)

    def forward(self, phases: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        entered = torch.relu(self.enter(phases) + self.condition(level))
        return self.linear(phases) + self.leave(self.blocks(entered))


class Synthesis(nn.Module):
    """Latents (N, channels, 1, T / 16) and levels (N, 1, 1, 1) to phases (N, 4, 1, T / 4)."""

    def __init__(self, config: SignalNetwork) -> None:
        super().__init__()
        latent, channels = sum(config.slices), config.synthesis_channels
        cell = STRIDE // PHASES
        self.linear = nn.Conv2d(latent, STRIDE, 1)
        self.enter = nn.Conv2d(latent, cell * channels, (1, 3), padding=(0, 1))
        self.condition = nn.Conv2d(1, cell * channels, 1, bias=False)
        self.blocks = nn.Sequential(*(Residual(channels, d) for d in config.synthesis_dilations))
        self.leave = nn.Conv2d(channels, PHASES, (1, 3), padding=(0, 1))
        begin_at_zero(self.leave)

    def forward(self, latents: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        entered = self.enter(latents / REFERENCE_STEP) + self.condition(level)
        cells = self.blocks(torch.relu(_spread(entered)))
        return _spread(self.linear(latents)) + self.leave(cells)


def _spread(x: torch.Tensor) -> torch.Tensor:
    """(N, 4 C, 1, T) to (N, C, 1, 4 T): channel 4 c + j becomes place 4 t + j of channel c."""
    count, channels, _, steps = x.shape
    cell = STRIDE // PHASES
    parts = x.reshape(count, channels // cell, cell, steps).transpose(2, 3)
    return parts.reshape(count, channels // cell, 1, cell * steps)


class SignalCodecNetwork(nn.Module):
    """Analysis, quantization steps per quality level, context model, synthesis."""

    # They begin as a good transform, which a full learning rate would shake.
    slow_layers = ("analysis.linear.", "synthesis.linear.")

    def __init__(self, config: SignalNetwork) -> None:
        super().__init__()
        self.config = config
        self.analysis = Analysis(config)
        self.synthesis = Synthesis(config)
        self.context = SignalContext(
            config.slices,
            width=config.context_channels,
            head_width=config.head_channels,
            dilations=config.context_dilations,
        )
        levels = torch.linspace(0, 1, LEARNED_QUALITIES)
        steps = step_of_level(levels).log()
        self.log_steps = nn.Parameter(steps[:, None].repeat(1, sum(config.slices)))

    def steps(self, level: torch.Tensor) -> torch.Tensor:
        """Quantization steps (N, channels, 1, 1) of levels (N,) in [0, 1]."""
        return steps_at(self.log_steps, level)

    def forward(
        self, signal: torch.Tensor, level: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Restored signal (N, T) and the bits of every item (N,), differentiable.

        Rounding is straight-through for the distortion; the latents' part in the rate is that of
        uniform noise (Minnen and Singh 2020), the contexts' part that of the symbols.
        """
        plane = level[:, None, None, None]
        latents = self.analysis(folded(signal), plane)
        steps = self.steps(level)
        scaled = latents / steps
        symbols = scaled + (self.context.rounded(scaled, level) - scaled).detach()
        noisy = scaled + torch.rand_like(scaled) - 0.5
        bits = self.context(noisy, symbols.detach(), level)
        return unfolded(self.synthesis(symbols * steps, plane)), bits

    @torch.no_grad()
    def start_linear(self, signals: torch.Tensor) -> None:
        """Start from the principal components of 16 samples of signals (N, T) of deviation 1."""
        blocks = signals.reshape(-1, STRIDE).double()
        values, components = torch.linalg.eigh(blocks.T @ blocks / len(blocks))
        components = components.flip(1)
        components = components * torch.sign(components.sum(0) + 1e-9)
        forward, back = self.analysis.linear, self.synthesis.linear
        assert forward.bias is not None and back.bias is not None
        cell = STRIDE // PHASES
        # Sample 4 j + c of a block is place j of phase c.
        rows = components.T.float().reshape(STRIDE, cell, PHASES)
        forward.weight.copy_(rows.transpose(1, 2)[:, :, None])
        forward.bias.zero_()
        # Channel 4 c + j of the linear path is place j of phase c.
        columns = components.float().reshape(cell, PHASES, STRIDE).transpose(0, 1)
        back.weight.copy_(columns.reshape(STRIDE, STRIDE)[:, :, None, None])
        back.bias.zero_()
        level = torch.full((len(signals),), 0.5)
        plane = level[:, None, None, None]
        symbols = (self.analysis(folded(signals), plane) / self.steps(level)).round()
        self.context.start(symbols, level, math.log(STEP_RATIO))


def distortion(signal: torch.Tensor, restored: torch.Tensor) -> torch.Tensor:
    """Mean squared error of every item, (N,)."""
    return F.mse_loss(restored, signal, reduction="none").mean(1)
