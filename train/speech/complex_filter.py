"""Deep filtering (arXiv 2205.05474) of a spectrum's lowest bins: a few complex taps on each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from train.speech.network import SpeechNetwork

__all__ = ["ComplexFilter"]


class ComplexFilter(nn.Module):
    """A few complex taps on each of the lowest bins, and what the network sees of their phases.

    Both begin as nothing: the taps' weights and those of what is seen are zero at first, so that a
    network without them is where one with them starts.
    """

    place: torch.Tensor
    turns: torch.Tensor

    def __init__(self, config: SpeechNetwork) -> None:
        super().__init__()
        self.bands, self.frames = config.filter_bands, config.filter_frames
        self.bins, self.seen_bins = config.filtered_bins, config.seen_bins
        self.span_bins = config.span_bins
        widths = config.widths[: self.bands]
        self.width = max(widths)
        # Of each bin the product with itself a frame ago and with the bin below: real, imaginary.
        seen = 4 * config.span_bins
        self.encoder = nn.Parameter(torch.zeros(self.bands, seen, config.channels))
        # On the bin itself in every frame, then on the bins below and above.
        self.taps = self.frames + 2
        self.decoder = nn.Parameter(
            torch.zeros(self.bands, config.channels, 2 * self.taps * self.width)
        )
        place = [i * self.width + j for i, width in enumerate(widths) for j in range(width)]
        self.register_buffer("place", torch.tensor(place), persistent=False)
        # What a tone in the middle of a bin turns by from frame to frame, half a window further: by
        # pi with every bin. From bin to bin a sound in the middle of the window turns by pi too.
        turns = 1.0 - 2.0 * (torch.arange(self.seen_bins) % 2)
        self.register_buffer("turns", turns, persistent=False)

    def heard(
        self, z: torch.Tensor, x: torch.Tensor, level: torch.Tensor, span: torch.Tensor
    ) -> torch.Tensor:
        """z (bands, time, batch, channels) with what the phases of x (bins, time, batch, 2) add."""
        _, time, batch, channels = z.shape
        with torch.no_grad():
            low, scale = x[: self.seen_bins], torch.sqrt(level + 1e-7)
            before = functional.pad(low, (0, 0, 0, 0, 1, 0))[:, :-1] / scale
            low = low / scale
            turns = self.turns.view(-1, 1, 1)
            products = _phases(low[..., 0], low[..., 1], before[..., 0], before[..., 1], turns)
            seen = torch.stack(products, dim=1)
            seen = seen.index_select(0, span[: self.bands * self.span_bins])
            seen = seen.view(self.bands, 4 * self.span_bins, time * batch).transpose(1, 2)
        added = torch.bmm(seen, self.encoder).view(self.bands, time, batch, channels)
        return torch.cat((z[: self.bands] + added, z[self.bands :]))

    def forward(
        self, z: torch.Tensor, x: torch.Tensor, norm: nn.LayerNorm | None = None
    ) -> torch.Tensor:
        """x (bins, time, batch, 2), its lowest bins filtered by what z (bands, time * batch,
        channels) says, to which `norm`, if any, is still to give its scale and shift."""
        _, time, batch, _ = x.shape
        scale = norm.weight[:, None] if norm is not None else 1.0
        shift = norm.bias[:, None] if norm is not None else 0.0
        # Frames stay innermost throughout, as in x: nothing has to be transposed.
        decoder, bias = scale * self.decoder, (shift * self.decoder).sum(1)[..., None]
        weights = torch.baddbmm(bias, decoder.transpose(1, 2), z[: self.bands].transpose(1, 2))
        weights = weights.view(self.bands, 2 * self.taps, self.width, time * batch)
        weights = weights.transpose(0, 1).reshape(2 * self.taps, -1, time * batch).to(x.dtype)
        weights = torch.tanh(weights.index_select(1, self.place))
        weights = weights.view(2 * self.taps, self.bins, time, batch)
        low = x[: self.bins]
        late = functional.pad(low, (0, 0, 0, 0, self.frames - 1, 0))
        taps = [late[:, self.frames - 1 - i :][:, :time] for i in range(self.frames)]
        taps += [functional.pad(low, (0, 0, 0, 0, 0, 0, 1, 0))[:-1], x[1 : self.bins + 1]]
        heard_real, heard_imaginary = torch.stack(taps).unbind(-1)
        turn_real, turn_imaginary = weights[0::2], weights[1::2]
        real, imaginary = low.unbind(-1)
        real = real + (turn_real * heard_real - turn_imaginary * heard_imaginary).sum(0)
        imaginary = imaginary + (turn_real * heard_imaginary + turn_imaginary * heard_real).sum(0)
        return torch.cat((torch.stack((real, imaginary), dim=-1), x[self.bins :]))


def _phases(
    real: torch.Tensor,
    imaginary: torch.Tensor,
    real_before: torch.Tensor,
    imaginary_before: torch.Tensor,
    turns: torch.Tensor,
) -> tuple[torch.Tensor, ...]:
    """How phases go on, each shaped as `real` (bins, ...): real and imaginary part of every bin's
    product with itself a frame ago, and of that with the bin below, where a tone in the middle of a
    bin and a sound in the middle of the window have real ones; compressed as magnitudes are."""
    below = torch.cat((torch.zeros_like(real[:1]), real[:-1]))
    imaginary_below = torch.cat((torch.zeros_like(real[:1]), imaginary[:-1]))
    found = []
    for sign, a, b in (
        (turns, real_before, imaginary_before),
        (-1.0, below, imaginary_below),
    ):
        both, crossed = real * a + imaginary * b, imaginary * a - real * b
        size = sign * (both.square() + crossed.square() + 1e-6) ** -0.35
        found += [both * size, crossed * size]
    return tuple(found)
