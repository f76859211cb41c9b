"""Speech on its way: frames to symbols and back, and the two ends of a link that loses packets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgeae.coding.rate import LEVELS
from edgeae.errors import BitstreamError
from edgeae.exclusive import Exclusive
from edgeae.runtime import Graph
from edgeae.signal import codec_file as file
from edgeae.signal.codec_blocks import LatentCoder
from edgeae.signal.codec_header import Header
from edgeae.signal.contexts import Symbols
from edgeae.signal.samples import as_given, check_audio
from edgeae.signal.speech_signal import (
    BINS,
    CANDIDATES,
    FINE,
    FRAME_SAMPLES,
    HEARD,
    MIDDLE_PITCH,
    Ear,
    Voice,
)

__all__ = ["Listener", "Speaker", "SpeechModel", "SpeechReceiver", "SpeechSender"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Frames that are concealed at full strength, and after how many more all is silent: a syllable.
_CONCEALED, _FADING = 6, 8
# Frames of a file whose spectra are worked out together.
_TOGETHER = 64
# Numbers of packets go round after so many.
_ROUND = 128
# The longest gap that is filled, in packets: numbers that lie further ahead are older ones.
_MOST_AHEAD = 64


class SpeechModel(Protocol):
    """The graphs and tables of a codec, which all streams share."""

    encoder: Graph
    decoder: Graph
    coder: LatentCoder
    encoder_state: tuple[tuple[int, ...], ...]
    decoder_state: tuple[tuple[int, ...], ...]


class _Stepped:
    """A step graph with the states of one stream: `inputs` are filled, `run` fills `output`."""

    def __init__(
        self,
        graph: Graph,
        inputs: Sequence[Floats],
        output: Floats,
        states: Sequence[tuple[int, ...]],
    ) -> None:
        self.output = output
        pair = [[np.zeros(shape, np.float32) for shape in states] for _ in range(2)]
        # States before and after a step change places, so that nothing is copied.
        self._runs: list[Callable[[], None]] = [
            graph.bind([*inputs, *before], [output, *after], finite=(0,))
            for before, after in (pair, pair[::-1])
        ]
        self._turn = 0

    def run(self) -> None:
        self._runs[self._turn]()
        self._turn ^= 1


class Listener:
    """Symbols of one channel's frames; carries what was heard before."""

    def __init__(self, model: SpeechModel, level: int) -> None:
        self._steps = model.coder.steps[level]
        self._ear = Ear()
        powers, correlation = (
            np.zeros((1, HEARD), np.float32),
            np.zeros((1, CANDIDATES), np.float32),
        )
        self._powers, self._correlation = powers, correlation
        self._fine = np.zeros((1, FINE), np.float32)
        self._pitch = np.zeros((1, 1), np.float32)
        setting = np.full((1, 1), level / (LEVELS - 1), np.float32)
        self._latents = np.zeros((1, len(self._steps) - 1), np.float32)
        self._stepped = _Stepped(
            model.encoder,
            [powers, correlation, self._pitch, setting, self._fine],
            self._latents,
            model.encoder_state,
        )

    def hear(self, frames: Floats) -> Floats:
        """Pitch, from the middle one, and latents, unquantized (channels, n), of frames (n, 320).

        Raises EdgeaeError if the graph fails or gives no finite numbers.
        """
        found = np.empty((len(self._steps), len(frames)), np.float32)
        for begin in range(0, len(frames), _TOGETHER):
            heard = self._ear.hear(frames[begin : begin + _TOGETHER])
            for t, (power, correlation, pitch, fine) in enumerate(zip(*heard, strict=True), begin):
                self._powers[0], self._correlation[0], self._fine[0] = power, correlation, fine
                self._pitch[0, 0] = pitch
                self._stepped.run()
                found[0, t] = pitch - MIDDLE_PITCH
                found[1:, t] = self._latents[0]
        return found


class Speaker:
    """Audio of one channel's symbols; carries its sound over frames that are lost."""

    def __init__(self, model: SpeechModel, level: int) -> None:
        self._steps = model.coder.steps[level]
        self._voice = Voice()
        self._latents = np.zeros((1, len(self._steps) - 1), np.float32)
        self._pitch, self._lost = np.zeros((2, 1, 1), np.float32)
        setting = np.full((1, 1), level / (LEVELS - 1), np.float32)
        self._tones, self._noise, spectra = np.zeros((3, 1, 2, 2, BINS), np.float32)
        self._stepped = _Stepped(
            model.decoder,
            [self._latents, self._pitch, setting, self._lost, self._tones, self._noise],
            spectra,
            model.decoder_state,
        )
        self._gain, self._missing = 1.0, 0

    def speak(self, symbols: Symbols) -> Floats:
        """The audio, (n, 320), of symbols (channels, n).

        Raises BitstreamError for a pitch that no writer hears, EdgeaeError if the graph fails or
        gives no finite numbers.
        """
        pitches = symbols[0].astype(np.int64) + MIDDLE_PITCH
        if pitches.size and not 0 <= pitches.min() <= pitches.max() < 2 * MIDDLE_PITCH:
            raise BitstreamError("a frame has a pitch that no writer hears")
        self._missing = 0
        latents = symbols[1:].T * self._steps[1:]
        return self._frames(pitches, latents, lost=False)

    def conceal(self, count: int) -> Floats:
        """The audio, (count, 320), of frames that did not come: it goes on, and fades away."""
        pitches = np.full(count, self._voice.pitch)
        latents = np.zeros((count, len(self._steps) - 1), np.float32)
        return self._frames(pitches, latents, lost=True)

    def _frames(self, pitches: Ints, latents: Floats, *, lost: bool) -> Floats:
        """The audio, (n, 320), of the next frames, all or none of which are lost."""
        self._lost[0, 0] = lost
        found = np.empty((len(pitches), FRAME_SAMPLES), np.float32)
        for begin in range(0, len(pitches), _TOGETHER):
            here = slice(begin, min(len(pitches), begin + _TOGETHER))
            tones, noise = self._voice.speak(pitches[here])
            shaped = np.empty_like(tones)
            for t in range(len(tones)):
                self._pitch[0, 0], self._latents[0] = pitches[begin + t], latents[begin + t]
                self._tones[0], self._noise[0] = tones[t], noise[t]
                self._stepped.run()
                shaped[t] = self._stepped.output[0]
            found[here] = self._voice.join(shaped)
        for audio in found:
            self._fade(audio, lost=lost)
        return found

    def _fade(self, audio: Floats, *, lost: bool) -> None:
        """Make a frame, (320,), as loud as may be after so many that are missing."""
        self._missing += lost
        gain = min(1.0, max(0.0, 1 - (self._missing - _CONCEALED) / _FADING))
        if self._gain != 1 or gain != 1:
            audio *= np.linspace(self._gain, gain, FRAME_SAMPLES, dtype=np.float32)
            self._gain = gain


class SpeechSender:
    """Audio in blocks of any length to packets that each decode alone, given what was heard before.

    Made by `SpeechCodec.stream`; for one thread at a time. `opening` is the packet that a receiver
    must have before the others.
    """

    def __init__(self, model: SpeechModel, header: Header, number: int, codec_id: bytes) -> None:
        self.opening = file.write_opening(header, number)
        self._check = file.read_opening(self.opening, codec_id).check
        self._coder, self._level = model.coder, header.level
        self._frames = header.block_steps * 16 // FRAME_SAMPLES
        self._dtype, self._flat = header.dtype, header.flat
        self._listeners = [Listener(model, header.level) for _ in range(header.channels)]
        self._waiting = np.zeros((0, header.channels), np.float32)
        self._number = 0
        self._exclusive = Exclusive()

    def send(self, audio: Array) -> list[bytes]:
        """The packets that are complete with this audio, (samples,) or (samples, channels).

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
            return packets

    def end(self) -> list[bytes]:
        """The packets of what is left and of the codec's delay, filled up with silence."""
        length = self._frames * FRAME_SAMPLES
        missing = -(len(self._waiting) + FRAME_SAMPLES) % length
        shape = (FRAME_SAMPLES + missing, len(self._listeners))
        return self.send(np.zeros(shape, np.float32))

    def _packet(self, begin: int, length: int) -> bytes:
        coder, parts = self._coder, []
        for channel, listener in enumerate(self._listeners):
            audio = np.ascontiguousarray(self._waiting[begin : begin + length, channel])
            heard = listener.hear(audio.reshape(-1, FRAME_SAMPLES))
            symbols = coder.quantize(heard, self._level, [slice(0, heard.shape[1])])
            parts.append(coder.encode(coder.contexts.past(), symbols, self._level))
        packet = file.write_block_packet(self._number, file.join(parts), self._check)
        self._number = (self._number + 1) % _ROUND
        return packet


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
        self._exclusive = Exclusive()

    def receive(self, packet: bytes) -> Array:
        """The audio of a packet, behind that of those before it that did not come.

        Nothing of one that comes again, or after it was given up.

        Raises:
            BitstreamError: damaged, of another stream, or not what a writer makes. It can be
                counted as lost.
        """
        with self._exclusive:
            low, block = file.read_block_packet(packet, self._opening.check)
            ahead = (low - self._number) % _ROUND
            if ahead >= _MOST_AHEAD:
                return self._joined([np.zeros((0, FRAME_SAMPLES), np.float32)] * self.channels)
            coder, symbols = self._coder, []
            for part in file.split(block, self.channels):
                past = coder.contexts.past()
                symbols.append(coder.decode(past, self._frames, part, self._level))
            for one in symbols:
                # Before anything is said of it.
                if np.abs(one[0]).max() > MIDDLE_PITCH or one[0].max() == MIDDLE_PITCH:
                    raise BitstreamError("a frame has a pitch that no writer hears")
            said = []
            for speaker, one in zip(self._speakers, symbols, strict=True):
                missing = speaker.conceal(ahead * self._frames)
                said.append(np.concatenate([missing, speaker.speak(one)]))
            self._number = (self._number + ahead + 1) % _ROUND
            return self._joined(said)

    def lost(self, packets: int = 1) -> Array:
        """Audio in place of packets that did not come in time."""
        with self._exclusive:
            if type(packets) is not int or not 0 <= packets <= _MOST_AHEAD:
                raise ValueError(f"packets is {packets!r}, expected 0 to {_MOST_AHEAD}")
            self._number = (self._number + packets) % _ROUND
            return self._joined([s.conceal(packets * self._frames) for s in self._speakers])

    def _joined(self, said: Sequence[Floats]) -> Array:
        """Audio of all channels as the sender had it."""
        return as_given(np.stack([one.ravel() for one in said], axis=1), self.dtype, self._flat)


def floating(audio: Array) -> Floats:
    """Audio as float32 (samples, channels). Raises TypeError, ValueError if it is none."""
    checked = check_audio(audio)
    columns = checked if checked.ndim == 2 else checked[:, None]
    samples = columns.astype(np.float32)
    return samples / np.float32(32768) if checked.dtype.kind == "i" else samples
