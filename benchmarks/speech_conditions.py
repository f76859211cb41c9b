"""Speech denoisers where they meet users: long streams, late noise, pauses, other voices, stereo.

    python -m benchmarks.speech_conditions NOISY_DIR CLEAN_DIR --json OUT.json [--files N]

Every system gets the same files in one run, at 16 kHz, each figure with its own meaning:
never reset: all recordings in one stream, a second of digital silence between them, scored one by
one, beside fresh states. Late noise: the noise of each recording (noisy less clean) begins after a
second of zeros, of a quiet room at -60 dBFS, or of lost blocks (`Stream.skip`; zeros for systems
that have no such call); how far it falls in its first second, in dB. Pauses: how far the noisy
input falls where the clean recording is 40 dB below its loud parts. Kept: the clean speech in the
output by projection, in dB (0 is all of it), over octave bands. Sibilants: the band above 4 kHz of
clean speech where most of its energy lies there, out over in. Speeds: clean speech played 1.0 to
1.6 times as fast (pitch and formants rise with it), kept by projection. Fan: four seconds of a
made fan alone, how far it falls in its first second and after the second one. Stereo: the standard
deviation of the level difference of two channels with the voice 6 dB to the left and another part
of the noise in each.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

import edgeae
from benchmarks.speech import (
    METRIC_RATE_HZ,
    PACKAGES,
    file_pairs,
    installed_metrics,
    progress,
    read_mono,
)
from benchmarks.speech_edges import steady_noises
from benchmarks.speech_systems import Sound, System, ours, peers
from edgeae.bench.machine import machine, versions

RATE_HZ = METRIC_RATE_HZ
SPEEDS = (1.0, 1.2, 1.4, 1.6)
QUIET_ROOM_DB = -60.0
# Frames of 20 ms, as speech codecs and voice activity detectors take.
FRAME = RATE_HZ // 50
# A frame this far below the 95th percentile of frame levels is a pause; within the second, speech.
PAUSE_DB, ACTIVE_DB = -40.0, -25.0
BANDS_HZ = ((0, 500), (500, 1000), (1000, 2000), (2000, 4000), (4000, 8000))
SIBILANT_HZ = 4000
WINDOW = 512

Pair = tuple[Sound, Sound]
Denoise = Callable[[Sound], Sound]
Figures = dict[str, float | None]


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure every system, and write the figures."""
    options = _parser().parse_args(arguments)
    names = file_pairs(options.noisy, options.clean)[: options.files]
    pairs = [(_at_rate(noisy), _at_rate(clean)) for noisy, clean in names]
    missing: dict[str, str] = {}
    metrics = dict(installed_metrics(missing, dnsmos=False))
    systems = [ours(model) for model in options.model]
    for peer in peers(pairs[0][1], RATE_HZ) if options.peers else ():
        if not isinstance(peer, System):
            missing[peer[0]] = peer[1]
        elif peer.latency_ms is not None:  # a system that needs the whole file has no stream
            systems.append(peer)
    report = {
        "what": "speech denoising under the conditions of use",
        "method": " ".join((__doc__ or "").split("\n\n")[2].split()),
        "folder": options.noisy.resolve().parent.name,
        "files": len(pairs),
        "seconds": round(sum(len(noisy) for noisy, _ in pairs) / RATE_HZ, 2),
        "machine": machine(),
        "versions": versions(PACKAGES),
        "missing": missing,
        "systems": {
            system.name: {
                "bundle": system.bundle,
                **measure(system, pairs, metrics),
            }
            for system in systems
        },
        "stereo": {model: stereo(model, pairs) for model in options.model},
    }
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speech_conditions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("noisy", type=Path, help="folder of noisy recordings")
    parser.add_argument("clean", type=Path, help="folder of the clean recordings, same names")
    parser.add_argument("--json", type=Path, help="write every figure here")
    parser.add_argument("--model", nargs="*", default=["speech-denoiser"], help="names or paths")
    parser.add_argument("--files", type=int, help="take only the first so many pairs")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True)
    return parser


def _at_rate(path: Path) -> Sound:
    sound, rate_hz = read_mono(path)
    return np.asarray(soxr.resample(sound, rate_hz, RATE_HZ), np.float32)


# --- conditions -------------------------------------------------------------------------------


def measure(
    system: System, pairs: Sequence[Pair], metrics: Mapping[str, Callable[[Sound, Sound], float]]
) -> dict[str, Figures]:
    """Every condition of one system, condition -> figure -> mean over the recordings."""

    def denoise(sound: Sound) -> Sound:
        return system.clean(sound, RATE_HZ)[0]

    fresh = [denoise(noisy) for noisy, _ in progress(f"{system.name}, recordings", pairs)]
    outputs = [(clean, out) for (_, clean), out in zip(pairs, fresh, strict=True)]
    return {
        "fresh": _scores(outputs, metrics),
        "never_reset": _scores(never_reset(denoise, pairs), metrics),
        "late_noise_db": late_noise(denoise, system.after_loss, pairs),
        "pauses_db": {
            "fall": _mean(
                pause_fall_db(clean, noisy, out)
                for (noisy, clean), out in zip(pairs, fresh, strict=True)
            )
        },
        "kept_db": kept_by_band(outputs),
        "sibilants_db": {"kept": _mean(sibilant_db(c, denoise(c)) for _, c in pairs)},
        "speeds_db": speeds(denoise, [clean for _, clean in pairs]),
        "fan_db": fan(denoise),
    }


def _scores(
    outputs: Sequence[Pair], metrics: Mapping[str, Callable[[Sound, Sound], float]]
) -> Figures:
    return {name: _mean(metric(c, out) for c, out in outputs) for name, metric in metrics.items()}


def never_reset(denoise: Denoise, pairs: Sequence[Pair]) -> list[Pair]:
    """(clean, output) of each recording, all of them denoised in one stream with gaps."""
    gap = np.zeros(RATE_HZ, np.float32)
    out = denoise(np.concatenate([part for noisy, _ in pairs for part in (noisy, gap)]))
    found, start = [], 0
    for noisy, clean in pairs:
        found.append((clean, out[start : start + len(noisy)]))
        start += len(noisy) + len(gap)
    return found


def late_noise(
    denoise: Denoise, after_loss: Callable[[int, Sound, int], Sound] | None, pairs: Sequence[Pair]
) -> Figures:
    """How far noise falls in its first second, in dB, after each kind of quiet second."""
    room = quiet_room(RATE_HZ)
    falls: dict[str, list[float]] = {"at once": [], "zeros": [], "quiet room": [], "lost": []}
    for noisy, clean in pairs:
        noise = (noisy - clean)[: 2 * RATE_HZ]
        first = slice(min(RATE_HZ, len(noise)))
        for name, lead in (("at once", room[:0]), ("zeros", 0 * room), ("quiet room", room)):
            out = denoise(np.concatenate([lead, noise]))[len(lead) :]
            falls[name].append(level_db(out[first]) - level_db(noise[first]))
        if after_loss is not None:
            out = after_loss(RATE_HZ, noise, RATE_HZ)
            falls["lost"].append(level_db(out[first]) - level_db(noise[first]))
    falls["lost"] = falls["lost"] or falls["zeros"]
    return {name: _mean(values) for name, values in falls.items()}


def quiet_room(samples: int) -> Sound:
    """Noise of a quiet room, whose power falls with frequency, at -60 dBFS, (samples,)."""
    spectrum = np.fft.rfft(np.random.default_rng(2).standard_normal(samples))
    spectrum *= np.maximum(np.fft.rfftfreq(samples, 1 / RATE_HZ), 50.0) ** -0.5
    room = np.fft.irfft(spectrum, n=samples)
    room *= 10 ** (QUIET_ROOM_DB / 20) / np.sqrt(np.mean(np.square(room)))
    return np.asarray(room, np.float32)


def speeds(denoise: Denoise, recordings: Sequence[Sound]) -> Figures:
    """What is kept of clean speech at each speed, in dB: the mean, and of the worst recording."""
    found: Figures = {}
    for speed in SPEEDS:
        kept = []
        for clean in recordings:
            # Played faster: fewer samples at the same rate.
            fast = np.asarray(soxr.resample(clean, round(RATE_HZ * speed), RATE_HZ), np.float32)
            kept.append(kept_db(fast, denoise(fast)))
        found[f"{speed:g}"] = _mean(kept)
        found[f"{speed:g} worst"] = round(min(kept), 3)
    return found


def fan(denoise: Denoise) -> Figures:
    """How far a fan without any speech falls, in dB: in its first second, and after two."""
    noise = steady_noises(4 * RATE_HZ)["fan"]
    out = denoise(noise)
    first, later = slice(RATE_HZ), slice(2 * RATE_HZ, None)
    return {
        name: round(level_db(out[part]) - level_db(noise[part]), 3)
        for name, part in (("first second", first), ("after 2 s", later))
    }


def stereo(model: str, pairs: Sequence[Pair]) -> Figures:
    """The spread of two channels' level difference, in dB: of the input, parted, linked."""
    denoiser = edgeae.SignalDenoiser.load(model)
    spreads: dict[str, list[float]] = {"noisy": [], "parted": [], "linked": []}
    for noisy, clean in pairs:
        noise = noisy - clean
        other = np.roll(noise, len(noise) // 2)
        sound = np.stack([clean + noise, clean / 2 + other / 2], axis=1)
        active = frame_levels_db(clean) > np.percentile(frame_levels_db(clean), 95) + ACTIVE_DB
        for name, out in (
            ("noisy", sound),
            ("parted", denoiser.denoise(sound, sample_rate=RATE_HZ, link_channels=False)),
            ("linked", denoiser.denoise(sound, sample_rate=RATE_HZ)),
        ):
            difference = frame_levels_db(out[:, 0]) - frame_levels_db(out[:, 1])
            spreads[name].append(float(np.std(difference[active])))
    return {name: _mean(values) for name, values in spreads.items()}


# --- figures of one recording -----------------------------------------------------------------


def level_db(sound: Sound) -> float:
    """The power of samples in dB of full scale, at least -200."""
    power = np.mean(np.square(sound, dtype=np.float64))
    return float(10 * np.log10(np.maximum(power, 1e-20)))


def frame_levels_db(sound: Sound) -> NDArray[np.float64]:
    """The power of each frame of 20 ms in dB of full scale, (frames,), at least -200."""
    frames = sound[: len(sound) // FRAME * FRAME].reshape(-1, FRAME)
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)
    return np.asarray(10 * np.log10(np.maximum(power, 1e-20)))


def pause_fall_db(clean: Sound, noisy: Sound, out: Sound) -> float:
    """The output's power over the input's, in dB, in the frames where the clean speech pauses.

    NaN if there are none. The first half second, in which every system still listens, is left out.
    """
    levels = frame_levels_db(clean)
    pauses = levels < np.percentile(levels, 95) + PAUSE_DB
    pauses[: RATE_HZ // 2 // FRAME] = False
    if not pauses.any():
        return float("nan")
    before, after = (np.mean(10 ** (frame_levels_db(x)[pauses] / 10)) for x in (noisy, out))
    return float(10 * np.log10(np.maximum(after, 1e-20) / before))


def kept_db(clean: Sound, out: Sound) -> float:
    """The share of the clean speech in the output, in dB: 20 log10 of <clean, out> / |clean|^2."""
    return _share_db(clean, out)


def _share_db(clean: NDArray[Any], out: NDArray[Any]) -> float:
    share = float(np.vdot(clean, out).real) / max(float(np.vdot(clean, clean).real), 1e-20)
    return float(20 * np.log10(max(share, 1e-5)))


def kept_by_band(outputs: Sequence[Pair]) -> Figures:
    """`kept_db` in each band, and over all, of spectra of 32 ms; means over the recordings."""
    bin_hz = RATE_HZ / WINDOW
    found: dict[str, list[float]] = {"all": []}
    for clean, out in outputs:
        found["all"].append(kept_db(clean, out))
        before, after = _spectra(clean), _spectra(out)
        for low, high in BANDS_HZ:
            band = slice(round(low / bin_hz), round(high / bin_hz))
            x, y = before[:, band], after[:, band]
            found.setdefault(f"{low} to {high} Hz", []).append(_share_db(x, y))
    return {name: _mean(values) for name, values in found.items()}


def sibilant_db(clean: Sound, out: Sound) -> float:
    """The power above 4 kHz, out over in, in dB, where most of the clean speech's power lies there.

    NaN for a recording without such frames.
    """
    before, after = (np.square(np.abs(_spectra(x))) for x in (clean, out))
    high = slice(round(SIBILANT_HZ * WINDOW / RATE_HZ), None)
    power = before.sum(axis=1)
    loud = power > 1e-3 * np.percentile(power, 95)
    chosen = loud & (before[:, high].sum(axis=1) > 0.5 * power)
    if not chosen.any():
        return float("nan")
    return float(10 * np.log10(after[chosen, high].sum() / before[chosen, high].sum()))


def _spectra(sound: Sound) -> NDArray[np.complex128]:
    """Spectra (frames, bins) of windows of 32 ms that overlap by half."""
    windows = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[:: WINDOW // 2]
    return np.asarray(np.fft.rfft(windows * np.hanning(WINDOW), axis=1))


def _mean(values: Iterator[float] | Sequence[float]) -> float | None:
    """The mean of the values that are numbers, rounded; None if none is."""
    found = np.array(list(values), np.float64)
    found = found[np.isfinite(found)]
    return round(float(found.mean()), 3) if len(found) else None


if __name__ == "__main__":
    main()
