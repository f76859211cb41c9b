"""Audio into files: by suffix, block by block, atomically."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edgeae.media.audio_metadata import AudioMetadata, carry, finish_wave, layout_is_usual
from edgeae.media.files import Target, first_line, named, replacing, unwritable

__all__ = ["AUDIO_SUFFIXES", "AudioWriter", "audio_subtype", "write_audio"]

_AUDIO_FORMATS = {
    ".wav": "WAV",
    ".wave": "WAV",
    ".rf64": "RF64",
    ".w64": "W64",
    ".flac": "FLAC",
    ".ogg": "OGG",
    ".oga": "OGG",
    ".opus": "OGG",
    ".aif": "AIFF",
    ".aiff": "AIFF",
    ".aifc": "AIFF",
    ".caf": "CAF",
    ".au": "AU",
    ".snd": "AU",
    ".mp3": "MP3",
}
AUDIO_SUFFIXES = frozenset(_AUDIO_FORMATS)
# What a container holds when the source's own subtype does not fit into it.
_AUDIO_DEFAULT = {
    "WAV": "PCM_16",
    "RF64": "PCM_16",
    "W64": "PCM_16",
    "FLAC": "PCM_16",
    "AIFF": "PCM_16",
    "CAF": "PCM_16",
    "AU": "PCM_16",
    "OGG": "VORBIS",
    "MP3": "MPEG_LAYER_III",
}

# What the encoders of libsndfile take, for messages.
_TAKEN = {
    "OPUS": "8000, 12000, 16000, 24000 or 48000 Hz",
    "MPEG_LAYER_III": "1 or 2 channels at 8000 to 48000 Hz",
}

_INTEGER_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24}
# Bytes of a sample at the most, for what is held against the limit of a container.
_SAMPLE_BYTES = {"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "ULAW": 1, "ALAW": 1}
_MOST_SAMPLE_BYTES = {"DOUBLE": 8}

# Sizes of 32 bits, less a header and what is written after the data.
_LIMIT_BYTES = 2**32 - 2**24
_LIMITED = ("AIFF", "AU")
# libvorbis takes its work space for a whole block from the stack.
_WRITE_FRAMES = 1 << 14
_BLOCK_FRAMES = 1 << 19


class AudioWriter:
    """Writes an audio file block by block; it appears at its path, whole, when the block ends well.

    `with AudioWriter(path, rate_hz=16000, channels=1) as writer: writer.write(block)`. Blocks are
    float32 (frames,) or (frames, channels). Samples beyond [-1, 1] are clipped by integer subtypes.

    Args:
        target: a path, or a binary file object with the suffix in `format`.
        rate_hz: the sample rate.
        channels: the number of channels.
        subtype: libsndfile's name; the nearest one that the format holds is taken.
        frames: how many will come, if that is known. A .wav file beyond 4 GiB becomes RF64; where
            the number is not known room is left for that.
        metadata: what `read_audio_metadata` gave of the source; `notes` tell what had no room.
        format: the suffix, where it is not the path's.

    Raises:
        ValueError: a suffix that is none of audio, or NaN samples.
        MediaError: the format does not take this rate or number of channels, more than 4 GiB for
            AIFF and AU, or the target cannot be written.
    """

    def __init__(
        self,
        target: Target,
        *,
        rate_hz: int,
        channels: int,
        subtype: str = "PCM_16",
        frames: int | None = None,
        metadata: AudioMetadata | None = None,
        format: str | None = None,
    ) -> None:
        suffix = _name_for_format(target, format)
        self.subtype = audio_subtype(suffix, subtype)
        self.notes: tuple[str, ...] = ()
        self._target, self._rate_hz, self._channels = target, rate_hz, channels
        self._metadata = metadata or AudioMetadata()
        self._container = _audio_format(suffix)
        self._written_bytes = 0
        self._frame_bytes = channels * _SAMPLE_BYTES.get(
            self.subtype, _MOST_SAMPLE_BYTES.get(self.subtype, 4)
        )
        self._small = frames is not None and frames * self._frame_bytes <= _LIMIT_BYTES
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> AudioWriter:
        import soundfile

        with contextlib.ExitStack() as stack:
            file: BinaryIO
            if isinstance(self._target, str | os.PathLike):
                temporary = stack.enter_context(replacing(self._target))
                file = stack.enter_context(open(temporary, "r+b"))
            else:
                file = io.BytesIO()
            self._sink = _Sink(file)
            container = self._written_container()
            try:
                self._encoder = soundfile.SoundFile(
                    self._sink, "w", self._rate_hz, self._channels, self.subtype, format=container
                )
            except (soundfile.SoundFileError, ValueError, TypeError) as error:
                taken = _TAKEN.get(self.subtype)
                raise unwritable(
                    self._target,
                    f"{self._container} {self.subtype} does not take {self._channels}"
                    f" channel{'s' if self._channels > 1 else ''} at {self._rate_hz} Hz"
                    + (f", expected {taken}" if taken else ""),
                ) from error
            stack.callback(self._encoder.close)
            carry(self._metadata, self._encoder)
            self._exit = stack.pop_all()
        return self

    def _written_container(self) -> str:
        """libsndfile's container: for .wav the one that holds the length and the channel mask."""
        import soundfile

        if self._container != "WAV":
            return self._container
        if not self._small and soundfile.check_format("RF64", self.subtype):
            return "RF64"
        extended = not layout_is_usual(self._metadata, self._channels)
        return "WAVEX" if extended and soundfile.check_format("WAVEX", self.subtype) else "WAV"

    def write(self, block: NDArray[np.float32]) -> None:
        """Append float32 (frames,) or (frames, channels) in [-1, 1]; what lies beyond is clipped
        where the file holds whole numbers.

        Raises ValueError for NaN or infinity, MediaError where the file cannot be written or its
        format ends.
        """
        if not np.isfinite(block).all():
            raise ValueError("samples hold NaN or infinity, expected finite numbers")
        self._written_bytes += len(block) * self._frame_bytes
        limited = self._container in _LIMITED or self._encoder.format in ("WAV", "WAVEX")
        if limited and self._written_bytes > _LIMIT_BYTES:
            raise unwritable(
                self._target, f"{self._container} holds 4 GiB at most; write .w64, .caf or .flac"
            )
        bits = _INTEGER_BITS.get(self.subtype)
        for start in range(0, len(block), _WRITE_FRAMES):
            part = block[start : start + _WRITE_FRAMES]
            try:
                self._encoder.write(part if bits is None else _to_integers(part, bits))
            except RuntimeError as error:  # soundfile's LibsndfileError
                raise self._failed(error) from error
            if self._sink.error is not None:
                raise self._failed(self._sink.error)

    def _failed(self, error: Exception) -> Exception:
        """The error with the system's reason: a full disk, a quota."""
        cause = self._sink.error
        reason = (cause.strerror or str(cause)) if cause is not None else first_line(error)
        return unwritable(self._target, reason)

    def __exit__(self, *exception: Any) -> bool | None:
        if exception[0] is None:
            try:
                self._finish()
            except BaseException as error:
                if not self._exit.__exit__(type(error), error, error.__traceback__):
                    raise
        return self._exit.__exit__(*exception)

    def _finish(self) -> None:
        self._encoder.close()
        if self._sink.error is not None:
            raise self._failed(self._sink.error)
        file = self._sink.file
        if self._container == "WAV":
            try:
                finish_wave(file, self._kept(), plain=True)
                file.flush()
            except OSError as error:
                raise unwritable(self._target, error.strerror or str(error)) from error
        self.notes = self._lost()
        if not isinstance(self._target, str | os.PathLike):
            self._target.write(file.getvalue())  # type: ignore[attr-defined]

    def _kept(self) -> AudioMetadata:
        """The chunks, and the mask where the file's header has room for it."""
        usual = layout_is_usual(self._metadata, self._channels)
        mask = None if usual else self._metadata.channel_mask
        return AudioMetadata(chunks=self._metadata.chunks, channel_mask=mask)

    def _lost(self) -> tuple[str, ...]:
        """A sentence for the metadata that the written file does not have."""
        import soundfile

        lost = list(self._metadata.others)
        if self._metadata.tags:
            self._sink.file.seek(0)
            with soundfile.SoundFile(self._sink) as written:
                there = written.copy_metadata()
            lost += [
                name
                for name, value in self._metadata.tags.items()
                if not there.get(name, "").startswith(value)
            ]
        if self._container != "WAV":
            lost += [name.decode("ascii").strip() for name, _ in self._metadata.chunks]
            if not layout_is_usual(self._metadata, self._channels):
                lost.append("the channel layout")
        if not lost:
            return ()
        return (f"left out, {self._container} has no room for it: {', '.join(lost)}",)


class _Sink:
    """A file as libsndfile writes it; what the system refused is kept, not lost in a callback."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None
        self.read, self.seek, self.tell = file.read, file.seek, file.tell

    def write(self, data: bytes) -> int:
        """All of the data, or none and the reason in `error`."""
        try:
            count = self.file.write(data)
            self.file.flush()
            return count
        except OSError as error:
            self.error = self.error or error
            return 0


def write_audio(
    target: Target,
    samples: NDArray[np.float32],
    rate_hz: int,
    *,
    subtype: str = "PCM_16",
    metadata: AudioMetadata | None = None,
    format: str | None = None,
) -> tuple[str, ...]:
    """Write float32 (frames,) or (frames, channels) in the format of the suffix, atomically.

    To a path, or to a binary file object with the suffix in `format` ("wav"). `subtype` is
    libsndfile's name, usually the source file's; the nearest one that the format holds is taken.
    Values beyond [-1, 1] are clipped by integer subtypes. Returns a sentence for what of the
    metadata was left out. ValueError for a wrong suffix, shape or NaN; MediaError as `AudioWriter`.
    """
    if samples.ndim not in (1, 2) or samples.size == 0:
        raise ValueError(
            f"samples are {samples.shape}, expected (frames,) or (frames, channels), at least one"
            " frame"
        )
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with AudioWriter(
        target,
        rate_hz=rate_hz,
        channels=channels,
        subtype=subtype,
        frames=len(samples),
        metadata=metadata,
        format=format,
    ) as writer:
        for start in range(0, len(samples), _BLOCK_FRAMES):
            writer.write(samples[start : start + _BLOCK_FRAMES])
    return writer.notes


def audio_subtype(path: str | os.PathLike[str], source: str) -> str:
    """The subtype to write at `path` for a `source` subtype: the same, or the nearest that fits.

    The nearest is 24 bits for anything deeper than 16, else 16; an .opus file is always Opus.
    ValueError if the suffix is none that can be written.
    """
    import soundfile

    container = _audio_format(path)
    if _suffix(path) == ".opus":
        return "OPUS"
    # libsndfile puts MPEG frames into WAV too, which few players and not all rates take.
    foreign = source.startswith("MPEG") and container != "MP3"
    if soundfile.check_format(container, source) and not foreign:
        return source
    default = _AUDIO_DEFAULT[container]
    deeper = source in ("PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAC_24", "ALAC_32")
    return "PCM_24" if deeper and default == "PCM_16" else default


def _to_integers(samples: NDArray[np.float32], bits: int) -> NDArray[np.int32]:
    """Full-scale int32 whose upper `bits` are the rounded samples.

    Left to itself libsndfile rounds down in some containers: an offset and 6 dB of noise.
    """
    scale = 2.0 ** (bits - 1)
    rounded = np.rint(samples.astype(np.float64) * scale)
    return np.clip(rounded, -scale, scale - 1).astype(np.int32) << (32 - bits)


def _suffix(path: str | os.PathLike[str]) -> str:
    name = os.fsdecode(path)
    return (name if name.startswith(".") and name.count(".") == 1 else Path(name).suffix).lower()


def _audio_format(path: str | os.PathLike[str]) -> str:
    suffix = _suffix(path)
    if suffix not in _AUDIO_FORMATS:
        raise ValueError(
            f"cannot tell the audio format of {named(path)!r}:"
            f" expected a name that ends in {' '.join(_AUDIO_FORMATS)}"
        )
    return _AUDIO_FORMATS[suffix]


def _name_for_format(target: Target, format: str | None) -> str | os.PathLike[str]:
    """A name whose suffix says the format: of `format` if given, else of the path."""
    if format is not None:
        return "." + format.lower().lstrip(".")
    if isinstance(target, str | os.PathLike):
        return target
    raise ValueError('format is None, expected a suffix such as "wav" for a file object')
