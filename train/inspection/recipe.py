"""The detector of defects in images as the training loop sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from train.config import Config
from train.inspection.data import InspectionData, cells, inside, read_good, surrounded, whole
from train.inspection.defects import KINDS, with_defect
from train.inspection.mixture import fitted
from train.inspection.network import MAP_STRIDE, MARGIN, InspectionNetwork, Inspector

# Held-back images that a validation looks at.
_VALIDATED = 21
# Places of good images whose features are kept; one image in so many, and at most so many of them,
# say how many clusters find made defects best; of fewer images than this there is one cluster.
_PLACES, _CHOOSING, _MOST_CHOOSING, _LEAST_IMAGES = 60_000, 4, 24, 12


@dataclass(frozen=True)
class InspectionLoss:
    """Binary cross-entropy of the map, and `overlap` times one minus the Dice coefficient, which
    counts small defects as much as large ones."""

    overlap: float = 0.1


class InspectionRecipe:
    """Fits `Inspector` to folders of good images; its scale alone is trained, on made defects."""

    sections: ClassVar[Mapping[str, type]] = {
        "network": InspectionNetwork,
        "data": InspectionData,
        "loss": InspectionLoss,
    }
    network: Inspector

    def __init__(self, config: Config, device: torch.device) -> None:
        self.config, self.device = config, device
        self.good = read_good(config.data)
        self.network = Inspector(config.network)
        self._validation = [*_spoiled(self.good.held[:_VALIDATED])]

    def data_summary(self) -> dict[str, Any]:
        """What is learned from, for the first line of a run and for the model's card."""
        return self.good.summary(self.config.data)

    @staticmethod
    def pack(config: Config, out: Path) -> dict[str, Any]:
        """Not for this family: good images of one product are few. Raises ValueError."""
        raise ValueError(f"task is {config.task!r}, which has no pack: give folders")

    def start(self) -> None:
        """Measure what is usual in the good images that are learned from.

        With one cluster or with `clusters` of them: whichever tells made defects better from good
        images that it was not fitted to.
        """
        network, training = self.network, self.good.training
        network.take_features()
        rng = np.random.default_rng(self.config.seed)
        features = [self._features(image, len(training), rng) for image in training]
        counts = sorted({1, network.config.clusters})
        if len(counts) > 1 and len(training) >= _LEAST_IMAGES:
            areas = {}
            kept = [one for i, one in enumerate(features) if i % _CHOOSING]
            chosen = [*_spoiled(training[::_CHOOSING][:_MOST_CHOOSING])]
            for count in counts:
                self._fit(kept, count)
                areas[count] = self._area(self._maps(network, chosen), chosen)
            count = max(counts, key=lambda one: areas[one])
        else:
            count = 1
        self._fit(features, count)

    @torch.no_grad()
    def _features(self, image: Any, images: int, rng: np.random.Generator) -> Any:
        """Features of some places of an image, (places, channels)."""
        found = self.network.features(surrounded(whole(image)).to(self.device))
        flat = inside(found)[0].flatten(1).T.cpu().numpy()
        most = max(1, _PLACES // images)
        return flat if len(flat) <= most else flat[rng.choice(len(flat), most, replace=False)]

    def _fit(self, features: list[Any], clusters: int) -> None:
        components = self.network.config.components
        self.network.take(
            fitted(np.concatenate(features), clusters=clusters, components=components)
        )

    @torch.no_grad()
    def _maps(self, network: torch.nn.Module, images: list[Any]) -> list[torch.Tensor]:
        """The maps of images as `_spoiled` gives them, with what is around them."""
        return [network(pixels.to(self.device)) for pixels, _ in images]

    def _area(self, maps: list[torch.Tensor], images: list[Any]) -> float:
        """The area under the curve of the maps of images with made defects against good ones."""
        scores: dict[bool, list[float]] = {False: [], True: []}
        for found, (_, where) in zip(maps, images, strict=True):
            scores[bool(where.any())].append(self._score(found))
        wins = np.subtract.outer(scores[True], scores[False])
        return float((wins > 0).mean() + 0.5 * (wins == 0).mean()) if wins.size else 0.5

    def _score(self, found: torch.Tensor) -> float:
        """An image's score of the map of what is around it too, as the package takes it."""
        edge = MARGIN // MAP_STRIDE
        counted = inside(found)[..., edge:-edge, edge:-edge].flatten()
        strongest = counted.topk(min(self.config.data.strongest, counted.numel()))
        return float(strongest.values.mean())

    def batch(self, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        """Pixels (N, 3, crop, crop) and where defects are (N, 1, crop / 8, crop / 8)."""
        made = [
            self.good.example(rng, self.config.data) for _ in range(self.config.optimize.batch_size)
        ]
        pixels = np.stack([one for one, _ in made]).transpose(0, 3, 1, 2)
        where = np.stack([cells(two) for _, two in made])[:, None]
        return torch.from_numpy(np.ascontiguousarray(pixels)), torch.from_numpy(where)

    def loss(
        self, network: torch.nn.Module, batch: tuple[torch.Tensor, ...], step: int
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of one batch and parts of it to plot."""
        pixels, where = batch
        logits = network(pixels.contiguous(memory_format=torch.channels_last)).float()
        entropy = F.binary_cross_entropy_with_logits(logits, where)
        found = logits.sigmoid()
        overlap = (2 * (found * where).sum() + 1) / (found.sum() + where.sum() + 1)
        return entropy + self.config.loss.overlap * (1 - overlap), {
            "entropy": entropy.detach(),
            "overlap": overlap.detach(),
        }

    @torch.no_grad()
    def validate(self, network: torch.nn.Module) -> dict[str, float]:
        """On held-back images: the area under the curve of made defects against good images,
        and the map's cross-entropy, which is the score."""
        maps = self._maps(network, self._validation)
        entropies = [
            F.binary_cross_entropy_with_logits(inside(found).float().cpu(), where)
            for found, (_, where) in zip(maps, self._validation, strict=True)
        ]
        area = self._area(maps, self._validation)
        return {"area": area, "score": float(np.mean(entropies))}


def _spoiled(images: list[Any]) -> Any:
    """Images as they are and with one defect each, of all kinds in turn: pixels with what is around
    them, and the squares of the map (1, 1, h, w) that hold a defect."""
    for i, image in enumerate(images):
        clean = whole(image)
        rng = np.random.default_rng(i)
        # The same image upside down stands for another one, which may be of another size.
        kind = list(KINDS)[i % len(KINDS)]
        spoiled, where = with_defect(clean, clean[::-1, ::-1], rng, kind)
        for pixels, mask in ((clean, np.zeros_like(where)), (spoiled, where)):
            yield surrounded(pixels), torch.from_numpy(cells(mask))[None, None]
