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
    """Holds a graph's output to torch's.

    Args:
        name: what messages call the graph.
        found, expected: its output and torch's, float32 of any shape.
        tolerance: the largest difference that may be, in units of the output.

    Raises:
        ExportError: another shape, or a larger difference.
    """
    if found.shape != expected.shape:
        raise ExportError(f"the {name} graph gives shape {found.shape}, torch {expected.shape}")
    worst = float(np.abs(found - expected).max())
    if not worst <= tolerance:
        raise ExportError(
            f"the {name} graph at {expected.shape} is {worst:.2g} away from torch, "
            f"expected at most {tolerance:.2g}"
        )
