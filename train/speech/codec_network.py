"""The speech codec: a harmonic and a noisy source that a coded envelope shapes, frame by frame.

60 bits a frame of 20 ms do not pay for a waveform. So the decoder is given a source whose harmonics
are continuous by construction, a pulse train of the coded pitch, and noise, and works out what
shapes them in each of two windows of 20 ms: a gain for every bin of either. Such a model speaks
after minutes of spectral loss, where one that must learn to keep phases going needs days and an
adversary; and all of it is matrix products at 50 frames a second.

But gains alone, were they sent unquantized, make no more than PESQ 2.1 (four clips), and with the
original below 600 Hz 3.1: there an ear tells single harmonics apart. So below 1200 Hz the bins
themselves are coded, seen by the phases of the pulses, by which harmonics stand still.

- Encoder: powers of two windows of 20 ms and one of 32 ms, correlations at 128 pitches, the level,
  the lowest bins; one layer, blocks of gated memory and a hidden layer each, beside them a linear
  path of the lowest bins, which begins as their principal components; 56 latents.
- Pitch: the best of 128, tracked, held where nothing is periodic; a symbol like others.
- Quantization: rounded to steps that each level and channel learns. Levels 0 to 64 aim at 1.5 to
  9 kbit/s in the loss, so that one network has every rate.
- Contexts: `train.speech.codec_context`, in integers.
- Decoder: latents, pitch, level and whether the frame was lost; blocks and a linear path as above,
  which begins as the encoder's turned round. Losses in bursts
  are part of training: the state goes on without latents, the pitch stays.
- Delay: 20 ms of a frame, 20 ms until the second window is complete and the encoder has seen 10 ms
  beyond it: 40 ms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from train.entropy_model import steps_at
from train.speech.codec_context import SpeechContext
from train.speech.codec_signal import (
    BINS,
    CANDIDATES,
    FINE,
    FINE_BINS,
    FRAME_SAMPLES,
    HEARD,
    HOP_SAMPLES,
    UNIT_FLOOR,
    WINDOW_SAMPLES,
    bridged,
    fine_structure,
    heard,
    held,
    pulses,
    tracked,
)
from train.speech.discriminator import Discriminator
from train.speech.loss import audio_of, spectrum_of
from train.speech.network import gated_memory

__all__ = ["DELAY_SAMPLES", "SpeechCodec", "SpeechCodecNetwork", "target_bits"]

# Output n of `SpeechCodec.forward` is input n less this.
DELAY_SAMPLES = FRAME_SAMPLES
LEARNED_LEVELS = 9
# Bits a frame that the coarsest level aims at, and how many times as many the finest: 1.5 and 9
# kbit/s.
COARSEST_BITS, BITS_RATIO = 30.0, 6.0
# Steps that levels begin with; the logistic prior begins at a scale of 1 step.
COARSEST_STEP, STEP_RATIO = 1.5, 8.0
# How large latents of the lowest bins begin against what they stand for, and how much larger than
# usual the others do.
_FIRST_FINE, _FIRST_LATENTS = 0.35, 3.0
# Powers below this count as silence: 95 dB under a tone of full scale.
FLOOR = 1e-6
# Bounds of logarithms of gains: nothing the decoder is told may overflow.
LEAST_GAIN, MOST_GAIN = -16.0, 6.0


def target_bits(level: torch.Tensor) -> torch.Tensor:
    """Bits a frame that levels in [0, 1] aim at."""
    return COARSEST_BITS * BITS_RATIO**level


@dataclass(frozen=True)
class SpeechCodecNetwork:
    """Sizes of a `SpeechCodec`.

    `slices` are the groups in which a frame's symbols are coded, the pitch being the first alone.
    Blocks are as many as `encoder_blocks` and `decoder_blocks`, each with a memory as wide as the
    half they are in and a hidden layer `expansion` times as wide. `free_bins` are those of 50 Hz,
    from the lowest, where harmonics may turn and something of its own is added, at least
    `FINE_BINS`. Without `discriminator_channels` there is no adversary.
    """

    slices: tuple[int, ...] = (1, 20, 36)
    encoder_channels: int = 128
    encoder_blocks: int = 2
    decoder_channels: int = 192
    decoder_blocks: int = 3
    expansion: int = 2
    free_bins: int = FINE_BINS
    context_channels: int = 64
    context_dilations: tuple[int, ...] = (1, 2, 4, 8)
    head_channels: int = 64
    discriminator_channels: int = 0

    def __post_init__(self) -> None:
        if len(self.slices) < 2 or self.slices[0] != 1 or min(self.slices) < 1:
            raise ValueError(f"slices are {self.slices}, expected 1, the pitch, and others")
        sizes = (self.encoder_channels, self.decoder_channels, self.expansion, self.head_channels)
        if min(*sizes, self.encoder_blocks, self.decoder_blocks, self.context_channels) < 1:
            raise ValueError("a size is below 1, expected at least 1")
        if not FINE_BINS <= self.free_bins <= BINS:
            raise ValueError(f"free_bins is {self.free_bins}, expected {FINE_BINS} to {BINS}")

    @property
    def latents(self) -> int:
        """Latent channels, without the pitch."""
        return sum(self.slices) - 1


class Block(nn.Module):
    """Memory over time, then a hidden layer; both are added to their input."""

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        self.time_norm = nn.LayerNorm(channels)
        self.time_in = nn.Linear(channels, 3 * channels)
        self.time_out = nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels)
        self.enter = nn.Linear(channels, expansion * channels)
        self.leave = nn.Linear(expansion * channels, channels)
        with torch.no_grad():
            # Memories of 1 frame to about a second, so that every time scale is there.
            self.time_in.bias[:channels] = torch.linspace(-1.0, 4.0, channels)
            self.time_out.weight *= 0.5
            self.leave.weight *= 0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (T, N, channels), from an empty memory."""
        start = x.new_zeros(1, *x.shape[1:], dtype=torch.float32)
        shown, _ = gated_memory(self.time_in(self.time_norm(x))[None], start)
        return self._hidden(x + self.time_out(shown[0]))

    def step(self, x: torch.Tensor, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same for one frame: x and the memory before it (1, channels); x and the memory."""
        keep, candidate, expose = self.time_in(self.time_norm(x)).chunk(3, dim=-1)
        memory = candidate + torch.sigmoid(keep) * (memory - candidate)
        return self._hidden(x + self.time_out(memory * torch.sigmoid(expose))), memory

    def _hidden(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.leave(torch.relu(self.enter(self.norm(x))))


class Stack(nn.Module):
    """A layer, blocks, a layer: (T, N, inputs) to (T, N, outputs)."""

    def __init__(
        self, inputs: int, channels: int, outputs: int, *, blocks: int, expansion: int
    ) -> None:
        super().__init__()
        self.channels = channels
        self.enter = nn.Linear(inputs, channels)
        self.blocks = nn.ModuleList(Block(channels, expansion) for _ in range(blocks))
        self.norm = nn.LayerNorm(channels)
        self.leave = nn.Linear(channels, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.enter(x)
        for block in self.blocks:
            x = block(x)
        return self.leave(self.norm(x))

    def step(self, x: torch.Tensor, *memories: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """One frame (1, inputs): its outputs, and the memories after it."""
        x = self.enter(x)
        following = []
        for block, memory in zip(self.blocks, memories, strict=True):
            x, memory = block.step(x, memory)  # type: ignore[operator]
            following.append(memory)
        return self.leave(self.norm(x)), *following

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of what one stream carries between frames; all begin at zero."""
        return {f"memory{i}": (1, self.channels) for i in range(len(self.blocks))}


class Encoder(nn.Module):
    """Powers, correlations, pitch and level to latents."""

    def __init__(self, config: SpeechCodecNetwork) -> None:
        super().__init__()
        # Straight from the lowest bins to the latents.
        self.direct = nn.Linear(FINE, config.latents, bias=False)
        nn.init.zeros_(self.direct.weight)
        self.stack = Stack(
            HEARD + CANDIDATES + 2 + FINE,
            config.encoder_channels,
            config.latents,
            blocks=config.encoder_blocks,
            expansion=config.expansion,
        )
        with torch.no_grad():
            self.stack.leave.weight *= _FIRST_LATENTS

    def seen(
        self,
        powers: torch.Tensor,
        correlation: torch.Tensor,
        pitch: torch.Tensor,
        level: torch.Tensor,
        fine: torch.Tensor,
    ) -> torch.Tensor:
        """What the stack sees: powers (..., HEARD), correlation (..., CANDIDATES), pitch 0 to 127
        and level 0 to 1 (..., 1), fine structure (..., FINE)."""
        loud = (torch.log(powers + FLOOR) + 6) / 4
        return torch.cat([loud, correlation, pitch / 32 - 2, level, fine], dim=-1)


class Decoder(nn.Module):
    """Latents, pitch, level and loss to what shapes the sources, and the spectra of that."""

    def __init__(self, config: SpeechCodecNetwork) -> None:
        super().__init__()
        self.free = config.free_bins
        # Of each of two windows: gains of both sources; below, turns of harmonics and what is free.
        self.parts = 2 * BINS + 4 * self.free
        # Straight from the latents to what the lowest bins have of their own.
        self.direct = nn.Linear(config.latents, FINE, bias=False)
        nn.init.zeros_(self.direct.weight)
        self.stack = Stack(
            config.latents + 3,
            config.decoder_channels,
            2 * self.parts,
            blocks=config.decoder_blocks,
            expansion=config.expansion,
        )
        with torch.no_grad():
            self.stack.leave.weight *= 0.3
            bias = self.stack.leave.bias.view(2, self.parts)
            bias.zero_()
            # Begin at about -30 dB of full scale.
            bias[:, : 2 * BINS] = -4.0

    @staticmethod
    def seen(
        latents: torch.Tensor, pitch: torch.Tensor, level: torch.Tensor, lost: torch.Tensor
    ) -> torch.Tensor:
        """What the stack sees: latents (..., latents), zeros for a frame that is lost, pitch, level
        and lost, 1 or 0 (..., 1)."""
        return torch.cat([latents, pitch / 32 - 2, level, lost], dim=-1)

    def shaped(
        self,
        shape: torch.Tensor,
        latents: torch.Tensor,
        harmonic: torch.Tensor,
        noise: torch.Tensor,
    ) -> torch.Tensor:
        """Spectra of windows, (..., 2, 2, BINS): window, then real and imaginary part.

        Args:
            shape: what the stack gives, (..., outputs).
            latents: those of the frames that came, zeros for others, (..., latents).
            harmonic, noise: spectra of the sources, of the result's shape.
        """
        parts = shape.unflatten(-1, (2, self.parts))
        gains, turns, own = parts.split((2 * BINS, 2 * self.free, 2 * self.free), dim=-1)
        strong, hissing = gains.clamp(LEAST_GAIN, MOST_GAIN).exp().unsqueeze(-2).chunk(2, dim=-1)
        re, im = harmonic[..., : self.free].unbind(-2)
        # Of its own: by the phases of the pulses, but not their strength.
        unit = torch.rsqrt(re * re + im * im + UNIT_FLOOR)
        coded = self.direct(latents).unflatten(-1, (2, 2, FINE_BINS))
        coded = nn.functional.pad(coded, (0, self.free - FINE_BINS))
        factor_re, factor_im = turns.chunk(2, dim=-1)
        own = own.unflatten(-1, (2, self.free)) + coded
        own_re, own_im = own.unbind(-2)
        factor_re, factor_im = 1 + factor_re + own_re * unit, factor_im + own_im * unit
        low = torch.stack((re * factor_re - im * factor_im, re * factor_im + im * factor_re), -2)
        harmonic = torch.cat([low, harmonic[..., self.free :]], dim=-1)
        return strong * harmonic + hissing * noise


class SpeechCodec(nn.Module):
    """Encoder, steps of every level, contexts, decoder; `forward` is a whole passage."""

    # An adversary that learns as fast as the rest is not to be caught up with.
    slow_layers = ("discriminator",)

    def __init__(self, config: SpeechCodecNetwork) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.context = SpeechContext(
            config.slices,
            width=config.context_channels,
            head_width=config.head_channels,
            dilations=config.context_dilations,
        )
        levels = torch.linspace(0, 1, LEARNED_LEVELS)
        steps = COARSEST_STEP * STEP_RATIO**-levels
        self.log_steps = nn.Parameter(steps.log()[:, None].repeat(1, config.latents))
        if config.discriminator_channels:
            self.discriminator = Discriminator(config.discriminator_channels)

    def widened(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The weights of a codec to start from, without its adversary where this one has none."""
        if hasattr(self, "discriminator"):
            return state
        return {n: v for n, v in state.items() if not n.startswith("discriminator.")}

    def steps(self, level: torch.Tensor) -> torch.Tensor:
        """Quantization steps of the latents, (N, latents, 1, 1), at levels (N,) in [0, 1]."""
        return steps_at(self.log_steps, level)

    def forward(
        self,
        audio: torch.Tensor,
        level: torch.Tensor,
        lost: torch.Tensor | None = None,
        late: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Restored audio, float32 as `audio` but `DELAY_SAMPLES` later, and bits a frame (N,).

        Rounding is straight-through for what is heard; the latents' part in the rate is that of
        uniform noise (Minnen and Singh 2020), the contexts' part that of the symbols.

        Args:
            audio: float32 (N, 320 * T) in [-1, 1].
            level: (N,) in [0, 1], 64ths.
            lost: bool (N, T), frames that do not arrive.
            late: bool (N,), whether short gaps are filled when the frame behind them is there.
        """
        powers, correlation, index, fine = self.features(audio)
        latents = self.latents(powers, correlation, index, fine, level)
        steps = self.steps(level)
        # (N, latents, 1, T), as contexts have them; the pitch is a symbol like others.
        scaled = latents.permute(1, 2, 0)[:, :, None].float() / steps
        pitch = (index - CANDIDATES // 2).float()[:, None, None]
        # In single precision: pitches and their middles have more bits than half of it holds.
        with torch.autocast(audio.device.type, enabled=False):
            symbols = self.context.rounded(torch.cat([pitch, scaled], dim=1), level)
            symbols = torch.cat([pitch, symbols[:, 1:]], dim=1)
            noisy = scaled + torch.rand_like(scaled) - 0.5
            bits = self.context(torch.cat([pitch, noisy], dim=1), symbols, level)
        chosen = scaled + (symbols[:, 1:] - scaled).detach()
        coded = (chosen * steps)[:, :, 0].permute(2, 0, 1)
        if lost is not None and late is not None:
            coded, index, lost = bridged(coded, index, lost, late)
        restored = self.restored(coded, index, level, lost)
        return restored, bits / index.shape[1]

    @torch.no_grad()
    def start(self, audio: torch.Tensor) -> None:
        """Begin with the linear transform that says the most of the lowest bins of speech.

        Args:
            audio: float32 (N, 320 * T) in [-1, 1].
        """
        powers, _, _, fine = self.features(audio)
        # By what is loud, as an ear does.
        loud = powers[..., :FINE_BINS].sum(-1, keepdim=True)
        weight = (loud / loud.mean()).clamp_max(1.0).sqrt()
        # Bins below 600 Hz count twice as much as those near 1200.
        slope = torch.linspace(1.0, 0.5, FINE_BINS, device=audio.device).repeat(4)
        seen = (fine * weight * slope).flatten(0, 1).double()
        _, vectors = torch.linalg.eigh((seen.T @ seen).cpu())
        count = min(self.config.slices[-1], FINE)
        best = vectors[:, -count:].flip(1).to(self.log_steps)
        # Small against the steps of coarse levels, which so begin with what gains need.
        self.encoder.direct.weight[-count:] = _FIRST_FINE * best.T
        self.decoder.direct.weight[:, -count:] = best / _FIRST_FINE

    @torch.no_grad()
    def features(
        self, audio: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Powers (N, T, HEARD), correlations (N, T, CANDIDATES), pitches (N, T) and fine structure
        (N, T, FINE) of audio."""
        with torch.autocast(audio.device.type, enabled=False):
            powers, correlation = heard(audio.float())
            index = tracked(correlation)
            fine = fine_structure(audio.float(), self.windows(pulses(index)))
            return powers, correlation, index, fine

    def latents(
        self,
        powers: torch.Tensor,
        correlation: torch.Tensor,
        index: torch.Tensor,
        fine: torch.Tensor,
        level: torch.Tensor,
    ) -> torch.Tensor:
        """Latents (T, N, latents) of `features` and levels (N,)."""
        plane = level[:, None, None].expand(-1, index.shape[1], 1)
        pitch = index[..., None].to(powers.dtype)
        seen = self.encoder.seen(powers, correlation, pitch, plane, fine).transpose(0, 1)
        return self.encoder.stack(seen) + self.encoder.direct(fine.transpose(0, 1))

    def restored(
        self,
        latents: torch.Tensor,
        index: torch.Tensor,
        level: torch.Tensor,
        lost: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Audio (N, 320 * T) of latents (T, N, latents), pitches (N, T), levels (N,), losses."""
        if lost is None:
            lost = torch.zeros_like(index, dtype=torch.bool)
        index = held(index, lost)
        count, time = index.shape
        latents = latents * ~lost.T[..., None]
        seen = self.decoder.seen(
            latents,
            index.T[..., None].to(latents.dtype),
            level[None, :, None].expand(time, -1, 1),
            lost.T[..., None].to(latents.dtype),
        )
        shape = self.decoder.stack(seen).transpose(0, 1)
        with torch.autocast(shape.device.type, enabled=False):
            tones = self.windows(pulses(index))
            noise = self.windows(torch.randn(count, FRAME_SAMPLES * time, device=shape.device))
            given = latents.float().transpose(0, 1)
            spectra = self.decoder.shaped(shape.float(), given, tones, noise)
            audio = audio_of(spectra.flatten(1, 2).transpose(1, 2), window_samples=WINDOW_SAMPLES)
        return audio[:, : FRAME_SAMPLES * time]

    @staticmethod
    def windows(source: torch.Tensor) -> torch.Tensor:
        """Spectra (N, T, 2, 2, BINS) of a source (N, 320 * T): of the two windows of each frame,
        the first of which begins in the frame before."""
        padded = torch.nn.functional.pad(source, (HOP_SAMPLES, 0))
        found = spectrum_of(padded, window_samples=WINDOW_SAMPLES, hop_samples=HOP_SAMPLES)
        scale = 1 / math.sqrt(WINDOW_SAMPLES / 2)
        return found.transpose(1, 2).unflatten(1, (-1, 2)) * scale

    def encode_step(
        self,
        powers: torch.Tensor,
        correlation: torch.Tensor,
        pitch: torch.Tensor,
        level: torch.Tensor,
        fine: torch.Tensor,
        *memories: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Latents (1, latents) of one frame, and the memories after it."""
        seen = self.encoder.seen(powers, correlation, pitch, level, fine)
        latents, *following = self.encoder.stack.step(seen, *memories)
        return latents + self.encoder.direct(fine), *following

    def decode_step(
        self,
        latents: torch.Tensor,
        pitch: torch.Tensor,
        level: torch.Tensor,
        lost: torch.Tensor,
        harmonic: torch.Tensor,
        noise: torch.Tensor,
        *memories: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Spectra (1, 2, 2, BINS) of one frame's windows, and the memories after it."""
        latents = latents * (1 - lost)
        seen = self.decoder.seen(latents, pitch, level, lost)
        shape, *following = self.decoder.stack.step(seen, *memories)
        return self.decoder.shaped(shape, latents, harmonic, noise), *following
