"""Checks that stand between a checkpoint and a bundle."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class ExportError(Exception):
    """The model cannot be exported; the message says what disagrees and by how much."""


def check_close(
    name: str,
    found: npt.NDArray[np.float32],
    expected: npt.NDArray[np.float32],
    tolerance: float,
) -> None:
    """Raises ExportError if a graph's output differs from torch's in shape, or by more than the
    tolerance."""
    if found.shape != expected.shape:
        raise ExportError(f"the {name} graph gives shape {found.shape}, torch {expected.shape}")
    worst = float(np.abs(found - expected).max())
    if not worst <= tolerance:
        raise ExportError(
            f"the {name} graph at {expected.shape} is {worst:.2g} away from torch, "
            f"allowed {tolerance:.2g}"
        )
