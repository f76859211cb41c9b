"""How well the ECG denoiser restores DS2 from real noise, beside filters and wavelet shrinkage.

    python -m benchmarks.signals_denoising FOLDER --json FILE.json

The protocol. Clean: lead 0 of each record of DS2, some minutes of it, freed of its own wander by a
Butterworth high-pass of second order at 0.5 Hz, forwards and backwards; with `--raw` only its mean
is taken off. Noise: the test halves of MIT-BIH's noise records, mean taken off, scaled to the asked
ratio of powers over the whole stretch. Gain: the ratio after less that before, in dB, the mean over
records; a delayed output is aligned first. The filters' corners and the wavelet's threshold are the
best for each kind and ratio on DS1 and the noises' training halves: more than one filter could
know. Wavelet shrinkage needs pywt.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
from scipy.signal import butter, sosfilt, sosfiltfilt

import edgeae

Floats = npt.NDArray[Any]
Method = Callable[[Floats], Floats]

RATE_HZ = 360
SNRS_DB = (-6, 0, 6, 12)
KINDS = {"wander": "bw", "muscle": "ma", "electrode": "em"}
LOW_HZ = (0.3, 0.5, 0.7, 1.0, 1.5)
HIGH_HZ = (None, 15.0, 20.0, 30.0, 40.0)
FACTORS = (0.5, 1.0, 1.5, 2.0, 3.0)
# Where the records' own wander ends.
WANDER_HZ = 0.5


def records(folder: Path, split: str, *, most: int, start_s: int, minutes: float) -> list[Floats]:
    """Lead 0 of the first records of a split that are there, in mV, evenly spread over it."""
    with open(folder / "records.tsv", encoding="utf-8", newline="") as lines:
        rows = [
            row
            for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
            if row["split"] == split and (folder / "mitbih" / f"{row['record']}.flac").is_file()
        ]
    chosen = [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, most).astype(int))]
    found = []
    for row in chosen:
        counts, _ = soundfile.read(
            folder / "mitbih" / f"{row['record']}.flac", dtype="int16", always_2d=True
        )
        first = start_s * RATE_HZ
        part = counts[first : first + int(60 * minutes * RATE_HZ), 0]
        found.append((part - float(row["zero"])) / float(row["gain"]))
    return found


def noise(folder: Path, half: str, kind: str) -> Floats:
    """A kind of noise, its first channel, from the "train" or "test" half."""
    files = sorted((folder / "noise" / half).glob(f"{kind}*.flac"))
    parts = [soundfile.read(file, dtype="int16", always_2d=True)[0][:, 0] for file in files]
    return np.concatenate(parts).astype(np.float64)


def clean(signal: Floats, *, raw: bool) -> Floats:
    """What is to be restored."""
    if not raw:
        sections = butter(2, WANDER_HZ, "highpass", fs=RATE_HZ, output="sos")
        signal = sosfiltfilt(sections, signal)
    return np.asarray(signal - signal.mean())


def noisy(signal: Floats, source: Floats, snr_db: float, index: int) -> Floats:
    """The signal in noise that begins at another place for each record."""
    part = np.resize(np.roll(source, -index * 7919), len(signal))
    part = part - part.mean()
    power = np.mean(signal**2) / np.mean(part**2)
    return np.asarray(signal + part * np.sqrt(power / 10 ** (snr_db / 10)))


def snr_db(restored: Floats, signal: Floats) -> float:
    """Ratio of the signal to what is wrong, in dB."""
    return float(10 * np.log10(np.mean(signal**2) / np.mean((restored - signal) ** 2)))


def band_pass(low: float, high: float | None, *, zero_phase: bool) -> Method:
    """A Butterworth filter of second order, over the whole recording or causal."""
    kind = "highpass" if high is None else "bandpass"
    corners = low if high is None else [low, high]
    sections = butter(2, corners, kind, fs=RATE_HZ, output="sos")
    run = sosfiltfilt if zero_phase else sosfilt
    return lambda signal: np.asarray(run(sections, signal))


def shrinkage(factor: float, level: int) -> Method:
    """Soft thresholds on bior6.8 coefficients, by each level's median; no approximation is kept."""
    import pywt

    def restore(signal: Floats) -> Floats:
        coefficients = pywt.wavedec(signal, "bior6.8", level=level)
        coefficients[0] = np.zeros_like(coefficients[0])
        for i in range(1, len(coefficients)):
            spread = np.median(np.abs(coefficients[i])) / 0.6745
            # Coarse levels hold the beats themselves.
            share = factor if i > 3 else 0.0
            coefficients[i] = pywt.threshold(coefficients[i], share * spread, "soft")
        return np.asarray(pywt.waverec(coefficients, "bior6.8")[: len(signal)])

    return restore


def candidates() -> Iterator[tuple[str, str, Method]]:
    """Every classical method with every setting: family, what it is set to, and itself."""
    for low in LOW_HZ:
        for high in HIGH_HZ:
            told = f"{low} to {high or RATE_HZ / 2:g} Hz"
            yield "band-pass, zero phase", told, band_pass(low, high, zero_phase=True)
            yield "band-pass, causal", told, band_pass(low, high, zero_phase=False)
    try:
        import pywt  # noqa: F401
    except ImportError:
        print("pywt is missing: no wavelet shrinkage")
        return
    for factor in FACTORS:
        for level in (8, 9):
            yield "wavelet", f"threshold {factor}, {level} levels", shrinkage(factor, level)


def gains(method: Method, signals: list[Floats], source: Floats, ratio_db: float) -> list[float]:
    """The gain of each signal in dB."""
    found = []
    for index, signal in enumerate(signals):
        mixed = noisy(signal, source, ratio_db, index)
        found.append(snr_db(method(mixed), signal) - snr_db(mixed, signal))
    return found


def tuned(
    folder: Path, kinds: list[str], *, raw: bool
) -> dict[tuple[str, str, int], tuple[str, Method]]:
    """The best setting of each family for each kind and ratio, on DS1: (family, kind, ratio)."""
    signals = [
        clean(one, raw=raw) for one in records(folder, "DS1", most=6, start_s=300, minutes=1)
    ]
    best: dict[tuple[str, str, int], tuple[float, str, Method]] = {}
    for kind in kinds:
        source = noise(folder, "train", KINDS[kind])
        for family, told, method in candidates():
            for ratio in SNRS_DB:
                gain = float(np.mean(gains(method, signals, source, ratio)))
                key = (family, kind, ratio)
                if key not in best or gain > best[key][0]:
                    best[key] = (gain, told, method)
    return {key: (told, method) for key, (_, told, method) in best.items()}


def measure(
    folder: Path,
    model: str,
    *,
    kinds: list[str],
    most: int,
    minutes: float,
    raw: bool,
    classical: bool,
) -> dict[str, Any]:
    """All figures: kind -> ratio -> family -> mean gain, and the setting."""
    denoiser = edgeae.SignalDenoiser.load(model)
    signals = [
        clean(one, raw=raw)
        for one in records(folder, "DS2", most=most, start_s=300, minutes=minutes)
    ]
    best = tuned(folder, kinds, raw=raw) if classical else {}
    rows = []
    for kind in kinds:
        source = noise(folder, "test", KINDS[kind])
        for ratio in SNRS_DB:
            row: dict[str, Any] = {"noise": kind, "snr_db": ratio}

            def learned(mixed: Floats) -> Floats:
                return np.asarray(denoiser.denoise(mixed))

            row["edgeae"] = round(float(np.mean(gains(learned, signals, source, ratio))), 2)
            for (family, of, at), (told, method) in best.items():
                if (of, at) == (kind, ratio):
                    gain = round(float(np.mean(gains(method, signals, source, ratio))), 2)
                    row[family], row[f"{family}, set to"] = gain, told
            print(row, flush=True)
            rows.append(row)
    stream = denoiser.bundle.manifest.stream or {}
    return {
        "command": "python -m benchmarks.signals_denoising",
        "bundle": denoiser.bundle.id,
        "records": len(signals),
        "minutes": minutes,
        "target": "raw, mean taken off" if raw else f"high-pass {WANDER_HZ} Hz, zero phase",
        "delay_ms": 1000 * (stream["lookahead_samples"] + stream["hop_samples"]) / RATE_HZ,
        "unit": "dB of signal-to-noise ratio gained, mean over records",
        "rows": rows,
    }


def main() -> None:
    """Read the command line, measure, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="with records.tsv, mitbih and noise")
    parser.add_argument("--model", default="ecg-denoiser")
    parser.add_argument(
        "--noise", nargs="+", choices=list(KINDS), default=list(KINDS), help="kinds of noise"
    )
    parser.add_argument("--records", type=int, default=17)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--raw", action="store_true", help="restore the record's own wander too")
    parser.add_argument("--no-classical", action="store_true", help="the model alone")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = measure(
        options.folder,
        options.model,
        kinds=options.noise,
        most=options.records,
        minutes=options.minutes,
        raw=options.raw,
        classical=not options.no_classical,
    )
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
