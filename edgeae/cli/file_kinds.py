"""Whether what an .eae file holds can become what it is asked to become."""

from __future__ import annotations

from edgeae.errors import BitstreamError
from edgeae.loading import file_info

__all__ = ["check_kind"]

# What a file of a kind is called, and a suffix that it may get.
_KINDS = {"image": ("an image", "png"), "signal": ("a series", "csv"), "audio": ("speech", "wav")}


def check_kind(blob: bytes, *kinds: str, damaged: bool = False) -> None:
    """BitstreamError if a file, or a live stream that was kept, holds another kind of data, or none
    that can be told; what may be `damaged` need not tell."""
    try:
        kind = file_info(blob)["kind"]
    except BitstreamError:
        if damaged:
            return
        raise
    if kind in kinds or kind not in _KINDS:
        return
    what, suffix = _KINDS[kind]
    advice = f"expected OUT to end in .{suffix}, or --to {suffix} for a folder"
    if kind == "audio":
        advice += ", or --pcm for -"
    raise BitstreamError(f"the file holds {what}: {advice}")
