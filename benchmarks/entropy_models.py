"""Three ways to choose the tables of the entropy coder, compared by real bytes on the same symbols.

    python -m benchmarks.entropy_models FOLDER --json OUT.json

- static: one table for each latent channel and quality, fitted to the first half of the images.
- explicit: for each slice and each square of 2 x 2 latents the best scale index is sent, coded
  given its left neighbor's, and names the table.
- context: what ships, integer contexts of symbols already decoded.

All are measured on the second half of the images. The symbols are those that the codec chose, so
rounding is in favor of the shipped way by a little.

The coder alone is timed on the symbols of the first image as one block, repeated to a million:
millions of symbols per CPU second of one thread, contexts and tables already known.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

import edgeae
from edgeae.bench.machine import machine, versions
from edgeae.coding.context import SCALES
from edgeae.coding.entropy import ALPHABET, ESCAPE, Decoder, Encoder, Tables
from edgeae.media import IMAGE_SUFFIXES, read_image
from export.tables import logistic_tables, quantize_frequencies

QUALITIES = (2, 4, 6, 8)
BLOCK = 2
# Every fourth of the 64 scale indices: finer ones cost more to send than they save.
CANDIDATES = np.arange(0, SCALES, 4)
TIMED_SYMBOLS, TIMED_REPEATS = 1_000_000, 7

Ints = npt.NDArray[np.int64]


def bucketed(values: Ints) -> Tables:
    """A single table for non-negative values: counts plus one, with open bits for wide spreads."""
    shift = max(0, int(np.ceil(np.log2((np.quantile(values, 0.999) + 1) / ESCAPE))))
    counts = np.bincount(np.minimum(values >> shift, ESCAPE), minlength=ALPHABET)
    frequencies = quantize_frequencies((counts + 0.1).astype(np.float64))[None].astype(np.uint16)
    return Tables(frequencies, np.array([shift], np.uint8))


def joined(tables: list[Tables]) -> Tables:
    """One set of several tables."""
    return Tables(
        np.concatenate([t.frequencies for t in tables]), np.concatenate([t.shifts for t in tables])
    )


def static_bytes(training: list[Ints], held_out: list[Ints]) -> int:
    """Bytes with one fitted table a channel; symbols (channels, h, w)."""
    channels = len(training[0])
    spread = np.concatenate([s.reshape(channels, -1) for s in training], axis=1)
    centers = np.rint(np.median(spread, axis=1)).astype(np.int64)
    tables = joined([bucketed(np.abs(spread[c] - centers[c])) for c in range(channels)])
    total = 0
    for symbols in held_out:
        offsets = symbols - centers[:, None, None]
        encoder = Encoder(tables)
        which = np.repeat(np.arange(channels), symbols[0].size)
        encoder.put(np.minimum(np.abs(offsets).ravel(), tables.largest[which]), which)
        encoder.put_signs(offsets[offsets != 0] < 0)
        total += len(encoder.finish())
    return total


def squares(symbols: Ints) -> Ints:
    """Magnitudes (h / 2, w / 2, channels * 4) of a slice, its odd edges padded with zeros."""
    channels, height, width = symbols.shape
    padded = np.pad(np.abs(symbols), ((0, 0), (0, height % BLOCK), (0, width % BLOCK)))
    rows, columns = padded.shape[1] // BLOCK, padded.shape[2] // BLOCK
    grid = padded.reshape(channels, rows, BLOCK, columns, BLOCK).transpose(1, 3, 0, 2, 4)
    return grid.reshape(rows, columns, -1)


def explicit_bytes(training: list[Ints], held_out: list[Ints], slices: list[slice]) -> int:
    """Bytes with a sent scale index for each slice and square."""
    tables = logistic_tables()
    frequencies = tables.frequencies[CANDIDATES].astype(np.float64)
    bits = 12 - np.log2(frequencies)

    def best(magnitudes: Ints) -> Ints:
        costs = np.zeros((*magnitudes.shape[:2], len(CANDIDATES)))
        for i, candidate in enumerate(CANDIDATES):
            shift = int(tables.shifts[candidate])
            costs[..., i] = (
                bits[i][np.minimum(magnitudes >> shift, ESCAPE)] + shift * (magnitudes > 0)
            ).sum(axis=2)
        # Index 0 says that all are zero, and then nothing is coded.
        costs[..., 0] = np.where(magnitudes.any(axis=2), np.inf, 0)
        return np.asarray(costs.argmin(axis=2))

    def left_of(indices: Ints) -> Ints:
        return np.concatenate([np.zeros((len(indices), 1), np.int64), indices[:, :-1]], axis=1)

    counts = np.full((len(CANDIDATES), ALPHABET), 0.01)
    for symbols in training:
        for part in slices:
            indices = best(squares(symbols[part]))
            np.add.at(counts, (left_of(indices), indices), 1)
    side = joined(
        [
            Tables(quantize_frequencies(row)[None].astype(np.uint16), np.zeros(1, np.uint8))
            for row in counts
        ]
    )
    total = 0
    for symbols in held_out:
        sent, encoder = Encoder(side), Encoder(tables)
        for part in slices:
            magnitudes = squares(symbols[part])
            indices = best(magnitudes)
            sent.put(indices.ravel(), left_of(indices).ravel())
            coded = np.broadcast_to(indices[..., None] > 0, magnitudes.shape)
            which = np.broadcast_to(CANDIDATES[indices][..., None], magnitudes.shape)[coded]
            encoder.put(np.minimum(magnitudes[coded], tables.largest[which]), which)
            encoder.put_signs(symbols[part][symbols[part] != 0] < 0)
        total += len(sent.finish()) + len(encoder.finish())
    return total


def measure(codec: edgeae.ImageCodec, images: list[npt.NDArray[np.uint8]]) -> list[dict[str, Any]]:
    """One row for each quality: bytes of the three ways."""
    spec = (codec.bundle.manifest.latent or {})["slices"]
    ends = np.cumsum([part["channels"] for part in spec])
    slices = [slice(int(e) - p["channels"], int(e)) for e, p in zip(ends, spec, strict=True)]
    half = len(images) // 2
    rows = []
    for quality in QUALITIES:
        symbols = [
            codec.encode(image, quality=quality).symbols.astype(np.int64) for image in images
        ]
        context = sum(len(codec.compress(image, quality=quality)) for image in images[half:])
        static = static_bytes(symbols[:half], symbols[half:])
        explicit = explicit_bytes(symbols[:half], symbols[half:], slices)
        rows.append(
            {"quality": quality, "static": static, "explicit": explicit, "context": context}
        )
    return rows


def coder_speed(symbols: Ints) -> dict[str, float]:
    """Millions of symbols per CPU second that the coder alone writes and reads.

    Each magnitude is coded with the table of its channel's mean; `symbols` is (channels, h, w).
    """
    tables = logistic_tables()
    magnitudes = np.abs(symbols).reshape(len(symbols), -1)
    spread = np.log2(magnitudes.mean(axis=1) + 0.03)
    nearest = np.interp(spread, (-5, 6), (0, SCALES - 1)).round().astype(np.int64)
    which = np.resize(np.repeat(nearest, magnitudes.shape[1]), TIMED_SYMBOLS)
    values = np.resize(np.minimum(magnitudes.ravel(), 1000), TIMED_SYMBOLS)
    values = np.minimum(values, tables.largest[which])
    seconds: dict[str, list[float]] = {"write": [], "read": []}
    for _ in range(TIMED_REPEATS):
        start = time.thread_time()
        encoder = Encoder(tables)
        encoder.put(values, which)
        block = encoder.finish()
        written = time.thread_time()
        found = Decoder(tables, block).take(which)
        seconds["read"].append(time.thread_time() - written)
        seconds["write"].append(written - start)
        if not np.array_equal(found, values):
            raise AssertionError("the coder reads other symbols than it wrote")
    return {
        f"{way}_msymbols_per_s": round(TIMED_SYMBOLS / min(times) / 1e6, 1)
        for way, times in seconds.items()
    }


def main() -> None:
    """Read the command line, measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.entropy_models",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="images, none of them used in training")
    parser.add_argument("--model", default="photo-codec", help="a bundled name or a directory")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    arguments = parser.parse_args()
    files = sorted(f for f in arguments.folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES)
    codec = edgeae.ImageCodec.load(arguments.model)
    images = [read_image(file) for file in files]
    rows = measure(codec, images)
    speed = coder_speed(codec.encode(images[0], quality=5).symbols.astype(np.int64))
    table = Table("quality", "static", "explicit", "context", "context against the better")
    for row in rows:
        saved = row["context"] / min(row["static"], row["explicit"]) - 1
        table.add_row(
            str(row["quality"]),
            *(f"{row[way]:,} bytes" for way in ("static", "explicit", "context")),
            f"{saved:+.1%}",
        )
    Console().print(table)
    print(", ".join(f"{name} {value}" for name, value in speed.items()))
    if arguments.json:
        result = {
            "command": "python -m benchmarks.entropy_models FOLDER --json OUT.json",
            "bundle": {"name": codec.bundle.manifest.name, "id": codec.bundle.id},
            "images": [file.name for file in files],
            "machine": machine(),
            "versions": versions(("edgeae", "numpy", "onnxruntime")),
            "rows": rows,
            "coder": speed,
        }
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
