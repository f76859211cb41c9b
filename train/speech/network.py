"""The speech denoiser: noisy spectra in, clean spectra out, nothing of later frames needed.

The network sees magnitudes and gives every bin a gain. In the lowest bands, where the harmonics of
voices lie, it may also see how phases go on from frame to frame and from bin to bin, and filter
each bin with a few complex taps ahead of its gain (deep filtering, arXiv 2205.05474): a gain alone
leaves the noise's phase. Absolute phases, when it saw them, it learnt to make nothing of.

It works on about thirty frequency bands that are narrow where voices have their harmonics. Its
memory over time is linear given its gates (h <- a h + (1 - a) c, a and c from the current input
only, as in minGRU, arXiv 2410.01201), so that a whole sequence costs one cheap pass instead of a
recurrent matrix product per frame; dense mixing across bands sits between the memories. Every
operator is a wide matrix product, which is what small devices run best.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from train.speech.complex_filter import ComplexFilter
from train.speech.recurrence import recur, running_mean

SAMPLE_RATE_HZ = 16_000


@dataclass(frozen=True)
class SpeechNetwork:
    """The shape of a `SpeechDenoiser`.

    `band_widths` and `band_counts` say how many bands of how many bins, from the lowest up; they
    cover all bins but the last (Nyquist). Each band sees the `span_bins` bins around its center
    over the last `frames` frames. There are as many blocks as entries in `wide`. Each remembers
    `memory` values per band, with one set of weights for all bands, and those where `wide` is not 0
    so many values of all bands together, which see `squeeze` values of each. Of what a memory
    keeps, the share `forgetting` is lost with every hop, so that hours of steady noise cannot carry
    it to where no training segment has been. The lowest `filter_bands` bands, if any, have complex
    taps: on the bin itself in the last `filter_frames` frames, and on its two neighbours. Bins
    below `lowest_bin` are silenced: noise there costs much and is not heard.
    """

    window_samples: int = 512
    hop_samples: int = 256
    band_widths: tuple[int, ...] = (4, 8, 16)
    band_counts: tuple[int, ...] = (16, 8, 8)
    span_bins: int = 20
    frames: int = 2
    channels: int = 48
    memory: int = 48
    hidden: int = 64
    wide: tuple[int, ...] = (0, 0, 0)
    squeeze: int = 6
    forgetting: float = 0.0
    level_decay: float = 0.99
    filter_bands: int = 0
    filter_frames: int = 3
    lowest_bin: int = 0

    def __post_init__(self) -> None:
        bins = self.window_samples // 2
        if len(self.band_widths) != len(self.band_counts):
            raise ValueError(
                f"band_widths and band_counts have {len(self.band_widths)} and "
                f"{len(self.band_counts)} entries, expected as many"
            )
        covered = sum(w * c for w, c in zip(self.band_widths, self.band_counts, strict=True))
        if covered != bins:
            raise ValueError(f"the bands cover {covered} bins, expected {bins}")
        if self.span_bins < max(self.band_widths):
            raise ValueError(f"span_bins is {self.span_bins}, below the widest band")
        if self.window_samples != 2 * self.hop_samples:
            raise ValueError(
                f"hop_samples is {self.hop_samples}, expected {self.window_samples // 2}: windows "
                "overlap by half"
            )
        if min(self.frames, self.channels, self.memory, self.hidden) < 1:
            raise ValueError(
                "one of frames, channels, memory and hidden is below 1, expected at least 1"
            )
        if not self.wide or min(self.wide) < 0 or self.squeeze < 1:
            raise ValueError("wide needs an entry of at least 0 per block, squeeze at least 1")
        if not 0.0 <= self.forgetting < 1.0:
            raise ValueError(f"forgetting is {self.forgetting}, expected at least 0 and below 1")
        if not 0.0 < self.level_decay < 1.0:
            raise ValueError(f"level_decay is {self.level_decay}, expected above 0 and below 1")
        if not 0 <= self.filter_bands < self.bands or self.filter_frames < 2:
            raise ValueError(
                f"filter_bands is {self.filter_bands} and filter_frames {self.filter_frames}, "
                f"expected 0 to {self.bands - 1} and at least 2"
            )
        if not 0 <= self.lowest_bin < self.band_widths[0]:
            raise ValueError(
                f"lowest_bin is {self.lowest_bin}, expected 0 to {self.band_widths[0] - 1}, within "
                "the first band"
            )

    @property
    def widths(self) -> list[int]:
        """The number of bins of each band, from the lowest up."""
        counted = zip(self.band_widths, self.band_counts, strict=True)
        return [width for width, count in counted for _ in range(count)]

    @property
    def filtered_bins(self) -> int:
        """The number of bins, from the lowest up, that have complex taps."""
        return sum(self.widths[: self.filter_bands])

    @property
    def seen_bins(self) -> int:
        """The number of bins, from the lowest up, whose phases bands with taps see."""
        return self.filtered_bins + self.span_bins if self.filter_bands else 0

    @property
    def bins(self) -> int:
        """The number of frequency bins of a spectrum."""
        return self.window_samples // 2 + 1

    @property
    def bands(self) -> int:
        """The number of bands."""
        return sum(self.band_counts)


class _GatedMemory(torch.autograd.Function):
    """What `gated_memory` says, with its derivative: the same recurrence run backwards.

    Written out, because autograd would record several small operators per frame.
    """

    @staticmethod
    def forward(
        ctx: Any, projected: torch.Tensor, start: torch.Tensor, retained: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        keep, candidate, expose = projected.chunk(3, dim=-1)
        # Copies, because torch's sigmoid is several times slower on strided input.
        gate, candidate, expose = (
            part.to(start.dtype).contiguous() for part in (keep, candidate, expose)
        )
        gate.sigmoid_()
        expose.sigmoid_()
        memory = candidate - candidate * gate
        recur(memory, gate, start, retained)
        last = memory[:, -1].clone()
        ctx.save_for_backward(gate, candidate, expose, memory, start)
        ctx.dtype, ctx.retained = projected.dtype, retained
        ctx.mark_non_differentiable(last)
        return (memory * expose).to(projected.dtype), last

    @staticmethod
    def backward(
        ctx: Any, grad: torch.Tensor, _: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, None]:
        gate, candidate, expose, memory, start = ctx.saved_tensors
        out = gate.new_empty(*gate.shape[:-1], 3 * gate.shape[-1], dtype=ctx.dtype)
        grad_keep, grad_candidate, grad_expose = out.chunk(3, dim=-1)
        flow = grad.to(start.dtype) * expose
        grad_expose.copy_((flow * memory).mul_(1 - expose))
        # flow[t] += retained gate[t + 1] flow[t + 1], from the last frame to the first.
        recur(flow[:, :-1], gate[:, 1:], flow[:, -1], ctx.retained, backwards=True)
        kept = flow * gate
        taken = flow - kept
        grad_candidate.copy_(taken)
        difference = candidate.neg()
        difference[:, 1:].add_(memory[:, :-1], alpha=ctx.retained)
        difference[:, 0].add_(start, alpha=ctx.retained)
        grad_keep.copy_(difference.mul_(taken).mul_(gate))
        return out, kept[:, 0] * ctx.retained, None


def gated_memory(
    projected: torch.Tensor, start: torch.Tensor, forgetting: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """What a gated memory shows after each frame, and what it holds after the last.

    h[t] = (1 - forgetting) a h[t-1] + (1 - a) candidate[t] with a = sigmoid(keep[t]); shown is
    h[t] sigmoid(expose[t]).

    Args:
        projected: keep, candidate and expose, float32 (bands, time, batch, 3 * memory).
        start: the memory before the first frame, float32 (bands, batch, memory).
        forgetting: 0 to below 1.

    Returns:
        float32 (bands, time, batch, memory) and (bands, batch, memory).
    """
    shown, last = _GatedMemory.apply(projected, start, 1 - forgetting)
    return shown, last


class _WideMemory(nn.Module):
    """A gated memory that sees a few values of every band at once; it begins by adding nothing.

    One matrix for all bands cannot tell a kettle from a voice: what a band should do depends on the
    pattern of all others, and that pattern on time.
    """

    def __init__(self, config: SpeechNetwork, wide: int) -> None:
        super().__init__()
        seen = config.bands * config.squeeze
        self.forgetting = config.forgetting
        self.squeeze = nn.Linear(config.channels, config.squeeze, bias=False)
        self.enter = nn.Linear(seen, 3 * wide)
        self.leave = nn.Linear(wide, seen)
        self.spread = nn.Linear(config.squeeze, config.channels, bias=False)
        with torch.no_grad():
            self.enter.bias[:wide] = torch.linspace(0.0, 5.0, wide)
            # What it hears must not be small, or the zeros below take too long to become something.
            self.leave.weight *= 8.0
            self.spread.weight.zero_()

    def forward(
        self, x: torch.Tensor, normal: torch.Tensor, norm: nn.LayerNorm, start: torch.Tensor
    ) -> torch.Tensor:
        """x (bands, time, batch, channels) with what is added to it, from `normal`, shaped as x, to
        which `norm` is still to give its scale and shift, and start (1, batch, wide)."""
        bands, time, batch, _ = x.shape
        seen = functional.linear(normal, *_after(norm, self.squeeze))
        seen = seen.permute(1, 2, 0, 3).reshape(1, time, batch, -1)
        shown, _ = gated_memory(self.enter(seen), start, self.forgetting)
        heard = self.leave(shown).view(time, batch, bands, -1).permute(2, 0, 1, 3)
        return x + self.spread(heard)


class Block(nn.Module):
    """Memory over time, then mixing across bands; both are added to their input."""

    def __init__(self, config: SpeechNetwork, wide: int) -> None:
        super().__init__()
        channels, memory, hidden = config.channels, config.memory, config.hidden
        self.forgetting = config.forgetting
        self.time_norm = nn.LayerNorm(channels)
        self.time_in = nn.Linear(channels, 3 * memory)
        self.time_out = nn.Linear(memory, channels)
        self.wide = _WideMemory(config, wide) if wide else None
        self.band_norm = nn.LayerNorm(channels)
        self.band_in = nn.Linear(channels, hidden)
        self.band_mix = nn.Parameter(torch.eye(config.bands) + 0.1 * _orthogonal(config.bands))
        self.band_bias = nn.Parameter(torch.zeros(config.bands, 1, 1, hidden))
        self.band_out = nn.Linear(hidden, channels)
        with torch.no_grad():
            # Memories from 2 frames to about 2 s, so that every time scale is there from the start.
            self.time_in.bias[:memory] = torch.linspace(0.0, 5.0, memory)
            self.time_out.weight *= 0.5
            self.band_out.weight *= 0.5

    def forward(self, x: torch.Tensor, *starts: torch.Tensor) -> torch.Tensor:
        """x (bands, time, batch, channels), from the memories at its start.

        Those are (bands, batch, memory) and, with a wide memory, (1, batch, wide).
        """
        normal = _normal(x)
        projected = functional.linear(normal, *_after(self.time_norm, self.time_in))
        shown, _ = gated_memory(projected, starts[0], self.forgetting)
        x = x + self.time_out(shown)
        if self.wide is not None:
            x = self.wide(x, normal, self.time_norm, starts[1])
        entered = functional.linear(_normal(x), *_after(self.band_norm, self.band_in))
        mixed = torch.matmul(self.band_mix, entered.flatten(1)).view(entered.shape)
        return x + self.band_out(functional.relu(mixed + self.band_bias.to(mixed.dtype)))


def _normal(x: torch.Tensor) -> torch.Tensor:
    """x (..., channels) with mean 0 and variance 1 over its channels, in its own precision: sums
    are float32 inside whatever that is."""
    with torch.autocast(x.device.type, enabled=False):
        return functional.layer_norm(x, x.shape[-1:])


def _after(norm: nn.LayerNorm, layer: nn.Linear) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of a layer that is to see what `norm` makes of what `_normal` gives: scaling
    and shifting a few channels costs a pass over every frame, and the gradient of it another."""
    with torch.autocast(layer.weight.device.type, enabled=False):
        bias = layer.weight @ norm.bias
        if layer.bias is not None:
            bias = bias + layer.bias
        return layer.weight * norm.weight, bias


def _orthogonal(size: int) -> torch.Tensor:
    return nn.init.orthogonal_(torch.empty(size, size))


class SpeechDenoiser(nn.Module):
    """A causal speech denoiser on spectra of overlapping windows.

    `forward` takes whole sequences; `train.speech.hop.SpeechHop` computes the same hop by hop.
    """

    span: torch.Tensor
    place: torch.Tensor
    heard: torch.Tensor

    def __init__(self, config: SpeechNetwork) -> None:
        super().__init__()
        self.config = config
        bands, channels = config.bands, config.channels
        widths = config.widths
        starts = [sum(widths[:i]) for i in range(bands)]
        widest = max(widths)
        span: list[int] = []
        place: list[int] = []
        for i, (start, width) in enumerate(zip(starts, widths, strict=True)):
            first = start + width // 2 - config.span_bins // 2
            first = min(max(first, 0), config.bins - config.span_bins)
            span += range(first, first + config.span_bins)
            place += range(i * widest, i * widest + width)
        # The Nyquist bin shares the weights of the bin below.
        place.append(place[-1])
        self.register_buffer("span", torch.tensor(span), persistent=False)
        self.register_buffer("place", torch.tensor(place), persistent=False)
        seen = config.frames * config.span_bins
        self.encoder = nn.Parameter(torch.randn(bands, seen, channels) / seen**0.5)
        self.encoder_bias = nn.Parameter(0.1 * torch.randn(bands, 1, channels))
        self.blocks = nn.ModuleList(Block(config, wide) for wide in config.wide)
        self.decoder_norm = nn.LayerNorm(channels)
        # For each band the weights of its bins and, last, its gate, which closes further than they.
        self.decoder = nn.Parameter(0.3 * torch.randn(bands, channels, widest + 1) / channels**0.5)
        self.decoder_bias = nn.Parameter(torch.full((bands, 1, widest + 1), 0.4))
        heard = torch.ones(bands, 1, widest + 1)
        heard[0, :, : config.lowest_bin] = 0.0
        self.register_buffer("heard", heard, persistent=False)
        with torch.no_grad():
            # Begin with a gain near 0.6.
            self.decoder[..., -1] = 0.0
            self.decoder_bias[..., -1] = 3.0
        self.filter = ComplexFilter(config) if config.filter_bands else None

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of what one stream carries between hops; all begin at zero."""
        config = self.config
        shapes: dict[str, tuple[int, ...]] = {"level": (1, 2)}
        if config.frames > 1:
            shapes["features"] = (config.bins, config.frames - 1)
        if config.filter_bands:
            shapes["spectra"] = (2 * (config.filter_frames - 1), config.seen_bins)
        for i, wide in enumerate(config.wide):
            shapes[f"memory{i}"] = (config.bands, config.memory)
            if wide:
                shapes[f"wide{i}"] = (1, wide)
        return shapes

    def forward(self, spectrum: torch.Tensor) -> torch.Tensor:
        """Clean spectra from noisy ones, each row from a fresh state.

        Args:
            spectrum: float32 (batch, 2, time, bins) of real and imaginary parts, unscaled.

        Returns:
            float32 of the same shape.
        """
        config = self.config
        batch, _, time, _ = spectrum.shape
        x = spectrum.permute(3, 2, 0, 1).contiguous()
        with torch.no_grad():
            level = self._level(x)
            # Divided before it is squared, so that a quiet hop keeps its precision in half
            # precision.
            magnitudes = self.magnitudes(x / torch.sqrt(level + 1e-7), dim=-1)
            features = _with_past(magnitudes, config.frames)
            # (bands * span, frames, time, batch) -> (bands, time * batch, span * frames)
            seen = features.index_select(0, self.span)
            seen = seen.view(config.bands, -1, time * batch).transpose(1, 2)
        z = torch.baddbmm(self.encoder_bias, seen, self.encoder)
        z = z.view(config.bands, time, batch, config.channels)
        if self.filter is not None:
            z = self.filter.heard(z, x, level, self.span)
        start = z.new_zeros(config.bands, batch, config.memory, dtype=torch.float32)
        for block, wide in zip(self.blocks, config.wide, strict=True):
            z = block(z, start, z.new_zeros(1, batch, wide, dtype=torch.float32))
        z = _normal(z).view(config.bands, time * batch, config.channels)
        if self.filter is not None:
            x = self.filter(z, x, self.decoder_norm)
        scale, shift = self.decoder_norm.weight[:, None], self.decoder_norm.bias[:, None]
        decoder, bias = self.gain_weights()
        bias = bias + (shift * decoder).sum(1, keepdim=True)
        found = torch.baddbmm(bias, z, scale * decoder).to(x.dtype)
        gain = self.gain(found[..., :-1], found[..., -1:])
        # (bands, time * batch, bin) -> (bins, time, batch, 1)
        gain = gain.transpose(1, 2).reshape(-1, time, batch, 1).index_select(0, self.place)
        return (x * gain).permute(2, 3, 1, 0)

    def _level(self, x: torch.Tensor) -> torch.Tensor:
        """The running mean square, (time, batch, 1), of x (bins, time, batch, 2)."""
        return running_mean(x.square().mean(dim=(0, 3)), self.config.level_decay)[..., None]

    def gain_weights(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights and biases of all bands' gains, (bands, channels, n + 1) and (bands, 1, n + 1):
        zero, so that the gains are, below the lowest bin."""
        return self.decoder * self.heard, self.decoder_bias * self.heard

    @staticmethod
    def magnitudes(x: torch.Tensor, dim: int) -> torch.Tensor:
        """Magnitudes to the power 0.3 of x over its level, parts along `dim`, which goes.

        The floor is that of a recording at -95 dB of full scale.
        """
        return (x.square().sum(dim=dim) + 1e-6) ** 0.15

    @staticmethod
    def gain(weights: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        """Gains below 1.6 from weights and gates of shapes that go together."""
        return 1.575 * torch.tanh(weights) * torch.sigmoid(gate)


def _with_past(x: torch.Tensor, frames: int) -> torch.Tensor:
    """Each frame of x (bins, time, batch) with those before it, oldest first, in the second
    dimension of (bins, frames, time, batch)."""
    padded = functional.pad(x, (0, 0, frames - 1, 0))
    return torch.stack([padded[:, i : i + x.shape[1]] for i in range(frames)], dim=1)
