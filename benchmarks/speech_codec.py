"""What speech is worth at a few kilobits a second, and when packets are lost: ours beside Opus.

    python -m benchmarks.speech_codec CLEAN_DIR --model my-voice/ --json OUT.json [--plot OUT.png]
    python -m benchmarks.speech_codec CLEAN_DIR --model my-voice/ --add-to OUT.json

Recordings are taken at 16 kHz. PESQ-WB (ITU-T P.862.2, package pesq), STOI and ESTOI (package
pystoi), ViSQOL (speech mode, package visqol-python with its lattice) and DNSMOS P.835 overall
(package speechmos), these two without losses, are means over the files; bits a second are those of
whole files (ours, headers included) or of packets (Opus), measured. Losses come in bursts
of 3 frames of 20 ms on average, the same frames for every system, whose packets hold one frame
each; there the bits of ours include three bytes around each packet. Gaps are filled at once, and
"late" when the next packet is there, as a voice message's are. Speed is seconds of audio per
CPU second of one thread. Opus is PyAV's libopus; Codec 2 is c2enc, where it is installed. What is
missing is listed. `--add-to` codes the same files again for the metrics that a record lacks, and
leaves its times.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from rich.console import Console
from rich.table import Table

from benchmarks.losses import gilbert
from benchmarks.speech import AUDIO_SUFFIXES, TITLES, Metric, installed_metrics, progress, read_mono
from benchmarks.speech_codec_peers import FRAME, RATE_HZ, Coded, Mask, Sound, System, codec2, opus
from edgeae.bench.machine import machine, versions
from edgeae.bundle import find
from edgeae.signal.speech_codec import SpeechCodec

# Levels that aim at 1.5, 3, 6 and 9 kbit/s: the logarithm of the rate is even in the quality.
QUALITIES = (1.0, 4.125, 7.25, 9.0)
OPUS_KBIT = (6, 9, 12)
BURST_FRAMES = 3.0
# Metrics that take a second for a recording, and those that hear it alone.
_SLOW, _WITHOUT_REFERENCE = ("visqol", "dnsmos"), ("dnsmos",)
# Machines round otherwise in the last digits.
_SAME_STOI = 0.002
PACKAGES = (
    "edgeae",
    "numpy",
    "onnxruntime",
    "soxr",
    "pesq",
    "pystoi",
    "visqol-python",
    "speechmos",
    "av",
)
TABLE_COLUMNS = 120


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    files = recordings(options.clean)[: options.files]
    missing: dict[str, str] = {}
    metrics = dict(installed_metrics(missing, dnsmos=options.dnsmos))
    # Phases are not coded, by none of them.
    del metrics["si_sdr_db"]
    if options.visqol:
        try:
            metrics["visqol"] = _visqol()
        except ImportError:
            missing["ViSQOL"] = "visqol-python[lattice]"
    systems = [s for q in options.qualities for m in options.model for s in [ours(m, q)]]
    bundles = [find(model) for model in options.model]
    for peer, name, needed in (
        *((opus(kbit), f"Opus {kbit}", "av") for kbit in OPUS_KBIT),
        (codec2(), "Codec 2", "codec2"),
    ):
        if peer is None:
            missing[name] = needed
        else:
            systems.append(peer)
    for name, package in missing.items():
        Console(stderr=True).print(f"{name} is left out: {package} is not installed")
    if options.add_to:
        report = json.loads(options.add_to.read_text())
        add(report, systems, files, metrics)
        options.add_to.write_text(json.dumps(report, indent=1) + "\n")
        _show(report)
        return
    found = {
        system.name: measured(system, files, metrics, options.loss)
        for system in progress("coding", systems)
    }
    report = {
        "what": "speech codecs",
        "method": " ".join((__doc__ or "").split("\n\n")[2].split()),
        "folder": options.clean.resolve().parent.name,
        "files": len(files),
        "bundles": {bundle.manifest.name: bundle.id for bundle in bundles},
        "loss": options.loss,
        "burst_frames": BURST_FRAMES,
        "machine": machine(),
        "versions": versions(PACKAGES),
        "missing": missing,
        "original": originals(files, metrics),
        "systems": found,
    }
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    if options.plot:
        plot(systems, files[0], options.plot)
    _show(report)


def _show(report: dict[str, Any]) -> None:
    terminal = Console()
    terminal.width = max(terminal.width, TABLE_COLUMNS)
    terminal.print(table(report))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speech_codec", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("clean", type=Path, help="folder of clean recordings")
    parser.add_argument("--model", nargs="*", default=[], help="bundled names or paths of ours")
    parser.add_argument("--qualities", nargs="*", type=float, default=QUALITIES)
    parser.add_argument("--loss", type=float, default=0.1, help="share of frames lost; 0 is none")
    parser.add_argument("--json", type=Path, help="write every figure here")
    parser.add_argument("--add-to", type=Path, help="add the metrics that this record lacks to it")
    parser.add_argument("--plot", type=Path, help="write spectrograms of the first file here")
    parser.add_argument("--files", type=int, help="take only the first so many files")
    parser.add_argument("--visqol", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--dnsmos", action=argparse.BooleanOptionalAction, default=True)
    return parser


def _visqol() -> Metric:
    """MOS-LQO of ViSQOL v3 in its speech mode. Raises ImportError if it, or the lattice that maps
    to MOS as the original does, is not installed."""
    import ai_edge_litert  # noqa: F401
    from visqol import VisqolApi

    listener = VisqolApi()
    listener.create(mode="speech")

    def score(reference: Sound, estimate: Sound) -> float:
        found = listener.measure_from_arrays(reference, estimate, sample_rate=RATE_HZ)
        return float(found.moslqo)

    return score


def recordings(folder: Path) -> list[Path]:
    """The audio files of a folder; exits if there are none."""
    if not folder.is_dir():
        sys.exit(f"{folder} is no folder")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in AUDIO_SUFFIXES)
    if not files:
        sys.exit(f"{folder} holds no recordings: {' '.join(AUDIO_SUFFIXES)} are read")
    return files


def recording(path: Path) -> Sound:
    """The audio of a file at 16 kHz, one channel."""
    audio, rate_hz = read_mono(path)
    return np.asarray(soxr.resample(audio, rate_hz, RATE_HZ), np.float32)


def originals(files: Sequence[Path], metrics: Mapping[str, Metric]) -> dict[str, float]:
    """What metrics that need no reference say of the recordings themselves, means."""
    found = {}
    for key in metrics.keys() & set(_WITHOUT_REFERENCE):
        scores = [metrics[key](audio, audio) for audio in map(recording, files)]
        found[key] = round(float(np.nanmean(scores)), 4)
    return found


def add(
    report: dict[str, Any],
    systems: Sequence[System],
    files: Sequence[Path],
    metrics: Mapping[str, Metric],
) -> None:
    """Put the metrics, without losses, that a report lacks into its rows and means; its times stay.

    Exits if the systems or the files are not those of the report: each must give as many bits, and
    audio of the same STOI.
    """
    told = report["systems"]
    if [system.name for system in systems] != [*told]:
        sys.exit(f"the record has {', '.join(told)}: give the same models and qualities")
    lacking = [key for key in metrics if any(key not in found for found in told.values())]
    for system in progress("coding again", systems):
        found = told[system.name]
        if [row["file"] for row in found["files"]] != [path.name for path in files]:
            sys.exit(f"{system.name} was measured on other files")
        for row, path in zip(found["files"], files, strict=True):
            audio = recording(path)
            coded = system.code(audio, None)
            far = abs(metrics["stoi"](audio, coded.audio) - row["stoi"]) if "stoi" in metrics else 0
            if coded.bits != row["bits"] or far > _SAME_STOI:
                sys.exit(f"{system.name} makes something else of {path.name} than it did")
            row |= {key: round(float(metrics[key](audio, coded.audio)), 5) for key in lacking}
        for key in lacking:
            found[key] = round(float(np.nanmean([row[key] for row in found["files"]])), 4)
    report["original"] = {**report.get("original", {}), **originals(files, metrics)}
    for key in lacking:
        added = {"machine": machine(), "versions": versions(PACKAGES)}
        report.setdefault("added", {})[key] = added


def ours(model: str, quality: float) -> System:
    """A bundle at a quality: as a file where nothing is lost, else in packets of 20 ms."""
    codec = SpeechCodec.load(model)

    def code(audio: Sound, lost: Mask | None) -> Coded:
        if lost is not None:
            return _in_packets(codec, quality, audio, lost)
        began = time.process_time()
        blob = codec.compress(audio, quality=quality)
        between = time.process_time()
        restored = codec.decompress(blob)
        ended = time.process_time()
        return Coded(restored, 8 * len(blob), between - began, ended - between)

    return System(f"edgeae {codec.bundle.manifest.name} {quality:g}", code)


def _in_packets(codec: SpeechCodec, quality: float, audio: Sound, lost: Mask) -> Coded:
    sender = codec.stream(quality=quality, packet_frames=1)
    began = time.process_time()
    packets = [*sender.send(audio), *sender.end()]
    between = time.process_time()
    receiver, late = codec.listen(sender.opening), codec.listen(sender.opening)
    gone = [i < len(lost) and lost[i] for i in range(len(packets))]
    said = [
        receiver.lost() if gap else receiver.receive(packet)
        for gap, packet in zip(gone, packets, strict=True)
    ]
    ended = time.process_time()
    filled = [late.receive(packet) for gap, packet in zip(gone, packets, strict=True) if not gap]
    if gone[-1]:
        filled.append(late.lost(gone[::-1].index(False)))
    restored, other = (np.concatenate(parts)[FRAME:][: len(audio)] for parts in (said, filled))
    bits = 8 * sum(map(len, packets))
    return Coded(restored, bits, between - began, ended - between, other)


def measured(
    system: System, files: Sequence[Path], metrics: dict[str, Metric], loss: float
) -> dict[str, Any]:
    """Means over the files, with and without losses, bits a second, speeds, and a row per file."""
    rows: list[dict[str, Any]] = []
    for path in files:
        audio = recording(path)
        coded = system.code(audio, None)
        row: dict[str, Any] = {
            "file": path.name,
            "seconds": len(audio) / RATE_HZ,
            "bits": coded.bits,
        }
        row |= {"encode_s": coded.encode_s, "decode_s": coded.decode_s}
        row |= {key: metric(audio, coded.audio) for key, metric in metrics.items()}
        if loss and system.conceals:
            rng = np.random.default_rng(zlib.crc32(path.name.encode()))
            lost = gilbert(-(-len(audio) // FRAME), loss, BURST_FRAMES, rng, opens_well=True)
            with_loss = system.code(audio, lost)
            row |= {"lost": float(lost.mean()), "packet_bits": with_loss.bits}
            heard = {"lossy": with_loss.audio, "late": with_loss.late}
            row |= {
                f"{key}_{how}": metric(audio, sound)
                for how, sound in heard.items()
                for key, metric in metrics.items()
                if key not in _SLOW and sound is not None
            }
        rows.append({k: v if isinstance(v, str) else round(float(v), 5) for k, v in row.items()})
    seconds = sum(row["seconds"] for row in rows)
    told: dict[str, Any] = {"bit_per_s": round(sum(row["bits"] for row in rows) / seconds)}
    for key in (*metrics, *(f"{key}_{how}" for how in ("lossy", "late") for key in metrics)):
        if key in rows[0]:
            told[key] = round(float(np.nanmean([row[key] for row in rows])), 4)
    if "packet_bits" in rows[0]:
        told["packet_bit_per_s"] = round(sum(row["packet_bits"] for row in rows) / seconds)
    for side in ("encode", "decode"):
        busy = sum(row[f"{side}_s"] for row in rows)
        told[f"{side}_speed"] = round(seconds / busy, 1) if busy else None
    return {**told, "files": rows}


def table(report: dict[str, Any]) -> Table:
    """The report as a table for the terminal."""
    out = Table(title=f"{report['files']} recordings of {report['folder']}")
    for title in ("codec", "bit/s"):
        out.add_column(title, no_wrap=True)
    systems = report["systems"]
    keys = [key for key in TITLES if any(key in told for told in systems.values())]
    lossy = [
        f"{key}_{how}"
        for how in ("lossy", "late")
        for key in keys
        if any(f"{key}_{how}" in told for told in systems.values())
    ]
    titles = [TITLES[key] for key in keys]
    for key in lossy:
        metric, how = key.rsplit("_", 1)
        filled = ", filled late" if how == "late" else ""
        titles.append(f"{TITLES[metric]} {report['loss']:.0%} lost{filled}")
    for title in (*titles, "encode x", "decode x"):
        out.add_column(title, justify="right")
    for name, told in systems.items():
        figures = [told.get(key) for key in (*keys, *lossy, "encode_speed", "decode_speed")]
        shown = ["-" if value is None else f"{value:.3g}" for value in figures]
        out.add_row(name, f"{told['bit_per_s']:,}", *shown)
    return out


def plot(systems: Sequence[System], path: Path, target: Path) -> None:
    """Spectrograms of a recording and of what each codec makes of it, one above the other."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    audio = recording(path)
    shown = [("original", audio), *((s.name, s.code(audio, None).audio) for s in systems)]
    figure, axes = pyplot.subplots(
        len(shown), 1, figsize=(10, 1.6 * len(shown)), sharex=True, layout="constrained"
    )
    for axis, (name, sound) in zip(np.atleast_1d(axes), shown, strict=True):
        axis.specgram(sound + 1e-6, NFFT=512, Fs=RATE_HZ, noverlap=384, vmin=-120, vmax=-40)
        axis.set_ylabel(name, rotation=0, ha="right")
    figure.savefig(target, dpi=90)


if __name__ == "__main__":
    main()
