"""The Python side of signals.test.ts: files and packets of signals, and what they hold.

    python signals.py FOLDER [heart]

With "heart" of the ecg-codec, otherwise of the small one among the golden files. Samples are kept
lead by lead, in their own type; symbols, of files without exact samples, as int32 (leads, channels,
steps); masks as bytes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

import edgeae
from edgeae.signal.codec import file_info

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = ROOT / "tests" / "golden" / "tiny-signal-codec"
HEART = ROOT / "edgeae" / "models" / "ecg-codec"


def signal(samples, leads, seed=3):
    """Beats with noise, float64 (samples, leads), about -1 to 1."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples)[:, None] / 360
    phase = (time * 1.2 + np.arange(leads) / 5) % 1
    beat = np.exp(-(((phase - 0.4) / 0.02) ** 2)) + 0.2 * np.exp(-(((phase - 0.7) / 0.06) ** 2))
    return 0.8 * beat + 0.1 * np.sin(2 * np.pi * 0.3 * time) + rng.normal(0, 0.01, (samples, leads))


def make(folder: Path, codec, inputs) -> None:
    cases = []

    def keep(blobs, samples, symbols=None, mask=None):
        name = f"signal{len(cases)}"
        for i, blob in enumerate(blobs):
            (folder / f"{name}.{i}").write_bytes(blob)
        columns = samples.reshape(len(samples), -1).T
        (folder / f"{name}.samples").write_bytes(np.ascontiguousarray(columns).tobytes())
        if symbols is not None:
            (folder / f"{name}.symbols").write_bytes(symbols.astype("<i4").tobytes())
        if mask is not None:
            (folder / f"{name}.mask").write_bytes(mask.astype(np.uint8).tobytes())
        cases.append(
            {
                "name": name, "blobs": len(blobs), "dtype": samples.dtype.name,
                "leads": len(columns), "samples": len(samples), "packets": mask is not None,
                "exact": symbols is None and mask is None,
            }
        )  # fmt: skip

    for samples, options in inputs:
        blob = codec.compress(samples, **options)
        symbols = None
        if not file_info(blob)["exact"]:
            symbols = codec.unpack(blob).symbols
        keep([blob], codec.decompress(blob), symbols)
    samples = (1000 * signal(1500, 2)).astype(np.int16)
    for key_seconds in (None, 1.5):
        packets = codec.packets(
            samples, quality=5, packet_seconds=0.5, key_seconds=key_seconds, number=9
        )
        for sent in (packets, packets[::-2] + packets[:1], [packets[0], *packets[4:]]):
            restored, mask = codec.receive(sent)
            keep(sent, restored, mask=mask)
    (folder / "signals.json").write_text(json.dumps(cases))


def small_inputs():
    heart = signal(900, 2)
    volts = (200 * heart).astype(np.int16)
    yield volts[:, 0], {"quality": 1}
    yield volts, {"quality": 9, "names": ["I", "II"], "units": ["mV", "mV"]}
    yield heart.astype(np.float32), {"quality": 6, "sample_rate": 250}
    yield heart, {"quality": 5, "key_seconds": 1}
    for length in (1, 15, 16, 17):
        yield volts[:length, 0], {"quality": 5}
        yield volts[:length], {"lossless": True}
    # Silence, steps and full scale.
    square = np.where(np.arange(500) // 100 % 2, 30000, -30000).astype(np.int16)
    yield square, {"quality": 9}
    yield np.zeros(200, np.int16), {"quality": 5}
    rng = np.random.default_rng(8)
    for dtype in (np.int8, np.int16, np.int32, np.uint8, np.uint16):
        limits = np.iinfo(dtype)
        wild = rng.integers(limits.min, limits.max, (300, 2), dtype, endpoint=True)
        yield wild, {"lossless": True}
        yield wild[:100], {"quality": 9}
    yield volts, {"lossless": True, "key_seconds": 1}
    yield np.repeat(volts[:, 0], 10), {"lossless": True}
    yield volts, {"max_error": 3}
    yield heart, {"max_error": 1e-4}
    yield heart.astype(np.float32) * 1e4 + 1e5, {"max_error": 0.5}


def heart_inputs():
    volts = (200 * signal(2000, 2)).astype(np.int16)
    yield volts[:, 0], {"quality": 4}
    yield volts[:800], {"quality": 9, "key_seconds": 1}
    yield volts, {"lossless": True}


if __name__ == "__main__":
    if sys.argv[2:] == ["heart"]:
        make(Path(sys.argv[1]), edgeae.load(HEART), heart_inputs())
    else:
        make(Path(sys.argv[1]), edgeae.load(TINY), small_inputs())
