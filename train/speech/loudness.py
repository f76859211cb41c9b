"""How much worse speech sounds than its reference, by a model of loudness that gradients pass.

The perceptual model of PESQ (ITU-T P.862, section 10.2, and the wideband filter of P.862.2) without
what finds delays, of which a denoiser has none: levels and long-term spectra are made equal, short
changes of gain are forgiven in part, and in bands of the Bark scale Zwicker's loudness is compared,
where what was added weighs more than what was taken away. Bands and thresholds are by formula, not
by the standard's tables. Over 100 noisy, half denoised, denoised and clean recordings of held-out
speakers the correlation with PESQ's score before its last mapping is 0.98, and 0.85 for the
difference between two denoisers on one mix.
"""

from __future__ import annotations

import functools
import math

import torch

__all__ = ["loudness_shortfall"]

_WINDOW, _HOP = 512, 256
_BANDS = 49
# Mean power of bins within 350 to 3250 Hz, where levels are made equal (P.862, section 10.1). The
# value is that for which the model follows PESQ best.
_TELEPHONE_HZ, _LISTENING_POWER = (350, 3250), 1e6
# Of long-term spectra: powers ahead of their ratio (P.862, section 10.2.4), which is bounded.
_TILT_POWER = 1e3
# Of gains from frame to frame, likewise, and how much of one comes from its own frame (10.2.5).
_GAIN_POWER, _GAIN_BOUNDS, _GAIN_SHARE = 5e3, (3e-4, 5.0), 0.8
# Frames with so much power are speech, counting bands so far above the threshold in quiet.
_SPEECH_POWER, _SPEECH_ABOVE = 1e7, 100.0
# Zwicker's exponent and the scale to sones (P.862, section 10.2.6).
_EXPONENT, _SONES = 0.23, 0.187
# Share of the softer loudness that masks a difference.
_MASKED = 0.25
# Powers ahead of the ratio of asymmetry, its exponent, and where it begins and ends.
_ADDED, _ASYMMETRY, _LEAST, _MOST = 50.0, 1.2, 3.0, 12.0
_LOUDEST = 45.0
# Frames of a stretch (320 ms), within which the worst ones count (a norm of 6).
_STRETCH = 20
# From disturbances to opinion scores (P.862, section 10.2.12).
_SYMMETRIC, _ASYMMETRIC = 0.1, 0.0309


def loudness_shortfall(
    estimate: torch.Tensor, reference: torch.Tensor, *, forgiven_db: float = 20.0
) -> torch.Tensor:
    """Opinion scores lost, float32 (batch,), about 0 to 5, differentiable: 0 for equal audio.

    Args:
        estimate, reference: audio, float32 (batch, samples) at 16 kHz; a row of the reference that
            is silent counts as 0.
        forgiven_db: by how much bands of the whole may be louder or softer without being minded,
            0 to 20. PESQ forgives 20 dB, which a codec would take for leave to have any color.
    """
    bands, width = _bands(reference.device, reference.dtype)
    window = torch.hann_window(_WINDOW, dtype=reference.dtype, device=reference.device)
    spectra, levels = [], []
    for audio in (estimate, reference):
        spectrum = torch.view_as_real(torch.fft.rfft(audio.unfold(-1, _WINDOW, _HOP) * window))
        spectra.append(spectrum.square().sum(-1))
        levels.append(spectra[-1][..., _telephone()].mean((1, 2)))
    heard = levels[1] > 1e-4
    levels[1] = levels[1].clamp_min(1e-4)
    # An estimate without speech is not made as loud as speech.
    levels[0] = torch.maximum(levels[0], 1e-3 * levels[1])
    power_e, power_r = (
        (spectrum * (_LISTENING_POWER / level)[:, None, None]) @ bands
        for spectrum, level in zip(spectra, levels, strict=True)
    )
    most = 10 ** (forgiven_db / 10)
    power_r = power_r * _tilt(power_e, power_r).clamp(1 / most, most)
    audible = _audible(power_r).sum(-1)
    power_e = power_e * _gains(_audible(power_e).sum(-1), audible)[..., None]
    loudness_e, loudness_r = (_loudness(power) for power in (power_e, power_r))
    difference = (loudness_e - loudness_r).abs()
    difference = (difference - _MASKED * torch.minimum(loudness_e, loudness_r)).clamp_min(0)
    ratio = ((power_e + _ADDED) / (power_r + _ADDED)) ** _ASYMMETRY
    ratio = torch.where(ratio < _LEAST, torch.zeros_like(ratio), ratio.clamp_max(_MOST))
    weight = ((audible + 1e5) / 1e7) ** 0.04
    symmetric = ((difference * width).square().sum(-1) * (width * _BANDS) + 1e-6).sqrt()
    asymmetric = (difference * ratio).sum(-1) * width
    lost = _SYMMETRIC * _over_time(symmetric / weight)
    lost = lost + _ASYMMETRIC * _over_time(asymmetric / weight)
    return torch.where(heard, lost, torch.zeros_like(lost))


def _audible(power: torch.Tensor, above: float = 1.0) -> torch.Tensor:
    """Powers (..., bands), 0 where they are less than `above` times the threshold in quiet."""
    _, threshold, _ = _zwicker(power.device, power.dtype)
    return power * (power > above * threshold)


def _tilt(power_e: torch.Tensor, power_r: torch.Tensor) -> torch.Tensor:
    """By what the reference is multiplied to have the estimate's long-term spectrum of speech,
    (batch, 1, bands); powers are (batch, frames, bands)."""
    heard_e, heard_r = (_audible(power, _SPEECH_ABOVE) for power in (power_e, power_r))
    speech = (heard_r.sum(-1, keepdim=True) > _SPEECH_POWER).to(power_r.dtype)
    count = speech.sum(1, keepdim=True).clamp_min(1)
    mean_e, mean_r = ((h * speech).sum(1, keepdim=True) / count for h in (heard_e, heard_r))
    return (mean_e + _TILT_POWER) / (mean_r + _TILT_POWER)


def _gains(power_e: torch.Tensor, power_r: torch.Tensor) -> torch.Tensor:
    """By what each frame of the estimate is multiplied, (batch, frames), from powers alike."""
    gains = (power_r + _GAIN_POWER) / (power_e + _GAIN_POWER)
    before = torch.cat((gains[:, :1], gains[:, :-1]), 1)
    return torch.lerp(before, gains, _GAIN_SHARE).clamp(*_GAIN_BOUNDS)


def _telephone() -> slice:
    """The bins whose level is made equal."""
    first, last = (round(hz * _WINDOW / 16_000) for hz in _TELEPHONE_HZ)
    return slice(first, last + 1)


def _over_time(frames: torch.Tensor) -> torch.Tensor:
    """Disturbances (batch, frames) as one per row: a norm of 6 in stretches, of 2 over them."""
    stretches = frames.clamp(1e-3, _LOUDEST).unfold(-1, _STRETCH, _STRETCH // 2)
    worst = (stretches**6).mean(-1) ** (1 / 6)
    return worst.square().mean(-1).sqrt()


# Kept for a device: a copy to a GPU waits for all that is under way there.
@functools.cache
def _bands(device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, float]:
    """How much of a bin's power each band has, (bins, bands), and how many Bark a band is wide.

    A bin belongs to one band, with the gain of the filter of P.862.2. The scale is that of
    Schroeder et al. 1979: 7 arsinh(f / 650 Hz).
    """
    frequency_hz = torch.arange(_WINDOW // 2 + 1, dtype=torch.float64) * (16_000 / _WINDOW)
    bark = 7 * torch.asinh(frequency_hz / 650)
    width = float(bark[-1]) / _BANDS
    number = (bark / width).floor().clamp_max(_BANDS - 1).long()
    bands = torch.nn.functional.one_hot(number, _BANDS)
    turn = torch.exp(-2j * math.pi * frequency_hz / 16_000)
    above = 2.6657628 * (1 - 2 * turn + turn**2)
    below = 1 - 1.8890331 * turn + 0.89487434 * turn**2
    return (bands * (above / below).abs().square()[:, None]).to(device, dtype), width


def _loudness(power: torch.Tensor) -> torch.Tensor:
    """Sones per Bark of powers (..., bands) relative to 0 dB SPL: P.862, equation 4."""
    scale, threshold, exponent = _zwicker(power.device, power.dtype)
    return (scale * ((0.5 + 0.5 * power / threshold) ** exponent - 1)).clamp_min(0)


@functools.cache
def _zwicker(
    device: torch.device, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scale, threshold in quiet and exponent of each band, (bands,)."""
    center = (torch.arange(_BANDS, dtype=torch.float64) + 0.5) * float(
        7 * torch.asinh(torch.tensor(8000 / 650, dtype=torch.float64)) / _BANDS
    )
    khz = 0.65 * torch.sinh(center / 7)
    # Threshold in quiet (Terhardt 1979), in dB SPL.
    threshold_db = 3.64 * khz**-0.8 - 6.5 * torch.exp(-0.6 * (khz - 3.3) ** 2) + 1e-3 * khz**4
    threshold = 10 ** (threshold_db / 10)
    # Loudness grows faster below 4 Bark.
    exponent = _EXPONENT * (6 / (center + 2)).clamp(1, 2) ** 0.15
    scale = _SONES * (threshold / 0.5) ** exponent
    return scale.to(device, dtype), threshold.to(device, dtype), exponent.to(device, dtype)
