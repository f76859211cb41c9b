"""A detector as the training loop sees it: a network, batches, a loss, a score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from train.config import Config
from train.detector.data import DetectorData, data_summary, read_normal
from train.detector.network import Detector, DetectorNetwork

# Windows that the usual errors are measured on: more would not change them.
_MEASURED = 20_000
# Windows that are validated.
_VALIDATED = 2000


@dataclass(frozen=True)
class DetectorLoss:
    """Mean squared error of what comes back, in normalized units.

    Attributes:
        noise: standard deviation of Gaussian noise on the input, as a share of each channel's own.
        gain_db: how much louder or softer a window may be.
    """

    noise: float = 0.0
    gain_db: float = 0.0


class DetectorRecipe:
    """Trains `Detector` on folders of normal series."""

    sections: ClassVar[Mapping[str, type]] = {
        "network": DetectorNetwork,
        "data": DetectorData,
        "loss": DetectorLoss,
    }
    network: Detector

    def __init__(self, config: Config, device: torch.device) -> None:
        self.config, self.device = config, device
        self.normal = read_normal(config.data)
        _, samples, channels = self.normal.training.shape
        self.network = Detector(config.network, (samples, channels))
        spread = self.normal.training.std((0, 1))
        self._noise = torch.from_numpy(spread * np.float32(config.loss.noise))
        # Of all that is held back, as much of its beginning as of its end.
        held = self.normal.validation
        self._validation = torch.from_numpy(held[:: -(-len(held) // _VALIDATED)])
        self._held: torch.Tensor | None = None
        if config.network.usual == "both":
            held = self.normal.held_windows(config.data.train_hop)
            self._held = torch.from_numpy(held[:: -(-len(held) // _MEASURED)]).to(device)

    def data_summary(self) -> dict[str, Any]:
        """What is learned from, for the first line of a run and for the model's card."""
        return data_summary(self.config.data, self.normal)

    @staticmethod
    def pack(config: Config, out: Path) -> dict[str, Any]:
        """Not for this family: series of a user's own are small, and .npy holds them already."""
        raise ValueError(f"task is {config.task!r}, which has no pack: give folders")

    def start(self) -> None:
        """Fit the normalization and the linear start on the training windows."""
        self.network.start(torch.from_numpy(self.normal.training))

    def batch(self, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        """Windows as they are shown and as they are wanted, (batch_size, samples, channels)."""
        chosen = rng.integers(len(self.normal.training), size=self.config.optimize.batch_size)
        windows = self.normal.training[chosen]
        if self.config.loss.gain_db:
            gain_db = rng.uniform(-1, 1, (len(windows), 1, 1)) * self.config.loss.gain_db
            windows = windows * (10 ** (gain_db / 20)).astype(np.float32)
        wanted = torch.from_numpy(np.ascontiguousarray(windows))
        shown = wanted
        if self.config.loss.noise:
            noise = rng.standard_normal(windows.shape, np.float32)
            shown = wanted + torch.from_numpy(noise) * self._noise
        return shown, wanted

    def loss(
        self, network: torch.nn.Module, batch: tuple[torch.Tensor, ...], step: int
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of one batch. The averaged weights, not `network`'s, know what is usual."""
        shown, wanted = batch
        own: Any = getattr(network, "module", network)
        error = own.residual(shown, own.features(wanted)).square().mean()
        return error, {"error": error.detach()}

    @torch.no_grad()
    def validate(self, network: torch.nn.Module) -> dict[str, float]:
        """The error of held-back windows in normalized units, as the score.

        What errors are usual is measured on the way: it belongs to these weights.
        """
        assert isinstance(network, Detector)
        training = self.normal.training
        step = max(1, len(training) // _MEASURED)
        shown = torch.from_numpy(training[::step]).to(self.device)
        network.fit_usual(shown, self._held)
        errors = [
            network.residual(part, network.features(part)).square().mean((1, 2))
            for part in self._validation.to(self.device).split(256)
        ]
        return {"score": float(torch.cat(errors).mean())}
