"""edgeae: compress, denoise and score data with small autoencoders, on the device.

Importing this package loads nothing heavy; its names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeae.bitstream import Limits
    from edgeae.codec import Codec, Latent, decompress
    from edgeae.denoiser import Denoiser
    from edgeae.errors import (
        BitstreamError,
        BundleError,
        EdgeaeError,
        MediaError,
        ProviderError,
        UnknownCodec,
    )
    from edgeae.loading import load

__version__ = "0.1.0"

_HOMES = {
    "BitstreamError": "edgeae.errors",
    "BundleError": "edgeae.errors",
    "Codec": "edgeae.codec",
    "Denoiser": "edgeae.denoiser",
    "EdgeaeError": "edgeae.errors",
    "Latent": "edgeae.codec",
    "Limits": "edgeae.bitstream",
    "MediaError": "edgeae.errors",
    "ProviderError": "edgeae.errors",
    "UnknownCodec": "edgeae.errors",
    "decompress": "edgeae.codec",
    "load": "edgeae.loading",
}

__all__ = [
    "BitstreamError",
    "BundleError",
    "Codec",
    "Denoiser",
    "EdgeaeError",
    "Latent",
    "Limits",
    "MediaError",
    "ProviderError",
    "UnknownCodec",
    "__version__",
    "decompress",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgeae' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
