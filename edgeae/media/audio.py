"""Audio from files and back, whole or block by block."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edgeae.media.files import first_line, named, opened, quoting, replacing, unreadable, unwritable

__all__ = [
    "AUDIO_SUFFIXES",
    "AudioInfo",
    "AudioWriter",
    "audio_blocks",
    "audio_info",
    "audio_subtype",
    "read_audio",
    "write_audio",
]

_AUDIO_FORMATS = {
    ".wav": "WAV",
    ".flac": "FLAC",
    ".ogg": "OGG",
    ".opus": "OGG",
    ".aif": "AIFF",
    ".aiff": "AIFF",
    ".mp3": "MP3",
}
AUDIO_SUFFIXES = frozenset(_AUDIO_FORMATS)
# What a container holds when the source's own subtype does not fit into it.
_AUDIO_DEFAULT = {
    "WAV": "PCM_16",
    "FLAC": "PCM_16",
    "AIFF": "PCM_16",
    "OGG": "VORBIS",
    "MP3": "MPEG_LAYER_III",
}

_INTEGER_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24}

# Samples of one block while a whole file is checked or copied: 2 MB of float32 in mono.
_BLOCK_FRAMES = 1 << 19
# A frame count at or above this is libsndfile's way of saying that the header does not know.
_UNKNOWN_FRAMES = 2**62


@dataclass(frozen=True)
class AudioInfo:
    """What an audio file says of itself; `format` and `subtype` are libsndfile's names.

    `frames` is None where the header does not know (a stream that was saved as it came).
    """

    rate_hz: int
    channels: int
    frames: int | None
    format: str
    subtype: str


def audio_info(path: str | os.PathLike[str]) -> AudioInfo:
    """Rate, channels, frames, format and subtype of a sound file, checked for completeness.

    MediaError if it cannot be read, holds no sound, or ends before its own header says it should:
    libsndfile alone would return the part that is there without a word.
    """
    with _open_sound(path) as sound:
        frames = sound.frames if sound.frames < _UNKNOWN_FRAMES else None
        info = AudioInfo(sound.samplerate, sound.channels, frames, sound.format, sound.subtype)
    if frames == 0:
        raise unreadable(path, "it holds no samples")
    return info


def read_audio(path: str | os.PathLike[str]) -> tuple[NDArray[np.float32], int]:
    """The sound as float32 in [-1, 1], (frames,) if mono, else (frames, channels), and its rate.

    The rate is in Hz, as in the file. MediaError as `audio_info`, and for NaN or infinite samples.
    """
    info = audio_info(path)
    blocks = list(audio_blocks(path, _BLOCK_FRAMES))
    return np.concatenate(blocks), info.rate_hz


def audio_blocks(path: str | os.PathLike[str], block_samples: int) -> Iterator[NDArray[np.float32]]:
    """The sound in blocks of `block_samples` frames (the last may be shorter), as `read_audio`.

    Memory stays that of one block. MediaError as soon as the file proves to be cut off.
    """
    if block_samples < 1:
        raise ValueError(f"block_samples must be at least 1, got {block_samples}")
    info = audio_info(path)
    done = 0
    with _open_sound(path) as sound:
        while True:
            try:
                block = sound.read(block_samples, dtype="float32", always_2d=True)
            except Exception as error:  # soundfile raises its own kinds, and RuntimeError
                raise unreadable(
                    path, f"damaged after {done} frames ({first_line(error)})"
                ) from error
            if len(block) == 0:
                break
            if not np.isfinite(block).all():
                raise unreadable(path, f"NaN or infinite samples after frame {done}")
            done += len(block)
            yield block[:, 0] if info.channels == 1 else block
    if done == 0:
        raise unreadable(path, "it holds no samples")
    if info.frames is not None and done < info.frames:
        raise unreadable(path, f"cut off, its header says {info.frames} frames, {done} are there")


def audio_subtype(path: str | os.PathLike[str], source: str) -> str:
    """The subtype to write at `path` for a `source` subtype: the same, or the nearest that fits.

    The nearest is 24 bits for anything deeper than 16, else 16; an .opus file is always Opus.
    ValueError if the suffix is none that can be written.
    """
    import soundfile

    container = _audio_format(path)
    if Path(path).suffix.lower() == ".opus":
        return "OPUS"
    if soundfile.check_format(container, source):
        return source
    default = _AUDIO_DEFAULT[container]
    deeper = source in ("PCM_24", "PCM_32", "FLOAT", "DOUBLE")
    return "PCM_24" if deeper and default == "PCM_16" else default


class AudioWriter:
    """Writes a sound file block by block; it appears at `path`, whole, when the block ends well.

    `with AudioWriter(path, rate_hz=16000, channels=1) as writer: writer.write(block)`. Blocks are
    float32 (frames,) or (frames, channels). Samples beyond [-1, 1] are clipped by integer subtypes.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        rate_hz: int,
        channels: int,
        subtype: str = "PCM_16",
    ) -> None:
        self.subtype = audio_subtype(path, subtype)
        self._path, self._rate_hz, self._channels = path, rate_hz, channels
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> AudioWriter:
        import soundfile

        with contextlib.ExitStack() as stack:
            temporary = stack.enter_context(replacing(self._path))
            container = _audio_format(self._path)
            try:
                self._sound = soundfile.SoundFile(
                    temporary, "w", self._rate_hz, self._channels, self.subtype, format=container
                )
            except (soundfile.SoundFileError, ValueError, TypeError) as error:
                raise unwritable(
                    self._path,
                    f"{container} {self.subtype} does not take"
                    f" {self._channels} channels at {self._rate_hz} Hz",
                ) from error
            stack.callback(self._sound.close)
            self._exit = stack.pop_all()
        return self

    def write(self, block: NDArray[np.float32]) -> None:
        """Append float32 (frames,) or (frames, channels)."""
        if not np.isfinite(block).all():
            raise ValueError("samples must be finite, got NaN or infinity")
        bits = _INTEGER_BITS.get(self.subtype)
        try:
            self._sound.write(block if bits is None else _to_integers(block, bits))
        except RuntimeError as error:  # soundfile's LibsndfileError: a full disk
            raise unwritable(self._path, first_line(error)) from error

    def __exit__(self, *exception: Any) -> bool | None:
        return self._exit.__exit__(*exception)


def write_audio(
    path: str | os.PathLike[str],
    samples: NDArray[np.float32],
    rate_hz: int,
    *,
    subtype: str = "PCM_16",
) -> None:
    """Write float32 (frames,) or (frames, channels) in the format of the suffix, atomically.

    `subtype` is libsndfile's name, usually the source file's; the nearest one that the format
    holds is taken. Values beyond [-1, 1] are clipped by integer subtypes. ValueError for a wrong
    suffix, shape or NaN.
    """
    if samples.ndim not in (1, 2) or samples.size == 0:
        raise ValueError(
            "samples must be (frames,) or (frames, channels), at least one frame,"
            f" got {samples.shape}"
        )
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with AudioWriter(path, rate_hz=rate_hz, channels=channels, subtype=subtype) as writer:
        for start in range(0, len(samples), _BLOCK_FRAMES):
            writer.write(samples[start : start + _BLOCK_FRAMES])


def _to_integers(samples: NDArray[np.float32], bits: int) -> NDArray[np.int32]:
    """Full-scale int32 whose upper `bits` are the rounded samples.

    Left to itself libsndfile rounds down in some containers: an offset and 6 dB of noise.
    """
    scale = 2.0 ** (bits - 1)
    rounded = np.rint(samples.astype(np.float64) * scale)
    return np.clip(rounded, -scale, scale - 1).astype(np.int32) << (32 - bits)


def _audio_format(path: str | os.PathLike[str]) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in _AUDIO_FORMATS:
        raise ValueError(
            f"cannot tell the sound format of {named(path)!r}:"
            f" the name must end in {' '.join(_AUDIO_FORMATS)}"
        )
    return _AUDIO_FORMATS[suffix]


def _open_sound(path: str | os.PathLike[str]) -> Any:
    import soundfile

    with opened(path, max_bytes=2**62) as file, quoting("read", path):
        _check_complete(path, file)
    try:
        return soundfile.SoundFile(os.fspath(path))
    except (soundfile.SoundFileError, ValueError, TypeError) as error:
        # TypeError: soundfile takes a .raw name for headerless data and asks for its rate
        raise unreadable(
            path, "not a sound file of a known kind, or its beginning is damaged"
        ) from error


def _check_complete(path: str | os.PathLike[str], file: BinaryIO) -> None:
    """MediaError if the container declares more bytes than the file has."""
    size = os.fstat(file.fileno()).st_size
    head = file.read(12)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE":
        missing = _wave_missing_bytes(file, size, big=head[:4] == b"RIFX")
    elif head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        missing = 8 + int.from_bytes(head[4:8], "big") - size
    elif head[:4] == b"OggS":
        _check_ogg_end(path, file, size)
        return
    else:
        return
    if missing > 0:
        raise unreadable(path, f"cut off, its header says {missing:,} bytes more than are there")


def _wave_missing_bytes(file: BinaryIO, size: int, *, big: bool) -> int:
    """Bytes that the data chunk of a WAV file declares beyond the end; 0 or less if complete."""
    order = ">" if big else "<"
    long_size: int | None = None
    position = 12
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack(order + "4sI", file.read(8))
        if name == b"ds64":  # RF64: the true sizes, 64 bits each
            body = file.read(24)
            if len(body) == 24:
                long_size = struct.unpack("<QQQ", body)[1]
        if name == b"data":
            if length == 0xFFFFFFFF:
                # RF64 keeps the size elsewhere; a plain WAV that came through a pipe has none.
                length = long_size if long_size is not None else 0
            return int(position + 8 + length - size)
        position += 8 + length + length % 2
    return position - size  # no data chunk: libsndfile says what is wrong, unless it is cut off


def _check_ogg_end(path: str | os.PathLike[str], file: BinaryIO, size: int) -> None:
    """MediaError unless the last Ogg page is whole and ends its stream (RFC 3533, section 6)."""
    window = 65_307  # the largest page
    file.seek(max(0, size - window))
    tail = file.read(window)
    start = tail.rfind(b"OggS")
    # The capture pattern can occur inside a page's body: take the one whose page ends the file.
    while start >= 0:
        header = tail[start : start + 27]
        if len(header) == 27:
            lacing = tail[start + 27 : start + 27 + header[26]]
            ends_file = start + 27 + header[26] + sum(lacing) == len(tail)
            if ends_file and len(lacing) == header[26] and header[5] & 4:
                return
        start = tail.rfind(b"OggS", 0, start)
    raise unreadable(path, "cut off, the end of the Ogg stream is missing")
