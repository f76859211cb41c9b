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
from train.inspection.data import InspectionData, cells, planes, read_good, whole
from train.inspection.defects import KINDS, with_defect
from train.inspection.network import InspectionNetwork, Inspector

# Held-back images that a validation looks at.
_VALIDATED = 21


@dataclass(frozen=True)
class InspectionLoss:
    """Binary cross-entropy of the map, and `overlap` times one minus the Dice coefficient, which
    counts small defects as much as large ones."""

    overlap: float = 0.1


class InspectionRecipe:
    """Trains `Inspector` on folders of good images."""

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
        self._validation = [*self._held_back()]

    def data_summary(self) -> dict[str, Any]:
        """What is learned from, for the first line of a run and for the model's card."""
        return self.good.summary(self.config.data)

    @staticmethod
    def pack(config: Config, out: Path) -> dict[str, Any]:
        """Not for this family: good images of one product are few. Raises ValueError."""
        raise ValueError(f"task is {config.task!r}, which has no pack: give folders")

    def start(self) -> None:
        """Measure what is usual in the good images that are learned from."""
        self.network.start([planes(whole(image)).to(self.device) for image in self.good.training])

    def batch(self, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        """Pixels (N, 3, crop, crop) and where defects are (N, 1, crop / 4, crop / 4)."""
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
        own: Any = getattr(network, "module", network)
        logits = own.logits(pixels.contiguous(memory_format=torch.channels_last)).float()
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
        good: list[float] = []
        bad: list[float] = []
        entropies = []
        for pixels, where in self._validation:
            found = network(pixels.to(self.device)).float().cpu()
            entropies.append(float(F.binary_cross_entropy_with_logits(found, where)))
            strongest = found.flatten().topk(min(self.config.data.strongest, found.numel()))
            (bad if bool(where.any()) else good).append(float(strongest.values.mean()))
        wins = np.subtract.outer(bad, good)
        area = float((wins > 0).mean() + 0.5 * (wins == 0).mean()) if wins.size else 0.5
        return {"area": area, "score": float(np.mean(entropies))}

    def _held_back(self) -> Any:
        """Held-back images as they are and with one defect each, of all kinds in turn."""
        held = self.good.held[:_VALIDATED]
        for i, image in enumerate(held):
            clean = whole(image)
            rng = np.random.default_rng(i)
            # The same image upside down stands for another one, which may be of another size.
            kind = list(KINDS)[i % len(KINDS)]
            spoiled, where = with_defect(clean, clean[::-1, ::-1], rng, kind)
            for pixels, mask in ((clean, np.zeros_like(where)), (spoiled, where)):
                yield planes(pixels), torch.from_numpy(cells(mask))[None, None]
