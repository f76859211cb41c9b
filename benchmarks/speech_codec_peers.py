"""The speech codecs that `benchmarks.speech_codec` holds beside ours: Opus and Codec 2."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soxr
from numpy.typing import NDArray

__all__ = ["FRAME", "RATE_HZ", "Coded", "System", "codec2", "opus"]

Sound = NDArray[np.float32]
Mask = NDArray[np.bool_]

RATE_HZ = 16_000
# All are packed in frames of 20 ms.
FRAME = RATE_HZ // 50
# libopus: include/opus_defines.h.
_VOIP, _SET_BITRATE, _SET_COMPLEXITY, _GET_LOOKAHEAD = 2048, 4002, 4010, 4027
_MOST_PACKET_BYTES = 1500
_CODEC2_RATE_HZ = 8000


@dataclass(frozen=True)
class Coded:
    """What a codec made of a recording: its audio, as long as it was and aligned with it, the bits
    it took, and the CPU seconds of both ends. `late` is the audio when gaps are filled once the
    frame behind them is there, by a codec that then does otherwise."""

    audio: Sound
    bits: int
    encode_s: float
    decode_s: float
    late: Sound | None = None


@dataclass(frozen=True)
class System:
    """A codec at one rate: `code` takes a recording at 16 kHz, and which of its frames of 20 ms are
    lost, or None where nothing is. `conceals` says whether it can lose any."""

    name: str
    code: Callable[[Sound, Mask | None], Coded]
    conceals: bool = True


def opus(kbit: int) -> System | None:
    """libopus as it comes with PyAV: VOIP, variable rate, complexity 10, frames of 20 ms. None if
    PyAV, or its libopus, is not there."""
    library = _libopus()
    if library is None:
        return None
    return System(f"Opus {kbit}", lambda audio, lost: _opus_coded(library, kbit, audio, lost))


def codec2() -> System | None:
    """Codec 2 at 3200 bit/s, whose audio has 8 kHz; None where c2enc is not installed."""
    if shutil.which("c2enc") is None or shutil.which("c2dec") is None:
        return None
    return System("Codec 2 3200", lambda audio, _: _codec2_coded(audio), conceals=False)


def _libopus() -> ctypes.CDLL | None:
    found = importlib.util.find_spec("av")
    if found is None or found.origin is None:
        return None
    packages = Path(found.origin).parent.parent
    files = sorted((packages / "av.libs").glob("libopus-*.so*"))
    if not files:
        return None
    library = ctypes.CDLL(str(files[0]))
    for create in (library.opus_encoder_create, library.opus_decoder_create):
        create.restype = ctypes.c_void_p
    return library


def _opus_coded(library: ctypes.CDLL, kbit: int, audio: Sound, lost: Mask | None) -> Coded:
    error, lookahead = ctypes.c_int(), ctypes.c_int()
    encoder = ctypes.c_void_p(library.opus_encoder_create(RATE_HZ, 1, _VOIP, ctypes.byref(error)))
    decoder = ctypes.c_void_p(library.opus_decoder_create(RATE_HZ, 1, ctypes.byref(error)))
    try:
        for request, value in ((_SET_BITRATE, 1000 * kbit), (_SET_COMPLEXITY, 10)):
            library.opus_encoder_ctl(encoder, ctypes.c_int(request), ctypes.c_int(value))
        library.opus_encoder_ctl(encoder, ctypes.c_int(_GET_LOOKAHEAD), ctypes.byref(lookahead))
        late = lookahead.value
        frames = _frames(audio, late)
        packets, buffer = [], ctypes.create_string_buffer(_MOST_PACKET_BYTES)
        began = time.process_time()
        for frame in frames:
            given = frame.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            size = library.opus_encode_float(encoder, given, FRAME, buffer, _MOST_PACKET_BYTES)
            if size < 0:
                raise RuntimeError(f"opus_encode_float gives {size}")
            packets.append(buffer.raw[:size])
        encode_s = time.process_time() - began
        out = np.zeros((len(frames), FRAME), np.float32)
        began = time.process_time()
        for i, packet in enumerate(packets):
            into = out[i].ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            gone = lost is not None and i < len(lost) and lost[i]
            sent = (None, 0) if gone else (packet, len(packet))
            if library.opus_decode_float(decoder, *sent, into, FRAME, 0) != FRAME:
                raise RuntimeError("opus_decode_float gives another number of samples")
        decode_s = time.process_time() - began
    finally:
        library.opus_encoder_destroy(encoder)
        library.opus_decoder_destroy(decoder)
    bits = 8 * sum(map(len, packets))
    return Coded(out.ravel()[late:][: len(audio)], bits, encode_s, decode_s)


def _frames(audio: Sound, late: int) -> Sound:
    """Frames (n, FRAME) of the audio and of silence for so many samples of delay."""
    count = -(-(len(audio) + late) // FRAME)
    padded = np.zeros(count * FRAME, np.float32)
    padded[: len(audio)] = audio
    return padded.reshape(count, FRAME)


def _codec2_coded(audio: Sound) -> Coded:
    low = soxr.resample(audio, RATE_HZ, _CODEC2_RATE_HZ)
    with TemporaryDirectory() as folder:
        raw, code, back = (Path(folder) / name for name in ("raw", "code", "back"))
        raw.write_bytes(np.clip(np.rint(low * 32768), -32768, 32767).astype("<i2").tobytes())
        for command in (["c2enc", "3200", raw, code], ["c2dec", "3200", code, back]):
            subprocess.run(list(map(str, command)), check=True, capture_output=True)
        said = np.frombuffer(back.read_bytes(), "<i2").astype(np.float32) / 32768
        bits = 8 * code.stat().st_size
    out = np.zeros(len(audio), np.float32)
    wide = soxr.resample(said, _CODEC2_RATE_HZ, RATE_HZ)[: len(audio)]
    out[: len(wide)] = wide
    # Processes of their own: their time is that of starting them.
    return Coded(out, bits, 0.0, 0.0)
