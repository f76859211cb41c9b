"""The one table of model families: a config's task names the recipe that the loop trains by.

A new family is a module with a recipe, and a row here. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    import numpy as np
    import torch

    from train.config import Config

__all__ = ["RECIPES", "Option", "Recipe", "Row", "recipe_class"]


class Recipe(Protocol):
    """What the loop needs of a model family: a network, batches, a loss, a score.

    A recipe's class is called with a `Config` and a `torch.device`, and reads its data then: what
    is wrong with them is a ValueError before the first step. `sections` of the class says which
    dataclasses a config's `network`, `data` and `loss` are. A recipe may have `complete(taken)`,
    which fits the rest of the network to parts that were taken from another, and `revive()`, which
    mends what is idle of weights that a run begins with.
    """

    network: torch.nn.Module

    def start(self) -> None:
        """Give a new network what it is to begin from; a resumed one has its weights already."""

    def batch(self, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        """One batch, drawn from `rng` alone; its first axis is the item."""

    def loss(
        self, network: torch.nn.Module, batch: tuple[torch.Tensor, ...], step: int
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of a batch on the run's device, and parts of it to plot.

        `network` is called as the recipe's own; it may be wrapped for several processes.
        """

    def validate(self, network: torch.nn.Module) -> dict[str, float]:
        """Figures on held-out data; "score" is among them, and lower is better."""

    def data_summary(self) -> dict[str, Any]:
        """What is learned from, for the first line of a run and for the model's card: kind of file
        -> `folders`, `train`, `held_out` (counts), `unit` and `skipped` (file names and why)."""


@dataclass(frozen=True)
class Option:
    """An option of the command line that sets `key` of a config's `section`: folders, or a file."""

    section: str
    key: str
    help: str
    folders: bool = True


@dataclass(frozen=True)
class Row:
    """Where a recipe's class is, and the options that name its data."""

    module: str
    recipe: str
    options: Mapping[str, Option]


_PACK = Option(
    "data", "pack", "a file that `python -m train.pack` wrote, instead of folders", folders=False
)

RECIPES: dict[str, Row] = {
    "autoencoder": Row(
        "train.autoencoder.recipe",
        "AutoencoderRecipe",
        {"data": Option("data", "folders", "folders of tables, series or pictures")},
    ),
    "detector": Row(
        "train.detector.recipe",
        "DetectorRecipe",
        {"data": Option("data", "folders", "folders of normal series, or of an ECG's records")},
    ),
    "image-detector": Row(
        "train.inspection.recipe",
        "InspectionRecipe",
        {"data": Option("data", "folders", "folders of good images")},
    ),
    "photo-codec": Row(
        "train.image.recipe",
        "ImageRecipe",
        {"photos": Option("data", "folders", "folders of photographs"), "pack": _PACK},
    ),
    "photo-denoiser": Row(
        "train.denoiser.recipe",
        "DenoiserRecipe",
        {"photos": Option("data", "folders", "folders of photographs"), "pack": _PACK},
    ),
    "signal-codec": Row(
        "train.signal.codec_recipe",
        "SignalCodecRecipe",
        {"data": Option("data", "folders", "folders of series, or of an ECG's records")},
    ),
    "signal-denoiser": Row(
        "train.signal.denoiser_recipe",
        "SignalDenoiserRecipe",
        {
            "data": Option("data", "clean", "folders of clean series, or of an ECG's records"),
            "noise": Option("data", "noise", "folders of noise"),
        },
    ),
    "speech-codec": Row(
        "train.speech.codec_recipe",
        "SpeechCodecRecipe",
        {
            "speech": Option("data", "speech", "folders of clean speech"),
            "noise": Option("data", "noise", "folders of noise"),
            "pack": _PACK,
        },
    ),
    "speech-denoiser": Row(
        "train.speech.recipe",
        "SpeechRecipe",
        {
            "speech": Option("data", "speech", "folders of clean speech"),
            "noise": Option("data", "noise", "folders of noise"),
            "dnsmos": Option(
                "loss",
                "quality_model",
                "what `python -m export.dnsmos FILE` wrote: a model of speech quality for the loss",
                folders=False,
            ),
            "pack": _PACK,
        },
    ),
}


class RecipeClass(Protocol):
    """The class of a recipe."""

    sections: Mapping[str, type]

    def __call__(self, config: Config, device: torch.device) -> Recipe: ...

    def pack(self, config: Config, out: Any) -> dict[str, Any]:
        """Write the config's data into one compact file; what it holds and what was lost."""


def recipe_class(task: str) -> RecipeClass:
    """The recipe of a config's task. Raises KeyError for a task that is not in the table."""
    row = RECIPES[task]
    return cast(RecipeClass, getattr(importlib.import_module(row.module), row.recipe))
