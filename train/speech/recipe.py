"""The speech denoiser as the training loop sees it: a network, batches, a loss, a score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from train.config import SpeechConfig
from train.speech.data import SpeechMixer
from train.speech.listener import ListeningModel
from train.speech.loss import audio_of, intelligibility, si_sdr_db, spectrum_of, speech_loss
from train.speech.network import SpeechDenoiser


class SpeechTask:
    """Trains `SpeechDenoiser` on speech and noise mixed on the fly."""

    network: SpeechDenoiser

    def __init__(self, config: SpeechConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.mixer = SpeechMixer(config.data)
        self.network = SpeechDenoiser(config.network)
        self._listener: ListeningModel | None = None
        if config.loss.listening:
            if not config.loss.listener:
                raise ValueError("loss.listening needs a model of listeners: give --listener FILE")
            self._listener = ListeningModel(Path(config.loss.listener))
        noisy, clean = self.mixer.validation()
        self._noisy, self._clean = torch.from_numpy(noisy), torch.from_numpy(clean)

    def start(self) -> None:
        """Nothing: the network's own start is the one to train from."""

    def batch(self, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        """Noisy segments and their clean targets, float32 (batch_size, segment_samples) each."""
        noisy, clean = self.mixer.batch(rng, self.config.optimize.batch_size)
        return torch.from_numpy(noisy), torch.from_numpy(clean)

    def loss(
        self, network: torch.nn.Module, batch: tuple[torch.Tensor, ...], step: int
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of one batch and its parts to plot."""
        noisy, clean = batch
        estimate = network(self._spectrum(noisy))
        # Spectra and powers of 0.3 need the full precision that autocast takes from the network.
        with torch.autocast(noisy.device.type, enabled=False):
            return speech_loss(self.config.loss, estimate.float(), noisy, clean, self._listener)

    @torch.no_grad()
    def validate(self, network: torch.nn.Module) -> dict[str, float]:
        """SI-SDR, what it gained, in dB, and intelligibility on held-out speakers and kinds of
        noise. For the score 20 dB weigh as much as all of intelligibility."""
        window = self.config.network.window_samples
        before, after, follows = [], [], []
        for noisy, clean in zip(self._noisy.split(8), self._clean.split(8), strict=True):
            noisy, clean = noisy.to(self.device), clean.to(self.device)
            restored = audio_of(network(self._spectrum(noisy)), window_samples=window)
            # One window alone covers the first and the last hop: they are left out.
            inside = slice(window // 2, restored.shape[1] - window // 2)
            before.append(si_sdr_db(clean[:, inside], noisy[:, inside]))
            after.append(si_sdr_db(clean[:, inside], restored[:, inside]))
            # At the level that the loss works at.
            gain = torch.rsqrt(noisy.square().mean(-1, keepdim=True) + 1e-8)
            follows.append(intelligibility(restored[:, inside] * gain, clean[:, inside] * gain))
        si_sdr, gained = torch.cat(after).mean(), (torch.cat(after) - torch.cat(before)).mean()
        return {
            "si_sdr_db": float(si_sdr),
            "si_sdr_gain_db": float(gained),
            "intelligibility": float(torch.cat(follows).mean()),
            "score": -float(si_sdr / 20 + torch.cat(follows).mean()),
        }

    def _spectrum(self, audio: torch.Tensor) -> torch.Tensor:
        shape = self.config.network
        return spectrum_of(
            audio, window_samples=shape.window_samples, hop_samples=shape.hop_samples
        )
