"""Speech on its way: frames to symbols and back, and the two ends of a link that loses packets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgeae.coding.container import as_bytes
from edgeae.coding.rate import LEVELS
from edgeae.errors import BitstreamError
from edgeae.exclusive import Exclusive
from edgeae.runtime import Graph
from edgeae.signal import codec_file as file
from edgeae.signal.codec_blocks import LatentCoder
from edgeae.signal.codec_header import Header
from edgeae.signal.contexts import Symbols
from edgeae.signal.samples import as_given, check_audio, stream_repr
from edgeae.signal.speech_signal import FRAME_SAMPLES, MIDDLE_PITCH, RATE_HZ, SILENT, Ear, Voice

__all__ = [
    "FRAMES_OF_A_GRAPH",
    "Listener",
    "Speaker",
    "SpeechModel",
    "SpeechReceiver",
    "SpeechSender",
]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Frames that are concealed at full strength, and after how many more all is silent: a syllable.
_CONCEALED, _FADING = 6, 8
# The longest gap, in frames, over which speech goes from what was before it to what comes after.
BRIDGED_FRAMES = 6
# Below 70 dB under full scale nothing has to fade.
_FAINT = 3e-4
# What comes 80 dB below full scale, as a root mean square, is silence, and nothing when spoken on.
_HUSHED = 1e-4
# With `dtx`, frames of silence that are sent before no more are, so that a receiver has come to
# rest though some are lost; and the longest time without a packet, 600 ms: a receiver fills gaps of
# up to 64 packets by their numbers, so one of those that come may be lost.
_HANGOVER_FRAMES, _QUIET_FRAMES = 8, 30
# Frames that a graph is given at a time at most, and whose spectra are worked out together.
FRAMES_OF_A_GRAPH = 8
_TOGETHER = 64
# Numbers of packets go round after so many.
_ROUND = 128
# The longest gap that is filled, in packets: numbers that lie further ahead are older ones, unless
# so many come that follow each other: then the gap was longer than numbers tell.
_MOST_AHEAD, _GONE_ON = 64, 8


class SpeechModel(Protocol):
    """The graphs and tables of a codec, which all streams share."""

    encoder: Graph
    decoder: Graph
    coder: LatentCoder
    encoder_state: tuple[tuple[int, ...], ...]
    decoder_state: tuple[tuple[int, ...], ...]


class _Steps:
    """The encoder's or decoder's graph with the states of one stream, which frames go through in
    their order."""

    def __init__(self, graph: Graph, states: Sequence[tuple[int, ...]]) -> None:
        self._graph = graph
        # Graphs of older bundles take one frame at a time.
        self._most = 1 if graph.inputs[0].shape[0] == 1 else FRAMES_OF_A_GRAPH
        # States before and after a run change places, so that nothing is copied.
        self._pair = [[np.zeros(shape, np.float32) for shape in states] for _ in range(2)]
        self._turn = 0
        # For so many frames at a time: arrays that are filled, one that then is, both ways to run.
        self._bound: dict[int, tuple[list[Floats], Floats, list[Callable[[], None]]]] = {}

    def run(self, *given: Floats) -> Floats:
        """What the graph makes of the next frames, (n, ...), of its inputs (n, ...).

        Raises EdgeaeError if it fails or gives no finite numbers.
        """
        parts = []
        for begin in range(0, len(given[0]), self._most):
            here = [array[begin : begin + self._most] for array in given]
            inputs, output, runs = self._bound.get(len(here[0])) or self._bind(here)
            for kept, new in zip(inputs, here, strict=True):
                kept[:] = new
            runs[self._turn]()
            self._turn ^= 1
            parts.append(output.copy())
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def _bind(
        self, given: Sequence[Floats]
    ) -> tuple[list[Floats], Floats, list[Callable[[], None]]]:
        count = len(given[0])
        inputs = [np.zeros(array.shape, np.float32) for array in given]
        output = np.zeros((count, *map(int, self._graph.outputs[0].shape[1:])), np.float32)
        runs = [
            self._graph.bind([*inputs, *before], [output, *after], finite=(0,))
            for before, after in (self._pair, self._pair[::-1])
        ]
        self._bound[count] = found = (inputs, output, runs)
        return found


class Listener:
    """Symbols of one channel's frames; carries what was heard before."""

    def __init__(self, model: SpeechModel, level: int) -> None:
        self._channels, self._level = len(model.coder.steps[level]), level / (LEVELS - 1)
        self._ear = Ear()
        self._encoder = _Steps(model.encoder, model.encoder_state)

    def hear(self, frames: Floats) -> Floats:
        """Pitch, from the middle one, and latents, unquantized (channels, n), of frames (n, 320).

        Raises EdgeaeError if the graph fails or gives no finite numbers.
        """
        found = np.empty((self._channels, len(frames)), np.float32)
        for begin in range(0, len(frames), _TOGETHER):
            here = slice(begin, begin + _TOGETHER)
            powers, correlation, pitches, fine = self._ear.hear(frames[here])
            pitch = pitches[:, None].astype(np.float32)
            setting = np.full_like(pitch, self._level)
            found[0, here] = pitches - MIDDLE_PITCH
            found[1:, here] = self._encoder.run(powers, correlation, pitch, setting, fine).T
        return found


class Speaker:
    """Audio of one channel's symbols; carries its sound over frames that are lost."""

    def __init__(self, model: SpeechModel, level: int) -> None:
        self._steps, self._level = model.coder.steps[level], level / (LEVELS - 1)
        self._voice = Voice()
        self._decoder = _Steps(model.decoder, model.decoder_state)
        self._gain, self._missing, self._silent = 1.0, 0, True
        # Pitch and latents of the last frame, if it came.
        self._last: tuple[int, Floats] | None = None

    def speak(self, symbols: Symbols) -> Floats:
        """The audio, (n, 320), of symbols (channels, n).

        Raises BitstreamError for a pitch that no writer hears, EdgeaeError if the graph fails or
        gives no finite numbers.
        """
        pitches, latents = self._coded(symbols)
        self._missing = 0
        said = self._frames(pitches, latents, lost=False)
        if len(said):
            self._silent = _loudness(said[-1]) <= _HUSHED
            self._last = int(pitches[-1]), latents[-1]
        return said

    def bridge(self, count: int, symbols: Symbols) -> Floats:
        """The audio, (count, 320), of frames that did not come ahead of those of `symbols`, which
        `speak` is to say next: a short gap leads to them, a longer one is concealed.

        Raises what `speak` does.
        """
        if self._last is None or self._silent or not 0 < count <= BRIDGED_FRAMES:
            return self.conceal(count)
        pitches, latents = self._coded(symbols[:, :1])
        share = np.arange(1, count + 1, dtype=np.float32)[:, None] / np.float32(count + 1)
        pitch, before = self._last
        between = np.rint(pitch + share[:, 0] * (pitches[0] - pitch)).astype(np.int64)
        return self._frames(between, before + share * (latents[0] - before), lost=False)

    def _coded(self, symbols: Symbols) -> tuple[Ints, Floats]:
        """Pitches (n,) and latents (n, latents) of symbols (channels, n)."""
        return _pitches(symbols), (symbols[1:].T * self._steps[1:]).astype(np.float32)

    def conceal(self, count: int) -> Floats:
        """The audio, (count, 320), of frames that did not come: it goes on, and fades away."""
        if count:
            self._last = None
        pitches = np.full(count, self._voice.pitch)
        latents = np.zeros((count, len(self._steps) - 1), np.float32)
        return self._frames(pitches, latents, lost=True)

    def _frames(self, pitches: Ints, latents: Floats, *, lost: bool) -> Floats:
        """The audio, (n, 320), of the next frames, all or none of which are lost."""
        found = np.empty((len(pitches), FRAME_SAMPLES), np.float32)
        for begin in range(0, len(pitches), _TOGETHER):
            here = slice(begin, begin + _TOGETHER)
            tones, noise = self._voice.speak(pitches[here])
            pitch = pitches[here, None].astype(np.float32)
            setting, missing = np.full_like(pitch, self._level), np.full_like(pitch, lost)
            shaped = self._decoder.run(latents[here], pitch, setting, missing, tones, noise)
            if lost and self._silent:
                # A state that is left alone may wander off to a hum.
                shaped = np.zeros_like(shaped)
            found[here] = self._voice.join(shaped)
        for audio in found:
            self._fade(audio, lost=lost)
        return found

    def _fade(self, audio: Floats, *, lost: bool) -> None:
        """Make a frame, (320,), as loud as may be after so many that are missing.

        Silence goes on as long as it may, so that what follows is heard from its beginning.
        """
        self._missing += lost and bool(np.abs(audio).max() > _FAINT)
        gain = min(1.0, max(0.0, 1 - (self._missing - _CONCEALED) / _FADING))
        if self._gain != 1 or gain != 1:
            audio *= np.linspace(self._gain, gain, FRAME_SAMPLES, dtype=np.float32)
            self._gain = gain


def _pitches(symbols: Symbols) -> Ints:
    """Pitches (n,) of symbols (channels, n). Raises BitstreamError for one that no writer hears."""
    pitches: Ints = symbols[0].astype(np.int64) + MIDDLE_PITCH
    if pitches.size and not 0 <= pitches.min() <= pitches.max() < 2 * MIDDLE_PITCH:
        raise BitstreamError("a frame has a pitch that no writer hears")
    return pitches


def _loudness(audio: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(audio))))


class SpeechSender:
    """Audio in blocks of any length to packets that each decode alone, given what was heard before.

    With `dtx` (discontinuous transmission) digital silence is a packet every 600 ms or less; their
    numbers tell a receiver what was left out.

    Made by `SpeechCodec.stream`; for one thread at a time. `opening` is the packet that a receiver
    must have before the others.
    """

    def __init__(
        self, model: SpeechModel, header: Header, number: int, codec_id: bytes, *, dtx: bool
    ) -> None:
        self.opening = file.write_opening(header, number)
        self._check = file.read_opening(self.opening, codec_id).check
        self._coder, self._level = model.coder, header.level
        self._frames = header.block_steps * 16 // FRAME_SAMPLES
        self._dtype, self._flat = header.dtype, header.flat
        self._listeners = [Listener(model, header.level) for _ in range(header.channels)]
        self._waiting = np.zeros((0, header.channels), np.float32)
        self._number = 0
        # Silent frames up to here, and those that were not sent since the last packet.
        self._dtx, self._silent, self._unsent = dtx, 0, 0
        self._exclusive = Exclusive()

    def __repr__(self) -> str:
        return _told("SpeechSender", len(self._listeners), self._frames)

    def send(self, audio: Array) -> list[bytes]:
        """The packets that are complete with this audio, (samples,) or (samples, channels).

        With `dtx`, without those that need not be sent.

        Raises TypeError, ValueError: no audio of the stream's channels.
        """
        with self._exclusive:
            samples = floating(audio)
            if samples.shape[1] != len(self._listeners):
                raise ValueError(
                    f"audio has {samples.shape[1]} channels, expected {len(self._listeners)}"
                )
            self._waiting = np.concatenate([self._waiting, samples])
            length = self._frames * FRAME_SAMPLES
            count = len(self._waiting) // length
            packets = [self._packet(i * length, length) for i in range(count)]
            self._waiting = self._waiting[count * length :]
            return [packet for packet in packets if packet is not None]

    def end(self) -> list[bytes]:
        """The packets of what is left and of the codec's delay, filled up with silence."""
        length = self._frames * FRAME_SAMPLES
        missing = -(len(self._waiting) + FRAME_SAMPLES) % length
        # These are sent, so that a receiver has the whole.
        self._silent = 0
        shape = (FRAME_SAMPLES + missing, len(self._listeners))
        return self.send(np.zeros(shape, np.float32))

    def _packet(self, begin: int, length: int) -> bytes | None:
        """The next packet, or None if it need not be sent."""
        audio = self._waiting[begin : begin + length]
        # An encoder that is not sent hears all the same.
        heard = [
            listener.hear(np.ascontiguousarray(channel).reshape(-1, FRAME_SAMPLES))
            for listener, channel in zip(self._listeners, audio.T, strict=True)
        ]
        number, self._number = self._number, (self._number + 1) % _ROUND
        if self._dtx and self._need_not_be_sent(audio):
            self._unsent += self._frames
            return None
        self._unsent = 0
        coder, parts = self._coder, []
        for latents in heard:
            symbols = coder.quantize(latents, self._level, [slice(0, self._frames)])
            parts.append(coder.encode(coder.contexts.past(), symbols, self._level))
        return file.write_block_packet(number, file.join(parts), self._check)

    def _need_not_be_sent(self, audio: Floats) -> bool:
        """Whether the next packet, (samples, channels), is one of silence that goes on."""
        loud = np.flatnonzero(np.abs(audio).max(axis=1) > SILENT)
        if len(loud):
            self._silent = (len(audio) - 1 - int(loud[-1])) // FRAME_SAMPLES
            return False
        before, self._silent = self._silent, self._silent + self._frames
        most = _QUIET_FRAMES - self._frames
        return before >= _HANGOVER_FRAMES and self._unsent + self._frames <= most


class SpeechReceiver:
    """Packets to audio, in which sample n is what was sent as sample n - 320; losses are concealed.

    Made by `SpeechCodec.listen`; for one thread at a time.
    """

    def __init__(self, model: SpeechModel, opening: file.Opening) -> None:
        self._opening, header = opening, opening.header
        self._coder, self._level = model.coder, header.level
        self._frames = header.block_steps * 16 // FRAME_SAMPLES
        # What the sender has: float32, float64 or int16, and how many channels.
        self.dtype, self.channels = np.dtype(header.dtype), header.channels
        self._flat = header.flat
        self._speakers = [Speaker(model, header.level) for _ in range(header.channels)]
        self._number = 0
        # Of packets that count as older ones: the number after the last, and how many in a row.
        self._older, self._older_count = 0, 0
        self._exclusive = Exclusive()

    def __repr__(self) -> str:
        return _told("SpeechReceiver", self.channels, self._frames)

    def receive(self, packet: bytes) -> Array:
        """The audio of a packet, behind that of those before it that did not come: up to 120 ms
        lead from what was before to what comes, nearer to what was said than `lost` can be.

        Nothing of one that comes again, or after it was given up. But eight of those that follow
        each other mean a gap of more than 64 packets that `lost` was not told of: the eighth and
        what follows is said, without a filling.

        Raises:
            TypeError: packet is no bytes.
            BitstreamError: damaged, of another stream, or not what a writer makes. It can be
                counted as lost.
        """
        with self._exclusive:
            low, block = file.read_block_packet(as_bytes(packet), self._opening.check)
            ahead = (low - self._number) % _ROUND
            if ahead >= _MOST_AHEAD and self._gone_on(low):
                self._number, ahead = low, 0
            if ahead >= _MOST_AHEAD:
                return self._joined([np.zeros((0, FRAME_SAMPLES), np.float32)] * self.channels)
            coder, symbols = self._coder, []
            for part in file.split(block, self.channels):
                past = coder.contexts.past()
                symbols.append(coder.decode(past, self._frames, part, self._level))
            for one in symbols:
                # Before anything is said of it.
                _pitches(one)
            said = []
            for speaker, one in zip(self._speakers, symbols, strict=True):
                missing = speaker.bridge(ahead * self._frames, one)
                said.append(np.concatenate([missing, speaker.speak(one)]))
            self._number = (self._number + ahead + 1) % _ROUND
            self._older_count = 0
            return self._joined(said)

    def lost(self, packets: int = 1) -> Array:
        """Audio in place of packets that did not come in time."""
        with self._exclusive:
            if type(packets) is not int or not 0 <= packets <= _MOST_AHEAD:
                raise ValueError(f"packets is {packets!r}, expected 0 to {_MOST_AHEAD}")
            self._number = (self._number + packets) % _ROUND
            return self._joined([s.conceal(packets * self._frames) for s in self._speakers])

    def _gone_on(self, low: int) -> bool:
        """Whether a packet that counts as an older one is of a stream that went on in a gap."""
        follows = self._older_count > 0 and low == self._older
        self._older, self._older_count = (low + 1) % _ROUND, 1 + self._older_count * follows
        return self._older_count >= _GONE_ON

    def _joined(self, said: Sequence[Floats]) -> Array:
        """Audio of all channels as the sender had it."""
        return as_given(np.stack([one.ravel() for one in said], axis=1), self.dtype, self._flat)


def floating(audio: Array) -> Floats:
    """Audio as float32 (samples, channels). Raises TypeError, ValueError if it is none."""
    checked = check_audio(audio)
    columns = checked if checked.ndim == 2 else checked[:, None]
    samples = columns.astype(np.float32)
    return samples / np.float32(32768) if checked.dtype.kind == "i" else samples


def _told(name: str, channels: int, frames: int) -> str:
    # From a sample in to the same sample out: a packet's frames, and the one that completes them.
    delay = 20 * (frames + 1)
    parts = f"packets of {20 * frames} ms", f"{delay} ms delay"
    return stream_repr(name, channels, RATE_HZ, *parts)
