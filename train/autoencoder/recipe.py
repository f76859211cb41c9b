"""An autoencoder as the training loop sees it: a network, batches, a loss, a score."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from train.autoencoder.data import AutoencoderData, augment, read_items
from train.autoencoder.loss import AutoencoderLoss, autoencoder_loss, corrupt, reconstruction_error
from train.autoencoder.network import Autoencoder, AutoencoderNetwork
from train.config import Config

# Of the held-out items, how many are looked at for the score and of the training items, how many
# for the spread of latents: more would not change the figures.
_VALIDATED, _SPREAD = 2000, 20_000


class AutoencoderRecipe:
    """Trains `Autoencoder` on a folder of the user's own data."""

    sections: ClassVar[Mapping[str, type]] = {
        "network": AutoencoderNetwork,
        "data": AutoencoderData,
        "loss": AutoencoderLoss,
    }
    network: Autoencoder

    def __init__(self, config: Config, device: torch.device) -> None:
        self.config, self.device = config, device
        self.items = read_items(config.data, config.network.network, config.seed)
        missing = bool(np.isnan(self.items.training).any() or np.isnan(self.items.validation).any())
        if missing and not config.network.masked:
            raise ValueError(
                "values are missing in the data: [network] masked = true trains with gaps, "
                "or leave the columns out"
            )
        if config.loss.hide and not config.network.masked:
            raise ValueError("[loss] hide needs [network] masked = true")
        if config.loss.kl and not config.network.variational:
            raise ValueError("[loss] kl needs [network] variational = true")
        self.network = Autoencoder(config.network, self.items.shape)
        self._validation = self.items.validation[:_VALIDATED]

    def data_summary(self) -> dict[str, Any]:
        """What is learned from, for the first line of a run and for the model's card."""
        return {
            "items": {
                "folders": list(self.config.data.folders),
                "train": len(self.items.training),
                "held_out": len(self.items.validation),
                "unit": "items of " + " x ".join(map(str, self.items.shape)),
                "skipped": self.items.skipped,
            }
        }

    @staticmethod
    def pack(config: Config, out: Path) -> dict[str, Any]:
        """Not for this family: arrays of a user's own are small, and .npy holds them already."""
        raise ValueError(
            f"task is {config.task!r}, which has no pack: give the data as one .npy or .npz file"
        )

    def start(self) -> None:
        """Fit the normalization and the linear start on the training items."""
        self.network.start_linear(*with_mask(self.items.training))

    def complete(self, taken: tuple[str, ...]) -> None:
        """Fit the rest of the network to parts that were taken from another."""
        x, known = with_mask(self.items.training[:_SPREAD])
        self.network.complete(taken, x.to(self.device), known.to(self.device))

    def batch(self, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        """Items with zeros where a value is missing, and what is known of them.

        Returns:
            float32 (N, *shape) in the data's units, and 0 or 1, float32 (N, *shape).
        """
        chosen = rng.integers(len(self.items.training), size=self.config.optimize.batch_size)
        items = self.items.training[chosen]
        if items.ndim == 4:
            items = augment(items, self.config.data, rng)
        return with_mask(items)

    def loss(
        self, network: torch.nn.Module, batch: tuple[torch.Tensor, ...], step: int
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of one batch and what to plot of it."""
        x, known = batch
        return autoencoder_loss(network, x, known, self.config.loss, step)

    @torch.no_grad()
    def validate(self, network: torch.nn.Module) -> dict[str, float]:
        """Errors on the held-out items in normalized units, and how the latents are used.

        The spread of the latents is fitted on the way: it belongs to these weights.
        """
        assert isinstance(network, Autoencoder)
        self._fit_latents(network)
        x, known = (part.to(self.device) for part in with_mask(self._validation))
        # The same entries are hidden at every validation.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            shown, seen = corrupt(network, x, known, self.config.loss)
        latents, log_variance = network.encode(x, known)
        kind = self.config.loss.reconstruction
        figures = {
            "error": float(reconstruction_error(network, network.decode(latents), x, known, kind)),
            "active_share": active_share(latents, log_variance),
        }
        restored, _, _ = network(shown, seen)
        hidden = known * (1 - seen)
        # What has to be filled in is what counts where something is hidden.
        counted = hidden if self.config.loss.hide and float(hidden.sum()) else known
        figures["score"] = float(reconstruction_error(network, restored, x, counted, kind))
        return figures

    def _fit_latents(self, network: Autoencoder) -> None:
        """Keep the spread of the training items' latents in the network, for sampling."""
        latents = []
        for start in range(0, min(len(self.items.training), _SPREAD), 500):
            x, known = with_mask(self.items.training[start : start + 500])
            latents.append(network.encode(x.to(self.device), known.to(self.device))[0])
        network.fit_latents(torch.cat(latents))


def active_share(latents: torch.Tensor, log_variance: torch.Tensor | None) -> float:
    """The share of latents in use, 0 to 1.

    Of an ordinary code: entries that are not zero. Of a variational one: latents whose mean varies
    over the data with a variance above 0.01 (Burda et al. 2016).

    Args:
        latents: float32 (N, latent), the means of a variational code.
        log_variance: float32 (N, latent) of a variational code, else None.
    """
    if log_variance is None:
        return float((latents.abs() > 1e-6).float().mean())
    return float((latents.var(0) > 0.01).float().mean())


def with_mask(items: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Items (N, *shape) with zeros where a value is missing, and 1 where one is known."""
    known = ~np.isnan(items)
    return (
        torch.from_numpy(np.where(known, items, 0).astype(np.float32)),
        torch.from_numpy(known.astype(np.float32)),
    )
