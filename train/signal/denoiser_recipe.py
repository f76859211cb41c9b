"""A denoiser of 1-D signals as the training loop sees it: a network, batches, a loss, a score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from train.config import Config
from train.signal.denoiser_data import SignalDenoiserData, SignalMixer
from train.signal.denoiser_network import SignalDenoiser, SignalDenoiserNetwork


@dataclass(frozen=True)
class SignalDenoiserLoss:
    """The mean over items of 10 log10 of the error's share of the signal's power.

    Attributes:
        settle_samples: how much of each item's beginning does not count.
        floor_db: an error so far below the signal is as good as none.
    """

    settle_samples: int = 180
    floor_db: float = 40.0


class SignalDenoiserRecipe:
    """Trains `SignalDenoiser` on signals and noise mixed on the fly."""

    sections: ClassVar[Mapping[str, type]] = {
        "network": SignalDenoiserNetwork,
        "data": SignalDenoiserData,
        "loss": SignalDenoiserLoss,
    }
    network: SignalDenoiser

    def __init__(self, config: Config, device: torch.device) -> None:
        self.config, self.device = config, device
        if config.data.segment_samples % config.network.hop_samples:
            raise ValueError(
                f"segment_samples is {config.data.segment_samples}, expected a multiple of the "
                f"hop, {config.network.hop_samples}"
            )
        self.mixer = SignalMixer(config.data, config.network.rate_hz)
        self.network = SignalDenoiser(config.network)
        self._validation = {
            kind: (torch.from_numpy(noisy), torch.from_numpy(clean))
            for kind, (noisy, clean) in self.mixer.validation().items()
        }

    def data_summary(self) -> dict[str, Any]:
        """How many minutes of signals and noise there are, and where they are from."""
        return self.mixer.summary()

    @staticmethod
    def pack(config: Config, out: Path) -> dict[str, Any]:
        """Not for this family: a few hours of one channel are read in seconds."""
        raise ValueError(f"task is {config.task!r}, which has no pack: give folders")

    def start(self) -> None:
        """Nothing: an untrained network gives its input back."""

    def batch(self, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        """Noisy segments and their clean targets, float32 (batch_size, segment_samples) each."""
        noisy, clean = self.mixer.batch(rng, self.config.optimize.batch_size)
        return torch.from_numpy(noisy), torch.from_numpy(clean)

    def loss(
        self, network: torch.nn.Module, batch: tuple[torch.Tensor, ...], step: int
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of one batch: minus the signal-to-noise ratio in dB."""
        noisy, clean = batch
        snr_db = self._snr_db(network(noisy).float(), clean)
        return -snr_db.mean(), {"snr_db": snr_db.mean().detach()}

    @torch.no_grad()
    def validate(self, network: torch.nn.Module) -> dict[str, float]:
        """SNR in dB of held-out signals in held-out noise, of each kind; the score is minus the
        mean over the kinds."""
        figures = {}
        for kind, (noisy, clean) in self._validation.items():
            estimate = network(noisy.to(self.device))
            figures[f"snr_db_{kind}"] = float(self._snr_db(estimate, clean.to(self.device)).mean())
        figures["score"] = -float(np.mean(list(figures.values())))
        return figures

    def _snr_db(self, estimate: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
        """Of each item (N,), once the estimate's delay is taken off."""
        late, settle = self.config.network.lookahead_samples, self.config.loss.settle_samples
        error = estimate[:, late:] - clean[:, : clean.shape[1] - late]
        power = clean.square().mean(1)
        share = error[:, settle:].square().mean(1) / power.clamp_min(1e-12)
        return -10 * torch.log10(share + 10 ** (-self.config.loss.floor_db / 10))
