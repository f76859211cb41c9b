"""Speech: files compressed and restored, and raw samples live through pipes, both ways.

`compress_file` and `decompress_file` do one file a call, as in `edgeae.cli.image_files`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae import media
from edgeae.batch import Done, Job, Loading, Tick, loaded
from edgeae.bundle import bundled_with_codec_id
from edgeae.cli import pipes, terminal
from edgeae.cli.audio_files import RawAudio, audio_of, raw_samples, told_at_the_end
from edgeae.cli.file_kinds import check_kind
from edgeae.cli.options import Raw, in_words_of_the_command
from edgeae.coding.rate import DEFAULT_QUALITY
from edgeae.errors import BitstreamError, MediaError
from edgeae.loading import file_codec_id, file_info
from edgeae.signal.resample import resampled
from edgeae.signal.speech_pipe import MAGIC, PacketSplitter, framed
from edgeae.signal.speech_signal import DELAY_SAMPLES, RATE_HZ

__all__ = [
    "MODEL",
    "SUFFIXES",
    "Compression",
    "Restoring",
    "compress_file",
    "compress_pipe",
    "decompress_file",
    "decompress_pipe",
]

MODEL = "speech-codec"
# The files of a folder that are audio, which are also those that can be written.
SUFFIXES = media.AUDIO_SUFFIXES
# Samples of whole numbers that int16 holds.
_WHOLE = ("PCM_U8", "PCM_S8", "PCM_16")

Block = NDArray[Any]


@dataclass(frozen=True)
class Compression:
    """How to compress speech: a quality or a budget in bytes; live in packets of so many frames,
    also without its silence."""

    loading: Loading
    quality: float | None = None
    max_bytes: int | None = None
    packet_frames: int = 2
    dtx: bool = False


@dataclass(frozen=True)
class Restoring:
    """How to restore speech; without a model each file says which bundled codec it needs."""

    loading: Loading


@dataclass(frozen=True)
class _Said:
    """Restored audio in blocks, and what samples they are."""

    channels: int
    dtype: str
    blocks: Iterator[Block]


def compress_file(how: Compression, job: Job, tick: Tick) -> Done:
    """Compresses the speech in one audio file, at 16 kHz.

    Raises what reading, `SpeechCodec.compress` and writing raise.
    """
    source = media.rereadable(job.source)
    about = media.audio_info(source)
    audio, rate_hz = media.read_audio(source)
    samples = _at_16_khz(audio, rate_hz, whole=about.subtype in _WHOLE)
    blob = _compressed(how, samples)
    pipes.write_bytes(job.target, blob)
    read_bytes = pipes.read_size(job.source, source)
    line = (
        f"{job.source} -> {pipes.name(job.target, 'stdout')}"
        f"  {read_bytes:,} -> {len(blob):,} bytes  {_length(blob, samples)}"
    )
    if how.max_bytes is not None:
        line += f"  quality {file_info(blob)['quality']:g}"
    return Done(line, read_bytes, len(blob), "; ".join(about.notes) or None)


def compress_pipe(how: Compression, target: Path, asked: Raw) -> None:
    """Compresses audio that comes through stdin, raw samples or a WAV, until it ends.

    To a file as a whole; to stdout live, of 16 kHz, in packets. Ctrl-C, TERM and HUP are
    its end; what came before is kept.

    Raises:
        MediaError: nothing came, a WAV of other samples than asked for or than can be read, or NaN
            or infinite samples; what came before those is kept.
        UnknownSamples: neither a header nor `asked` says what the samples are.
        ValueError: live samples have another rate.
    """
    with pipes.live_input(_stopped) as data:
        raw, blocks = audio_of(data, asked)
        live = target == pipes.PIPE
        if live and raw.rate_hz != RATE_HZ:
            raise ValueError(f"live audio from - has {raw.rate_hz} Hz, expected {RATE_HZ}")
        with told_at_the_end(blocks) as blocks:
            if live:
                _send(how, raw, blocks)
                return
            audio = np.concatenate(list(blocks))
            samples = _at_16_khz(audio, raw.rate_hz, whole=raw.sample == "s16le")
            blob = _compressed(how, samples)
            media.atomic_write(target, blob)
            terminal.say(f"stdin -> {target}  {len(blob):,} bytes  {_length(blob, samples)}")


def decompress_file(how: Restoring, job: Job, tick: Tick) -> Done:
    """Restores the speech in one .eae file, or in a live stream that was kept.

    Raises what reading, `SpeechCodec.decompress` and writing raise.
    """
    blob = pipes.read_bytes(job.source)
    said = _restored(how, iter([blob]))
    written = _write(job.target, said)
    line = f"{pipes.name(job.source, 'stdin')} -> {job.target}  {_told(written, said)}"
    return Done(line, len(blob), job.target.stat().st_size, None)


def decompress_pipe(how: Restoring, source: Path, target: Path, sample: str) -> None:
    """Restores what comes, live packets as they come, to raw samples on stdout or to a file.

    Raises:
        MediaError: nothing came.
        BitstreamError: it is neither a file nor a live stream of speech.
    """
    if source != pipes.PIPE:
        _give(_restored(how, iter([pipes.read_bytes(source)])), sample)
        return
    with pipes.live_input(_stopped) as data:
        said = _restored(how, data)
        if target == pipes.PIPE:
            _give(said, sample)
            return
        written = _write(target, said)
        terminal.say(f"stdin -> {target}  {_told(written, said)}")


def _at_16_khz(audio: Block, rate_hz: int, *, whole: bool) -> Block:
    """Audio of any rate, int16 or float, as the codec takes it: of `whole` numbers as int16."""
    if audio.dtype == np.int16:
        audio = audio / np.float32(32768)
    samples: Block = resampled(audio, rate_hz, RATE_HZ)
    if whole:
        samples = np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)
    return samples


def _compressed(how: Compression, samples: Block) -> bytes:
    with in_words_of_the_command():
        blob: bytes = loaded(how.loading).compress(
            samples, sample_rate=RATE_HZ, quality=how.quality, max_bytes=how.max_bytes
        )
    return blob


def _send(how: Compression, raw: RawAudio, blocks: Iterator[Block]) -> None:
    with in_words_of_the_command():
        sender = loaded(how.loading).stream(
            channels=None if raw.channels == 1 else raw.channels,
            dtype="int16" if raw.sample == "s16le" else "float32",
            quality=DEFAULT_QUALITY if how.quality is None else how.quality,
            packet_frames=how.packet_frames,
            dtx=how.dtx,
        )
    pipes.write_binary(MAGIC + framed(sender.opening))
    for block in blocks:
        if packets := sender.send(block):
            pipes.write_binary(b"".join(map(framed, packets)))
    pipes.write_binary(b"".join(map(framed, sender.end())))


def _restored(how: Restoring, data: Iterator[bytes]) -> _Said:
    """What a file or a live stream says, as it comes."""
    head = b""
    while len(head) < len(MAGIC) and (part := next(data, b"")):
        head += part
    if not head:
        raise MediaError("nothing came through -")
    come = itertools.chain([head], data)
    return _live(how, come) if head.startswith(MAGIC) else _whole(how, b"".join(come))


def _whole(how: Restoring, blob: bytes) -> _Said:
    check_kind(blob, "audio")
    loading = how.loading
    if loading.model is None:
        name = bundled_with_codec_id(file_codec_id(blob)).manifest.name
        loading = dataclasses.replace(loading, model=name)
    with in_words_of_the_command():
        audio = loaded(loading).decompress(blob)
    channels = 1 if audio.ndim == 1 else audio.shape[1]
    return _Said(channels, audio.dtype.name, iter([audio]))


def _live(how: Restoring, data: Iterator[bytes]) -> _Said:
    packets = _packets(data)
    opening = next(packets, None)
    if opening is None:
        raise BitstreamError("the live stream ends before it begins")
    loading = dataclasses.replace(how.loading, model=how.loading.model or MODEL)
    receiver = loaded(loading).listen(opening)

    def blocks() -> Iterator[Block]:
        late = DELAY_SAMPLES
        for packet in packets:
            try:
                block = receiver.receive(packet)
            except BitstreamError as error:
                # As if it had not come: the next one says how many are missing.
                terminal.complain(f"{error}: its sound is concealed")
                continue
            yield block[late:]
            late = max(0, late - len(block))

    return _Said(receiver.channels, receiver.dtype.name, blocks())


def _packets(data: Iterator[bytes]) -> Iterator[bytes]:
    """The packets of a live stream, whose other bytes are told. BitstreamError if it is none."""

    def passed_over(begin: int, end: int) -> None:
        # As if nothing had come: the next packet says how many are missing.
        terminal.complain(
            f"bytes {begin:,} to {end - 1:,} of the live stream are no whole packet: their sound is"
            " concealed"
        )

    splitter = PacketSplitter(passed_over)
    for part in data:
        yield from splitter.feed(part)
    yield from splitter.end()
    if splitter.left_bytes:
        terminal.complain(
            f"the live stream ends in {splitter.left_bytes} bytes that are no whole packet: they"
            " are left out"
        )


def _write(target: Path, said: _Said) -> int:
    """Writes an audio file; how many samples each channel has."""
    subtype, count = "PCM_16" if said.dtype == "int16" else "FLOAT", 0
    with media.AudioWriter(
        target, rate_hz=RATE_HZ, channels=said.channels, subtype=subtype
    ) as writer:
        for block in said.blocks:
            whole = block.dtype == np.int16
            count += len(block)
            writer.write(np.asarray(block / 32768 if whole else block, np.float32))
    return count


def _give(said: _Said, sample: str) -> None:
    raw = RawAudio(RATE_HZ, said.channels, sample)
    for block in said.blocks:
        pipes.write_binary(raw_samples(block, raw))


def _stopped(name: str) -> None:
    terminal.complain(f"{name}: the recording ends here and is kept")


def _told(samples: int, said: _Said) -> str:
    channels = terminal.count(said.channels, "channel")
    return f"{samples / RATE_HZ:.2f} s, {RATE_HZ} Hz, {channels}"


def _length(blob: bytes, samples: Block) -> str:
    seconds = len(samples) / RATE_HZ
    return f"{seconds:.2f} s  {8 * len(blob) / seconds / 1000:.2f} kbit/s"
