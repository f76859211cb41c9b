"""One file that holds a run: what it was told, its weights, and all that is needed to go on
exactly."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import torch

from train.config import Config, ConfigError, config_from_dict

FORMAT = 1
# The checkpoints that come with the project, by the names of their models.
SHIPPED = Path(__file__).parent / "checkpoints"
# What export needs; a run's last checkpoint holds more, to go on from.
_KEYS = {"averaged", "best", "config", "history", "seconds", "step"}


class CheckpointError(Exception):
    """The checkpoint cannot be used."""


def save_checkpoint(file: Path, config: Config, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically: a run killed while saving keeps its last one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    torch.save({"format": FORMAT, "config": dataclasses.asdict(config), **state}, temporary)
    os.replace(temporary, file)


def load_checkpoint(file: Path) -> tuple[Config, dict[str, Any]]:
    """The configuration and the state that a checkpoint holds. Only tensors and plain values are
    unpickled.

    Raises:
        CheckpointError: missing, unreadable, of another format, or from a configuration no longer
            understood.
    """
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"no checkpoint at {file}") from None
    except Exception as error:  # torch raises many kinds for a damaged file
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{file} is not a readable checkpoint: {reason}") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{file} is not a checkpoint of format {FORMAT}")
    if missing := sorted(_KEYS - state.keys()):
        raise CheckpointError(f"{file} lacks {', '.join(missing)}")
    try:
        config = config_from_dict(state["config"])
    except ConfigError as error:
        raise CheckpointError(f"{file}: {error}") from None
    return config, state


def find_checkpoint(name: str) -> Path:
    """The file of a shipped checkpoint's name, such as "photo-codec", or a file's path as it is.

    Raises CheckpointError, naming what ships, if there is neither.
    """
    file = Path(name)
    shipped = {path.stem: path for path in sorted(SHIPPED.glob("*.pt"))}
    if not file.exists() and name in shipped:
        return shipped[name]
    if not file.exists():
        raise CheckpointError(f"no checkpoint at {name}, nor one of {', '.join(shipped)}")
    return file
