"""Voices with other formants and the same pitch: longer and shorter throats."""

from __future__ import annotations

import torch
from torch.nn import functional

__all__ = ["shifted_formants"]

_WINDOW, _HOP = 512, 256
# Cepstral coefficients that hold formants and not harmonics: up to 2 ms, pitches below 500 Hz.
_COEFFICIENTS = 32
# A gain of more than this is a hole of the spectrum, not a formant.
_MOST_DB = 24.0


def shifted_formants(audio: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Audio whose spectral envelope lies `factor` times as high, its harmonics where they are.

    The envelope is the smoothed cepstrum of each frame of 32 ms.

    Args:
        audio: float32 (batch, samples) at 16 kHz.
        factor: float32 (batch,), above 0.

    Returns:
        float32 (batch, samples).
    """
    samples = audio.shape[-1]
    window = torch.hann_window(_WINDOW, dtype=audio.dtype, device=audio.device).sqrt()
    padded = functional.pad(audio, (_HOP, _WINDOW + (-samples) % _HOP))
    spectrum = torch.fft.rfft(padded.unfold(-1, _WINDOW, _HOP) * window)
    cepstrum = torch.fft.irfft(torch.log(spectrum.abs() + 1e-4))
    lifter = torch.zeros(_WINDOW, dtype=audio.dtype, device=audio.device)
    lifter[: _COEFFICIENTS + 1] = 1.0
    lifter[-_COEFFICIENTS:] = 1.0
    envelope = torch.fft.rfft(cepstrum * lifter).real
    bins = envelope.shape[-1]
    place = torch.arange(bins, dtype=audio.dtype, device=audio.device) / factor[:, None]
    place = place.clamp_max(bins - 1)
    below = place.long().clamp_max(bins - 2)
    index = below[:, None].expand_as(envelope)
    part = (place - below)[:, None]
    moved = torch.lerp(envelope.gather(-1, index), envelope.gather(-1, index + 1), part)
    most = _MOST_DB / 20 * 2.302585
    frames = torch.fft.irfft(spectrum * torch.exp((moved - envelope).clamp(-most, most))) * window
    first = functional.pad(frames[..., :_HOP].flatten(1), (0, _HOP))
    second = functional.pad(frames[..., _HOP:].flatten(1), (_HOP, 0))
    return (first + second)[:, _HOP : _HOP + samples]
