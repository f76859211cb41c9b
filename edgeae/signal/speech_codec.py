"""The speech codec: audio at 16 kHz to bytes and back, whole or packet by packet.

`compress` reads from top to bottom: what is heard of each frame, the encoder's step graph,
rounding, entropy coding, file. `decompress` goes back, to pulses and noise that the decoder's graph
shapes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.bundle import Bundle, find, reopened
from edgeae.coding.container import as_bytes
from edgeae.coding.latent import Port, expect_ports
from edgeae.coding.rate import (
    DEFAULT_QUALITY,
    LEVELS,
    finest_that_fits,
    level_of_quality,
    quality_of_level,
)
from edgeae.coding.single_lane import FineTables
from edgeae.errors import BitstreamError, BundleError, UnknownCodec
from edgeae.opening import graph_of, report_of
from edgeae.providers import Provider
from edgeae.runtime import CPU, Graph
from edgeae.signal import codec_file as file
from edgeae.signal.codec_blocks import LatentCoder
from edgeae.signal.codec_header import Header, Limits, read_body
from edgeae.signal.codec_latent import TABLE_BYTES, tables_at
from edgeae.signal.contexts import Symbols
from edgeae.signal.samples import as_given, whole_number
from edgeae.signal.speech_contexts import SpeechContexts
from edgeae.signal.speech_pipe import PacketSplitter
from edgeae.signal.speech_signal import (
    BINS,
    CANDIDATES,
    FINE,
    FRAME_SAMPLES,
    HEARD,
    RATE_HZ,
)
from edgeae.signal.speech_silence import hushed
from edgeae.signal.speech_stream import (
    Listener,
    Speaker,
    SpeechReceiver,
    SpeechSender,
    floating,
)

__all__ = ["SpeechCodec", "file_codec_id", "file_info"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

# Headers count steps of 16 samples.
_UNITS = FRAME_SAMPLES // 16
# A block of a file: 8 s.
_FILE_FRAMES = 400
# Two hours of speech. Blocks of silence may have no bytes but those around them, 14 for 8 s of a
# channel.
_LIMITS = Limits(samples=1 << 27, samples_per_byte=1 << 15)
_MAX_STATE = 1 << 16


class SpeechCodec:
    """A learned codec of speech, 1.5 to 9 kbit/s; safe to use from many threads.

    >>> codec = SpeechCodec.load("speech-codec")  # doctest: +SKIP
    >>> blob = codec.compress(talk, sample_rate=16_000, quality=4)  # doctest: +SKIP
    """

    # From a sample in to the same sample out of a stream whose packets hold one frame: 40 ms.
    DELAY_SAMPLES = 2 * FRAME_SAMPLES

    def __init__(
        self,
        bundle: Bundle,
        *,
        precision: str | None = None,
        providers: Sequence[Provider] | None = None,
        device: str | None = None,
        threads: int = 1,
        strict: bool = False,
    ) -> None:
        """See `load`."""
        if (manifest := bundle.manifest).task != "codec":
            raise BundleError(f"{manifest.name} is a {manifest.task}, expected a codec")
        if (kind := manifest.layout.get("kind")) != "audio":
            raise BundleError(f"{manifest.name} is a codec of {kind!r}, expected 'audio'")
        self.bundle = bundle
        self.precision = bundle.precision(precision)
        self._settings = {
            "precision": precision,
            "providers": providers,
            "device": device,
            "threads": threads,
            "strict": strict,
        }
        self._id = bytes.fromhex(manifest.codec_id or "")
        self._slices, reach = _latent(bundle)
        graph = functools.partial(
            graph_of,
            bundle,
            precision=self.precision,
            providers=providers,
            device=device,
            threads=threads,
            strict=strict,
        )
        self.encoder, self.decoder = graph("encoder"), graph("decoder")
        self.encoder_state, self.decoder_state = _states(bundle)
        # The context graphs are exact integer arithmetic on the CPU, whatever runs the rest.
        self._contexts = [
            Graph(bundle.graph(f"context{i}", "fp32"), providers=[CPU], threads=threads)
            for i in range(1 + len(self._slices))
        ]
        self._check_ports()
        tables, steps = _tables(bundle, sum(self._slices))
        contexts = SpeechContexts(self._slices, reach, self._contexts)
        self.coder = LatentCoder(contexts, tables, steps, exact_channels=1)

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        precision: str | None = None,
        providers: Sequence[Provider] | None = None,
        device: str | None = None,
        threads: int = 1,
        strict: bool = False,
    ) -> SpeechCodec:
        """The codec of a bundled model's name or of a bundle's folder.

        Args:
            model: a name that `edgeae models` lists, or a path.
            precision: "fp32" or what else the bundle has for encoder and decoder.
            providers: those of `Graph` for encoder and decoder, as are `device`, `threads` and
                `strict`.

        Raises:
            BundleError: not there, damaged, or not a codec of audio.
            ProviderError: a provider is not available or takes no node.
        """
        return cls(
            find(model),
            precision=precision,
            providers=providers,
            device=device,
            threads=threads,
            strict=strict,
        )

    def compress(
        self,
        audio: Array,
        *,
        sample_rate: int | None = None,
        quality: float | None = None,
        max_bytes: int | None = None,
    ) -> bytes:
        """The bytes of speech, as an .eae file holds them.

        Args:
            audio: (samples,) or (samples, channels) of 1 to 64 channels, each coded by itself;
                float32 or float64 in [-1, 1], or int16.
            sample_rate: 16,000, or None, which means the same.
            quality: 1 (smallest) to 9 in steps of an eighth; 5 if neither is given.
            max_bytes: the finest level whose file is not larger.

        Raises:
            TypeError, ValueError: audio or an argument are not as above, or even the coarsest level
                does not fit into `max_bytes`, or the file would be over its readers' limits.
        """
        samples = floating(audio)
        if not len(samples):
            raise ValueError(f"audio has shape {audio.shape}, expected at least one sample")
        _check_rate(sample_rate)
        if quality is not None and max_bytes is not None:
            raise ValueError("give one of quality and max_bytes")

        def write(level: int) -> bytes:
            header = self._header(audio, level, len(samples), _FILE_FRAMES, 0)
            return file.write(header, self._blocks(samples, level))

        if max_bytes is not None:
            return file.readable(finest_that_fits(write, max_bytes), _LIMITS)
        asked = DEFAULT_QUALITY if quality is None else quality
        return file.readable(write(level_of_quality(asked)), _LIMITS)

    def decompress(self, blob: bytes, *, limits: Limits | None = None) -> Array:
        """The audio of a file at 16 kHz, of the shape and type that `compress` was given.

        Raises:
            TypeError: blob is no bytes.
            BitstreamError: not a file of speech, cut off, damaged or over a limit.
            UnknownCodec: another codec wrote it.
        """
        content = file.read(as_bytes(blob), limits or _LIMITS)
        header = content.header
        self._check_header(header)
        coder, channels = self.coder, header.channels
        pasts = [coder.contexts.past() for _ in range(channels)]
        speakers = [Speaker(self, header.level) for _ in range(channels)]
        left = _frames_of(header.samples)
        found: list[list[Floats]] = [[] for _ in range(channels)]
        for i, block in enumerate(content.blocks):
            # The last block has the frame that completes the one before.
            last = i == len(content.blocks) - 1
            count = left if last else header.block_steps // _UNITS
            left -= count
            for channel, part in enumerate(file.split(block, channels)):
                symbols = coder.decode(pasts[channel], count, part, header.level)
                found[channel].append(speakers[channel].speak(symbols).ravel())
        audio = np.stack([np.concatenate(parts) for parts in found], axis=1)
        audio = audio[FRAME_SAMPLES:][: header.samples]
        return as_given(audio, np.dtype(header.dtype), header.flat)

    def stream(
        self,
        *,
        sample_rate: int | None = None,
        channels: int | None = None,
        dtype: str = "float32",
        quality: float = DEFAULT_QUALITY,
        packet_frames: int = 2,
        number: int = 0,
        dtx: bool = False,
    ) -> SpeechSender:
        """The sending end of a live link; `listen` makes the other.

        Args:
            sample_rate: 16,000, or None, which means the same.
            channels: 1 to 64, or None for one without an axis.
            dtype: what the receiver gives: float32, float64 or int16.
            quality: 1 (smallest) to 9.
            packet_frames: frames of 20 ms in a packet, 1 to 100. Fewer are later by less; more cost
                fewer bits, as within a packet frames lean on those before.
            number: 0 to 127; count it up so that streams that follow each other are told apart.
            dtx: whether digital silence is sent as a packet every 600 ms only. A receiver is told
                `lost` in place of those that do not come, or fills in all with the next one.

        Raises:
            TypeError, ValueError: an argument is not as above.
        """
        _check_rate(sample_rate)
        count = 1 if channels is None else whole_number(channels, "channels", 1, 64)
        frames = whole_number(packet_frames, "packet_frames", 1, 100)
        if dtype not in ("float32", "float64", "int16"):
            raise ValueError(f"dtype is {dtype!r}, expected float32, float64 or int16")
        number = whole_number(number, "number", 0, 127)
        if not isinstance(dtx, bool):
            raise TypeError(f"dtx is {dtx!r}, expected True or False")
        shape = (0,) if channels is None else (0, count)
        example = np.zeros(shape, dtype)
        header = self._header(example, level_of_quality(quality), 0, frames, 1)
        return SpeechSender(self, header, number, self._id, dtx=dtx)

    def listen(self, opening: bytes) -> SpeechReceiver:
        """The receiving end of the stream that the packet `opening` opens.

        Raises:
            TypeError: opening is no bytes.
            BitstreamError: it opens no stream of this codec.
        """
        found = file.read_opening(as_bytes(opening), self._id, _LIMITS)
        self._check_header(found.header, packets=True)
        return SpeechReceiver(self, found)

    @property
    def graphs(self) -> dict[str, Graph]:
        """The graphs that run, by role."""
        contexts = {f"context{i}": graph for i, graph in enumerate(self._contexts)}
        return {"encoder": self.encoder, "decoder": self.decoder, **contexts}

    def report(self) -> dict[str, Any]:
        """What was asked for and what runs where, graph by graph."""
        return report_of(self.bundle, self.precision, self.graphs)

    def __repr__(self) -> str:
        manifest = self.bundle.manifest
        return (
            f"<SpeechCodec {manifest.name} {manifest.version}: frames of 20 ms at {RATE_HZ} Hz, "
            f"40 ms delay, {self.precision}>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Sessions cannot be copied: a copy opens the bundle's directory again.
        return reopened, (SpeechCodec, self.bundle.path, self.bundle.id, self._settings)

    # --- what the verbs are made of ---------------------------------------------------------------

    def _header(self, audio: Array, level: int, samples: int, frames: int, keys: int) -> Header:
        channels = 1 if audio.ndim == 1 else audio.shape[1]
        return Header(
            self._id,
            level,
            audio.dtype.name,
            channels,
            audio.ndim == 1,
            samples,
            float(RATE_HZ),
            frames * _UNITS,
            keys,
            (0.0,) * channels,
            (1.0,) * channels,
        )

    def _blocks(self, samples: Floats, level: int) -> list[bytes]:
        """The blocks of audio (samples, channels) at a level."""
        frames = _frames_of(len(samples))
        padded = np.zeros((frames * FRAME_SAMPLES, samples.shape[1]), np.float32)
        padded[: len(samples)] = samples
        # The last block has the frame that completes the one before.
        ends = [*range(_FILE_FRAMES, frames - 1, _FILE_FRAMES), frames]
        coder, whole = self.coder, []
        for channel in padded.T:
            audio = channel.reshape(-1, FRAME_SAMPLES)
            heard = Listener(self, level).hear(audio)
            found = coder.quantize(heard, level, [slice(0, frames)])
            whole.append(hushed(self, audio, found, level, ends))
        pasts = [coder.contexts.past() for _ in whole]
        blocks = []
        for begin, end in zip([0, *ends], ends, strict=False):
            parts = []
            for past, symbols in zip(pasts, whole, strict=True):
                part: Symbols = symbols[:, begin:end]
                parts.append(coder.encode(past, part, level))
            blocks.append(file.join(parts))
        return blocks

    def _check_header(self, header: Header, *, packets: bool = False) -> None:
        if not packets and not self._id.startswith(header.codec_id):
            raise UnknownCodec(
                f"the file was written by codec {header.codec_id.hex()}, "
                f"{self.bundle.manifest.name} is {self._id.hex()}",
                codec_id=header.codec_id,
            )
        sound = header.of_speech and header.channels <= 64
        # Files go on from block to block, packets each stand alone.
        sound = sound and header.key_blocks == (1 if packets else 0)
        sound = sound and not (packets and header.samples)
        if not sound or (packets and header.block_steps > 100 * _UNITS):
            raise BitstreamError("the file's header is not one of speech")

    def _check_ports(self) -> None:
        """Raises BundleError, naming the file, unless every graph takes and gives what is
        needed."""

        def floats(*shapes: tuple[int | None, ...]) -> list[Port]:
            return [("float32", shape) for shape in shapes]

        # As many frames at a time as are given, or, in older bundles, one.
        counts = [g.inputs[0].shape[0] if g.inputs else None for g in (self.encoder, self.decoder)]
        n, m = (1 if count == 1 else None for count in counts)
        latents = sum(self._slices) - 1
        heard = floats((n, HEARD), (n, CANDIDATES), (n, 1), (n, 1), (n, FINE), *self.encoder_state)
        windows = (m, 2, 2, BINS)
        spoken = floats((m, latents), (m, 1), (m, 1), (m, 1), windows, windows, *self.decoder_state)
        gives = floats((n, latents), *self.encoder_state)
        expect_ports(self.encoder, takes=heard, gives=gives)
        expect_ports(self.decoder, takes=spoken, gives=floats(windows, *self.decoder_state))
        history = self._contexts[0]
        shape = history.outputs[0].shape if history.outputs else ()
        if len(shape) != 4 or not isinstance(width := shape[1], int):
            raise BundleError(f"{history.file} gives no summary of a fixed width")
        symbols = sum(self._slices)
        setting, summary = (1, 1, 1, 1), (1, width, 1, None)
        past = floats(setting, (1, symbols, 1, None))
        expect_ports(history, takes=past, gives=floats(summary))
        known = 0
        for own, graph in zip(self._slices, self._contexts[1:], strict=True):
            takes = floats(setting, summary, (1, 2 * symbols, 1, None))
            if known:
                takes += floats((1, known, 1, None))
            expect_ports(graph, takes=takes, gives=[("int32", (1, own, 1, None))] * 2)
            known += own


def file_codec_id(data: bytes, **_: Any) -> bytes:
    """Raises BitstreamError: a live stream that was kept names its codec by a checksum alone."""
    _opening_header(data)
    raise BitstreamError(
        "this is a live stream of speech that was kept, no file: `edgeae decompress` restores it "
        "to a .wav, or SpeechCodec.listen packet by packet"
    )


def file_info(data: bytes) -> dict[str, Any]:
    """What opens a live stream that was kept: {"kind": "audio", "packet_seconds", "channels",
    "sample_rate_hz", "dtype", "quality", "level", "codec_id": None}.

    `channels` are 0 for (samples,). Only the beginning need be there. Raises BitstreamError.
    """
    header = _opening_header(data)
    return {
        "kind": "audio",
        "packet_seconds": header.block_steps * 16 / RATE_HZ,
        "channels": 0 if header.flat else header.channels,
        "sample_rate_hz": header.sample_rate_hz,
        "dtype": header.dtype,
        "quality": quality_of_level(header.level),
        "level": header.level,
        "codec_id": None,
    }


def _opening_header(data: bytes) -> Header:
    """The header of a live stream in bytes, whose checksum only its codec can check."""
    packets = PacketSplitter().feed(data)
    if not packets:
        raise BitstreamError("the live stream ends before it begins")
    header, _ = read_body(packets[0], 1, b"", _LIMITS)
    if not header.of_speech:
        raise BitstreamError("the stream's header is not one of speech")
    return header


def _frames_of(samples: int) -> int:
    """Frames of so many samples, and one that completes the last."""
    return -(-samples // FRAME_SAMPLES) + 1


def _check_rate(sample_rate: int | None) -> None:
    if sample_rate is not None and sample_rate != RATE_HZ:
        raise ValueError(f"sample_rate is {sample_rate!r}, expected {RATE_HZ}: resample it first")


def _latent(bundle: Bundle) -> tuple[tuple[int, ...], int]:
    """Slices and reach of the manifest's latent section. Raises BundleError."""
    raw, name = bundle.manifest.latent or {}, bundle.manifest.name
    wanted = {"model": "pulses-and-noise", "frame_samples": FRAME_SAMPLES}
    for key, value in wanted.items():
        if raw.get(key) != value:
            raise BundleError(
                f"{name}: the latent section's {key} is {raw.get(key)!r}, expected {value!r}"
            )
    if (rate := bundle.manifest.layout.get("sample_rate_hz")) != RATE_HZ:
        raise BundleError(f"{name}: layout.sample_rate_hz is {rate!r}, expected {RATE_HZ}")
    slices, reach = raw.get("slices"), raw.get("reach")
    # The first symbol of a frame is its pitch.
    if (
        not isinstance(slices, list)
        or not 2 <= len(slices) <= 16
        or any(type(n) is not int or not 1 <= n <= 64 for n in slices)
        or slices[0] != 1
    ):
        raise BundleError(f"{name}: the latent section's slices are {slices!r}, expected 1, ...")
    if type(reach) is not int or not 1 <= reach <= 4096:
        raise BundleError(f"{name}: the latent section's reach is {reach!r}, expected 1 to 4096")
    return tuple(slices), reach


def _states(bundle: Bundle) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """Shapes of the encoder's and the decoder's states. Raises BundleError."""
    stream, found = bundle.manifest.stream or {}, []
    for key in ("encoder_state", "decoder_state"):
        state = stream.get(key)
        shapes = tuple(state.values()) if isinstance(state, Mapping) else ()
        for shape in shapes:
            sound = isinstance(shape, list) and 1 <= len(shape) <= 4
            if not sound or any(type(n) is not int or not 1 <= n <= _MAX_STATE for n in shape):
                raise BundleError(
                    f"{bundle.manifest.name}: {key} has {shape!r}, expected a list of sizes"
                )
        if not isinstance(state, Mapping) or sum(map(math.prod, shapes)) > _MAX_STATE:
            raise BundleError(f"{bundle.manifest.name}: {key} is {state!r}, expected shapes")
        found.append(tuple(tuple(shape) for shape in shapes))
    return tuple(found)


def _tables(bundle: Bundle, channels: int) -> tuple[FineTables, Floats]:
    """Tables of symbols and the quantization steps, positive float32 (levels, channels).

    Raises BundleError if tables.bin does not hold them.
    """
    data = bundle.read("tables.bin")
    size = TABLE_BYTES + 4 * LEVELS * channels
    if len(data) != size:
        raise BundleError(f"tables.bin has {len(data)} bytes, expected {size}")
    steps = np.frombuffer(data, "<f4", offset=TABLE_BYTES).astype(np.float32)
    steps = steps.reshape(LEVELS, channels)
    if not (np.isfinite(steps).all() and (steps > 0).all() and (steps[:, 0] == 1).all()):
        raise BundleError("tables.bin has a quantization step that cannot be")
    try:
        return tables_at(data, 0), steps
    except ValueError as error:
        raise BundleError(f"tables.bin: {error}") from None
