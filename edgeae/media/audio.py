"""Audio from files and back, whole or block by block."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from edgeae.media.audio_found import AudioParts, DamagedAudio
from edgeae.media.audio_metadata import AudioMetadata, gather
from edgeae.media.audio_parts import Overlay, parts
from edgeae.media.files import Source, first_line, opened, quoting, rereadable, unreadable

__all__ = ["AudioInfo", "audio_blocks", "audio_info", "read_audio", "read_audio_metadata"]
__all__ += ["read_audio_integers"]

# Samples of one block while a whole file is checked or copied: 2 MB of float32 in mono.
_BLOCK_FRAMES = 1 << 19
# A frame count at or above this is libsndfile's way of saying that the header does not know.
_UNKNOWN_FRAMES = 2**62
# Files are read block by block, so only what cannot seek is held in memory.
_MOST_BYTES = 2**62


@dataclass(frozen=True)
class AudioInfo:
    """What an audio file says of itself; `format` and `subtype` are libsndfile's names.

    `frames` is None where the header does not know (a stream that was saved as it came). `notes`
    are sentences for whoever reads it: that its header gave no length, for instance.
    """

    rate_hz: int
    channels: int
    frames: int | None
    format: str
    subtype: str
    notes: tuple[str, ...] = ()


def audio_info(source: Source) -> AudioInfo:
    """Rate, channels, frames, format and subtype of an audio file, checked for completeness.

    `source` is a path, bytes or a binary file object.

    Raises:
        MediaError: it cannot be read, holds no samples, is of a kind that is not read, is damaged,
            or ends before its own header says it should.
    """
    with _open(source) as (_, decoder, found):
        info = _info(decoder, found)
    if info.frames == 0:
        raise unreadable(source, "it holds no samples")
    return info


def _info(decoder: Any, found: AudioParts) -> AudioInfo:
    frames = decoder.frames if decoder.frames < _UNKNOWN_FRAMES else None
    return AudioInfo(
        decoder.samplerate,
        decoder.channels,
        found.frames if found.frames is not None else frames,
        decoder.format,
        decoder.subtype,
        found.notes,
    )


def read_audio_metadata(source: Source) -> AudioMetadata:
    """Tags, broadcast extension, markers and channel layout; MediaError as `audio_info`."""
    with _open(source) as (file, decoder, _):
        return gather(file, decoder)


def read_audio(source: Source) -> tuple[NDArray[np.float32], int]:
    """The audio as float32 in [-1, 1], (frames,) if mono, else (frames, channels), and its rate.

    The rate is in Hz, as in the file. MediaError as `audio_info`, and for NaN or infinite samples.
    """
    source = rereadable(source)
    info = audio_info(source)
    return np.concatenate(list(audio_blocks(source, _BLOCK_FRAMES))), info.rate_hz


def read_audio_integers(source: Source) -> tuple[NDArray[Any], int]:
    """The samples as they are stored, int16 or int32 (frames, channels), and what full scale is.

    MediaError as `audio_info`, and for a subtype that stores no whole numbers.
    """
    bits = {"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
    with _open(source) as (_, decoder, found):
        if decoder.subtype not in bits:
            raise unreadable(source, f"{decoder.subtype} stores no whole numbers")
        depth = bits[decoder.subtype]
        kind = "int16" if depth <= 16 else "int32"
        stored = decoder.read(dtype=kind, always_2d=True)
        if len(stored) < (_info(decoder, found).frames or 1):
            raise unreadable(source, f"cut off after {len(stored)} frames")
    return stored >> (16 if depth <= 16 else 32) - depth, 1 << depth - 1


def audio_blocks(source: Source, block_samples: int) -> Iterator[NDArray[np.float32]]:
    """The audio in blocks of `block_samples` frames (the last may be shorter).

    Each is float32 in [-1, 1], (frames,) if mono, else (frames, channels). Memory stays that of one
    block. MediaError as `read_audio`, as soon as the file proves to be cut off; ValueError if
    `block_samples` is below 1.
    """
    if block_samples < 1:
        raise ValueError(f"block_samples is {block_samples}, expected at least 1")
    done = 0
    with _open(source) as (_, decoder, found):
        info = _info(decoder, found)
        while True:
            try:
                block = decoder.read(block_samples, dtype="float32", always_2d=True)
            except Exception as error:  # soundfile raises its own kinds, and RuntimeError
                end = done + block_samples if info.frames is None else info.frames
                raise unreadable(
                    source,
                    f"cut off or damaged between frames {done} and"
                    f" {min(end, done + block_samples)} ({first_line(error)})",
                ) from error
            if len(block) == 0:
                break
            finite = np.isfinite(block).all(axis=1)
            if not finite.all():
                first = done + int(np.argmin(finite))
                raise unreadable(source, f"NaN or infinite samples, the first in frame {first}")
            done += len(block)
            yield block[:, 0] if info.channels == 1 else block
    if done == 0:
        raise unreadable(source, "it holds no samples")
    if info.frames is not None and done < info.frames:
        raise unreadable(source, f"cut off, its header says {info.frames} frames, {done} are there")


@contextlib.contextmanager
def _open(source: Source) -> Iterator[tuple[BinaryIO, Any, AudioParts]]:
    """A file that was found whole, libsndfile's view of it, and what it is.

    The bytes that were checked are those that are read: the file is opened once.
    """
    import soundfile

    with opened(source, max_bytes=_MOST_BYTES) as file:
        try:
            with quoting("read", source):
                found = parts(file)
        except DamagedAudio as error:
            raise unreadable(source, str(error)) from error
        file.seek(0)
        stream: Any = file
        if found.head is not None:
            stream = cast(BinaryIO, Overlay(file, found))
        try:
            decoder = soundfile.SoundFile(_Plain(stream))
        except (soundfile.SoundFileError, ValueError, TypeError) as error:
            raise unreadable(
                source, "not an audio file of a known kind, or its beginning is damaged"
            ) from error
        with decoder:
            if decoder.format not in found.formats:
                raise unreadable(source, f"{decoder.format} inside {found.formats[0]}, not read")
            yield file, decoder, found


class _Plain:
    """A file without a name: soundfile takes a name's suffix for the format."""

    def __init__(self, file: Any) -> None:
        self.read, self.readinto, self.tell = file.read, file.readinto, file.tell
        self._file = file

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Where libsndfile goes; a damaged header can send it before the beginning."""
        try:
            return int(self._file.seek(offset, whence))
        except (OSError, ValueError):
            return int(self._file.seek(0))
