"""edgeae: compress, denoise and score data with small autoencoders, on the device.

Importing this package loads nothing heavy; its names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeae.autoencoder import Autoencoder
    from edgeae.detector import Detector
    from edgeae.errors import (
        BitstreamError,
        BundleError,
        EdgeaeError,
        MediaError,
        ProviderError,
        UnknownCodec,
    )
    from edgeae.image.codec import ImageCodec
    from edgeae.image.denoiser import ImageDenoiser
    from edgeae.image.detector import ImageDetector
    from edgeae.image.header import Limits
    from edgeae.image.latent import Latent
    from edgeae.inspection import info
    from edgeae.loading import decompress, load
    from edgeae.signal.codec import SignalCodec
    from edgeae.signal.denoiser import SignalDenoiser
    from edgeae.signal.speech_codec import SpeechCodec

__version__ = "0.2.0"

_HOMES = {
    "Autoencoder": "edgeae.autoencoder",
    "BitstreamError": "edgeae.errors",
    "BundleError": "edgeae.errors",
    "Detector": "edgeae.detector",
    "ImageCodec": "edgeae.image.codec",
    "ImageDenoiser": "edgeae.image.denoiser",
    "ImageDetector": "edgeae.image.detector",
    "SignalCodec": "edgeae.signal.codec",
    "SignalDenoiser": "edgeae.signal.denoiser",
    "SpeechCodec": "edgeae.signal.speech_codec",
    "EdgeaeError": "edgeae.errors",
    "Latent": "edgeae.image.latent",
    "Limits": "edgeae.image.header",
    "MediaError": "edgeae.errors",
    "ProviderError": "edgeae.errors",
    "UnknownCodec": "edgeae.errors",
    "decompress": "edgeae.loading",
    "info": "edgeae.inspection",
    "load": "edgeae.loading",
}

__all__ = [
    "Autoencoder",
    "BitstreamError",
    "BundleError",
    "Detector",
    "ImageCodec",
    "ImageDenoiser",
    "ImageDetector",
    "SignalCodec",
    "SignalDenoiser",
    "SpeechCodec",
    "EdgeaeError",
    "Latent",
    "Limits",
    "MediaError",
    "ProviderError",
    "UnknownCodec",
    "__version__",
    "decompress",
    "info",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgeae' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
