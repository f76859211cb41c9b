"""The speech denoiser one hop at a time: what a stream runs.

`SpeechDenoiser.forward` is for training, over whole sequences; this computes the same of one hop.
It is the number of operators that a hop costs, more than their sizes. So all that the bands see is
one table with a row for every bin, and one product takes it in; what comes out of them, gains and
taps, is one product too, from which each bin picks its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from train.speech.complex_filter import ComplexFilter
from train.speech.network import Block, SpeechDenoiser

__all__ = ["SpeechHop"]

# Of a product with a conjugate (a + bi)(c - di) the factors from the left and the signs: real part
# ac + bd, imaginary part bc - ad.
_LEFT, _SIGNS = (0, 1, 1, 0), (1.0, 1.0, 1.0, -1.0)


class SpeechHop(nn.Module):
    """`SpeechDenoiser.forward` for one hop of one stream, with the states of `state_shapes`."""

    def __init__(self, network: SpeechDenoiser) -> None:
        super().__init__()
        config = network.config
        self.network = network
        filter_ = network.filter
        bands, channels = config.bands, config.channels
        # Of every bin: magnitudes of each frame, four values of phases.
        columns = config.frames + (4 if filter_ is not None else 0)
        with torch.no_grad():
            encoder = torch.zeros(bands, config.span_bins, columns, channels)
            encoder[:, :, : config.frames] = network.encoder.view(
                bands, config.span_bins, config.frames, channels
            )
            decoder, bias = network.gain_weights()
            if filter_ is not None:
                phases = filter_.encoder.view(filter_.bands, config.span_bins, 4, channels)
                encoder[: filter_.bands, :, config.frames :] = phases
                taps = functional.pad(filter_.decoder, (0, 0, 0, 0, 0, bands - filter_.bands))
                decoder = torch.cat((decoder, taps), dim=2)
                bias = functional.pad(bias, (0, taps.shape[2]))
        self.encoder = nn.Parameter(encoder.flatten(1, 2))
        self.decoder, self.decoder_bias = nn.Parameter(decoder), nn.Parameter(bias)
        # Of a band: weights of its bins, a gate, numbers of taps.
        widest = network.decoder.shape[2] - 1
        self.sizes = [widest, 1]
        if filter_ is not None:
            self.sizes.append(decoder.shape[2] - widest - 1)
        self.blocks = nn.ModuleList(_Block(block) for block in network.blocks)  # type: ignore[arg-type]
        self.taps = _Taps(filter_, config.bins) if filter_ is not None else None

    def forward(self, spectrum: torch.Tensor, *states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """One hop of one stream.

        Args:
            spectrum: float32 (1, 2, bins), unscaled.
            states: float32, of the shapes that the manifest's stream section gives them.

        Returns:
            The clean spectrum, likewise, and the next states.
        """
        network, config = self.network, self.network.config
        given = dict(zip(network.state_shapes(), states, strict=True))
        following = {}
        x = spectrum[0]
        power = x.square().mean(dim=(0, 1), keepdim=True)
        latest = torch.cat((power, torch.ones_like(power)), dim=1)
        following["level"] = config.level_decay * given["level"] + latest
        total, weight = following["level"].chunk(2, dim=1)
        scale = torch.sqrt(total / weight + 1e-7)
        table = [network.magnitudes(x / scale, dim=0).view(-1, 1)]
        if config.frames > 1:
            table.insert(0, given["features"])
        if self.taps is not None:
            near = self.taps.near(x, given["spectra"])
            following["spectra"] = near[: len(given["spectra"])]
            table.append(self.taps.phases(near / scale))
        seen = torch.cat(table, dim=1)
        if config.frames > 1:
            following["features"] = seen[:, 1 : config.frames]
        seen = seen.index_select(0, network.span).view(config.bands, 1, -1)
        z = (torch.matmul(seen, self.encoder) + network.encoder_bias).view(config.bands, -1)
        for i, block in enumerate(self.blocks):
            names = [name for name in (f"memory{i}", f"wide{i}") if name in given]
            z, *later = block(z, *(given[name] for name in names))
            following |= zip(names, later, strict=True)
        z = network.decoder_norm(z)[:, None]
        found = torch.matmul(z, self.decoder) + self.decoder_bias
        weights, gate, *numbers = found.split(self.sizes, dim=2)
        gain = network.gain(weights, gate).view(-1).index_select(0, network.place)
        if self.taps is not None:
            x = x + self.taps(*numbers, near)
        clean = (x * gain)[None]
        return clean, *(following[name] for name in network.state_shapes())


class _Block(nn.Module):
    """A block of the network for one hop."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block
        self.sizes = 3 * [block.time_out.in_features]
        weight, bias = block.time_in.weight.detach(), block.time_in.bias.detach()
        if block.wide is not None:
            # Both memories see the same, which one product takes in.
            squeeze = block.wide.squeeze.weight.detach()
            weight, bias = torch.cat((weight, squeeze)), functional.pad(bias, (0, len(squeeze)))
            self.sizes.append(len(squeeze))
        self.enter_weight, self.enter_bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x: torch.Tensor, *starts: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """x (bands, channels) and the memories after the hop, from those before it: (bands, memory)
        and, with a wide memory, (1, wide)."""
        block, wide = self.block, self.block.wide
        entered = functional.linear(block.time_norm(x), self.enter_weight, self.enter_bias)
        parts = entered.split(self.sizes, dim=-1)
        last, shown = _remembered(parts[:3], starts[0], block.forgetting)
        following = [last]
        x = x + block.time_out(shown)
        if wide is not None:
            parts = wide.enter(parts[3].reshape(1, -1)).chunk(3, dim=-1)
            last, shown = _remembered(parts, starts[1], block.forgetting)
            following.append(last)
            x = torch.addmm(x, wide.leave(shown).view(len(x), -1), wide.spread.weight.T)
        entered = block.band_in(block.band_norm(x))
        mixed = torch.addmm(block.band_bias[:, 0, 0], block.band_mix, entered)
        return x + block.band_out(torch.relu(mixed)), *following


def _remembered(
    projected: Sequence[torch.Tensor], start: torch.Tensor, forgetting: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """One frame of `gated_memory`: what is held and what is shown, each (rows, memory), of keep,
    candidate and expose."""
    keep, candidate, expose = projected
    if forgetting:
        start = start * (1 - forgetting)
    last = candidate + torch.sigmoid(keep) * (start - candidate)
    return last, last * torch.sigmoid(expose)


class _Taps(nn.Module):
    """A `ComplexFilter` of one hop: what phases say, and what the taps add to the lowest bins."""

    left: torch.Tensor
    right: torch.Tensor
    signs: torch.Tensor
    middles: torch.Tensor
    place: torch.Tensor
    rows: torch.Tensor
    turn: torch.Tensor
    nothing_below: torch.Tensor
    nothing_above: torch.Tensor
    no_phases: torch.Tensor

    def __init__(self, filter_: ComplexFilter, bins: int) -> None:
        super().__init__()
        self.frames, self.bins, self.seen_bins = filter_.frames, filter_.bins, filter_.seen_bins
        self.count = filter_.taps
        # In `near` the bin itself is first, a frame ago next, the bin below after all frames.
        before, below = 2, 2 * self.frames
        self.register_buffer("left", torch.tensor(2 * _LEFT))
        self.register_buffer(
            "right", torch.tensor([at + part for at in (before, below) for part in (0, 1, 0, 1)])
        )
        self.register_buffer("signs", torch.tensor(2 * _SIGNS)[:, None])
        middles = torch.stack((filter_.turns, torch.full_like(filter_.turns, -1.0)))
        self.register_buffer("middles", middles[:, None])
        self.register_buffer("nothing_below", torch.zeros(2, 1))
        self.register_buffer("no_phases", torch.zeros(bins - self.seen_bins, 4))
        self.register_buffer("nothing_above", torch.zeros(2, bins - self.bins))
        self.register_buffer("place", filter_.place)
        # Of each tap the real part of what it adds, re re - im im, then the imaginary one.
        rows = torch.tensor(
            [(2 * tap, 2 * tap + 1, 2 * tap + 1, 2 * tap) for tap in range(self.count)]
        )
        self.register_buffer("rows", rows.flatten())
        self.register_buffer(
            "turn", torch.tensor([1.0, -1.0, 1.0, 1.0]).repeat(self.count)[:, None]
        )

    def near(self, x: torch.Tensor, spectra: torch.Tensor) -> torch.Tensor:
        """What is heard around the lowest bins, real and imaginary parts in turn, (rows, seen
        bins): this frame's x (2, bins), those before it, this one's bins below and above."""
        below = torch.cat((self.nothing_below, x[:, : self.seen_bins - 1]), dim=1)
        above = x[:, 1 : self.seen_bins + 1]
        return torch.cat((x[:, : self.seen_bins], spectra, below, above))

    def phases(self, near: torch.Tensor) -> torch.Tensor:
        """What `ComplexFilter.heard` sees of phases, (bins, 4), zero where it sees none."""
        products = near.index_select(0, self.left) * self.signs * near.index_select(0, self.right)
        parts = products.view(2, 2, 2, -1).sum(2)
        size = self.middles * (parts.square().sum(1, keepdim=True) + 1e-6) ** -0.35
        return torch.cat(((parts * size).view(4, -1).T, self.no_phases))

    def forward(self, numbers: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
        """What taps of these numbers (bands, 1, 2 * taps * width) add to all bins, (2, bins)."""
        numbers = numbers.view(len(numbers), 2 * self.count, -1).transpose(0, 1)
        weights = torch.tanh(numbers.reshape(2 * self.count, -1).index_select(1, self.place))
        weights = (weights.index_select(0, self.rows) * self.turn).view(self.count, 2, 2, -1)
        heard = near[:, : self.bins].reshape(self.count, 1, 2, -1)
        return torch.cat(((weights * heard).sum((0, 2)), self.nothing_above), dim=1)
