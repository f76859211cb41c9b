"""Models that were changed, exchanged or made to do harm: the parts of `volumes` that load them."""

from __future__ import annotations

import os
import random
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import parsers
import tiny
import unsafe_graphs

from edgeae.errors import BundleError
from edgeae.image.codec import ImageCodec
from edgeae.signal.denoiser import SignalDenoiser

Section = dict[str, Any]


def spoiled(count: int) -> Section:
    """Changed bytes and sizes, missing and exchanged files, unsafe graphs and spoiled manifests
    with right hashes, models of another kind: none is loaded."""
    refused: Counter[str] = Counter()
    broken = []
    rng = random.Random(7)
    with tempfile.TemporaryDirectory() as folder:
        codec = tiny.tiny_codec_bundle(Path(folder) / "codec")
        denoiser = tiny.tiny_denoiser_bundle(Path(folder) / "denoiser")
        sound = {path: path.read_bytes() for home in (codec, denoiser) for path in home.iterdir()}
        other = tiny.tiny_codec_bundle(Path(folder) / "other", seed=1)
        for number in range(count):
            home, load = rng.choice([(codec, ImageCodec.load), (denoiser, SignalDenoiser.load)])
            kind = rng.choice([*SPOILED])
            try:
                spoil = SPOILED[kind](rng, home, other)
                (spoil or load)(home)
                broken.append(f"bundle {number}, {kind}: not refused")
            except BundleError as error:
                refused[kind] += 1
                if "\n" in str(error):
                    broken.append(f"bundle {number}, {kind}: an error of several lines")
            except Exception as error:
                broken.append(f"bundle {number}, {kind}: {type(error).__name__}: {error}")
            for path, data in sound.items():
                if not path.exists() or path.read_bytes() != data:
                    path.write_bytes(data)
    return {"count": count, "refused": dict(sorted(refused.items())), "broken": broken}


Spoil = Callable[[random.Random, Path, Path], Callable[[Path], object] | None]


def held_file(rng: random.Random, home: Path) -> Path:
    """Any file but the manifest, and the card, which people may edit."""
    others = ("manifest.json", "CARD.md")
    return rng.choice(sorted(path for path in home.iterdir() if path.name not in others))


def flip(rng: random.Random, home: Path, other: Path) -> None:
    path = held_file(rng, home)
    data = bytearray(path.read_bytes())
    for bit in rng.sample(range(8 * len(data)), rng.randint(1, 8)):
        data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def cut(rng: random.Random, home: Path, other: Path) -> None:
    path = held_file(rng, home)
    path.write_bytes(path.read_bytes()[: -rng.randint(1, 20)])


def grow(rng: random.Random, home: Path, other: Path) -> None:
    path = held_file(rng, home)
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.randint(1, 20)))


def lose(rng: random.Random, home: Path, other: Path) -> None:
    rng.choice(sorted(path for path in home.iterdir() if path.name != "CARD.md")).unlink()


def exchange(rng: random.Random, home: Path, other: Path) -> None:
    """A file of another model, or another file of this one, in the place of one."""
    path = held_file(rng, home)
    found = [other / path.name, *home.iterdir()]
    others = [p for p in found if p.exists() and p.read_bytes() != path.read_bytes()]
    path.write_bytes(rng.choice(others).read_bytes())


def unsafe(rng: random.Random, home: Path, other: Path) -> None:
    # Some spoil the second input: these graphs have two.
    role = "step" if "step" in tiny.load_manifest(home)["graphs"] else "decoder"
    tiny.change_graph(home, rng.choice(UNSAFE), role)


def spoiled_manifest(rng: random.Random, home: Path, other: Path) -> None:
    """A value of a kind that its key cannot have, or a key that is needed taken out."""

    def change(manifest: dict[str, Any]) -> None:
        key = rng.choice(
            ["format", "task", "name", "version", "layout", "graphs", "files", "provenance"]
        )
        if rng.random() < 0.3:
            del manifest[key]
        else:
            manifest[key] = rng.choice([None, True, 1.5, -1, "No Such", [], ["x"], {"x": 1}])
            if key == "provenance" and isinstance(manifest[key], dict):
                manifest["unknown"] = 1
            if key == "layout" and isinstance(manifest[key], dict):
                manifest[key] = "x"

    tiny.change_manifest(home, change)


def spoiled_text(rng: random.Random, home: Path, other: Path) -> None:
    path = home / "manifest.json"
    data = path.read_bytes()
    at = rng.randrange(1, len(data) - 2)
    path.write_bytes(data[:at] + rng.choice([b"\0", b"\xff", b"", b"{"]) * (at > 0))


def wrong_port(rng: random.Random, home: Path, other: Path) -> None:
    """Another graph of the same or another model, with the right hash."""
    roles = sorted(tiny.load_manifest(home)["graphs"])
    role = rng.choice(roles)
    graphs = {path.name: path.read_bytes() for path in sorted(home.glob("*.onnx"))}
    graphs["relu"] = tiny.relu_model().SerializeToString()
    if role != "step":
        graphs["step"] = STEP_GRAPH
    own = graphs[f"{role}.fp32.onnx"]
    choices = [data for data in graphs.values() if data != own]
    tiny.replace_graph(home, rng.choice(choices), role)


def another_kind(rng: random.Random, home: Path, other: Path) -> Callable[[Path], object]:
    return SignalDenoiser.load if home.name == "codec" else ImageCodec.load


SPOILED: Mapping[str, Spoil] = {
    "flipped bits": flip,
    "a file cut": cut,
    "a file grown": grow,
    "a file lost": lose,
    "a file exchanged": exchange,
    "an unsafe graph": unsafe,
    "a wrong manifest": spoiled_manifest,
    "a manifest that is no JSON": spoiled_text,
    "another graph": wrong_port,
    "a model of another kind": another_kind,
}
UNSAFE = [change for change, _ in unsafe_graphs.UNSAFE_GRAPHS]
STEP_GRAPH = tiny.denoiser_step_model(bins=257).SerializeToString()


# --- files that are exchanged while they are loaded


def races(count: int) -> Section:
    """Loads of a denoiser whose graph another thread exchanges for one of the same length, back and
    forth: each load runs the graph whose hash is in the manifest, or is refused."""
    ends: Counter[str] = Counter()
    broken = []
    with tempfile.TemporaryDirectory() as folder:
        home = tiny.tiny_denoiser_bundle(Path(folder) / "denoiser")
        file, spare = home / "step.fp32.onnx", home / "spare"
        good = file.read_bytes()
        evil = tiny.denoiser_step_model(bins=257, gain=2.0).SerializeToString()
        done = threading.Event()

        def exchange() -> None:
            for turn in range(1 << 62):
                if done.is_set():
                    return
                spare.write_bytes(evil if turn % 2 == 0 else good)
                os.replace(spare, file)
                done.wait(0.001 * (turn % 3))

        exchanging = threading.Thread(target=exchange)
        exchanging.start()
        kept = None
        try:
            for number in range(count):
                try:
                    denoiser = SignalDenoiser.load(home)
                except BundleError:
                    ends["refused"] += 1
                    continue
                kept = kept or denoiser.bundle
                ends["loaded"] += 1
                (clean, _) = denoiser.graphs["step"](HOP, STATE)
                if not np.array_equal(clean, HOP):
                    broken.append(f"race {number}: another graph ran than was checked")
                try:
                    if kept.graph("step", "fp32").data != good:
                        broken.append(f"race {number}: a kept bundle gave other bytes")
                except BundleError:
                    ends["refused later"] += 1
        finally:
            done.set()
            exchanging.join()
    return {
        "count": count,
        "same_length": len(good) == len(evil),
        "ends": dict(sorted(ends.items())),
        "broken": broken,
    }


HOP = np.ones((1, 2, 257), np.float32)
STATE = np.zeros((1, 1, 4), np.float32)


# --- the encoding of graphs


def encodings(count: int) -> Section:
    """`tests.fuzz.parsers`: the package's reader of ONNX files against those of onnx and
    onnxruntime."""
    ends, broken = parsers.fuzz(count, seed=1)
    return {"count": count, "ends": dict(sorted(ends.items())), "broken": broken}
