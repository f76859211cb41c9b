"""The speech denoiser as the training loop sees it: a network, batches, a loss, a score."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from train.config import Config
from train.speech.data import SpeechData, SpeechMixer
from train.speech.device import DeviceMixer
from train.speech.dnsmos import QualityModel
from train.speech.loss import (
    SpeechLoss,
    audio_of,
    intelligibility,
    si_sdr_db,
    spectrum_of,
    speech_loss,
)
from train.speech.network import SpeechDenoiser, SpeechNetwork
from train.speech.pack import write_pack


class SpeechRecipe:
    """Trains `SpeechDenoiser` on speech and noise mixed on the fly: by a thread of the processor,
    or from a pack on the run's device."""

    sections: ClassVar[dict[str, type]] = {
        "network": SpeechNetwork,
        "data": SpeechData,
        "loss": SpeechLoss,
    }
    network: SpeechDenoiser

    def __init__(self, config: Config, device: torch.device) -> None:
        self.config, self.device = config, device
        self.mixer = SpeechMixer(config.data)
        self._packed = DeviceMixer(self.mixer, device) if config.data.pack else None
        self.network = SpeechDenoiser(config.network)
        self._quality_model: QualityModel | None = None
        if config.loss.quality and config.loss.quality_model:
            self._quality_model = QualityModel(Path(config.loss.quality_model), device)
        elif config.loss.quality:
            print("no --dnsmos FILE is given: the loss goes without a model of quality", flush=True)
        noisy, clean = self.mixer.validation()
        self._noisy, self._clean = (torch.from_numpy(x).to(device) for x in (noisy, clean))

    def start(self) -> None:
        """Nothing: the network's own start is the one to train from."""

    def batch(self, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        """Noisy segments and their clean targets, float32 (batch_size, segment_samples) each."""
        size = self.config.optimize.batch_size
        if self._packed is not None:
            return self._packed.batch(rng, size)
        noisy, clean = self.mixer.batch(rng, size)
        return torch.from_numpy(noisy), torch.from_numpy(clean)

    def loss(
        self, network: torch.nn.Module, batch: tuple[torch.Tensor, ...], step: int
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of one batch and its parts to plot."""
        noisy, clean = batch
        estimate = network(self.spectrum(noisy))
        # Spectra and powers of 0.3 need the full precision that autocast takes from the network.
        with torch.autocast(noisy.device.type, enabled=False):
            return self.loss_of(estimate.float(), noisy, clean)

    def loss_of(
        self, estimate: torch.Tensor, noisy: torch.Tensor, clean: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of spectra that a network gave for a batch, and its parts."""
        return speech_loss(self.config.loss, estimate, noisy, clean, self._quality_model)

    @torch.no_grad()
    def validate(self, network: torch.nn.Module) -> dict[str, float]:
        """SI-SDR, what it gained, in dB, and intelligibility on held-out speakers and kinds of
        noise. For the score 20 dB weigh as much as all of intelligibility."""
        window = self.config.network.window_samples
        before, after, understood = [], [], []
        for noisy, clean in zip(
            torch.split(self._noisy, 8), torch.split(self._clean, 8), strict=True
        ):
            restored = audio_of(network(self.spectrum(noisy)), window_samples=window)
            # One window alone covers the first and the last hop: they are left out.
            inside = slice(window // 2, restored.shape[1] - window // 2)
            before.append(si_sdr_db(clean[:, inside], noisy[:, inside]))
            after.append(si_sdr_db(clean[:, inside], restored[:, inside]))
            # At the level that the loss works at.
            gain = torch.rsqrt(noisy.square().mean(-1, keepdim=True) + 1e-8)
            heard = intelligibility(restored[:, inside] * gain, clean[:, inside] * gain)
            understood.append(heard)
        si_sdr, gained = torch.cat(after).mean(), (torch.cat(after) - torch.cat(before)).mean()
        return {
            "si_sdr_db": float(si_sdr),
            "si_sdr_gain_db": float(gained),
            "intelligibility": float(torch.cat(understood).mean()),
            "score": -float(si_sdr / 20 + torch.cat(understood).mean()),
        }

    def spectrum(self, audio: torch.Tensor) -> torch.Tensor:
        """Spectra as the network takes them, of audio (batch, samples)."""
        shape = self.config.network
        return spectrum_of(
            audio, window_samples=shape.window_samples, hop_samples=shape.hop_samples
        )

    def data_summary(self) -> dict[str, Any]:
        """How many recordings of speech and noise there are, and where they are from."""
        return self.mixer.summary()

    @staticmethod
    def pack(config: Config, out: Path) -> dict[str, Any]:
        """Write the config's speech and noise into one compact file; what it holds and lost."""
        return write_pack(config.data, out)
