"""The photo denoiser as the training loop sees it: a network, batches, a loss, a score."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from train.config import Config
from train.denoiser.damage import Damage, damaged, hole_mask
from train.denoiser.dead_units import dead_units, revive
from train.denoiser.interpolation import smooth_fill
from train.denoiser.network import LEVEL_STRIDE, DenoiserNetwork, PhotoDenoiser
from train.image.data import PhotoData, Photos
from train.image.pack import PackedPhotos, write_pack

# Validation: Gaussian noise of these standard deviations in 8-bit values.
LEVELS = (15, 25, 50)
# Errors below one 8-bit value count as such; in holes those below 8, as what is smooth is filled
# well already and would have most of the gradient.
_FLOOR, _HOLE_FLOOR = (1 / 255) ** 2, (8 / 255) ** 2
# Of so many batches, a unit that none turns on is dead.
_REVIVAL_BATCHES = 8


@dataclass(frozen=True)
class RestorationData(PhotoData):
    """Where clean photographs come from, and what is done to them."""

    damage: Damage = Damage()


@dataclass(frozen=True)
class Restoration:
    """The mean over a batch of the logarithm of each image's mean squared error, which is PSNR.

    Of an image with holes and noise, holes and the rest count half each; of one with holes alone,
    holes do. `estimated` is the share of images that the network restores with the noise level
    that it estimates, instead of the true one; the estimator's own loss is apart.
    """

    estimated: float = 0.5


class DenoiserRecipe:
    """Trains `PhotoDenoiser`."""

    sections: ClassVar[dict[str, type]] = {
        "network": DenoiserNetwork,
        "data": RestorationData,
        "loss": Restoration,
    }
    network: PhotoDenoiser

    def __init__(self, config: Config, device: torch.device) -> None:
        stride = config.network.stride
        if config.data.crop_pixels < stride or config.data.crop_pixels % stride:
            raise ValueError(
                f"crop_pixels is {config.data.crop_pixels}, expected a multiple of {stride}"
            )
        self.config, self.device = config, device
        self.photos: Photos | PackedPhotos
        if config.data.pack:
            self.photos = PackedPhotos(Path(config.data.pack), config.data, device)
        else:
            self.photos = Photos(config.data)
        self.network = PhotoDenoiser(config.network)
        side = max(config.data.crop_pixels, 256) // stride * stride
        self._held_out = self.photos.held_out_crops(side).cpu()

    def start(self) -> None:
        """A new network begins as the identity by itself."""

    def revive(self) -> None:
        """Make units anew that answer to none of some training images, of weights begun from."""
        rng = np.random.default_rng((self.config.seed, 2**32 + 1))
        batches = [self.batch(rng)[1:] for _ in range(_REVIVAL_BATCHES)]
        parts = [[part.to(self.device) for part in batch] for batch in batches]
        count = revive(self.network, lambda: [self.network(*part) for part in parts])
        print(f"dead units made anew: {count}", flush=True)

    def batch(self, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        """Clean and damaged pixels (N, 3, crop, crop), noise level and known (N, 1, crop, crop)."""
        size = self.config.optimize.batch_size
        crops = self.photos.batch(rng, size).permute(0, 2, 3, 1).cpu().numpy()
        parts: list[list[np.ndarray]] = [[], [], [], []]
        for crop in crops:
            whole, left = damaged(crop, rng, self.config.data.damage)
            found = (whole, left.pixels, left.level[:, :, None], left.known[:, :, None])
            for part, values in zip(parts, found, strict=True):
                part.append(values)
        clean, pixels, level, known = (
            torch.from_numpy(np.stack(part)).permute(0, 3, 1, 2) for part in parts
        )
        pixels, known = self._seen(pixels, known.float()), known.float()
        # The level is told, and estimated, for squares.
        level = F.avg_pool2d(level, LEVEL_STRIDE)
        # Some users know the level only roughly.
        wrong = np.exp(rng.normal(0, 0.05, (size, 1, 1, 1))).astype(np.float32)
        estimated = rng.random((size, 1, 1, 1)) < self.config.loss.estimated
        # Holes of clean images are filled as such, whatever the estimator takes their edges for.
        estimated &= (level.amax((1, 2, 3)) > 0).numpy()[:, None, None, None]
        return (
            clean,
            pixels,
            level,
            known,
            torch.from_numpy(wrong),
            torch.from_numpy(estimated),
        )

    def _seen(self, pixels: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Pixels (N, 3, H, W) as the network is given them."""
        return smooth_fill(pixels, known) if self.config.network.smooth_holes else pixels

    def loss(
        self, network: torch.nn.Module, batch: tuple[torch.Tensor, ...], step: int
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of one batch and what to plot of it."""
        clean, pixels, level, known, wrong, estimated = batch
        clean, pixels = (x.contiguous(memory_format=torch.channels_last) for x in (clean, pixels))
        restored, found = network(pixels, level, known, wrong, estimated)
        square = (restored.float() - clean).square().mean(1, keepdim=True)
        hole = 1 - known
        area = hole.mean((1, 2, 3))
        with_hole = (area > 0).float()
        noisy = (level.amax((1, 2, 3)) > 0).float()
        in_hole = (square * hole).mean((1, 2, 3)) / area.clamp_min(1e-6)
        rest = (square * known).mean((1, 2, 3)) / (1 - area).clamp_min(1e-6)
        share = with_hole * (1 - 0.5 * noisy)
        each = share * (in_hole + _HOLE_FLOOR).log() + (1 - share) * (rest + _FLOOR).log()
        # Holes hide the noise of what was there.
        seen = F.avg_pool2d(known, LEVEL_STRIDE)
        error = found - level
        counted = seen / seen.sum().clamp_min(1)
        off = (error.abs() * counted).sum()
        # A level told too low leaves noise, which costs more than detail that one too high takes.
        low = (error.clamp_max(0).abs() * counted).sum()
        loss = each.mean() + 20 * (off + low)
        plain = (1 - with_hole) * noisy
        count = plain.sum().clamp_min(1)
        return loss, {
            "psnr_db": (-10 * rest.clamp_min(1e-9).log10() * plain).sum() / count,
            "hole_psnr_db": (-10 * in_hole.clamp_min(1e-9).log10() * with_hole).sum()
            / with_hole.sum().clamp_min(1),
            "level_error": 255 * off,
        }

    @torch.no_grad()
    def validate(self, network: torch.nn.Module) -> dict[str, float]:
        """PSNR on the held-out images under Gaussian noise, told and blind, and in holes if there
        are any in training; the score is the mean of what is lost to 60 dB. `dead_units` counts
        those that nothing of it turns on."""
        figures: dict[str, float] = {}
        dead = dead_units(network, lambda: figures.update(self._quality(network)))
        figures["score"] = 60 - float(np.mean(list(figures.values())))
        figures["dead_units"] = float(sum(units.sum() for units in dead.values()))
        return figures

    def _quality(self, network: torch.nn.Module) -> dict[str, float]:
        """The figures of `validate` in dB."""
        figures: dict[str, float] = {}
        rng = np.random.default_rng(0)
        clean = self._held_out.float() / 255
        ones = torch.ones_like(clean[:, :1])
        for sigma in LEVELS:
            noise = torch.from_numpy(rng.standard_normal(clean.shape, np.float32))
            noisy = clean + sigma / 255 * noise
            level = torch.full_like(ones, sigma / 255)
            figures[f"psnr_db_{sigma}"] = self._psnr_db(network, clean, noisy, level, ones)
            if sigma == 25:
                figures["blind_db_25"] = self._psnr_db(network, clean, noisy, None, ones)
        if not self.config.data.damage.holes:
            return figures
        side = clean.shape[2]
        masks = [~hole_mask((side, side), rng) for _ in range(len(clean))]
        known = torch.from_numpy(np.stack(masks)[:, None]).float()
        seen = self._seen(clean, known)
        figures["hole_db"] = self._psnr_db(network, clean, seen, 0 * ones, known)
        return figures

    def _psnr_db(
        self,
        network: torch.nn.Module,
        clean: torch.Tensor,
        noisy: torch.Tensor,
        level: torch.Tensor | None,
        known: torch.Tensor,
    ) -> float:
        """Mean PSNR in dB where `known` is 1, or in holes if there are any."""
        found = []
        for i in range(len(clean)):
            parts = [x[i : i + 1].to(self.device) for x in (clean, noisy, known)]
            there = None if level is None else level[i : i + 1].to(self.device)
            if there is None:
                there = network.blind_level(parts[1])  # type: ignore[operator]
            restored = network.restore(parts[1], there, parts[2])  # type: ignore[operator]
            counted = 1 - parts[2] if bool((parts[2] < 1).any()) else parts[2]
            square = (restored.clamp(0, 1) - parts[0]).square().mean(1, keepdim=True)
            found.append(float(-10 * ((square * counted).sum() / counted.sum()).log10()))
        return float(np.mean(found))

    def data_summary(self) -> dict[str, Any]:
        """How many photographs there are, and where they are from."""
        return {"photographs": self.photos.summary()}

    @staticmethod
    def pack(config: Config, out: Path) -> dict[str, Any]:
        """Write crops of the config's photographs into one file; what it holds."""
        return write_pack(config.data, out)
