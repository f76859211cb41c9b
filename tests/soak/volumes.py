"""The numbers of GUARANTEES.md: what tests do a thousand times, a million times.

    python -m tests.soak.volumes PART ... [--json benchmarks/results/guarantees.json]

Each part writes its own section of the file and leaves the others. Long parts save as they go; with
`--resume` they go on where an earlier run ended. Exit code 1 if anything that is promised broke.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# The tests are no package for pytest: they find each other by name.
TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / room) for room in ("support", "fuzz", "media", "soak")]

import decoders
import hostile
import long_speech
import spoiled_models
import test_files

import edgeae
from edgeae.bench.machine import machine, versions
from edgeae.coding import entropy
from edgeae.coding.context import ContextModel, code, decode
from edgeae.errors import BitstreamError, EdgeaeError
from edgeae.image import file as image_file
from edgeae.image.codec import ImageCodec
from edgeae.image.packets import read_packet
from edgeae.media import read_audio, read_image
from edgeae.onnx_check import read_graph
from edgeae.runtime import OPTIMIZATIONS, Graph
from edgeae.signal.denoiser import SignalDenoiser
from edgeae.signal.speech_codec import SpeechCodec

PACKAGES = ("edgeae", "numpy", "onnxruntime", "pillow", "soundfile")
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "guarantees.json"

Section = dict[str, Any]
Save = Callable[[Section], None]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.volumes", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("part", nargs="+", choices=[*PARTS], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--json", type=Path, default=RESULTS, help="write or change this file")
    parser.add_argument("--count", type=int, help="another number than the one promised")
    parser.add_argument("--resume", action="store_true", help="go on where the file ends")
    options = parser.parse_args()
    broken = 0
    for name in options.part:
        run, count = PARTS[name]

        def save(section: Section, name: str = name) -> None:
            write(options.json, name, section)

        began = time.process_time()
        before = read(options.json).get(name) if options.resume else None
        section = run(options.count or count, before or {}, save)
        spent = (before or {}).get("cpu_s", 0) + time.process_time() - began
        save({**section, "cpu_s": round(spent, 1)})
        broken += len(section["broken"])
        shown = {key: value for key, value in section.items() if not isinstance(value, list)}
        print(f"{name}: {json.dumps(shown)}", flush=True)
        for line in section["broken"]:
            print(f"{name}: {line}", file=sys.stderr)
    return 1 if broken else 0


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write(path: Path, name: str, section: Section) -> None:
    """Put a section in its place in the file, with the machine that made it."""
    made = {"machine": machine(), "versions": versions(PACKAGES)}
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {"what": "guarantees", **read(path), name: {**section, **made}}
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


# --- changed files, packets and graphs with right checksums

STEP = 10_000


def mutants(count: int, before: Mapping[str, Any], save: Save) -> Section:
    """`tests.fuzz.decoders` over all decoders."""
    outcomes = Counter(before.get("outcomes", {}))
    slowest = (before.get("slowest_s", 0.0), before.get("slowest", ""))
    broken, done = list(before.get("broken", [])), before.get("count", 0)
    spent = before.get("cpu_s", 0.0)
    section: Section = {**before, "broken": broken}
    while done < count:
        began = time.process_time()
        step = min(STEP, count - done)
        found, slow, wrong = decoders.fuzz(step, seed=1, first=done)
        done, outcomes, slowest = done + step, outcomes + found, max(slowest, slow)
        broken += wrong
        spent += time.process_time() - began
        section = {
            "count": done,
            "outcomes": dict(sorted(outcomes.items())),
            "slowest_s": round(slowest[0], 4),
            "slowest": slowest[1],
            "broken": broken,
        }
        save({**section, "cpu_s": round(spent, 1)})
    return section


# --- flipped bits, checksums left as they are


def flips(count: int, before: Mapping[str, Any], save: Save) -> Section:
    """1 to 8 flipped bits of golden files and packets: each is noticed, and what is salvaged of a
    file is as it was."""
    codec_id = ImageCodec.load(decoders.GOLDEN / "tiny-codec")._id
    files = [path.read_bytes() for path in sorted(decoders.GOLDEN.glob("*.eae"))]
    packets = [
        bytes.fromhex(line)
        for path in sorted(decoders.GOLDEN.glob("*.hex"))
        for line in path.read_text().split()
    ]
    forms = {
        "file": [data for data in files if data.startswith(image_file.MAGIC)],
        "small": [data for data in files if data.startswith(image_file.SMALL_MAGIC)],
        "packet": packets,
    }
    blocks = {data: dict(image_file.salvage(data).blocks) for data in files}
    detected: Counter[str] = Counter()
    kept, broken = 0, []
    rng = random.Random(6)
    for number in range(count):
        form = [*forms][number % len(forms)]
        data = rng.choice(forms[form])
        flipped = bytearray(data)
        bits = rng.sample(range(8 * len(data)), rng.randint(1, 8))
        for bit in bits:
            flipped[bit // 8] ^= 1 << bit % 8
        changed = bytes(flipped)
        try:
            if form == "packet":
                read_packet(changed, codec_id)
            else:
                image_file.read(changed)
            broken.append(f"{form}, {len(data)} bytes, bits {bits}: not noticed")
        except BitstreamError:
            detected[form] += 1
        if form == "file":
            with contextlib.suppress(BitstreamError):  # no header is left
                left = image_file.salvage(changed).blocks
                kept += len(left)
                if any(blocks[data].get(i) != block for i, block in left.items()):
                    broken.append(
                        f"{form}, {len(data)} bytes, bits {bits}: salvaged though damaged"
                    )
    return {"count": count, "detected": dict(detected), "tiles_kept": kept, "broken": broken}


# --- short files whose headers claim much


def bombs(count: int, before: Mapping[str, Any], save: Save) -> Section:
    """Each is refused within so many milliseconds of CPU and so much memory."""
    model = ImageCodec.load("photo-codec")
    rows, broken = [], []
    for name, read in [*hostile.bombs(model).items()][:count]:
        times = []
        for _ in range(5):
            began = time.process_time()
            try:
                read()
                broken.append(f"{name}: not refused")
            except EdgeaeError as error:
                message = str(error)
            times.append(time.process_time() - began)
        tracemalloc.start()
        with contextlib.suppress(EdgeaeError):
            read()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        ms = 1000 * sorted(times)[2]
        rows.append({"what": name, "ms": round(ms, 3), "bytes": peak, "error": message})
        if ms > 5 or peak > 1 << 20 or "\n" in message:
            broken.append(f"{name}: {ms:.1f} ms, {peak} bytes")
    return {
        "count": len(rows),
        "slowest_ms": max(row["ms"] for row in rows),
        "most_bytes": max(row["bytes"] for row in rows),
        "rows": rows,
        "broken": broken,
    }


# --- hostile megabytes, and sound ones that claim as much as they may


def megabytes(count: int, before: Mapping[str, Any], save: Save) -> Section:
    """Seconds of CPU and memory above the loaded model, each in a process of its own."""
    model = ImageCodec.load("photo-codec")
    rows: list[Section] = []
    broken = []
    with tempfile.TemporaryDirectory() as folder:
        kinds = {"hostile": hostile.megabytes(model, Path(folder)), "sound": hostile.sound(model)}
        for kind, inputs in kinds.items():
            for name, read in [*inputs.items()][:count]:
                rows.append({"kind": kind, "what": name, **measured(read)})
                save({"count": len(rows), "rows": rows, "broken": broken})
    section: Section = {"count": len(rows)}
    for kind in kinds:
        of = [row for row in rows if row["kind"] == kind]
        section[kind] = {
            "slowest_s": max(row["cpu_s"] for row in of),
            "most_mb": max(row["mb"] for row in of),
        }
    broken += [
        f"{row['what']}: {row['cpu_s']} s, {row['mb']} MB, {row['end']}"
        for row in rows
        if row["kind"] == "hostile"
        and (row["cpu_s"] > 1 or row["mb"] > 256)
        or row["end"].startswith("!")
    ]
    return {**section, "rows": rows, "broken": broken}


def measured(read: Callable[[], object]) -> Section:
    """Seconds of CPU, MB above what was there before, and how it ended, in a forked process."""
    ours, theirs = os.pipe()
    with warnings.catch_warnings():
        # From Python 3.12 on it warns of threads; none of ours runs while the child starts.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before, began = status_mb("VmRSS"), time.process_time()
        try:
            read()
            end = "data"
        except EdgeaeError as error:
            end = f"{type(error).__name__}: {error}"
        except Exception as error:
            end = f"! {type(error).__name__}: {error}"
        seconds = time.process_time() - began
        found = {"cpu_s": round(seconds, 3), "mb": round(status_mb("VmHWM") - before), "end": end}
        os.write(theirs, json.dumps(found).encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    found: Section = json.loads(data) if data else {"cpu_s": 0.0, "mb": 0, "end": "! it crashed"}
    return found


def status_mb(key: str) -> float:
    """A figure of this process in MB, from Linux: VmRSS, what it holds, or VmHWM, the most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1000


# --- symbols through contexts and coder, however the graphs are run


def symbols(count: int, before: Mapping[str, Any], save: Save) -> Section:
    """Real latents coded and decoded under four optimization levels and one and two threads."""
    model = ImageCodec.load("photo-codec", precision="fp32")
    files = [graph.file for graph in model._blocks.contexts.graphs]
    settings = [(level, threads) for level in OPTIMIZATIONS for threads in (1, 2)]
    contexts = [
        ContextModel(
            model._spec.slices,
            [Graph(read_graph(file), optimization=o, threads=t) for file in files],
        )
        for o, t in settings
    ]
    photo = read_image(Path(edgeae.__file__).parent / "assets" / "photo.webp")
    coded, blocks, size_bytes = before.get("count", 0), before.get("blocks", 0), 0
    broken = list(before.get("broken", []))
    section: Section = {**before, "broken": broken}
    while coded < count:
        rng = np.random.default_rng([8, blocks])
        latents, level = random_latents(model, photo, rng)
        shape = latents.shape[1], latents.shape[2]
        first: bytes | None = None
        chosen: npt.NDArray[np.int32] | None = None
        for i, context in enumerate(contexts):
            encoder = entropy.Encoder(model._blocks.tables)
            put = encoder.put
            counted = 0

            def counting(values, tables, put=put):
                nonlocal counted
                counted += len(values)
                put(values, tables)

            encoder.put = counting
            found = code(context, shape, level, encoder, model._blocks.chooser(latents, level))
            block = encoder.finish()
            first, chosen = first or block, found if chosen is None else chosen
            # Decoded under the next setting, so that no decoder ever repeats its own encoder.
            reader = contexts[(i + 1) % len(contexts)]
            decoded = decode(reader, shape, level, entropy.Decoder(model._blocks.tables, block))
            if block != first or not np.array_equal(decoded, chosen):
                broken.append(f"block {blocks}, level {level}: {settings[i]} differs")
            coded, size_bytes = coded + counted, size_bytes + len(block)
        blocks += 1
        section = {
            "count": coded,
            "blocks": blocks,
            "settings": [f"{o}, {t} threads" for o, t in settings],
            "broken": broken,
        }
        if blocks % 10 == 0:
            save(section)
    return section


def random_latents(
    model: ImageCodec, photo: npt.NDArray[np.uint8], rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], int]:
    """Latents of a part of the photo, turned, brightened and with noise, and a level."""
    side = 512
    top, left = (int(rng.integers(0, size - side + 1)) for size in photo.shape[:2])
    part = photo[top : top + side, left : left + side].astype(np.float32)
    part = np.rot90(part, rng.integers(4)) * rng.uniform(0.3, 1.5)
    part += rng.normal(0, rng.choice([0.0, 2.0, 10.0, 40.0]), part.shape)
    image = np.clip(part, 0, 255).astype(np.uint8)
    ((_, latents),) = model._encoders.fast(np.ascontiguousarray(image))
    return latents, int(rng.integers(0, 65))


# --- writers that are killed


def kills(count: int, before: Mapping[str, Any], save: Save) -> Section:
    """kill -9 at random moments of a writer: the file is whole, and no litter stays."""
    with tempfile.TemporaryDirectory() as folder:
        out = subprocess.run(
            [sys.executable, "-c", test_files.KILLED_WRITERS, f"{folder}/a.bin", str(count)],
            capture_output=True,
            text=True,
        )
    wrote, left = map(int, out.stdout.split()) if out.returncode == 0 else (0, 0)
    broken = [out.stderr.strip().splitlines()[-1]] if out.returncode else []
    return {"count": count, "versions_seen": wrote, "most_litter": left, "broken": broken}


# --- a million frames of a stream

WARM_FRAMES = 20_000


def soak(count: int, before: Mapping[str, Any], save: Save) -> Section:
    """Hops of speech through one stream of the denoiser, block by block, some of them lost:
    memory, and milliseconds of wall clock for each hop."""
    denoiser = SignalDenoiser.load("speech-denoiser")
    rate, hop = denoiser._spec.rate_hz, denoiser._spec.hop_samples
    speech, sample_rate = read_audio(Path(edgeae.__file__).parent / "assets" / "noisy.flac")
    stream = denoiser.stream(sample_rate=sample_rate)
    times = np.full(count, -1.0, np.float32)  # touched now, or it would grow as it fills
    memory: list[float] = []
    place = 0
    gc.collect()
    for frame in range(count):
        if place + hop > len(speech):
            place = 0
        block = speech[place : place + hop]
        place += hop
        lost = frame % 1000 == 999
        began = time.perf_counter()
        out = stream.skip(hop) if lost else stream.process(block)
        times[frame] = time.perf_counter() - began
        if not np.isfinite(out).all():
            return {"count": frame, "broken": [f"frame {frame} is not finite"]}
        if frame >= WARM_FRAMES and frame % 10_000 == 0:
            # Saved first, so that whatever saving takes is there from the first figure on.
            moved = max(memory, default=0.0) - min(memory, default=0.0)
            save({"count": frame, "memory_range_mb": round(moved, 2), "broken": []})
            memory.append(status_mb("VmRSS"))
    return soaked(denoiser.bundle.id, 1000 * hop / rate, times, memory)


def soaked(
    bundle_id: str, hop_ms: float, times: npt.NDArray[np.float32], memory: list[float]
) -> Section:
    ms = 1000 * times[min(WARM_FRAMES, len(times) // 2) :]
    tenth = max(1, len(ms) // 10)
    moved = max(memory, default=0.0) - min(memory, default=0.0)
    p50, p99 = (float(np.percentile(ms, p)) for p in (50, 99))
    drift = float(np.median(ms[-tenth:]) / np.median(ms[:tenth]) - 1)
    return {
        "count": len(times),
        "bundle": bundle_id,
        "hop_ms": hop_ms,
        "memory_mb": round(max(memory, default=0.0), 1),
        "memory_range_mb": round(moved, 2),
        "p50_ms": round(p50, 4),
        "p99_ms": round(p99, 4),
        "most_ms": round(float(ms.max()), 3),
        "p99_over_p50": round(p99 / p50, 2),
        "drift_percent": round(100 * drift, 1),
        # Times are judged by who knows that the machine was idle.
        "broken": [f"memory moved by {moved:.2f} MB"] if moved > 2 else [],
    }


# --- an hour of speech, coded live


def speech(count: int, before: Mapping[str, Any], save: Save) -> Section:
    """Frames of 20 ms of speech, pauses, silence and noise through both ends of a codec's stream,
    one in ten of them lost."""
    return long_speech.long_speech(count, save, SpeechCodec.load("speech-codec"))


Run = Callable[[int, Mapping[str, Any], Save], Section]


def at_once(part: Callable[[int], Section]) -> Run:
    """A part that is done in one go and saves nothing in between."""
    return lambda count, before, save: part(count)


PARTS: dict[str, tuple[Run, int]] = {
    "mutants": (mutants, 1_000_000),
    "flips": (flips, 1_000_000),
    "bombs": (bombs, 1_000),
    "megabytes": (megabytes, 1_000),
    "bundles": (at_once(spoiled_models.spoiled), 10_000),
    "races": (at_once(spoiled_models.races), 10_000),
    "encodings": (at_once(spoiled_models.encodings), 1_000_000),
    "symbols": (symbols, 100_000_000),
    "kills": (kills, 500),
    "soak": (soak, 1_000_000),
    "speech": (speech, 180_000),
}


if __name__ == "__main__":
    sys.exit(main())
