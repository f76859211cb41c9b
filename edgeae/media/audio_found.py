"""What is found of an audio file before libsndfile sees it, or why it is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

__all__ = ["AudioParts", "DamagedAudio", "cut_by", "id3_bytes"]


class DamagedAudio(ValueError):
    """The file is cut off, damaged or of no kind that is read; the message says which."""


@dataclass(frozen=True)
class AudioParts:
    """A file that was found whole.

    `formats` are libsndfile's names for it. Where `head` is given, it takes the place of the first
    `skip` bytes: a header that gives the length. `frames` is the true number of samples where
    libsndfile guesses one from the number of bytes: it sees `reach` more than lie before `end`.
    """

    formats: tuple[str, ...]
    notes: tuple[str, ...] = ()
    head: bytes | None = None
    skip: int = 0
    frames: int | None = None
    end: int | None = None
    reach: int = 0


def cut_by(missing: int) -> DamagedAudio:
    return DamagedAudio(f"cut off, its header says {missing:,} bytes more than are there")


def id3_bytes(file: BinaryIO, at: int = 0) -> int:
    """Bytes of an ID3v2 tag at `at`, 0 if there is none."""
    file.seek(at)
    head = file.read(10)
    if len(head) < 10 or head[:3] != b"ID3" or max(head[6:10]) > 127:
        return 0
    length = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    return 10 + length + (10 if head[5] & 0x10 else 0)
