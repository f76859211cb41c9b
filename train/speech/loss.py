"""What a speech denoiser is trained to lower."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from train.speech.dnsmos import QualityModel
from train.speech.loudness import loudness_shortfall

# 384 ms of frames every 12.8 ms.
STRETCH_FRAMES = 30


@dataclass(frozen=True)
class SpeechLoss:
    """Weights of the parts of the loss; a part of weight 0 is not computed.

    `compressed` weighs the squared error of magnitudes and complex spectra after |.|^0.3,
    `multi_resolution` the same for magnitudes at the window lengths `resolutions`, `distortion` the
    signal-to-distortion ratio in units of 10 dB, `levels` how far the levels of bands are off,
    `kept` how far they are too low where the mix is little but speech, `pauses` how much of the mix
    is left where nobody speaks, these three in units of 10 dB, `loudness` opinion scores lost by a
    model of loudness (see train/speech/loudness.py), `intelligibility` how far the envelopes of
    bands are from following those of clean speech, where `extended_share` is ESTOI's and the rest
    STOI's, `quality` how far a published model of speech quality, in the file `quality_model` (see
    train/speech/dnsmos.py), is from its best score: on `quality_samples` of `quality_items` items
    of a batch, as that model costs more than the network; without the file that part is left out.
    Above `emphasis_hz` the first two raise the spectrum by 6 dB per octave, about as much as speech
    falls there: without that, consonants weigh nothing. `quality` is asked in a share of the steps,
    `quality_chance`, and weighs as much more in them.
    """

    compressed: float = 1.0
    magnitude_share: float = 0.7
    multi_resolution: float = 0.5
    resolutions: tuple[int, ...] = (256, 1024)
    distortion: float = 0.5
    levels: float = 0.0
    kept: float = 0.0
    pauses: float = 0.0
    loudness: float = 0.0
    intelligibility: float = 2.0
    extended_share: float = 0.5
    quality: float = 0.0
    quality_model: str = ""
    quality_samples: int = 32_000
    quality_items: int = 1
    quality_chance: float = 1.0
    emphasis_hz: float = 500.0

    def __post_init__(self) -> None:
        if not 0 < self.quality_chance <= 1:
            raise ValueError(
                f"quality_chance is {self.quality_chance}, expected above 0, at most 1"
            )
        if self.quality_items < 1:
            raise ValueError(f"quality_items is {self.quality_items}, expected at least 1")

    @staticmethod
    def modern(raw: dict[str, Any]) -> dict[str, Any]:
        """Keys as they are now, from those of checkpoints up to 0.1.0."""
        renamed = {
            "listening": "quality",
            "listener": "quality_model",
            "listening_samples": "quality_samples",
        }
        return {renamed.get(key, key): value for key, value in raw.items()}


def spectrum_of(audio: torch.Tensor, *, window_samples: int, hop_samples: int) -> torch.Tensor:
    """Spectra, float32 (batch, 2, time, bins) of real and imaginary parts, unscaled.

    Args:
        audio: float32 (batch, samples) in [-1, 1].
        window_samples: of the root-Hann windows.
        hop_samples: from one window to the next.
    """
    frames = audio.unfold(-1, window_samples, hop_samples) * _window(window_samples, audio)
    return torch.view_as_real(torch.fft.rfft(frames)).permute(0, 3, 1, 2)


def audio_of(spectrum: torch.Tensor, *, window_samples: int) -> torch.Tensor:
    """Audio, float32 (batch, (time + 1) * hop), from half-overlapping spectra: the inverse of
    `spectrum_of`.

    The first and the last hop, which one window alone covers, fade in and out.

    Args:
        spectrum: float32 (batch, 2, time, bins), unscaled.
        window_samples: of the root-Hann windows.
    """
    parts = torch.complex(spectrum[:, 0], spectrum[:, 1])
    frames = torch.fft.irfft(parts, n=window_samples) * _window(window_samples, spectrum)
    hop = window_samples // 2
    first = functional.pad(frames[..., :hop].flatten(1), (0, hop))
    second = functional.pad(frames[..., hop:].flatten(1), (hop, 0))
    return first + second


def si_sdr_db(reference: torch.Tensor, estimate: torch.Tensor) -> torch.Tensor:
    """Scale-invariant signal-to-distortion ratio per row in dB, zero-mean (arXiv 1811.02508).

    Args:
        reference, estimate: float32 (batch, samples).

    Returns:
        float32 (batch,), differentiable.
    """
    reference = reference - reference.mean(-1, keepdim=True)
    estimate = estimate - estimate.mean(-1, keepdim=True)
    energy = reference.square().sum(-1, keepdim=True).clamp_min(1e-12)
    target = (estimate * reference).sum(-1, keepdim=True) / energy * reference
    noise = (estimate - target).square().sum(-1).clamp_min(1e-12)
    return 10 * torch.log10(target.square().sum(-1).clamp_min(1e-12) / noise)


def speech_loss(
    config: SpeechLoss,
    estimate: torch.Tensor,
    noisy: torch.Tensor,
    clean: torch.Tensor,
    quality_model: QualityModel | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss, a float32 scalar, and its parts by name.

    Args:
        config: what weighs how much.
        estimate: spectra, float32 (batch, 2, time, bins).
        noisy, clean: audio, float32 (batch, samples) in [-1, 1].
        quality_model: what scores the estimate; without one that part of the loss is left out.
    """
    window = 2 * (estimate.shape[-1] - 1)
    # Level taken out per item: a quiet recording weighs as much as a loud one.
    gain = torch.rsqrt(noisy.square().mean(-1) + 1e-8)
    clean = clean * gain[:, None]
    # In the order of the spectra that it is held against: a network may keep frequencies apart.
    estimate = (estimate * gain[:, None, None, None]).contiguous()
    parts: dict[str, torch.Tensor] = {}
    total = estimate.new_zeros(())
    if config.compressed or config.levels or config.kept or config.pauses:
        target = spectrum_of(clean, window_samples=window, hop_samples=window // 2)
    if config.levels:
        parts["levels"] = (_levels(estimate) - _levels(target)).abs().mean()
        total = total + config.levels * parts["levels"]
    if config.kept or config.pauses:
        mix = spectrum_of(noisy * gain[:, None], window_samples=window, hop_samples=window // 2)
    if config.kept:
        parts["kept"] = _taken(estimate, mix, target)
        total = total + config.kept * parts["kept"]
    if config.pauses:
        parts["pauses"] = _left_in_pauses(estimate, mix, target)
        total = total + config.pauses * parts["pauses"]
    if config.compressed:
        weight = _emphasis(window, config.emphasis_hz, like=target)
        parts["compressed"] = _compressed_error(
            estimate * weight, target * weight, config.magnitude_share
        )
        total = total + config.compressed * parts["compressed"]
    rated = config.quality > 0 and quality_model is not None
    if rated and config.quality_chance < 1:
        rated = float(torch.rand(())) < config.quality_chance
    heard = (config.multi_resolution, config.distortion, config.loudness, config.intelligibility)
    if any(heard) or rated:
        audio = audio_of(estimate, window_samples=window)
        reference = clean[:, : audio.shape[1]]
        # The faded ends say nothing about the network.
        audio, reference = (x[:, window // 2 : -window // 2] for x in (audio, reference))
    if config.multi_resolution:
        errors = [
            _magnitude_error(audio, reference, size, config.emphasis_hz)
            for size in config.resolutions
        ]
        parts["multi_resolution"] = torch.stack(errors).mean()
        total = total + config.multi_resolution * parts["multi_resolution"]
    if config.distortion:
        parts["distortion"] = _distortion(audio, reference)
        total = total + config.distortion * parts["distortion"]
    if config.loudness:
        parts["loudness"] = loudness_shortfall(audio, reference).mean()
        total = total + config.loudness * parts["loudness"]
    if config.intelligibility:
        understood = intelligibility(audio, reference, extended_share=config.extended_share)
        parts["intelligibility"] = 1 - understood.mean()
        total = total + config.intelligibility * parts["intelligibility"]
    if rated and quality_model is not None:
        parts["quality"] = _quality_shortfall(
            quality_model, audio, reference, config.quality_samples, config.quality_items
        )
        total = total + config.quality / config.quality_chance * parts["quality"]
    return total, {name: part.detach() for name, part in parts.items()}


def intelligibility(
    estimate: torch.Tensor, reference: torch.Tensor, *, extended_share: float = 0.5
) -> torch.Tensor:
    """How well band envelopes follow those of clean speech, per row, 1 at best.

    STOI (Taal et al. 2011) and, as `extended_share` of it, ESTOI (Jensen and Taal 2016), as they
    are defined but for taking every third stretch; a row with less than a stretch of speech counts
    as 1.

    Args:
        estimate, reference: audio, float32 (batch, samples) at 16 kHz.
        extended_share: of ESTOI, 0 to 1.

    Returns:
        float32 (batch,), differentiable.
    """
    estimate, reference = _at_10_khz(estimate), _at_10_khz(reference)
    window = torch.hann_window(258, periodic=False, dtype=reference.dtype, device=reference.device)[
        1:-1
    ]
    # Frames of 25.6 ms that overlap by half.
    frames_e, frames_r = (x.unfold(-1, 256, 128) * window for x in (estimate, reference))
    loudness = frames_r.square().sum(-1)
    # Within 40 dB of the loudest, and not what digital silence leaves.
    heard = (loudness > 1e-4 * loudness.amax(-1, keepdim=True)) & (loudness > 1e-3)
    count = heard.sum(-1)
    if frames_r.shape[1] < STRETCH_FRAMES:
        return estimate.new_ones(len(estimate))
    # What is heard moves to the front, in its order; so no row has another shape than others.
    order = torch.argsort((~heard).to(torch.uint8), dim=-1, stable=True)
    # Envelopes of stretches: (batch, stretches, bands, frames)
    e, r = (
        _third_octaves(_joined(_kept(frames, heard, order)).unfold(-1, 256, 128) * window)
        .add(1e-7)
        .sqrt()
        .unfold(1, STRETCH_FRAMES, 3)
        for frames in (frames_e, frames_r)
    )
    scale = r.norm(dim=-1, keepdim=True) / (e.norm(dim=-1, keepdim=True) + 1e-4)
    # What lies 15 dB and more under the speech is not heard any worse for being lower still.
    clipped = torch.minimum(e * scale, r * (1 + 10**0.75))
    plain = (_unit(clipped) * _unit(r)).sum(-1).mean(-1)
    extended = (_unit(_unit(e), dim=-2) * _unit(_unit(r), dim=-2)).sum(-2).mean(-1)
    each = torch.lerp(plain, extended, extended_share)
    first = 3 * torch.arange(each.shape[1], device=each.device)
    whole = first <= (count - STRETCH_FRAMES)[:, None]
    found = torch.where(whole, each, 0.0).sum(-1) / whole.sum(-1).clamp_min(1)
    return torch.where(count < STRETCH_FRAMES, 1.0, found)


def _kept(frames: torch.Tensor, heard: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Frames (batch, frames, size) in their new order, those that are not heard silent."""
    frames = frames * heard[..., None]
    return frames.gather(1, order[..., None].expand(-1, -1, frames.shape[-1]))


def _at_10_khz(audio: torch.Tensor) -> torch.Tensor:
    """Audio (batch, n) at 16 kHz, resampled by its spectrum, less up to 7 samples at the end."""
    size = audio.shape[-1] // 8 * 8
    spectrum = torch.fft.rfft(audio[:, :size])[:, : size * 5 // 16 + 1]
    return torch.fft.irfft(spectrum * 0.625, n=size * 5 // 8)


def _joined(frames: torch.Tensor) -> torch.Tensor:
    """Windowed frames (batch, frames, size), which overlapped by half, as one signal a row."""
    first, second = frames.chunk(2, dim=-1)
    return (functional.pad(first, (0, 0, 0, 1)) + functional.pad(second, (0, 0, 1, 0))).flatten(1)


def _unit(x: torch.Tensor, dim: int = -1) -> torch.Tensor:
    """x with its mean along `dim` removed and its length there 1."""
    x = x - x.mean(dim, keepdim=True)
    return x * torch.rsqrt(x.square().sum(dim, keepdim=True) + 1e-8)


def _third_octaves(frames: torch.Tensor) -> torch.Tensor:
    """Power in 15 third-octave bands from 150 Hz up, (..., 15), of windowed frames at 10 kHz."""
    spectrum = torch.view_as_real(torch.fft.rfft(frames, n=512))
    return spectrum.square().sum(-1) @ _third_octave_bins(frames.device).to(frames.dtype)


@functools.cache
def _third_octave_bins(device: torch.device) -> torch.Tensor:
    """Which bins of 512 at 10 kHz belong to which band, (257, 15) of 0 and 1, kept per device: a
    copy to a GPU waits for all that is under way there."""
    edges_hz = 150 * 2 ** ((torch.arange(15)[:, None] * 2 + torch.tensor([-1, 1])) / 6)
    first, last = (edges_hz * (512 / 10_000)).round().T
    bins = torch.arange(257)[:, None]
    return ((bins >= first) & (bins < last)).float().to(device)


def _emphasis(size: int, emphasis_hz: float, *, like: torch.Tensor) -> torch.Tensor:
    """A gain for each bin of spectra of `size` samples at 16 kHz: 1, then rising with frequency."""
    if not emphasis_hz:
        return torch.ones((), dtype=like.dtype, device=like.device)
    frequency_hz = torch.arange(size // 2 + 1, dtype=like.dtype, device=like.device)
    return (frequency_hz * (16_000 / size / emphasis_hz)).clamp_min(1.0)


def _window(size: int, like: torch.Tensor) -> torch.Tensor:
    return _root_hann(size, like.dtype, like.device)


@functools.cache
def _root_hann(size: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return torch.hann_window(size, dtype=dtype, device=device).sqrt()


def _compressed_error(
    estimate: torch.Tensor, target: torch.Tensor, magnitude_share: float
) -> torch.Tensor:
    power_e = estimate.square().sum(1, keepdim=True) + 1e-4
    power_t = target.square().sum(1, keepdim=True) + 1e-4
    magnitude = (power_e**0.15 - power_t**0.15).square().mean()
    difference = estimate * power_e**-0.35 - target * power_t**-0.35
    both = difference.square().sum(1).mean()
    return magnitude_share * magnitude + (1 - magnitude_share) * both


def _levels(spectrum: torch.Tensor) -> torch.Tensor:
    """Power of bands 1/64, 1/32 and 1/16 of the spectrum wide, as powers of ten.

    As a logarithm, so that a pause at -40 instead of -30 dB, which is heard, counts as much as
    speech that is 10 dB off. The floor lies about 55 dB under a signal of power 1.
    """
    power = spectrum[..., :-1].square().sum(1)
    bins = power.shape[-1]
    parts = power[..., : bins // 4], power[..., bins // 4 : bins // 2], power[..., bins // 2 :]
    bands = [
        part.unflatten(-1, (-1, bins // count)).sum(-1)
        for part, count in zip(parts, (64, 32, 16), strict=True)
    ]
    return torch.log10(torch.cat(bands, -1) + 1e-2)


def _taken(estimate: torch.Tensor, mix: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """How far levels of bands lie below those of clean speech, as powers of ten, where the speech
    is within 30 dB of its loudest band and the mix at most 3 dB above it."""
    levels, mixed, aimed = (_levels(x) for x in (estimate, mix, target))
    speech = (aimed > aimed.amax((1, 2), keepdim=True) - 3) & (aimed > -1) & (mixed < aimed + 0.3)
    return ((aimed - levels).clamp_min(0) * speech).sum() / speech.sum().clamp_min(1)


def _left_in_pauses(
    estimate: torch.Tensor, mix: torch.Tensor, target: torch.Tensor
) -> torch.Tensor:
    """How much of the mix's power is left in frames 40 dB and more below the loudest of the clean
    speech, as a power of ten above -45 dB; 0 for a mix without such frames."""
    left, mixed, speech = (x.square().sum((1, 3)) for x in (estimate, mix, target))
    # At a power of 1 a frame has that of its window times half the window's length.
    pause = speech < (1e-4 * speech.amax(1, keepdim=True)).clamp_min(1e-2)
    left, mixed = ((x * pause).sum(1) for x in (left, mixed))
    ratio = (torch.log10((left + 1e-2) / (mixed + 1e-2)) + 4.5).clamp_min(0)
    return torch.where(mixed > 1, ratio, torch.zeros_like(ratio)).mean()


def _magnitude_error(
    estimate: torch.Tensor, target: torch.Tensor, size: int, emphasis_hz: float
) -> torch.Tensor:
    errors = []
    for audio in (estimate, target):
        spectrum = spectrum_of(audio, window_samples=size, hop_samples=size // 2)
        spectrum = spectrum * _emphasis(size, emphasis_hz, like=spectrum)
        # Scaled to the power of 512-sample windows, so that the floor means the same.
        errors.append((spectrum.square().sum(1) * (512 / size) + 1e-4) ** 0.15)
    return (errors[0] - errors[1]).square().mean()


def _quality_shortfall(
    model: QualityModel, audio: torch.Tensor, reference: torch.Tensor, samples: int, items: int
) -> torch.Tensor:
    """How far the model's three scores are from 5 on average, somewhere in the first items with
    speech; 0 without such an item."""
    heard = reference.square().mean(-1) > 1e-4
    # Those first. That is asked of the data where they are: a GPU is not waited for.
    chosen = (~heard).to(torch.uint8).argsort(stable=True)[:items]
    start = int(torch.randint(max(1, audio.shape[1] - samples + 1), ()))
    # Heard at -24 dB of full scale; the audio is at a power of 1. The floor keeps the logarithm of
    # near silence, which nobody hears, from leading the way.
    scores = model(audio[chosen, start : start + samples] * 10 ** (-24 / 20), floor=1e-6)
    counts = heard[chosen].to(scores.dtype)
    return ((5 - scores).mean(-1) * counts).sum() / counts.sum().clamp_min(1)


def _distortion(estimate: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Minus the signal-to-distortion ratio in 10 dB, at most 30 dB; 0 for items without speech."""
    energy = reference.square().sum(-1)
    heard = energy > 1e-4 * reference.shape[-1]
    error = (estimate - reference).square().sum(-1) + 1e-3 * energy
    ratio = torch.log10((error + 1e-6) / (energy + 1e-6))
    return torch.where(heard, ratio, torch.zeros_like(ratio)).mean()
