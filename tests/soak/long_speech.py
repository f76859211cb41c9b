"""An hour of speech through both ends of `SpeechCodec.stream`, frame by frame, and what is wrong
with it: NaN, clicks, drift, states that grow, silence that costs bits or is heard."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import edgeae
from benchmarks.losses import gilbert
from edgeae.media import read_audio
from edgeae.signal.speech_codec import SpeechCodec
from edgeae.signal.speech_signal import FRAME_SAMPLES, RATE_HZ
from edgeae.signal.speech_stream import SpeechReceiver, SpeechSender

__all__ = ["ROUND_FRAMES", "ROUND_PARTS", "broken", "clicks", "distance_db", "long_speech"]

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Section = dict[str, Any]

QUALITY = 4.125
# What is said in each round of 14 s, in frames of 20 ms, one after the other.
ROUND_PARTS = {"speech": 300, "pause": 50, "silence": 200, "noise": 50, "noisy speech": 100}
ROUND_FRAMES = sum(ROUND_PARTS.values())
_PAUSE, _NOISE = 2e-4, 1e-2
# One frame in ten is lost, in bursts.
_LOSS = 0.1
# Silence is what comes so long after sound: what was lost on the way to it has faded by then.
_REST_FRAMES = 25
# Bounds: the loudest sample beside the loudest that was sent; the largest number in a state, of the
# last sixth of the rounds beside the first; decibels between those, and what chance does to one
# round; -80 dB of full scale; bits a second of silence; MB.
MOST_PEAK, MOST_GROWTH, MOST_DRIFT_DB, CHANCE_DB = 2.0, 1.05, 0.05, 0.3
MOST_SILENT, MOST_SILENT_BITS, MOST_MB = 1e-4, 400, 4
# An edge stands out if it is so much sharper than all that is around it, and may be heard.
_SHARPER, _HEARD, _EDGE, _AROUND = 3.0, 1e-3, 2, 48


def long_speech(frames: int, save: Callable[[Section], None], codec: SpeechCodec) -> Section:
    """What a stream of so many frames, at least two rounds, is like.

    Sender and receiver take one frame at a time; what is lost, or not sent, is told the receiver as
    lost.
    """
    rounds = max(2, frames // ROUND_FRAMES)
    # The same frames are lost in each round: none is easier than another.
    said, rng = _round(), np.random.default_rng(23)
    lost = gilbert(ROUND_FRAMES, _LOSS, 3.0, rng, opens_well=True)
    sender = codec.stream(quality=QUALITY, packet_frames=1, dtx=True)
    receiver = codec.listen(sender.opening)
    found: list[Section] = []
    memory: list[float] = []
    stood = np.zeros(2, np.int64)
    tail = np.zeros(0, np.float32)
    for _ in range(rounds):
        heard, bits = _passed(sender, receiver, said, lost)
        together = np.concatenate([tail, heard])
        # From round to round without a gap; the last edges of a round are looked at in the next.
        stood += clicks(together, len(tail))
        tail = together[-2 * FRAME_SAMPLES :]
        found.append(_measured(sender, receiver, said, heard, bits))
        gc.collect()
        memory.append(_resident_mb())
        section = _told(found, memory, stood)
        save({**section, "broken": []})
    return {**section, "bundle": codec.bundle.id, "broken": broken(section)}


def broken(section: Section) -> list[str]:
    """What of a section breaks a promise, a line each."""
    # As many edges as middles of frames stand out by chance, and so much more by chance too.
    chance = section["middles_that_stand_out"] + 4 * section["middles_that_stand_out"] ** 0.5 + 4
    sixth = max(1, section["count"] // ROUND_FRAMES // 6)
    drift = MOST_DRIFT_DB + CHANCE_DB / sixth**0.5
    checks = {
        "samples that are not finite": (section["not_finite"], 0),
        "the loudest sample beside the loudest sent": (section["peak_ratio"], MOST_PEAK),
        "edges of frames that stand out": (section["edges_that_stand_out"], chance),
        "drift in dB": (abs(section["drift_db"]), drift),
        "growth of the states": (section["state_growth"], MOST_GROWTH),
        "root mean square of silence": (section["silence_rms"], MOST_SILENT),
        "bits a second of silence": (section["silence_bit_per_s"], MOST_SILENT_BITS),
        "growth of memory in MB": (section["memory_growth_mb"], MOST_MB),
    }
    # NaN is not at most anything.
    return [
        f"{what}: {value:g}, expected at most {most:g}"
        for what, (value, most) in checks.items()
        if not value <= most
    ]


def clicks(audio: Floats, first: int = 0) -> npt.NDArray[np.int64]:
    """How many edges between frames stand out, and how many middles between such edges.

    An edge stands out if the second difference there is three times any within 3 ms of it. Where
    frames are joined without a click that is as rare as a quarter of a frame away from it, where
    nothing is joined. Looked at is from the frame before `first` on, but for the last edge.
    """
    bend = np.abs(np.diff(audio, n=2, prepend=audio[:1], append=audio[-1:]))
    edges = np.arange(max(first - FRAME_SAMPLES, FRAME_SAMPLES), len(audio) - 1, FRAME_SAMPLES)
    edges = edges[edges + FRAME_SAMPLES < len(audio)]
    return np.array([_standing_out(bend, at) for at in (edges, edges + FRAME_SAMPLES // 4)])


def _standing_out(bend: Floats, at: npt.NDArray[np.int64]) -> int:
    near = bend[at[:, None] + np.arange(-_EDGE, _EDGE)].max(axis=1)
    reach = np.arange(-_AROUND, _AROUND)
    around = bend[at[:, None] + reach[np.abs(reach + 0.5) > _EDGE + 2]].max(axis=1)
    return int(((near > _SHARPER * around) & (near > _HEARD)).sum())


def distance_db(sent: Floats, heard: Floats) -> float:
    """How far the spectra of two sounds are from each other: the mean difference of the powers in
    bands of 400 Hz in frames of 20 ms, in decibels, where either is within 40 dB of the loudest."""
    powers = [
        np.square(np.abs(np.fft.rfft(x.reshape(-1, FRAME_SAMPLES))[:, :160])) for x in (sent, heard)
    ]
    bands = [power.reshape(len(power), -1, 8).sum(axis=2) for power in powers]
    floor = 1e-4 * bands[0].max()
    there = np.maximum(*bands) > floor
    far = 10 * np.abs(np.log10((bands[1] + floor) / (bands[0] + floor)))
    return float(far[there].mean())


def _round() -> Floats:
    """The audio of a round, float32 (ROUND_FRAMES * 320,)."""
    speech, rate_hz = read_audio(Path(edgeae.__file__).parent / "assets" / "clean.flac")
    if rate_hz != RATE_HZ or speech.ndim != 1:
        raise ValueError("the recording is not one channel at 16 kHz")
    rng = np.random.default_rng(22)
    sizes = {name: frames * FRAME_SAMPLES for name, frames in ROUND_PARTS.items()}
    noise = rng.standard_normal(sum(sizes.values())).astype(np.float32)
    parts = {
        "speech": speech[: sizes["speech"]],
        "pause": _PAUSE * noise[: sizes["pause"]],
        # Dither is digital silence too.
        "silence": rng.integers(-1, 2, sizes["silence"]).astype(np.float32) / 32768,
        "noise": _NOISE * noise[: sizes["noise"]],
        "noisy speech": speech[: sizes["noisy speech"]] + _NOISE * noise[: sizes["noisy speech"]],
    }
    return np.concatenate([parts[name] for name in ROUND_PARTS], dtype=np.float32)


def _passed(
    sender: SpeechSender, receiver: SpeechReceiver, said: Floats, lost: Mask
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """What is heard of a round, and the bits of each of its frames."""
    heard, bits = np.empty_like(said), np.zeros(len(lost), np.int64)
    for i in range(len(lost)):
        here = slice(i * FRAME_SAMPLES, (i + 1) * FRAME_SAMPLES)
        packets = sender.send(said[here])
        bits[i] = 8 * sum(map(len, packets))
        there = bool(packets) and not lost[i]
        heard[here] = receiver.receive(packets[0]) if there else receiver.lost()
    return heard, bits


def _measured(
    sender: SpeechSender,
    receiver: SpeechReceiver,
    said: Floats,
    heard: Floats,
    bits: npt.NDArray[np.int64],
) -> Section:
    """Figures of one round."""
    begins = dict(zip(ROUND_PARTS, np.cumsum([0, *ROUND_PARTS.values()]), strict=False))
    silence = slice(begins["silence"] + _REST_FRAMES, begins["noise"])
    frames = heard.reshape(-1, FRAME_SAMPLES)
    speech = slice(0, ROUND_PARTS["speech"] - 1)
    # What is sent in a frame is heard in the next.
    far = distance_db(said.reshape(-1, FRAME_SAMPLES)[speech].ravel(), frames[1:][speech].ravel())
    states = [*sender._listeners[0]._encoder._pair, *receiver._speakers[0]._decoder._pair]
    return {
        "not_finite": int((~np.isfinite(heard)).sum()),
        "peak_ratio": float(np.abs(heard).max() / np.abs(said).max()),
        "distance_db": far,
        "state": max(float(np.abs(array).max()) for arrays in states for array in arrays),
        "silence_rms": float(np.sqrt(np.square(frames[silence]).mean(axis=1)).max()),
        "silence_bits": int(bits[silence].sum()),
        "bits": int(bits[: ROUND_PARTS["speech"]].sum()),
    }


def _told(found: list[Section], memory: list[float], stood: npt.NDArray[np.int64]) -> Section:
    """Figures of all rounds."""
    sixth = max(1, len(found) // 6)
    first, last = found[:sixth], found[-sixth:]

    def mean(rows: list[Section], key: str) -> float:
        return float(np.mean([row[key] for row in rows]))

    silent_s = (ROUND_PARTS["silence"] - _REST_FRAMES) * FRAME_SAMPLES / RATE_HZ
    speech_s = ROUND_PARTS["speech"] * FRAME_SAMPLES / RATE_HZ
    return {
        "count": len(found) * ROUND_FRAMES,
        "not_finite": sum(row["not_finite"] for row in found),
        "peak_ratio": round(max(row["peak_ratio"] for row in found), 3),
        "edges_that_stand_out": int(stood[0]),
        "middles_that_stand_out": int(stood[1]),
        "distance_db": round(mean(first, "distance_db"), 3),
        "drift_db": round(mean(last, "distance_db") - mean(first, "distance_db"), 4),
        "state": round(max(row["state"] for row in found), 3),
        "state_growth": round(mean(last, "state") / mean(first, "state"), 4),
        "silence_rms": float(f"{max(row['silence_rms'] for row in found):.2g}"),
        "silence_bit_per_s": round(mean(found, "silence_bits") / silent_s),
        "speech_bit_per_s": round(mean(found, "bits") / speech_s),
        "memory_growth_mb": round(np.median(memory[-sixth:]) - np.median(memory[:sixth]), 2),
    }


def _resident_mb() -> float:
    """What this process holds, in MB, from Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1000
