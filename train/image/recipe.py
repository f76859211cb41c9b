"""The photo codec as the training loop sees it: a network, batches, a loss, a score."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from train.config import Config
from train.image.data import PhotoData, Photos
from train.image.device import ResidentPhotos
from train.image.loss import RateDistortion, distortion, rate_distortion
from train.image.network import (
    LEARNED_QUALITIES,
    STRIDE,
    PhotoCodec,
    PhotoNetwork,
    distortion_weight,
)
from train.image.pack import PackedPhotos, write_pack


class ImageRecipe:
    """Trains `PhotoCodec` for every quality level at once."""

    sections: ClassVar[dict[str, type]] = {
        "network": PhotoNetwork,
        "data": PhotoData,
        "loss": RateDistortion,
    }
    network: PhotoCodec

    def __init__(self, config: Config, device: torch.device) -> None:
        if config.data.crop_pixels < STRIDE or config.data.crop_pixels % STRIDE:
            raise ValueError(
                f"crop_pixels is {config.data.crop_pixels}, expected a multiple of {STRIDE}"
            )
        self.config, self.device = config, device
        self.photos: Photos | PackedPhotos | ResidentPhotos
        if config.data.pack:
            self.photos = PackedPhotos(Path(config.data.pack), config.data, device)
        else:
            photos = Photos(config.data)
            # On a GPU batches are cut there: a processor would not keep up.
            self.photos = photos if device.type == "cpu" else ResidentPhotos(photos, device)
        self.network = PhotoCodec(config.network)
        self._held_out = self.photos.held_out_crops(
            max(config.data.crop_pixels, 256) // STRIDE * STRIDE
        )

    def start(self) -> None:
        """Give a new network its linear start; a resumed one has its weights already."""
        rng = np.random.default_rng(self.config.seed)
        drawn = torch.cat([self.photos.batch(rng, 256) for _ in range(4)])
        crops = drawn.permute(0, 2, 3, 1).cpu().numpy()
        count, side = crops.shape[0], crops.shape[1] // STRIDE
        blocks = crops[:, : side * STRIDE, : side * STRIDE].reshape(
            count, side, STRIDE, side, STRIDE, 3
        )
        blocks = blocks.transpose(0, 1, 3, 2, 4, 5).reshape(-1, STRIDE, STRIDE, 3)
        self.network.start_linear(blocks)

    def batch(self, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        """Crops uint8 (N, 3, crop, crop) and quality levels (N,), spread evenly over [0, 1]."""
        size = self.config.optimize.batch_size
        level = (rng.permutation(size) + rng.random(size)) / size
        return self.photos.batch(rng, size), torch.from_numpy(level.astype(np.float32))

    def loss(
        self, network: torch.nn.Module, batch: tuple[torch.Tensor, ...], step: int
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of one batch and what to plot of it."""
        pixels = batch[0].contiguous(memory_format=torch.channels_last).float() / 255
        # Contexts see the level as one of 64ths, the file says it so too.
        level = (batch[1] * 64).round() / 64
        restored, bits = network(pixels, level)
        efforts = list(self.config.network.encoders)
        scalars: dict[str, torch.Tensor] = {}
        total = pixels.new_zeros(())
        for effort, image, some in zip(
            efforts, restored.float().chunk(len(efforts)), bits.chunk(len(efforts)), strict=True
        ):
            loss, rate = rate_distortion(pixels, image, some, level, self.config.loss)
            total = total + loss / len(efforts)
            scalars[f"bits_per_pixel_{effort}"] = rate.detach().mean()
            scalars[f"psnr_db_{effort}"] = _psnr_db(pixels, image.detach()).mean()
        return total, scalars

    @torch.no_grad()
    def validate(self, network: torch.nn.Module) -> dict[str, float]:
        """Rate and quality of every effort at three levels on the held-out images; its score is the
        mean logarithm of the loss, and the score of the whole the mean of theirs."""
        figures: dict[str, float] = {}
        efforts = list(self.config.network.encoders)
        losses: dict[str, list[float]] = {effort: [] for effort in efforts}
        for quality in (2, 5, 8):
            level = torch.tensor([(quality - 1) / (LEARNED_QUALITIES - 1)], device=self.device)
            rates, errors, psnrs = [], [], []
            for crop in torch.split(self._held_out, 4):
                pixels = crop.to(self.device).float() / 255
                restored, bits = network(pixels, level.expand(len(pixels)))
                wanted = pixels.repeat(len(efforts), 1, 1, 1)
                restored = restored.float().clamp(0, 1)
                rates.append((bits / (pixels.shape[2] * pixels.shape[3])).view(len(efforts), -1))
                error = distortion(wanted, restored, self.config.loss)
                errors.append(error.view(len(efforts), -1))
                psnrs.append(_psnr_db(wanted, restored).view(len(efforts), -1))
            weight = float(distortion_weight(level))
            rate, error = torch.cat(rates, 1).cpu(), torch.cat(errors, 1).cpu()
            psnr = torch.cat(psnrs, 1).cpu()
            for i, effort in enumerate(efforts):
                figures[f"bits_per_pixel_{effort}_q{quality}"] = float(rate[i].mean())
                figures[f"psnr_db_{effort}_q{quality}"] = float(psnr[i].mean())
                # In relative terms, so that no level rules the score.
                losses[effort].append(float((rate[i] + weight * error[i]).mean().log()))
        for effort in efforts:
            figures[f"score_{effort}"] = float(np.mean(losses[effort]))
        figures["score"] = float(np.mean([figures[f"score_{effort}"] for effort in efforts]))
        return figures

    def data_summary(self) -> dict[str, Any]:
        """How many photographs there are, and where they are from."""
        return {"photographs": self.photos.summary()}

    @staticmethod
    def pack(config: Config, out: Path) -> dict[str, Any]:
        """Write crops of the config's photographs into one file; what it holds."""
        return write_pack(config.data, out)


def _psnr_db(pixels: torch.Tensor, restored: torch.Tensor) -> torch.Tensor:
    return -10 * (restored - pixels).square().mean((1, 2, 3)).log10()
