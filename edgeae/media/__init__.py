"""Images, audio and series from files and back; names are loaded when they are first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeae.media import read_audio, read_image, write_audio, write_image

__all__ = ["read_audio", "read_image", "write_audio", "write_image"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'edgeae.media' has no attribute {name!r}")
    from edgeae.media import files

    return getattr(files, name)


def __dir__() -> list[str]:
    return sorted(__all__)
