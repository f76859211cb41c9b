"""Compression of electrocardiograms beside a strong wavelet codec, SZ3 and FLAC.

Real bytes of five minutes of the first lead of records of DS2, which was not trained on; bits a
sample at a PRD (percentage root-mean-square difference) of 9 and 5 %, the mean removed, read off
between qualities, record by record. The wavelet codec is bior6.8 in 6 levels with a dead zone of
0.6, its coefficients counted at the ideal code lengths of contexts trained on the training set at
the same step: a real coder needs a little more. Beats are found before and after by a QRS detector
after Pan and Tompkins (1985).

    python -m benchmarks.signals_compression FOLDER --json results.json

With `--times` the file's CPU times to encode are measured anew and the rest stays, which takes
seconds and wants a machine that does nothing else.

It needs scipy, and PyWavelets and pysz for the systems beside.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
from scipy import signal as filters

from edgeae.coding.rate import level_of_quality
from edgeae.signal.codec import SignalCodec
from edgeae.signal.codec_input import key_steps, prepared, segments_of

__all__ = ["agreement", "beats", "bits_at", "main", "prd_percent"]

RATE_HZ = 360
SECONDS = 300
# All records of DS2 that are there to be measured on in development.
RECORDS = tuple("100 103 105 111 113 117 121 123 200 202 210 212 213 214 232 234".split())
QUALITIES = (1.5, 2.5, 3.25, 4.0, 4.75, 5.5, 6.5)
PRDS = (9.0, 5.0)
TOLERANCE_S = 0.05
# Of each record's packets so much is read back and compared with what was sent.
RECEIVED_S = 6.0
# What encoding is timed on, and how often.
TIMED_RECORD, TIMED_RUNS = "101", 24
# Seconds of a packet, and from key to key.
PACKETS: dict[str, tuple[float, float | None]] = {
    "packets of 2.8 s": (2.8, None),
    "packets of 1.02 s": (1.0222, None),
    "packets of 2.8 s, keys every 11.2 s": (2.8, 11.2),
}

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Points = list[tuple[float, float]]


def prd_percent(original: npt.NDArray[Any], restored: npt.NDArray[Any]) -> float:
    """Root mean square of the difference over that of the original less its mean, in percent."""
    x = original.astype(np.float64)
    error = restored.astype(np.float64) - x
    return float(100 * np.sqrt(np.square(error).mean() / x.var()))


def bits_at(points: Points, prd: float) -> float:
    """Bits a sample at a PRD, between points (PRD, bits), on logarithms of both."""
    ordered = sorted(points)
    place = int(np.searchsorted([x for x, _ in ordered], prd))
    place = min(max(place, 1), len(ordered) - 1)
    (x0, y0), (x1, y1) = ordered[place - 1], ordered[place]
    share = (math.log(prd) - math.log(x0)) / max(math.log(x1) - math.log(x0), 1e-9)
    return math.exp(math.log(y0) + share * (math.log(y1) - math.log(y0)))


def beats(samples: npt.NDArray[Any], rate_hz: float = RATE_HZ) -> Counts:
    """Where beats are, in samples: Pan and Tompkins (1985) with a running threshold."""
    band = filters.butter(2, (5, 15), "bandpass", fs=rate_hz, output="sos")
    filtered = filters.sosfiltfilt(band, samples.astype(np.float64) - samples.mean())
    energy = np.square(np.gradient(filtered))
    window = int(0.15 * rate_hz)
    smooth = np.convolve(energy, np.ones(window) / window, mode="same")
    peaks, _ = filters.find_peaks(smooth, distance=int(0.25 * rate_hz))
    level, noise = float(np.quantile(smooth, 0.98)), float(np.median(smooth))
    found: list[int] = []
    for peak in peaks.tolist():
        if smooth[peak] > noise + 0.25 * (level - noise):
            level = 0.125 * smooth[peak] + 0.875 * level
            # The steepest place nearby: that of the window's middle is loose.
            near = slice(max(0, peak - window // 2), peak + window // 2)
            found.append(near.start + int(np.abs(filtered[near]).argmax()))
        else:
            noise = 0.125 * smooth[peak] + 0.875 * noise
    return np.unique(np.array(found, np.int64))


def agreement(first: Counts, second: Counts, tolerance: float) -> float:
    """The share of beats of the longer list that both have, within a tolerance in samples."""
    if not len(first) or not len(second):
        return 0.0
    place = np.searchsorted(second, first).clip(1, max(1, len(second) - 1))
    before = np.abs(second[place - 1] - first)
    after = np.abs(second[np.minimum(place, len(second) - 1)] - first)
    matched = int((np.minimum(before, after) <= tolerance).sum())
    return matched / max(len(first), len(second))


def read_lead(folder: Path, record: str, seconds: float = SECONDS) -> npt.NDArray[np.int16]:
    """The first minutes of the first lead of a record, in counts of the ADC."""
    counts, _ = soundfile.read(folder / "mitbih" / f"{record}.flac", dtype="int16", always_2d=True)
    lead: npt.NDArray[np.int16] = counts[: int(seconds * RATE_HZ), 0]
    return lead


# --- the learned codec ----------------------------------------------------------------------------


def codec_rows(codec: SignalCodec, leads: dict[str, npt.NDArray[np.int16]]) -> dict[str, Any]:
    """Curves of all records as files, at PRD 9 % as packets, lossless, time and beats."""
    curves: dict[str, Points] = {}
    exact, found, spent = [], [], 0.0
    packets: dict[str, list[Points]] = {name: [] for name in PACKETS}
    for record, lead in leads.items():
        points = []
        for quality in QUALITIES:
            begin = time.process_time()
            blob = codec.compress(lead, sample_rate=RATE_HZ, quality=quality)
            spent += time.process_time() - begin
            restored = codec.decode(codec.encode(lead, sample_rate=RATE_HZ, quality=quality))
            points.append((prd_percent(lead, restored), 8 * len(blob) / len(lead)))
        curves[record] = points
        exact.append(8 * len(codec.compress(lead, lossless=True)) / len(lead))
        # The coarsest quality of an eighth that is within 9 %.
        quality = quality_within(codec, lead, PRDS[0])
        restored = codec.decode(codec.encode(lead, quality=quality))
        found.append(agreement(beats(lead), beats(restored), TOLERANCE_S * RATE_HZ))
        for name, (seconds, keys) in PACKETS.items():
            each = []
            for near in (max(1.0, quality - 0.5), min(9.0, quality + 0.25)):
                sent = codec.packets(lead, quality=near, packet_seconds=seconds, key_seconds=keys)
                got = sent_signal(codec, lead, near, seconds, keys)
                check_received(codec, sent, got, int(RECEIVED_S / seconds))
                each.append((prd_percent(lead, got), 8 * sum(map(len, sent)) / len(lead)))
            packets[name].append(each)
        print(record, [(round(a, 2), round(b, 3)) for a, b in points], round(found[-1], 4))
    count = len(QUALITIES) * sum(map(len, leads.values()))
    return {
        **{f"at {prd:g} %": _mean([bits_at(c, prd) for c in curves.values()]) for prd in PRDS},
        **{f"{name} at 9 %": _mean([bits_at(c, 9.0) for c in cs]) for name, cs in packets.items()},
        "lossless": _mean(exact),
        "beats agree": round(float(np.mean(found)), 5),
        "encode ms a second": round(1000 * spent / (count / RATE_HZ), 3),
        "records": {
            record: {f"{prd:g} %": round(bits_at(curve, prd), 4) for prd in PRDS}
            for record, curve in curves.items()
        },
    }


def sent_signal(
    codec: SignalCodec, lead: npt.NDArray[np.int16], quality: float, packet_s: float, key_s: Any
) -> npt.NDArray[Any]:
    """What the packets of a lead give together, without reading them back, which takes a second of
    CPU for every fifteen: symbols are whole numbers, and what is written is what is read."""
    signal, header = prepared(lead, bytes.fromhex(codec.bundle.manifest.codec_id or ""), RATE_HZ)
    steps = key_steps(packet_s, RATE_HZ, "packet_seconds")
    keys = max(1, round(key_steps(key_s, RATE_HZ) / steps))
    segments = segments_of(header.samples, keys * steps)
    latent = codec._encoded(signal, header, level_of_quality(quality), segments)
    return codec.decode(latent)


def check_received(
    codec: SignalCodec, sent: list[bytes], wanted: npt.NDArray[Any], count: int
) -> None:
    """Raises RuntimeError unless the first packets, read back, give the signal's beginning."""
    got, lost = codec.receive(sent[: 1 + count])
    if not (~lost).any() or not np.array_equal(got[~lost], wanted[: len(got)][~lost]):
        raise RuntimeError("packets that came do not give what was sent")


def quality_within(codec: SignalCodec, lead: npt.NDArray[np.int16], prd: float) -> float:
    """The lowest quality in eighths whose PRD is at most so much, by bisection."""
    low, high = 8, 72
    while high - low > 1:
        middle = (low + high) // 2
        restored = codec.decode(codec.encode(lead, quality=middle / 8))
        if prd_percent(lead, restored) <= prd:
            high = middle
        else:
            low = middle
    return high / 8


def encode_times(codec: SignalCodec, folder: Path) -> dict[str, Any]:
    """CPU milliseconds to encode a second of one lead, in files and in packets, all threads
    counted."""
    lead = read_lead(folder, TIMED_RECORD, 60)
    ways: dict[str, Callable[[], object]] = {
        f"file, quality {quality:g}": functools.partial(
            codec.compress, lead, sample_rate=RATE_HZ, quality=quality
        )
        for quality in (2.5, 4, 5.5)
    }
    for name, (seconds, keys) in PACKETS.items():
        ways[f"{name}, quality 3"] = functools.partial(
            codec.packets,
            lead,
            sample_rate=RATE_HZ,
            quality=3,
            packet_seconds=seconds,
            key_seconds=keys,
        )
    ways["file, lossless"] = functools.partial(codec.compress, lead, lossless=True)
    times = {}
    for name, work in ways.items():
        spent = []
        for _ in range(TIMED_RUNS):
            begin = time.process_time()
            work()
            spent.append(time.process_time() - begin)
        times[name] = round(1000 * min(spent) / (len(lead) / RATE_HZ), 3)
    return {
        "encode ms of CPU a second": times,
        "encode ms of CPU a second, how": f"a minute of lead 0 of record {TIMED_RECORD} (DS1), "
        f"best of {TIMED_RUNS}, all threads counted",
    }


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4)


# --- the systems beside ---------------------------------------------------------------------------

WAVELET, LEVELS, DEAD_ZONE = "bior6.8", 6, 0.6
STEPS = (0.12, 0.2, 0.33, 0.5, 0.75, 1.1)
_ALPHABET, _CONTEXTS = 256, 12


def wavelet_curves(
    training: Sequence[npt.NDArray[np.int16]], leads: dict[str, npt.NDArray[np.int16]]
) -> dict[str, Points]:
    """Points (PRD, bits a sample) of the wavelet codec, by record."""
    import pywt

    curves: dict[str, Points] = {record: [] for record in leads}
    for step in STEPS:
        counts = np.full((LEVELS + 1, _CONTEXTS, _ALPHABET), 0.02)
        for lead in training:
            for band, symbols in enumerate(_quantized(pywt, lead, step)[0]):
                np.add.at(counts[band], (_contexts(symbols), _clipped(symbols)), 1)
        lengths = -np.log2(counts / counts.sum(axis=2, keepdims=True))
        for record, lead in leads.items():
            bands, restored = _quantized(pywt, lead, step)
            bits = 0.0
            for band, symbols in enumerate(bands):
                bits += float(lengths[band, _contexts(symbols), _clipped(symbols)].sum())
            curves[record].append((prd_percent(lead, restored), bits / len(lead)))
    return curves


def _quantized(pywt: Any, lead: npt.NDArray[np.int16], step: float) -> tuple[list[Counts], Floats]:
    """Symbols of all bands, the coarsest first, and the signal that they give."""
    values = lead.astype(np.float64)
    mean, deviation = values.mean(), values.std()
    bands = pywt.wavedec((values - mean) / deviation, WAVELET, level=LEVELS)
    symbols, restored = [], []
    for band in bands:
        magnitude = np.floor(np.abs(band) / step + 1 - DEAD_ZONE)
        whole = (np.sign(band) * magnitude).astype(np.int64)
        symbols.append(whole)
        # Laplace-distributed coefficients lie nearer to zero than the middle of their cell.
        restored.append(np.sign(whole) * (np.abs(whole) - 0.04) * step * (whole != 0))
    back = pywt.waverec(restored, WAVELET)[: len(lead)]
    return symbols, np.rint(back * deviation + mean)


def _clipped(symbols: Counts) -> Counts:
    return np.clip(symbols + _ALPHABET // 2, 0, _ALPHABET - 1)


def _contexts(symbols: Counts) -> Counts:
    """How large the two coefficients before are, and those a little before them."""
    a = np.abs(np.concatenate([np.zeros(4, np.int64), symbols]))
    near = 2 * a[3:-1] + a[2:-2]
    far = a[1:-3] + a[:-4]
    sizes: Counts = np.minimum(near, 2) + (near > 4) + 4 * np.minimum(far, 2)
    return np.minimum(sizes, _CONTEXTS - 1)


def flac_bits(lead: npt.NDArray[np.int16]) -> float:
    """Bits a sample of libsndfile's FLAC at its best."""
    out = io.BytesIO()
    with soundfile.SoundFile(
        out, "w", RATE_HZ, 1, "PCM_16", format="FLAC", compression_level=1.0
    ) as file:
        file.write(lead)
    return 8 * len(out.getvalue()) / len(lead)


def sz3_curve(lead: npt.NDArray[np.int16]) -> Points | None:
    """Points (PRD, bits a sample) of SZ3 under absolute bounds; None if pysz is not there."""
    try:
        from pysz import sz, szConfig, szErrorBoundMode
    except ImportError:
        return None
    points = []
    values = lead.astype(np.float32)
    for bound in (2.0, 4.0, 7.0, 12.0, 20.0, 30.0):
        config = szConfig()
        config.errorBoundMode = szErrorBoundMode.ABS
        config.absErrorBound = bound
        packed, _ = sz.compress(values, config)
        restored, _ = sz.decompress(packed, np.float32, values.shape)
        points.append((prd_percent(lead, np.rint(restored)), 8 * packed.size / len(lead)))
    return points


def side_rows(
    folder: Path, leads: dict[str, npt.NDArray[np.int16]], training_names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """What the systems beside need, by their names."""
    rows: dict[str, dict[str, float]] = {}
    training = [read_lead(folder, name) for name in training_names]
    curves = wavelet_curves(training, leads)
    rows["wavelet, trained contexts"] = _at(list(curves.values()))
    found: list[Points | None] = [sz3_curve(lead) for lead in leads.values()]
    there = [points for points in found if points is not None]
    if there:
        rows["SZ3"] = _at(there)
    rows["FLAC"] = {"lossless": _mean([flac_bits(lead) for lead in leads.values()])}
    return rows


def _at(curves: Sequence[Points]) -> dict[str, float]:
    return {f"at {prd:g} %": _mean([bits_at(curve, prd) for curve in curves]) for prd in PRDS}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path, help="folder of records.tsv and mitbih")
    parser.add_argument("--codec", default="ecg-codec", help="a bundled name or a folder")
    parser.add_argument("--records", nargs="+", default=list(RECORDS), help="to measure on")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each record")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--without-codec", action="store_true", help="the systems beside alone")
    parser.add_argument("--times", action="store_true", help="the times alone, kept in --json")
    options = parser.parse_args(arguments)
    if options.times and options.json:
        kept = json.loads(options.json.read_text(encoding="utf-8"))
        codec = SignalCodec.load(options.codec)
        row = kept["rows"][codec.bundle.manifest.name]
        row |= encode_times(codec, options.folder)
        print(row["encode ms of CPU a second"])
        options.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        return 0
    read: Callable[[str], npt.NDArray[np.int16]] = lambda name: read_lead(  # noqa: E731
        options.folder, name, options.seconds
    )
    leads = {name: read(name) for name in options.records}
    table = (options.folder / "records.tsv").read_text(encoding="utf-8").splitlines()[1:]
    training = [line.split("\t")[0] for line in table if line.split("\t")[1] == "DS1"]
    rows: dict[str, Any] = dict(side_rows(options.folder, leads, training))
    result: dict[str, Any] = {
        "command": "python -m benchmarks.signals_compression",
        "records": list(leads),
        "seconds": options.seconds,
    }
    if not options.without_codec:
        path = Path(options.codec)
        codec = SignalCodec.load(path if path.is_dir() else options.codec)
        result["bundle"] = codec.bundle.id
        found = {**codec_rows(codec, leads), **encode_times(codec, options.folder)}
        rows = {codec.bundle.manifest.name: found, **rows}
    result["rows"] = rows
    for name, row in rows.items():
        print(name, {key: value for key, value in row.items() if key != "records"})
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
