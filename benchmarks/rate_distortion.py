"""Rate-distortion of a codec bundle beside JPEG, WebP, AVIF and JPEG XL, all measured in one run.

    python -m benchmarks.rate_distortion FOLDER --json OUT.json [--plot OUT.png]

Every point encodes each image to a file, takes its size, decodes the file and compares.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, Image, features
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.interpolate import PchipInterpolator

import edgeae
from edgeae.bench.machine import machine, versions
from edgeae.image.codec import EFFORTS, Effort
from edgeae.media import IMAGE_SUFFIXES, read_image
from edgeae.metrics import bits_per_pixel, ms_ssim, psnr_db

Pixels = NDArray[np.uint8]
Curve = Sequence[float] | NDArray[np.float64]
ANCHOR = "JPEG"
METHOD = (
    "BD-rate: Bjontegaard (VCEG-M33, 2001) with PCHIP in place of the cubic: log rate as a"
    " monotone piecewise cubic of quality, integrated over the quality that both curves reach; the"
    " mean difference is the rate saved at equal quality, negative is better. Once on averaged"
    " curves (at each setting the mean bits per pixel and the mean quality over the images), once"
    " as the mean of each image's own. Quality is RGB PSNR, or MS-SSIM (mean of R, G, B) as"
    " -10 log10(1 - MS-SSIM). Bits per pixel are file sizes. Times are CPU milliseconds of the"
    " process, every codec held to one thread, at the setting nearest to 0.5 bits per pixel."
)
PACKAGES = ("edgeae", "numpy", "onnxruntime", "pillow", "scipy", "pillow-jxl-plugin")
LIBRARIES = ("libjpeg_turbo", "webp", "avif")
RATES_BPP = (0.25, 0.5, 1.0)
# Curves that share less than this say nothing about each other.
LEAST_OVERLAP_DB = 0.5


@dataclass(frozen=True)
class Contender:
    """One codec of the run: its settings from small to large files, and the two ways."""

    name: str
    settings: tuple[float, ...]
    encode: Callable[[Pixels, float, Path], None]
    decode: Callable[[Path], Pixels]


@dataclass(frozen=True)
class Point:
    """One image at one setting."""

    bpp: float
    psnr_db: float
    ms_ssim_db: float
    encode_ms: float
    decode_ms: float


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    files = sorted(p for p in options.folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    files = files[: options.images] if options.images else files
    if not files:
        sys.exit(f"{options.folder} holds no images")
    bundle = _bundle(options.model) if options.precision else None
    contenders = _contenders(options)
    progress = Console(stderr=True)
    if options.jobs > 1:
        measured = _measure_in_processes(options, files)
    else:
        measured = measure(
            contenders,
            track(files, "images", console=progress, disable=not progress.is_terminal),
            structure=not options.no_ms_ssim,
        )
    report = {
        "what": "rate-distortion, real file sizes",
        "method": METHOD,
        "folder": options.folder.name,
        "images": [path.name for path in files],
        "bundle": bundle,
        "machine": machine(),
        "versions": versions(PACKAGES) | {name: features.version(name) for name in LIBRARIES},
        "codecs": {c.name: summary(c, measured[c.name], measured[ANCHOR]) for c in contenders},
    }
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    if options.plot:
        plot(report, options.plot)
    Console().print(table(report))


def _contenders(options: argparse.Namespace) -> list[Contender]:
    return [
        *peer_contenders(options.peers),
        *our_contenders(options.model, options.precision),
        *(effort_contenders(options.efforts) if options.efforts else ()),
    ]


# --- measuring --------------------------------------------------------------------------------


def measure(
    contenders: Sequence[Contender], files: Any, *, structure: bool
) -> dict[str, list[list[Point]]]:
    """For each contender the points [image][setting]."""
    measured: dict[str, list[list[Point]]] = {c.name: [] for c in contenders}
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "image"
        _warm_up(contenders, target)
        for path in files:
            image = read_image(path)
            if image.shape[2] != 3:
                sys.exit(f"{path} has {image.shape[2]} channels: RGB is needed")
            for contender in contenders:
                measured[contender.name].append(
                    [
                        _point(contender, setting, image, target, structure)
                        for setting in contender.settings
                    ]
                )
    return measured


def _measure_in_processes(
    options: argparse.Namespace, files: Sequence[Path]
) -> dict[str, list[list[Point]]]:
    """What `measure` finds, one process for each share of the images."""
    jobs = min(options.jobs, len(files))
    shares = [files[first::jobs] for first in range(jobs)]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        parts = list(pool.map(_measure_share, [options] * jobs, shares))
    return {
        name: [parts[i % jobs][name][i // jobs] for i in range(len(files))] for name in parts[0]
    }


def _measure_share(
    options: argparse.Namespace, files: Sequence[Path]
) -> dict[str, list[list[Point]]]:
    return measure(_contenders(options), files, structure=not options.no_ms_ssim)


def _point(
    contender: Contender, setting: float, image: Pixels, target: Path, structure: bool
) -> Point:
    start = time.process_time()
    contender.encode(image, setting, target)
    encoded = time.process_time()
    restored = contender.decode(target)
    decoded = time.process_time()
    return Point(
        bpp=bits_per_pixel(target.stat().st_size, image.shape),
        psnr_db=psnr_db(image, restored),
        ms_ssim_db=-10 * math.log10(1 - ms_ssim(image, restored)) if structure else math.nan,
        encode_ms=1000 * (encoded - start),
        decode_ms=1000 * (decoded - encoded),
    )


def _warm_up(contenders: Sequence[Contender], target: Path) -> None:
    """First calls load libraries and allocate; they are no part of anyone's time."""
    small = np.random.default_rng(0).integers(0, 256, (512, 768, 3)).astype(np.uint8)
    for contender in contenders:
        contender.encode(small, contender.settings[0], target)
        contender.decode(target)


# --- who takes part ---------------------------------------------------------------------------


def peer_contenders(names: Sequence[str]) -> Iterator[Contender]:
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    jpeg = {"progressive": True, "optimize": True, "subsampling": "4:2:0"}
    avif = {"max_threads": 1}
    psnr = {**avif, "subsampling": "4:4:4", "advanced": {"tune": "psnr"}}
    known: dict[str, tuple[str, str, tuple[float, ...], dict[str, Any]]] = {
        "jpeg": (ANCHOR, "JPEG", _JPEG_QUALITIES, jpeg),
        "webp": ("WebP", "WEBP", (1, 5, 15, 30, 45, 60, 72, 82, 89, 94, 97), {"method": 6}),
        "avif6": ("AVIF speed 6", "AVIF", _AVIF_QUALITIES, {**avif, "speed": 6}),
        "avif6-444": ("AVIF speed 6 4:4:4 psnr", "AVIF", _AVIF_QUALITIES, {**psnr, "speed": 6}),
        "avif9": ("AVIF speed 9", "AVIF", _AVIF_QUALITIES, {**avif, "speed": 9}),
        "jxl": ("JPEG XL effort 7", "JXL", _JXL_QUALITIES, {}),
    }
    for name in dict.fromkeys(["jpeg", *names]):  # the anchor is always there
        if name not in known:
            sys.exit(f"no peer {name!r}: known are {' '.join(known)}")
        title, container, settings, options = known[name]
        if container == "JXL":
            try:
                import pillow_jxl  # noqa: F401  registers the format with Pillow
            except ImportError:
                print("JPEG XL is left out: pip install pillow-jxl-plugin", file=sys.stderr)
                continue
            options = {"effort": 7, "num_threads": 1}
        yield Contender(title, settings, _pillow_encoder(container, options), _pillow_decoder)


# Up to more than 2 bits per pixel on photographs. Below 10 JPEG's colors collapse, and every other
# codec would gain points from a range that nobody uses. Below 19 libjxl halves the image.
_JPEG_QUALITIES = (10, 14, 20, 28, 38, 50, 62, 72, 80, 86, 91, 94)
_AVIF_QUALITIES = (5, 12, 20, 28, 36, 44, 52, 60, 68, 76, 84, 90)
_JXL_QUALITIES = (19, 25, 35, 45, 55, 65, 75, 84, 90, 94)


def _pillow_encoder(
    container: str, options: dict[str, Any]
) -> Callable[[Pixels, float, Path], None]:
    def encode(image: Pixels, setting: float, target: Path) -> None:
        Image.fromarray(image).save(target, container, quality=int(setting), **options)

    return encode


def _pillow_decoder(source: Path) -> Pixels:
    with Image.open(source) as image:
        return np.asarray(image.convert("RGB"))


def our_contenders(model: str, precisions: Sequence[str]) -> Iterator[Contender]:
    for precision in precisions:
        codec = edgeae.ImageCodec.load(model, precision=precision)
        yield _contender(f"edgeae {precision}", codec)


def effort_contenders(model: str) -> Iterator[Contender]:
    """A model with each of its encoders, as it runs by default."""
    codec = edgeae.ImageCodec.load(model)
    for effort in EFFORTS:
        yield _contender(f"{codec.bundle.manifest.name}, {effort}", codec, effort)


def _contender(name: str, codec: edgeae.ImageCodec, effort: Effort = "fast") -> Contender:
    def encode(image: Pixels, setting: float, target: Path) -> None:
        target.write_bytes(codec.compress(image, quality=setting, effort=effort))

    def decode(source: Path) -> Pixels:
        return codec.decompress(source.read_bytes())

    return Contender(name, tuple(float(q) for q in range(1, 10)), encode, decode)


# --- figures ----------------------------------------------------------------------------------


def summary(
    contender: Contender, measured: list[list[Point]], anchor: list[list[Point]]
) -> dict[str, Any]:
    """The averaged curve of a contender and what it saves against the anchor, in percent."""
    means = _means(measured)
    points = [
        {"setting": setting, **{key: round(float(values[i]), 5) for key, values in means.items()}}
        for i, setting in enumerate(contender.settings)
    ]
    anchor_means = _means(anchor)
    figures: dict[str, Any] = {"points": points}
    for quality in ("psnr_db", "ms_ssim_db"):
        if np.isnan(means[quality]).any():
            continue
        figures[f"bd_rate_{quality[:-3]}_percent"] = _rounded(
            bd_rate_percent(
                anchor_means["bpp"], anchor_means[quality], means["bpp"], means[quality]
            )
        )
        each = [
            bd_rate_percent(
                _column(a, "bpp"), _column(a, quality), _column(b, "bpp"), _column(b, quality)
            )
            for a, b in zip(anchor, measured, strict=True)
        ]
        figures[f"bd_rate_{quality[:-3]}_per_image_percent"] = [_rounded(value) for value in each]
        finite = [value for value in each if math.isfinite(value)]
        figures[f"bd_rate_{quality[:-3]}_mean_of_images_percent"] = _rounded(
            float(np.mean(finite)) if finite else math.nan
        )
    figures["psnr_db_at_bpp"] = {
        str(rate): _rounded(quality_at(means["bpp"], means["psnr_db"], rate)) for rate in RATES_BPP
    }
    # Speed at the setting whose mean rate is nearest to half a bit per pixel, as people use them.
    usual = int(np.argmin(np.abs(np.log(means["bpp"] / 0.5))))
    figures["encode_ms"] = round(float(means["encode_ms"][usual]), 2)
    figures["decode_ms"] = round(float(means["decode_ms"][usual]), 2)
    return figures


def bd_rate_percent(
    anchor_bpp: Curve,
    anchor_quality: Curve,
    bpp: Curve,
    quality: Curve,
) -> float:
    """Rate of a curve against the anchor's at equal quality, in percent; negative saves bits.

    NaN where the curves share less than half a decibel.
    """
    curves = [_monotone(anchor_bpp, anchor_quality), _monotone(bpp, quality)]
    if any(len(x) < 2 for x, _ in curves):
        return math.nan
    low = max(x[0] for x, _ in curves)
    high = min(x[-1] for x, _ in curves)
    if high - low < LEAST_OVERLAP_DB:
        return math.nan
    areas = [float(PchipInterpolator(x, y).integrate(low, high)) for x, y in curves]
    return 100.0 * math.expm1((areas[1] - areas[0]) / (high - low))


def quality_at(bpp: Curve, quality: Curve, rate: float) -> float:
    """The quality that a curve reaches at a rate; NaN where it does not get there."""
    x, y = _monotone(np.log(bpp), quality, by_quality=False)
    inside = len(x) > 1 and x[0] <= math.log(rate) <= x[-1]
    return float(PchipInterpolator(x, y)(math.log(rate))) if inside else math.nan


def _monotone(
    bpp: Curve, quality: Curve, *, by_quality: bool = True
) -> tuple[list[float], list[float]]:
    """(quality, log rate) or (rate, quality), rising; points that cost more for less go."""
    x: list[float] = []
    y: list[float] = []
    for rate, value in sorted(zip(map(float, bpp), map(float, quality), strict=True)):
        if not math.isfinite(value) or (x and (value if by_quality else rate) <= x[-1]):
            continue
        x.append(value if by_quality else rate)
        y.append(math.log(rate) if by_quality else value)
    return x, y


def _means(measured: list[list[Point]]) -> dict[str, NDArray[np.float64]]:
    keys = ("bpp", "psnr_db", "ms_ssim_db", "encode_ms", "decode_ms")
    return {key: np.mean([_column(points, key) for points in measured], axis=0) for key in keys}


def _column(points: list[Point], key: str) -> list[float]:
    return [getattr(point, key) for point in points]


def _rounded(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None


# --- what is told -----------------------------------------------------------------------------


def table(report: dict[str, Any]) -> Table:
    """The report as a table for the terminal."""
    out = Table(title=f"{len(report['images'])} images of {report['folder']}, real file sizes")
    out.add_column("codec")
    rates = [f"dB at\n{rate} bpp" for rate in RATES_BPP]
    for title in ("BD-rate\nPSNR", "BD-rate\nMS-SSIM", *rates, "encode\nms", "decode\nms"):
        out.add_column(title, justify="right")
    for name, figures in report["codecs"].items():
        out.add_row(
            name,
            _shown(figures.get("bd_rate_psnr_percent"), "+.1f", " %"),
            _shown(figures.get("bd_rate_ms_ssim_percent"), "+.1f", " %"),
            *(_shown(value, ".2f") for value in figures["psnr_db_at_bpp"].values()),
            f"{figures['encode_ms']:.1f}",
            f"{figures['decode_ms']:.1f}",
        )
    return out


def _shown(value: float | None, form: str, unit: str = "") -> str:
    return "-" if value is None else f"{value:{form}}{unit}"


def plot(report: dict[str, Any], path: Path) -> None:
    """Two panels, PSNR and MS-SSIM over bits per pixel, as a PNG."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    codecs = report["codecs"]
    panels = ["psnr_db", "ms_ssim_db"]
    if not all("bd_rate_ms_ssim_percent" in figures for figures in codecs.values()):
        panels.pop()
    titles = {"psnr_db": "RGB PSNR in dB", "ms_ssim_db": "MS-SSIM in dB"}
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(6.4 * len(panels), 5), layout="constrained", squeeze=False
    )
    for axis, quality in zip(axes[0], panels, strict=True):
        for name, figures in codecs.items():
            ours = name.startswith("edgeae")
            points = [p for p in figures["points"] if p["bpp"] <= 2]
            axis.plot(
                [p["bpp"] for p in points],
                [p[quality] for p in points],
                marker="o" if ours else ".",
                linewidth=2.6 if ours else 1.2,
                linestyle="--" if name.endswith("fp32") else "-",
                label=name,
                zorder=3 if ours else 2,
            )
        axis.set(xlabel="bits per pixel, whole files", ylabel=titles[quality], xlim=(0, 2))
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    figure.suptitle(f"{len(report['images'])} images of {report['folder']}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _bundle(model: str) -> dict[str, Any]:
    from edgeae.bundle import find

    bundle = find(model)
    return {
        "name": bundle.manifest.name,
        "version": bundle.manifest.version,
        "id": bundle.id,
        "codec_id": bundle.manifest.codec_id,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rate_distortion",
        description="Rate-distortion of a codec bundle beside JPEG, WebP, AVIF and JPEG XL.",
    )
    parser.add_argument("folder", type=Path, help="images, none of them used in training")
    parser.add_argument("--model", default="photo-codec", help="a bundled name or a directory")
    parser.add_argument(
        "--efforts",
        metavar="MODEL",
        help="also every encoder of this bundle, as it runs by default",
    )
    parser.add_argument("--precision", type=_names, default=["int8", "fp32"], metavar="A,B")
    parser.add_argument(
        "--peers",
        type=_names,
        default=["jpeg", "webp", "avif6", "avif6-444", "avif9", "jxl"],
        metavar="A,B",
        help="of jpeg (always), webp, avif6, avif6-444, avif9, jxl",
    )
    parser.add_argument("--json", type=Path, help="where to write every figure")
    parser.add_argument("--plot", type=Path, help="where to write the curves as PNG")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the images")
    parser.add_argument("--images", type=int, help="only the first so many images")
    parser.add_argument("--no-ms-ssim", action="store_true", help="PSNR only, and any image size")
    return parser


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


if __name__ == "__main__":
    main()
