"""Audio files through a denoiser, whole, as a live device would feed them, or raw through a pipe.

`denoise_file` is picklable, so that a pool or a cluster can run it; it loads its model once in each
process.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae import media
from edgeae.batch import Done, Job, Loading, Tick, loaded
from edgeae.cli import pipes, terminal
from edgeae.cli.options import Pcm, Raw, in_words_of_the_command
from edgeae.errors import MediaError
from edgeae.media import AudioInfo
from edgeae.media.files import Source
from edgeae.signal.stream import Stream

__all__ = [
    "SUFFIXES",
    "Cleaning",
    "RawAudio",
    "SamplesEnd",
    "UnknownSamples",
    "audio_of",
    "denoise_file",
    "denoise_pipe",
    "denoise_to_pipe",
    "raw_samples",
    "told_at_the_end",
]

# The files of a folder that are audio.
SUFFIXES = media.AUDIO_SUFFIXES
# Blocks of a whole file: large enough to cost nothing, small enough for a bar that moves.
FILE_BLOCK_S = 1.0
# What `--stream` feeds at a time: the block of a usual audio callback.
LIVE_BLOCK_S = 0.010
# Of less sound than some hops the start of the model is most of the time.
_LEAST_TIMED_S = 0.1
# What a message calls the rate that a header says.
OWN_RATE = "its sample rate"

Block = NDArray[Any]


class SamplesEnd(MediaError):
    """Samples came that are none, after some that are kept."""


class UnknownSamples(Exception):
    """Bytes came without a word of what samples they are."""


@dataclass(frozen=True)
class Cleaning:
    """How to denoise: `live` feeds 10 ms at a time, as a device does."""

    loading: Loading
    attenuation_limit_db: float | None = None
    live: bool = False


# Samples without a header, by ffmpeg's names: their bits, and libsndfile's name of the like.
_SAMPLES = {
    "s16le": (16, "PCM_16"),
    "s24le": (24, "PCM_24"),
    "s32le": (32, "PCM_32"),
    "f32le": (32, "FLOAT"),
}
# The same by the format and the bits in the header of a WAV.
_WAVE_SAMPLES = {(1, 16): "s16le", (1, 24): "s24le", (1, 32): "s32le", (3, 32): "f32le"}


@dataclass(frozen=True)
class RawAudio:
    """Samples without a header, little-endian and interleaved: signed integers of 16, 24 (in 3
    bytes) or 32 bits, or 32-bit floats in [-1, 1]."""

    rate_hz: int
    channels: int = 1
    sample: str = "s16le"

    @property
    def subtype(self) -> str:
        """What a file holds that keeps all of a sample, by libsndfile's name."""
        return _SAMPLES[self.sample][1]

    @property
    def bits(self) -> int:
        """Of one sample."""
        return _SAMPLES[self.sample][0]

    @property
    def frame_bytes(self) -> int:
        """Of one sample of every channel."""
        return self.bits // 8 * self.channels


def denoise_file(how: Cleaning, job: Job, tick: Tick) -> Done:
    """Denoises one audio file. Raises what reading, the denoiser and writing raise."""
    source = media.rereadable(job.source)
    audio = media.audio_info(source)
    timing = _Timing(audio, tick)
    with media.AudioWriter(
        job.target,
        rate_hz=audio.rate_hz,
        channels=audio.channels,
        subtype=audio.subtype,
        frames=audio.frames,
        metadata=media.read_audio_metadata(source),
    ) as writer:
        for block in _cleaned_file(how, source, timing):
            writer.write(block)
    media.keep_time(job.source, job.target)
    sizes = pipes.read_size(job.source, source), job.target.stat().st_size
    notes = "; ".join((*audio.notes, *writer.notes)) or None
    return Done(f"{job.source} -> {job.target}  {timing}", *sizes, notes)


def denoise_to_pipe(how: Cleaning, path: Path, sample: str) -> None:
    """Denoises one audio file to raw samples on stdout; `live` tells the timing on stderr."""
    source = media.rereadable(path)
    audio = media.audio_info(source)
    raw = RawAudio(audio.rate_hz, audio.channels, sample)
    timing = _Timing(audio)
    for block in _cleaned_file(how, source, timing):
        pipes.write_binary(raw_samples(block, raw))
    if how.live:
        terminal.complain(f"{path} -> stdout  {timing}")


def denoise_pipe(how: Cleaning, target: Path, asked: Raw) -> None:
    """Denoises audio that comes through stdin, raw samples or a WAV, until it ends.

    Ctrl-C, TERM and HUP are its end; what came before is kept. `asked` says what raw samples are;
    the header of a WAV says it of its own. `live` tells the timing on stderr.

    Raises:
        MediaError: nothing came, a WAV of other samples than asked for or than can be read, or NaN
            or infinite samples; what came before those is kept.
        UnknownSamples: neither a header nor `asked` says what the samples are.
    """

    def stopped(name: str) -> None:
        terminal.complain(f"{name}: the recording ends here and is kept")

    with pipes.live_input(stopped) as data:
        raw, blocks = audio_of(data, asked)
        timing = _Timing(AudioInfo(raw.rate_hz, raw.channels, None, "RAW", raw.subtype))
        stream = _stream(how, timing, OWN_RATE if asked.rate is None else "--rate")
        with told_at_the_end(blocks) as blocks:
            if how.live:
                blocks = _of_length(blocks, _live_samples(raw.rate_hz))
            _write_cleaned(_aligned(stream, blocks, timing), target, raw)
            if how.live:
                terminal.complain(f"stdin -> {pipes.name(target, 'stdout')}  {timing}")


def _write_cleaned(cleaned: Iterator[Block], target: Path, raw: RawAudio) -> None:
    """Writes clean blocks to a file, or to stdout as raw samples."""
    if target == pipes.PIPE:
        for block in cleaned:
            pipes.write_binary(raw_samples(block, raw))
        return
    with media.AudioWriter(
        target, rate_hz=raw.rate_hz, channels=raw.channels, subtype=raw.subtype
    ) as writer:
        for block in cleaned:
            writer.write(_as_float(block))


def _cleaned_file(how: Cleaning, source: Source, timing: _Timing) -> Iterator[Block]:
    """The clean audio of a file, block by block, in the memory of one block."""
    rate_hz = timing.audio.rate_hz
    stream = _stream(how, timing, OWN_RATE)
    size = _live_samples(rate_hz) if how.live else round(rate_hz * FILE_BLOCK_S)
    return _aligned(stream, media.audio_blocks(source, size), timing)


def _stream(how: Cleaning, timing: _Timing, rate: str) -> Stream:
    """The stream for what is timed; a message calls its sample rate `rate`."""
    audio = timing.audio
    with in_words_of_the_command(rate=rate):
        stream: Stream = loaded(how.loading).stream(
            sample_rate=audio.rate_hz,
            channels=audio.channels,
            attenuation_limit_db=how.attenuation_limit_db,
            # A live device must get a block for each block it gives, and pays for it in delay.
            block_samples=_live_samples(audio.rate_hz) if how.live else None,
        )
    if how.live:
        timing.delay_samples = stream.delay
    return stream


def _live_samples(rate_hz: int) -> int:
    return max(1, round(rate_hz * LIVE_BLOCK_S))


def _of_length(blocks: Iterator[Block], samples: int) -> Iterator[Block]:
    """The same samples in blocks of one length, the last of which may be shorter."""
    parts: list[Block] = []
    for block in blocks:
        waiting = np.concatenate([*parts, block])
        whole = len(waiting) // samples * samples
        yield from (waiting[i : i + samples] for i in range(0, whole, samples))
        parts = [waiting[whole:]]
    if parts and len(parts[0]):
        yield parts[0]


def _aligned(stream: Stream, blocks: Iterator[Block], timing: _Timing) -> Iterator[Block]:
    """What the stream makes of the blocks, without its delay: as long as they are together."""
    late = stream.delay
    for block in blocks:
        before = time.perf_counter()
        out = stream.process(block)
        timing.add(len(block), time.perf_counter() - before)
        yield out[late:]
        late = max(0, late - len(out))
    yield stream.flush()[late:]


class _Timing:
    """How much audio went through a stream, and how long the model worked on it."""

    def __init__(self, audio: AudioInfo, tick: Callable[[float], None] | None = None) -> None:
        self.audio = audio
        self.delay_samples: int | None = None
        self._tick = tick
        self._frames, self._busy_s = 0, 0.0

    def add(self, frames: int, busy_s: float) -> None:
        self._frames += frames
        self._busy_s += busy_s
        if self._tick is not None and self.audio.frames:
            self._tick(min(1.0, self._frames / self.audio.frames))

    def __str__(self) -> str:
        rate_hz, channels = self.audio.rate_hz, self.audio.channels
        seconds = self._frames / rate_hz
        text = f"{seconds:.2f} s, {rate_hz} Hz, {terminal.count(channels, 'channel')}"
        if seconds >= _LEAST_TIMED_S:
            text += f"  real-time factor {self._busy_s / seconds:.3f}"
        if self.delay_samples is not None:
            delay_ms = 1000 * self.delay_samples / rate_hz
            text += f"  delay {delay_ms:.1f} ms with blocks of {1000 * LIVE_BLOCK_S:.0f} ms"
        return text


# --- raw samples ------------------------------------------------------------------------------


def audio_of(data: Iterator[bytes], asked: Raw) -> tuple[RawAudio, Iterator[Block]]:
    """What samples come, by the header of a WAV or by what is asked for, and their blocks.

    Raises MediaError and UnknownSamples as `denoise_pipe`.
    """
    head = b""
    for part in data:
        head += part
        if len(head) >= 12:
            break
    if kind := _OTHER_FILES.get(head[:4]):
        raise MediaError(f"{kind} came through -, expected raw PCM or a WAV: {_ADVICE}")
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        raw, head, size = _wave_header(head, data)
        if 0 < size < _LEAST_PLACEHOLDER_BYTES:
            data, head = _limited(data, len(head), size), head[:size]
        _check_as_asked(raw, asked)
    elif asked.rate is None:
        raise UnknownSamples("raw PCM from - needs --rate, or the header of a WAV")
    elif not head:
        raise MediaError("no audio came through -")
    else:
        raw = RawAudio(asked.rate, asked.channels or 1, asked.pcm or Pcm.s16le)
    return raw, _blocks(head, data, raw)


def _check_as_asked(raw: RawAudio, asked: Raw) -> None:
    """MediaError where a WAV says otherwise than an option that was given."""
    pairs = {
        "--rate": (asked.rate, raw.rate_hz),
        "--channels": (asked.channels, raw.channels),
        "--pcm": (asked.pcm, raw.sample),
    }
    wrong = [f"{option} {said}" for option, (said, own) in pairs.items() if said not in (None, own)]
    if wrong:
        raise MediaError(
            f"the WAV that came through - holds {raw.sample} at {raw.rate_hz} Hz in"
            f" {terminal.count(raw.channels, 'channel')}, the options say {' '.join(wrong)}"
        )


@contextmanager
def told_at_the_end(blocks: Iterator[Block]) -> Iterator[Iterator[Block]]:
    """The blocks up to a SamplesEnd, which is raised once what came before it is written."""
    ends: list[SamplesEnd] = []

    def until_the_end() -> Iterator[Block]:
        try:
            yield from blocks
        except SamplesEnd as end:
            ends.append(end)

    yield until_the_end()
    if ends:
        raise ends[0]


# How other files begin: taken for raw samples they would be loud noise.
_OTHER_FILES = {
    b"fLaC": "a FLAC file",
    b"OggS": "an Ogg file",
    b"ID3\x03": "an MP3 file",
    b"ID3\x04": "an MP3 file",
    b"RF64": "an RF64 file",
    b"RIFX": "a big-endian WAV",
    b"FORM": "an AIFF file",
    b"caff": "a CAF file",
    b".snd": "an AU file",
    b"riff": "a W64 file",
}
_ADVICE = "/dev/stdin in place of - takes every file that is read, as a whole"

# Of a WAV's header: more than any recorder writes before the samples.
_MOST_HEADER_BYTES = 1 << 20
# What recorders write into a pipe, where the length is not known yet, is 0 or from here on.
_LEAST_PLACEHOLDER_BYTES = 0x7FFF0000


def _wave_header(head: bytes, data: Iterator[bytes]) -> tuple[RawAudio, bytes, int]:
    """What a WAV says of its samples, the first of them, and how many bytes it says they are."""
    raw: RawAudio | None = None
    at = 12
    while len(head) < _MOST_HEADER_BYTES:
        while len(head) < at + 8 or (
            head[at : at + 4] != b"data"
            and len(head) < at + 8 + int.from_bytes(head[at + 4 : at + 8], "little")
        ):
            part = next(data, b"")
            if not part or len(head) > _MOST_HEADER_BYTES:
                raise MediaError("the WAV that came through - ends in its header")
            head += part
        kind, size = struct.unpack_from("<4sI", head, at)
        if kind == b"data":
            if raw is None:
                raise MediaError("the WAV that came through - does not say what its samples are")
            return raw, head[at + 8 :], size
        if kind == b"fmt " and size >= 16:
            code, channels, rate_hz, _, frame, bits = struct.unpack_from("<HHIIHH", head, at + 8)
            if code == 0xFFFE and size >= 26:  # WAVE_FORMAT_EXTENSIBLE: the code stands later
                (code,) = struct.unpack_from("<H", head, at + 8 + 24)
            sample = _WAVE_SAMPLES.get((code, bits))
            # Samples of 24 bits in 4 bytes would be noise; some writers give no size of a frame.
            if not (sample and channels and rate_hz) or frame not in (0, bits // 8 * channels):
                raise MediaError(
                    f"the WAV that came through - has format {code} of {bits} bits in frames of"
                    f" {frame} bytes, expected integers of 16, 24 or 32 bits or floats of 32:"
                    f" {_ADVICE}"
                )
            raw = RawAudio(rate_hz, channels, sample)
        at += 8 + size + size % 2
    raise MediaError("the WAV that came through - has no samples")


def _limited(data: Iterator[bytes], came: int, size: int) -> Iterator[bytes]:
    """What is missing of so many bytes; other chunks of a WAV may follow its samples."""
    while came < size:
        part = next(data, b"")
        if not part:
            terminal.complain(
                f"the WAV that came through - is cut off: its header says {size:,} bytes of"
                f" samples, {came:,} came"
            )
            return
        yield part[: size - came]
        came += len(part)


def _blocks(head: bytes, data: Iterator[bytes], raw: RawAudio) -> Iterator[Block]:
    """Samples as they come: (frames,) or (frames, channels), as float32 or int16.

    Raises MediaError if none came, SamplesEnd at NaN or infinity.
    """
    rest, came = head, 0
    while True:
        whole = len(rest) // raw.frame_bytes * raw.frame_bytes
        if whole:
            block = _samples(rest[:whole], raw).reshape(-1, raw.channels)
            finite = np.isfinite(block).all(axis=1)
            sound = len(block) if finite.all() else int(np.argmin(finite))
            came += sound
            if sound:
                yield block[:sound, 0] if raw.channels == 1 else block[:sound]
            if sound < len(block):
                fault = f"NaN or infinite samples came through -, the first in frame {came}"
                if not came:
                    raise MediaError(fault)
                raise SamplesEnd(f"{fault}: what came before is kept")
        rest = rest[whole:]
        part = next(data, b"")
        if not part:
            break
        rest += part
    if not came:
        raise MediaError("no whole frame came through -")
    if rest:
        terminal.complain(
            f"the audio ended inside a frame: its last {len(rest)} of {raw.frame_bytes} bytes"
            " are left out"
        )


def _samples(data: bytes, raw: RawAudio) -> Block:
    """Samples out of their bytes: of 16 bits as int16, all others as float32 in [-1, 1]."""
    if raw.sample == "s16le":
        return np.frombuffer(data, "<i2").astype(np.int16)
    if raw.sample == "f32le":
        return np.frombuffer(data, "<f4").astype(np.float32)
    # As the upper bytes of 32 bits, little-endian.
    words = np.zeros((len(data) // (raw.bits // 8), 4), np.uint8)
    words[:, 4 - raw.bits // 8 :] = np.frombuffer(data, np.uint8).reshape(len(words), -1)
    return words.view("<i4")[:, 0].astype(np.float32) / np.float32(1 << 31)


def raw_samples(block: Block, raw: RawAudio) -> bytes:
    """The bytes of a block, int16 or float in [-1, 1], as samples without a header."""
    if raw.sample == "f32le":
        return _as_float(block).astype("<f4").tobytes()
    if raw.sample == "s16le" and block.dtype == np.int16:
        return block.astype("<i2").tobytes()
    full = 1 << raw.bits - 1
    words = np.clip(np.rint(_as_float(block).astype(np.float64) * full), -full, full - 1)
    return words.astype("<i4").view(np.uint8).reshape(-1, 4)[:, : raw.bits // 8].tobytes()


def _as_float(block: Block) -> NDArray[np.float32]:
    if block.dtype == np.int16:
        return block.astype(np.float32) / np.float32(32768)
    return block.astype(np.float32, copy=False)
