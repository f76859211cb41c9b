"""The quantized latent of one image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.coding.context import SYMBOL_LIMIT
from edgeae.coding.rate import LEVELS
from edgeae.image.header import CHANNELS

__all__ = ["Latent", "checked"]


@dataclass(frozen=True)
class Latent:
    """Quantized latent of one image and its metadata.

    Attributes:
        symbols: integers (channels, ceil(height / stride), ceil(width / stride)), latents in
            quantization steps, -30000 to 30000; `encode` gives int32.
        level: quantization level, 0 (coarsest) to 64.
        height, width: pixels of the image.
        channels: 1, 3 or 4 of an image (H, W, channels), 0 for (H, W).
        alpha: transparency, kept exactly, uint8 (height, width), if there are 4 channels.
    """

    symbols: npt.NDArray[Any]
    level: int
    height: int
    width: int
    channels: int = 3
    alpha: npt.NDArray[np.uint8] | None = None


def checked(latent: Latent, *, channels: int, stride: int) -> Latent:
    """The latent itself, of a codec of so many latent channels of `stride` pixels.

    Raises:
        TypeError: level, height, width or channels are no integers, or an array is masked.
        ValueError: shape, level or values are not those of this codec's latents.
    """
    for name in ("level", "height", "width", "channels"):
        value = getattr(latent, name)
        if not isinstance(value, int | np.integer) or isinstance(value, bool):
            raise TypeError(f"{name} is {value!r}, expected an integer")
    if latent.height < 1 or latent.width < 1:
        raise ValueError(f"the latent is of {latent.width} x {latent.height} pixels, expected some")
    expected = (channels, -(-latent.height // stride), -(-latent.width // stride))
    symbols: Any = latent.symbols
    for name, array in (("symbols", symbols), ("alpha", latent.alpha)):
        if isinstance(array, np.ma.MaskedArray):
            raise TypeError(f"{name} is a masked array, expected a plain one")
        if array is not None and not isinstance(array, np.ndarray):
            raise TypeError(f"{name} is {type(array).__name__}, expected an array")
    if latent.symbols.shape != expected:
        raise ValueError(f"symbols have shape {latent.symbols.shape}, expected {expected}")
    if latent.channels not in CHANNELS:
        raise ValueError(f"channels is {latent.channels}, expected one of {CHANNELS}")
    if (latent.alpha is not None) != (latent.channels == 4):
        came, needed = ("None", "an array") if latent.alpha is None else ("an array", "None")
        raise ValueError(f"alpha is {came}, expected {needed} of {latent.channels} channels")
    if latent.alpha is not None and (
        latent.alpha.dtype != np.uint8 or latent.alpha.shape != (latent.height, latent.width)
    ):
        raise ValueError(
            f"alpha is {latent.alpha.dtype} {latent.alpha.shape}, "
            f"expected uint8 {(latent.height, latent.width)}"
        )
    if not 0 <= latent.level < LEVELS:
        raise ValueError(f"level is {latent.level}, expected 0 to {LEVELS - 1}")
    if latent.symbols.dtype.kind != "i":
        raise ValueError(f"symbols are {latent.symbols.dtype}, expected signed integers")
    if max(-int(latent.symbols.min()), int(latent.symbols.max())) > SYMBOL_LIMIT:
        raise ValueError(f"symbols reach further, expected -{SYMBOL_LIMIT} to {SYMBOL_LIMIT}")
    return latent
