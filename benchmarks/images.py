"""Denoisers of images and fillers of holes side by side.

    python -m benchmarks.images PHOTOS --json OUT.json [--sections gaussian real holes]

PHOTOS holds the folders kodak and cbsd68_dev of clean images, and real_noise_dev with the folders
noisy and clean. Figures of earlier runs in OUT.json are kept but for what is measured anew, so that
slow systems need not run again: what a system gave for a file depends on nothing else.

Gaussian noise is drawn from a generator seeded by the image's place in its folder. `psnr_db` and
`ssim` are of noise that was rounded and clipped to 8 bits, which is what a file holds, and of 8-bit
results; `float_psnr_db` is as papers measure, of noise that was not. Real noise: sigma is the one
of those tried that is best for the image; slow systems try rising ones until one is worse. Holes:
PSNR inside the hole. Seconds are processor seconds of one thread for a megapixel. Slow systems see
every fourth file and of real pairs the middle 256 x 256; tables compare on the files that all have.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from benchmarks.image_systems import (
    Denoiser,
    Filler,
    Mask,
    Pixels,
    fillers,
    our_filler,
    ours,
    peers,
)
from edgeae.bench.machine import machine, versions
from edgeae.errors import EdgeaeError
from edgeae.media import read_image
from edgeae.metrics import psnr_db, ssim

SIGMAS = (15, 25, 50)
SETS = ("cbsd68_dev", "kodak")
HOLES = ("scratches", "text", "blocks of 32")
NOISY = "noisy input"
# Slow systems: every so many files, and of real pairs the middle so many pixels a side.
SLOW_STEP, SLOW_SIDE = 4, 256
PACKAGES = ("edgeae", "numpy", "onnxruntime", "bm3d", "opencv-python-headless", "scikit-image")

Rows = dict[str, dict[str, dict[str, float]]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure, write, and print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.images",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("photos", type=Path, help="the folder of folders")
    parser.add_argument("--json", type=Path, required=True, help="where every figure goes")
    parser.add_argument("--sections", nargs="+", default=["gaussian", "real", "holes"])
    parser.add_argument("--model", default="photo-denoiser", help="a bundled name or a directory")
    parser.add_argument("--precisions", nargs="*", default=["fp32", "int8"])
    parser.add_argument("--sigmas", nargs="+", type=int, default=list(SIGMAS))
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--step", type=int, default=1, help="take every so many files only")
    parser.add_argument("--only", nargs="+", help="measure systems whose names begin so alone")
    options = parser.parse_args(arguments)

    missing: dict[str, str] = {}
    systems = [Denoiser(NOISY, lambda noisy, sigma: noisy, told=False), *peers(missing)]
    filling = fillers(missing)
    for precision in options.precisions:
        try:
            systems += ours(options.model, precision)
            filling.append(our_filler(options.model, precision))
        except EdgeaeError as error:
            missing[f"edgeae {precision}"] = str(error)
    if options.only:
        begun = tuple(options.only)
        systems = [system for system in systems if system.name.startswith(begun)]
        filling = [system for system in filling if system.name.startswith(begun)]
    report = _earlier(options.json)
    for section in options.sections:
        for title, rows in _measured(section, options, systems, filling):
            kept = report["tables"].setdefault(title, {})
            for name, files in rows.items():
                kept.setdefault(name, {}).update(files)
            _write(options.json, report, missing)
    for title, table in report["tables"].items():
        print(f"\n{title}\n{shown(table)}")


def _measured(
    section: str,
    options: argparse.Namespace,
    systems: Sequence[Denoiser],
    filling: Sequence[Filler],
) -> Iterator[tuple[str, Rows]]:
    if section == "gaussian":
        for name in options.sets:
            for sigma in options.sigmas:
                clean = _images(options.photos / name, options.step)
                yield f"{name}, sigma {sigma}", gaussian(clean, sigma, systems)
    elif section == "real":
        noisy = _images(options.photos / "real_noise_dev" / "noisy", options.step)
        pairs = (
            (i, name, image, read_image(options.photos / "real_noise_dev" / "clean" / name))
            for i, name, image in noisy
        )
        yield "real_noise_dev", real(pairs, systems)
    else:
        for kind in HOLES:
            clean = _images(options.photos / options.sets[0], options.step)
            yield f"{options.sets[0]}, {kind}", holes(clean, kind, filling)


def _images(folder: Path, step: int) -> Iterator[tuple[int, str, Pixels]]:
    """Number, name and pixels of the images of a folder."""
    for i, file in enumerate(sorted(p for p in folder.iterdir() if p.is_file())):
        if i % step == 0:
            yield i, file.name, read_image(file)[:, :, :3]


# --- measuring --------------------------------------------------------------------------------


def gaussian(
    clean: Iterable[tuple[int, str, Pixels]], sigma: int, systems: Sequence[Denoiser]
) -> Rows:
    """Figures by system and file under Gaussian noise of a known sigma."""
    rows: Rows = {system.name: {} for system in systems}
    for i, name, image in clean:
        rng = np.random.default_rng((sigma, i))
        true = image.astype(np.float32) / np.float32(255)
        noisy = true + rng.normal(0, sigma / 255, image.shape).astype(np.float32)
        rounded = np.rint(noisy.clip(0, 1) * 255).astype(np.uint8)
        for system in systems:
            if system.slow and i % SLOW_STEP:
                continue
            told = float(sigma) if system.told else None
            found, seconds = _timed(lambda: system.clean(rounded, told), image)  # noqa: B023
            row = {**_quality(image, found), "seconds_per_megapixel": seconds}
            if system.planes is not None:
                restored = system.planes(noisy, float(sigma)).clip(0, 1)
                row["float_psnr_db"] = _psnr_db(true, restored)
            rows[system.name][name] = row
    return rows


def real(pairs: Iterable[tuple[int, str, Pixels, Pixels]], systems: Sequence[Denoiser]) -> Rows:
    """Figures by system and file of real noise; those of slow systems, and of all on what those
    see, under names of their own."""
    rows: Rows = {}

    def measure(system: Denoiser, label: str, noisy: Pixels, clean: Pixels) -> None:
        best: dict[str, float] = {}
        for sigma in system.trials if system.told else (None,):
            found, seconds = _timed(lambda: system.clean(noisy, sigma), clean)  # noqa: B023
            row = {**_quality(clean, found), "seconds_per_megapixel": seconds}
            if sigma is not None:
                row["sigma"] = sigma
            if row["psnr_db"] > best.get("psnr_db", 0.0):
                best = row
            elif system.slow:  # sigmas rise, and PSNR over them has one peak
                break
        rows.setdefault(system.name, {})[label] = best

    for i, name, noisy, clean in pairs:
        for system in systems:
            if system.told and system.name.startswith("edgeae"):
                continue
            if i % SLOW_STEP == 0:
                middle = _middle(noisy), _middle(clean)
                measure(system, f"{name}, middle", *middle)
            if not system.slow:
                measure(system, name, noisy, clean)
    return rows


def _middle(image: Pixels) -> Pixels:
    top, left = ((side - SLOW_SIDE) // 2 for side in image.shape[:2])
    return np.ascontiguousarray(image[top : top + SLOW_SIDE, left : left + SLOW_SIDE])


def holes(clean: Iterable[tuple[int, str, Pixels]], kind: str, systems: Sequence[Filler]) -> Rows:
    """Figures by system and file of holes of a kind; PSNR is of what was hidden."""
    rows: Rows = {system.name: {} for system in systems}
    for i, name, image in clean:
        mask = hole(kind, image.shape[:2], np.random.default_rng(i))
        damaged = image.copy()
        damaged[mask] = 255
        for system in systems:
            found, seconds = _timed(lambda: system.fill(damaged, mask), image)  # noqa: B023
            rows[system.name][name] = {
                "psnr_db": psnr_db(image[mask][:, None], found[mask][:, None]),
                "hidden": float(mask.mean()),
                "seconds_per_megapixel": seconds,
            }
    return rows


def hole(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> Mask:
    """A mask (H, W), True in holes: ten scratches of 1 to 4 pixels, four lines of text of 24
    pixels, or six blocks of 32 pixels a side."""
    height, width = shape
    drawn = Image.new("L", (width, height))
    pen = ImageDraw.Draw(drawn)
    if kind == "scratches":
        for _ in range(10):
            ends = rng.uniform(0, 1, (2, 2)) * (width, height)
            middle = ends.mean(axis=0) + rng.normal(0, 20, 2)
            points = [tuple(map(float, p)) for p in (ends[0], middle, ends[1])]
            pen.line(points, fill=255, width=int(rng.integers(1, 5)))
    elif kind == "text":
        font = ImageFont.load_default(24)
        for line in range(4):
            letters = "".join(chr(c) for c in rng.integers(97, 123, width // 16))
            place = (rng.uniform(0, 20), (line + 0.3) * height / 4)
            pen.text(place, letters, fill=255, font=font)
    else:
        for _ in range(6):
            top, left = rng.integers(0, height - 31), rng.integers(0, width - 31)
            pen.rectangle((int(left), int(top), int(left) + 31, int(top) + 31), fill=255)
    mask: Mask = np.asarray(drawn) > 127
    return mask


def _timed(call: Callable[[], Pixels], image: Pixels) -> tuple[Pixels, float]:
    """What a call gives, and its processor seconds for a megapixel."""
    start = time.process_time()
    found = call()
    spent = time.process_time() - start
    return found, spent / (image.shape[0] * image.shape[1] / 1e6)


def _quality(clean: Pixels, found: Pixels) -> dict[str, float]:
    return {"psnr_db": psnr_db(clean, found), "ssim": ssim(clean, found)}


def _psnr_db(true: npt.NDArray[Any], found: npt.NDArray[Any]) -> float:
    return float(-10 * np.log10(np.mean(np.square(true - found, dtype=np.float64))))


# --- what is told -----------------------------------------------------------------------------


def _earlier(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {"what": "denoising and filling of images", "tables": {}}
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def _write(file: Path, report: dict[str, Any], missing: dict[str, str]) -> None:
    report |= {
        "method": " ".join((__doc__ or "").split("\n\n", 2)[2].split()),
        "machine": machine(),
        "versions": versions(PACKAGES),
        "missing": missing,
        "means": {title: means(table) for title, table in report["tables"].items()},
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(_rounded(report), indent=1) + "\n", encoding="utf-8")


def means(table: Rows, files: set[str] | None = None) -> dict[str, dict[str, float]]:
    """The mean figures of each system over its files, or over those of `files`."""
    found: dict[str, dict[str, float]] = {}
    for name, rows in table.items():
        chosen = [
            row
            for file, row in rows.items()
            if (file in files if files is not None else not file.endswith(", middle"))
        ]
        if chosen:
            keys = [key for key in chosen[0] if all(key in row for row in chosen)]
            found[name] = {key: float(np.mean([row[key] for row in chosen])) for key in keys}
            found[name]["files"] = len(chosen)
    return found


def shown(table: Rows) -> str:
    """A table's means in Markdown, of all files and of those that slow systems have too."""
    common = set.intersection(*(set(rows) for rows in table.values() if rows))
    lines = [
        "| system | files | PSNR dB | SSIM | float PSNR dB | s/Mpixel |",
        "|---|---|---|---|---|---|",
    ]
    for files in (None, common):
        for name, row in means(table, files).items():
            cells = [
                _cell(row.get("psnr_db"), ".2f"),
                _cell(row.get("ssim"), ".4f"),
                _cell(row.get("float_psnr_db"), ".2f"),
                _cell(row.get("seconds_per_megapixel"), ".2f"),
            ]
            lines.append(f"| {name} | {row['files']:.0f} | " + " | ".join(cells) + " |")
        if len(common) == max(len(rows) for rows in table.values()):
            break
    return "\n".join(lines)


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return value


if __name__ == "__main__":
    main()
