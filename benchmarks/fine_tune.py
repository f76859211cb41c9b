"""Do a few minutes of training on one's own recordings make the denoiser better for them?

    python -m benchmarks.fine_tune --speech DIR --noise DIR --minutes 4 --json OUT.json

Of the recordings, every fourth of speech and of noise is kept apart. The shipped denoiser is
trained on the others for so many minutes, exported, and both models denoise the same mixes of what
was kept apart, at -5 to 15 dB. Without folders, sounds made in code take their place: voices in the
hum and the clatter of one machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

import edgeae
from edgeae.media import read_audio
from train.speech.corpus import SUFFIXES
from train.speech.data import noise_gain
from train.speech.made import SAMPLE_RATE_HZ, made_voice, struck_noise

ROOT = Path(__file__).parent.parent
KEPT_APART = 4
MIXES, MIX_S = 24, 4
MADE_FILES = 24


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, train, and print how much each model gains."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fine_tune",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--speech", type=Path, help="folder of clean recordings")
    parser.add_argument("--noise", type=Path, help="folder of noises")
    parser.add_argument("--minutes", type=float, default=4.0, help="of training")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    options = parser.parse_args(arguments)
    if (options.speech is None) != (options.noise is None):
        parser.error("--speech and --noise go together")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        speech, noise = options.speech, options.noise
        if speech is None:
            speech, noise = made_recordings(work / "made")
        kept = {kind: split(source, work / kind) for kind, source in (("s", speech), ("n", noise))}
        tuned = fine_tuned(work, options.minutes)
        rows = compare(kept["s"], kept["n"], {"shipped": "speech-denoiser", "fine-tuned": tuned})
        steps = edgeae.SignalDenoiser.load(tuned).bundle.manifest.provenance["steps"]
    report = {
        "what": "SI-SDR gained on recordings kept apart, in dB, mean over mixes",
        "data": "made in code" if options.speech is None else "given folders",
        "minutes": options.minutes,
        "mixes": MIXES,
        "steps_in_all": steps,
        "rows": rows,
    }
    for row in rows:
        print(f"{row['model']:12} SI-SDR {row['si_sdr_db']:6.2f} dB, gained {row['gain_db']:5.2f}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def made_recordings(folder: Path) -> tuple[Path, Path]:
    """Folders of voices and of one machine's noises, made in code."""
    rng = np.random.default_rng(5)
    for kind in ("speech", "noise"):
        (folder / kind).mkdir(parents=True)
    for i in range(MADE_FILES):
        time_s = np.arange(4 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
        hum = sum(np.sin(2 * np.pi * 97 * h * time_s + rng.uniform(0, 6)) / h for h in range(1, 9))
        machine = 0.05 * hum + struck_noise(len(time_s), rng)
        voice = made_voice(i % 6, rng)
        for kind, audio in (("speech", voice), ("noise", machine)):
            level = 0.5 / max(float(np.abs(audio).max()), 1e-6)
            soundfile.write(folder / kind / f"{kind}{i:02}_a.flac", level * audio, SAMPLE_RATE_HZ)
    return folder / "speech", folder / "noise"


def split(source: Path, target: Path) -> list[Path]:
    """Links to three of four recordings of a folder in another one; the fourth ones."""
    files = [file for file in sorted(source.rglob("*")) if file.suffix.lower() in SUFFIXES]
    if len(files) < KEPT_APART:
        raise SystemExit(f"{len(files)} recordings in {source}, expected {KEPT_APART} or more")
    for i, file in enumerate(files):
        if i % KEPT_APART:
            link = target / file.relative_to(source)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file.resolve())
    return files[::KEPT_APART]


def fine_tuned(work: Path, minutes: float) -> Path:
    """The bundle of the shipped denoiser after so many minutes on the recordings in `work`."""
    train = ["train", "train/configs/speech-denoiser.toml", "--start-from", "speech-denoiser"]
    train += ["--speech", str(work / "s"), "--noise", str(work / "n")]
    train += ["--out", str(work / "run"), "--max-minutes", str(minutes)]
    export = ["export", str(work / "run" / "last.pt"), str(work / "bundle")]
    for command in (train, export):
        subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=True)
    return work / "bundle"


def compare(
    speech: Sequence[Path], noise: Sequence[Path], models: dict[str, str | Path]
) -> list[dict[str, Any]]:
    """SI-SDR of each model's output on the same mixes, and what it gained, in dB."""
    mixes = [mix(speech, noise, i) for i in range(MIXES)]
    before = [si_sdr_db(clean, noisy) for noisy, clean in mixes]
    rows = []
    for name, model in models.items():
        denoiser = edgeae.SignalDenoiser.load(model)
        after = [
            si_sdr_db(clean, denoiser.denoise(noisy, sample_rate=SAMPLE_RATE_HZ))
            for noisy, clean in mixes
        ]
        gain_db = float(np.mean(np.subtract(after, before)))
        rows.append({"model": name, "si_sdr_db": float(np.mean(after)), "gain_db": gain_db})
    return rows


def mix(
    speech: Sequence[Path], noise: Sequence[Path], number: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mix `number`: noisy and clean, float32 (samples,) at 16 kHz."""
    rng = np.random.default_rng(number)
    parts = []
    for files in (speech, noise):
        audio, rate_hz = read_audio(files[number % len(files)])
        mono = audio.mean(axis=1) if audio.ndim == 2 else audio
        if rate_hz != SAMPLE_RATE_HZ:
            mono = soxr.resample(mono, rate_hz, SAMPLE_RATE_HZ)
        mono = np.resize(mono, max(len(mono), MIX_S * SAMPLE_RATE_HZ))
        first = int(rng.integers(len(mono) - MIX_S * SAMPLE_RATE_HZ + 1))
        parts.append(mono[first : first + MIX_S * SAMPLE_RATE_HZ].astype(np.float32))
    clean, heard = parts
    snr_db = -5 + 20 * number / (MIXES - 1)
    noisy = clean + heard * noise_gain(clean, heard, snr_db=snr_db)
    scale = np.float32(0.5 / max(float(np.abs(noisy).max()), 1e-6))
    return noisy * scale, clean * scale


def si_sdr_db(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio, zero-mean (arXiv 1811.02508)."""
    reference, estimate = reference - reference.mean(), estimate - estimate.mean()
    target = reference * (estimate @ reference) / max(float(reference @ reference), 1e-9)
    rest = estimate - target
    return float(10 * np.log10(max(float(target @ target), 1e-9) / max(float(rest @ rest), 1e-9)))


if __name__ == "__main__":
    main()
