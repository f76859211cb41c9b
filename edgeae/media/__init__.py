"""Images, audio and series from files and back; names are loaded when they are first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeae.media.audio import (
        AudioInfo,
        audio_blocks,
        audio_info,
        read_audio,
        read_audio_metadata,
    )
    from edgeae.media.audio_metadata import AudioMetadata
    from edgeae.media.audio_writing import (
        AUDIO_SUFFIXES,
        AudioWriter,
        audio_subtype,
        write_audio,
    )
    from edgeae.media.exif import Metadata
    from edgeae.media.files import atomic_write, keep_time, read_bytes, replacing, rereadable
    from edgeae.media.image_writing import image_writer, write_image
    from edgeae.media.images import IMAGE_SUFFIXES, read_image, read_image_metadata
    from edgeae.media.series import SERIES_SUFFIXES, Series, read_series, write_series

_HOMES = {
    "AUDIO_SUFFIXES": "edgeae.media.audio_writing",
    "AudioInfo": "edgeae.media.audio",
    "AudioMetadata": "edgeae.media.audio_metadata",
    "AudioWriter": "edgeae.media.audio_writing",
    "IMAGE_SUFFIXES": "edgeae.media.images",
    "Metadata": "edgeae.media.exif",
    "SERIES_SUFFIXES": "edgeae.media.series",
    "Series": "edgeae.media.series",
    "atomic_write": "edgeae.media.files",
    "audio_blocks": "edgeae.media.audio",
    "audio_info": "edgeae.media.audio",
    "audio_subtype": "edgeae.media.audio_writing",
    "image_writer": "edgeae.media.image_writing",
    "read_image_metadata": "edgeae.media.images",
    "keep_time": "edgeae.media.files",
    "read_audio": "edgeae.media.audio",
    "read_audio_metadata": "edgeae.media.audio",
    "read_bytes": "edgeae.media.files",
    "rereadable": "edgeae.media.files",
    "read_image": "edgeae.media.images",
    "read_series": "edgeae.media.series",
    "replacing": "edgeae.media.files",
    "write_audio": "edgeae.media.audio_writing",
    "write_image": "edgeae.media.image_writing",
    "write_series": "edgeae.media.series",
}

__all__ = [
    "AUDIO_SUFFIXES",
    "AudioInfo",
    "AudioMetadata",
    "AudioWriter",
    "IMAGE_SUFFIXES",
    "Metadata",
    "SERIES_SUFFIXES",
    "Series",
    "atomic_write",
    "audio_blocks",
    "audio_info",
    "audio_subtype",
    "image_writer",
    "keep_time",
    "read_audio",
    "read_audio_metadata",
    "read_bytes",
    "rereadable",
    "read_image",
    "read_image_metadata",
    "read_series",
    "replacing",
    "write_audio",
    "write_image",
    "write_series",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgeae.media' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
