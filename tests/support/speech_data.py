"""Made speech and noise for the denoiser's training, a second a segment."""

from __future__ import annotations

from train.speech.data import SpeechData

MADE = SpeechData(
    speech=("synthetic",),
    noise=("synthetic",),
    cache="",
    segment_samples=16_000,
    validation_mixes=6,
)
