"""Everything edgeae raises on purpose, besides plain ValueError and TypeError for misuse.

EdgeaeError
├── BundleError           missing file, wrong hash, unknown format, wrong task, unsafe graph
├── BitstreamError        (also ValueError) not an .eae file, truncated, damaged, over a limit
│   └── UnknownCodec      made by another model: .codec_id
├── ProviderError         asked for a provider this machine cannot give: .asked .available
└── MediaError            unreadable or cut-off input file
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "BitstreamError",
    "BundleError",
    "EdgeaeError",
    "MediaError",
    "ProviderError",
    "UnknownCodec",
]


class EdgeaeError(Exception):
    """Whatever edgeae cannot do for a reason that lies outside the calling code."""


class BundleError(EdgeaeError):
    """The model directory is missing, incomplete, changed, unknown or unsafe."""


class BitstreamError(EdgeaeError, ValueError):
    """The bytes are not an .eae file, or they are truncated, damaged or over a limit."""


class UnknownCodec(BitstreamError):
    """The bytes were made by a model that is not at hand; `codec_id` (16 bytes) says which."""

    # The attributes have defaults because an exception is unpickled from its message alone
    # (a process pool hangs on one that cannot be).
    def __init__(self, message: str, *, codec_id: bytes = b"") -> None:
        super().__init__(message)
        self.codec_id = codec_id


class ProviderError(EdgeaeError):
    """This machine cannot give the execution provider that was asked for."""

    def __init__(
        self, message: str, *, asked: Sequence[str] = (), available: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.asked = tuple(asked)
        self.available = tuple(available)


class MediaError(EdgeaeError):
    """The input file cannot be read, or it ends before its own header says it should."""


def printable(text: str) -> str:
    """The text with every character that a terminal may act on written as an escape.

    Names of files come from strangers: control characters and escape sequences, marks that turn the
    direction of writing, and bytes that are no UTF-8 become `\\x1b`, `\\u202e`, `\\udcff`.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )
