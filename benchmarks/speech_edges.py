"""A denoiser at the edges of its work: clean speech, steady noise alone, digital silence.

    python -m benchmarks.speech_edges CLEAN_DIR --json OUT.json

Clean recordings go in and are compared with what comes out (PESQ-WB, STOI). Ten minutes each of
white, pink and brown noise and of a fan's hum go in at -30 dB of full scale, and what comes out is
set against them in decibels, over all and in the first and last minute. A minute of zeros goes in.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

import edgeae
from benchmarks.speech import AUDIO_SUFFIXES
from benchmarks.speech_systems import Sound
from edgeae.bench.machine import machine, versions
from edgeae.media import read_audio

RATE_HZ = 16_000
LEVEL_DB = -30.0
MINUTES = 10


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure, and write the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speech_edges",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("clean", type=Path, help="folder of clean speech not used in training")
    parser.add_argument("--model", default="speech-denoiser", help="a bundled name or a directory")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of each noise")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    options = parser.parse_args(arguments)
    files = sorted(p for p in options.clean.iterdir() if p.suffix.lower() in AUDIO_SUFFIXES)
    if not files:
        sys.exit(f"{options.clean} holds no recordings")
    denoiser = edgeae.SignalDenoiser.load(options.model)
    report = {
        "what": "a denoiser at the edges of its work",
        "bundle": {"name": denoiser.bundle.manifest.name, "id": denoiser.bundle.id},
        "machine": machine(),
        "versions": versions(("edgeae", "numpy", "onnxruntime", "pesq", "pystoi")),
        "folder": options.clean.parent.name,
        "clean_speech": clean_speech(denoiser, files),
        "steady_noise": {
            name: reduction(denoiser, noise)
            for name, noise in steady_noises(round(60 * RATE_HZ * options.minutes)).items()
        },
        "silence_peak": silence_peak(denoiser),
    }
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


def clean_speech(denoiser: edgeae.SignalDenoiser, files: Sequence[Path]) -> dict[str, Any]:
    """Mean and worst PESQ-WB and STOI of clean speech after the denoiser."""
    from pesq import pesq
    from pystoi import stoi

    rows = []
    for file in track(files, "clean speech"):
        clean, rate_hz = read_audio(file)
        out = denoiser.denoise(clean, sample_rate=rate_hz)
        rows.append(
            (float(pesq(rate_hz, clean, out, "wb")), float(stoi(clean, out, rate_hz))),
        )
    means, worst = np.mean(rows, axis=0), np.min(rows, axis=0)
    return {
        "files": len(rows),
        "pesq": round(float(means[0]), 3),
        "pesq_worst": round(float(worst[0]), 3),
        "stoi": round(float(means[1]), 4),
        "stoi_worst": round(float(worst[1]), 4),
    }


def steady_noises(samples: int) -> dict[str, Sound]:
    """Noises that do not change, by name, each at -30 dB of full scale, (samples,)."""
    rng = np.random.default_rng(1)
    time_s = np.arange(samples) / RATE_HZ
    hum = sum(np.sin(2 * np.pi * 50 * n * time_s) / n for n in range(1, 9))
    noises = {
        "white": _colored(rng, samples, 0.0),
        "pink": _colored(rng, samples, 0.5),
        "brown": _colored(rng, samples, 1.0),
        "fan": hum + 2 * _colored(rng, samples, 0.7),
    }
    level = 10 ** (LEVEL_DB / 20)
    return {
        name: (noise * (level / np.sqrt(np.mean(np.square(noise))))).astype(np.float32)
        for name, noise in noises.items()
    }


def _colored(rng: np.random.Generator, samples: int, slope: float) -> np.ndarray:
    """Noise whose amplitude falls with frequency to the power of `slope`, of unit power."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency_hz = np.fft.rfftfreq(samples, 1 / RATE_HZ)
    spectrum *= np.maximum(frequency_hz, 20.0) ** -slope
    noise = np.fft.irfft(spectrum, n=samples)
    return np.asarray(noise / np.sqrt(np.mean(np.square(noise))))


def reduction(denoiser: edgeae.SignalDenoiser, noise: Sound) -> dict[str, float]:
    """How far noise falls, in dB: over all, in the first minute and in the last."""
    out = denoiser.denoise(noise, sample_rate=RATE_HZ)
    minute = 60 * RATE_HZ

    def fall_db(part: slice) -> float:
        before, after = (float(np.mean(np.square(x[part], dtype=np.float64))) for x in (noise, out))
        return round(float(10 * np.log10(max(after, 1e-20) / before)), 2)

    return {
        "all_db": fall_db(slice(None)),
        "first_minute_db": fall_db(slice(minute)),
        "last_minute_db": fall_db(slice(-minute, None)),
    }


def silence_peak(denoiser: edgeae.SignalDenoiser) -> float:
    """The largest sample that comes out when a minute of zeros goes in."""
    out = denoiser.denoise(np.zeros(60 * RATE_HZ, np.float32), sample_rate=RATE_HZ)
    return float(np.abs(out).max())


if __name__ == "__main__":
    main()
