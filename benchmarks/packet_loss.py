"""Quality against packet loss: photographs in packets, and speech whose blocks are lost.

    python -m benchmarks.packet_loss FOLDER --json benchmarks/results/packet_loss.json \\
        --plot docs/packet_loss.png

Losses follow Gilbert's model (1960), the usual case of Elliott's: a link is good and loses nothing,
or bad and loses all, and changes state at random from packet to packet. Each image of FOLDER is
sent at quality 5 in packets of at most 1200 bytes, and what arrives is received; its PSNR is that
of the whole image, concealed parts among it. Speech is the recording of the package's demo,
denoised as a stream in blocks of 20 ms; a lost block is skipped (`Stream.skip`), or a block of
zeros takes its place, which clicks. Speech quality is SI-SDR against the clean recording, which
does not hear clicks. What the masks call exact is compared with what arrives without loss: a
difference ends the run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

import edgeae
from benchmarks.losses import Lost, gilbert
from edgeae.bench.machine import machine, versions
from edgeae.bundle import Bundle
from edgeae.media import IMAGE_SUFFIXES, read_audio, read_image
from edgeae.metrics import psnr_db, si_sdr_db

LOSSES = (0.0, 0.01, 0.02, 0.05, 0.10, 0.20, 0.30)
BURSTS = (1.5, 3.0, 5.0)
QUALITY = 5
PACKET_BYTES = 1200
BLOCK_S = 0.020
SPEECH_RUNS = 5
ASSETS = Path(edgeae.__file__).parent / "assets"
PACKAGES = ("edgeae", "numpy", "onnxruntime")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.packet_loss", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path, help="images")
    parser.add_argument("--codec", default="photo-codec")
    parser.add_argument("--denoiser", default="speech-denoiser")
    parser.add_argument("--images", type=int, help="only the first so many images")
    parser.add_argument("--runs", type=int, default=3, help="patterns of loss for each image")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    parser.add_argument(
        "--keep", action="store_true",
        help="measure only the part whose graphs are others than in --json, and keep the other",
    )  # fmt: skip
    parser.add_argument("--plot", type=Path, help="where to write the curves as PNG")
    options = parser.parse_args(arguments)
    files = sorted(p for p in options.folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    files = files[: options.images] if options.images else files
    if not files:
        sys.exit(f"{options.folder} holds no images")
    codec = edgeae.ImageCodec.load(options.codec)
    denoiser = edgeae.SignalDenoiser.load(options.denoiser)
    graphs = {"photos": hashes(codec.bundle), "speech": hashes(denoiser.bundle)}
    kept = json.loads(options.json.read_text()) if options.keep else {}
    if options.keep and kept["folder"] != options.folder.name:
        sys.exit(f"{options.json} is of the folder {kept['folder']}")

    def measured(part: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        return kept[part] if kept.get("graphs", {}).get(part) == graphs[part] else measure()

    report = {
        "what": "packet loss",
        "method": " ".join((__doc__ or "").split("\n\n")[2].split()),
        "machine": machine(),
        "versions": versions(PACKAGES),
        "folder": options.folder.name,
        "bundles": {"codec": codec.bundle.id, "denoiser": denoiser.bundle.id},
        "graphs": graphs,
        "photos": measured("photos", lambda: photos(codec, files, runs=options.runs)),
        "speech": measured("speech", lambda: speech(denoiser)),
    }
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    if options.plot:
        plot(report, options.plot)
    Console().print(table(report))


def hashes(bundle: Bundle) -> list[str]:
    """What a bundle computes with, unlike its id, which a line in its card changes."""
    graphs = [entry.sha256 for forms in bundle.manifest.graphs.values() for entry in forms.values()]
    return [*sorted(graphs), *([bundle.manifest.codec_id] if bundle.manifest.codec_id else [])]


def patterns() -> list[tuple[float, float]]:
    """Every loss with every burst; without loss there is one."""
    return [(0.0, 1.0), *((loss, burst) for burst in BURSTS for loss in LOSSES if loss)]


def photos(codec: edgeae.ImageCodec, files: Sequence[Path], *, runs: int) -> dict[str, Any]:
    """Mean PSNR of what arrives, over images and patterns, for each loss and burst."""
    found: dict[tuple[float, float], list[tuple[float, float, float]]] = {}
    sent = sent_bytes = file_bytes = pixels = nothing = 0
    for number, file in enumerate(track(files, "photos")):
        image = read_image(file)
        packets = codec.packets(image, max_packet_bytes=PACKET_BYTES, quality=QUALITY)
        whole, mask = codec.receive(packets)
        assert not mask.any()
        sent, pixels = sent + len(packets), pixels + mask.size
        sent_bytes += sum(map(len, packets))
        file_bytes += len(codec.compress(image, quality=QUALITY))
        for loss, burst in patterns():
            for run in range(runs if loss else 1):
                rng = np.random.default_rng([number, run])
                lost = gilbert(len(packets), loss, burst, rng)
                came = [packet for packet, gone in zip(packets, lost, strict=True) if not gone]
                if not came:
                    nothing += 1
                    continue
                received, mask = codec.receive(came)
                if not np.array_equal(received[~mask], whole[~mask]):
                    sys.exit(f"{file.name} at {loss:.0%}: what the mask calls exact is not")
                row = (psnr_db(image, received), 1 - float(mask.mean()), float(lost.mean()))
                found.setdefault((loss, burst), []).append(row)
    return {
        "images": len(files),
        "runs": runs,
        "quality": QUALITY,
        "packet_bytes": PACKET_BYTES,
        "packets_per_image": round(sent / len(files), 1),
        "bpp_packets": round(8 * sent_bytes / pixels, 4),
        "bpp_files": round(8 * file_bytes / pixels, 4),
        "images_of_which_nothing_came": nothing,
        "points": [
            {
                "loss": loss,
                "burst": burst,
                "psnr_db": round(float(np.mean([row[0] for row in rows])), 3),
                "exact": round(float(np.mean([row[1] for row in rows])), 4),
                "lost": round(float(np.mean([row[2] for row in rows])), 4),
            }
            for (loss, burst), rows in found.items()
        ],
    }


def speech(denoiser: edgeae.SignalDenoiser) -> dict[str, Any]:
    """Mean SI-SDR of the stream's output, for each loss and burst and both ways to fill gaps."""
    noisy, rate = read_audio(ASSETS / "noisy.flac")
    clean, _ = read_audio(ASSETS / "clean.flac")
    block = round(BLOCK_S * rate)
    count = -(-len(noisy) // block)
    whole = streamed(denoiser, noisy, rate, np.zeros(count, np.bool_), skip=True)
    points = []
    for loss, burst in track(patterns(), "speech"):
        figures: dict[str, list[float]] = {"skip": [], "zeros": []}
        for run in range(SPEECH_RUNS if loss else 1):
            lost = gilbert(count, loss, burst, np.random.default_rng(run))
            first = int(lost.argmax()) if lost.any() else count
            for way, values in figures.items():
                found = streamed(denoiser, noisy, rate, lost, skip=way == "skip")
                # A frame hears a window: so long before the first gap nothing may differ.
                untouched = max(0, first * block - 2 * block)
                if not np.array_equal(found[:untouched], whole[:untouched]):
                    sys.exit(f"speech at {loss:.0%}: what was given before the gap is not exact")
                if not np.isfinite(found).all():
                    sys.exit(f"speech at {loss:.0%}: the output is not finite")
                values.append(si_sdr_db(clean, found))
        points.append(
            {
                "loss": loss,
                "burst": burst,
                **{f"si_sdr_db_{way}": round(float(np.mean(v)), 3) for way, v in figures.items()},
            }
        )
    return {
        "seconds": round(len(noisy) / rate, 2),
        "runs": SPEECH_RUNS,
        "noisy_si_sdr_db": round(si_sdr_db(clean, noisy), 3),
        "points": points,
    }


def streamed(
    denoiser: edgeae.SignalDenoiser,
    noisy: NDArray[np.float32],
    rate: int,
    lost: Lost,
    *,
    skip: bool,
) -> NDArray[np.float32]:
    """The output of a stream, aligned with its input, with some of its blocks lost."""
    stream = denoiser.stream(sample_rate=rate)
    block = round(BLOCK_S * rate)
    out = []
    for i, gone in enumerate(lost):
        part = noisy[i * block : (i + 1) * block]
        if gone and skip:
            out.append(stream.skip(len(part)))
        else:
            out.append(stream.process(np.zeros_like(part) if gone else part))
    return np.concatenate([*out, stream.flush()])[stream.delay :]


def table(report: dict[str, Any]) -> Table:
    """A row for each loss and burst."""
    rows = Table(title="Quality against packet loss", title_justify="left")
    for column in ("loss", "burst", "PSNR dB", "pixels exact", "SI-SDR dB, skip", "zeros"):
        rows.add_column(column, justify="right")
    heard = {(point["loss"], point["burst"]): point for point in report["speech"]["points"]}
    for point in report["photos"]["points"]:
        said = heard[point["loss"], point["burst"]]
        rows.add_row(
            f"{point['loss']:.0%}",
            f"{point['burst']:g}",
            f"{point['psnr_db']:.2f}",
            f"{point['exact']:.1%}",
            f"{said['si_sdr_db_skip']:.2f}",
            f"{said['si_sdr_db_zeros']:.2f}",
        )
    return rows


def plot(report: dict[str, Any], path: Path) -> None:
    """Two panels, PSNR of photographs and SI-SDR of speech over loss, as a PNG."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(12.8, 5), layout="constrained")
    panels = (
        (axes[0], report["photos"], "psnr_db", "RGB PSNR in dB"),
        (axes[1], report["speech"], "si_sdr_db_skip", "SI-SDR in dB"),
    )
    for axis, section, key, title in panels:
        points = section["points"]
        none = [point for point in points if not point["loss"]]
        for burst in BURSTS:
            curve = none + [point for point in points if point["burst"] == burst]
            axis.plot(
                [100 * point["loss"] for point in curve],
                [point[key] for point in curve],
                marker="o",
                linewidth=1.8,
                label=f"bursts of {burst:g}",
            )
        axis.set(xlabel="packets lost in %", ylabel=title, xlim=(0, None))
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    level = report["speech"]["noisy_si_sdr_db"]
    axes[1].axhline(level, color="gray", linestyle="--", linewidth=1.2)
    axes[1].annotate("noisy, nothing lost", (0.98, level), xycoords=("axes fraction", "data"),
                     ha="right", va="bottom", color="gray")  # fmt: skip
    axes[0].set_title(
        f"{report['photos']['images']} photographs of {report['folder']}, quality {QUALITY}"
    )
    axes[1].set_title("a noisy recording, denoised as it arrives")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
