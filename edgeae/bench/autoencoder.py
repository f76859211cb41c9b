"""What an autoencoder is timed at, and what must hold of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgeae.autoencoder import Autoencoder
from edgeae.bench.workloads import Workload
from edgeae.errors import EdgeaeError

__all__ = ["self_test", "typical_runs", "workloads"]

ITEMS = 64


def workloads(model: Autoencoder, *, source: Path | None = None) -> list[Workload]:
    """Encoding and decoding one item, drawn from the model itself, or the first of `source`, a
    .npy file of items."""
    if source is None:
        item = model.sample(1, seed=0)[0]
    else:
        item = np.asarray(np.load(source, allow_pickle=False), np.float32)
        item = item if item.shape == model.shape else item[0]
    latents = model.encode(item)
    what = f"one {model.kind} of {' x '.join(map(str, model.shape))}"
    return [
        Workload("encode", f"encode {what}", 1, "item", lambda: model.encode(item)),
        Workload("decode", f"decode {what}", 1, "item", lambda: model.decode(latents)),
    ]


def self_test(model: Autoencoder) -> Iterator[str]:
    """One line for each check on items drawn from the model; EdgeaeError says which one failed."""
    items = model.sample(ITEMS, seed=0)
    latents, restored = model.encode(items), model.reconstruct(items)
    if restored.shape != items.shape or latents.shape != (ITEMS, model.latents):
        raise EdgeaeError(f"self-test failed: {items.shape} came back as {restored.shape}")
    # Sums of a batch may be rounded otherwise than those of one item.
    _close(restored, model.decode(latents), "reconstruct differs from decode(encode(x))")
    one = np.stack([model.reconstruct(item) for item in items[:4]])
    _close(one, restored[:4], "an item alone differs from the same in a batch")
    yield f"{ITEMS} items alone and in a batch: the same to rounding"
    known = np.random.default_rng(0).random(items.shape) < 0.7
    if not np.array_equal(model.fill(items, known)[known], items[known]):
        raise EdgeaeError("self-test failed: fill changed what was known")
    yield "fill leaves what is known as it is"
    if model.bundle.manifest.codec_id is not None:
        blob = model.compress(items)
        if model.decompress(blob).shape != items.shape:
            raise EdgeaeError("self-test failed: a file gave items of another shape")
        yield f"{ITEMS} items through a file of {len(blob)} bytes"


def typical_runs(model: Autoencoder, **_: Any) -> int:
    """Runs the graphs on items drawn from the model; every run is one for calibration."""
    for item in model.sample(ITEMS, seed=1):
        model.reconstruct(item)
    return 1


def _close(got: np.ndarray[Any, Any], want: np.ndarray[Any, Any], told: str) -> None:
    worst = float(np.abs(got - want).max())
    # int8 rounds what lies on an edge to either side.
    if not worst <= 1e-4 * max(1.0, float(np.abs(want).max())):
        raise EdgeaeError(f"self-test failed: {told} by {worst:.2g}")
