"""What `edgeae verify` checks: the files of a bundle, and what its graphs do with known signals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae.bundle import Bundle, find
from edgeae.errors import BitstreamError, EdgeaeError
from edgeae.image.codec import ImageCodec
from edgeae.loading import load
from edgeae.metrics import psnr_db
from edgeae.providers import Provider
from edgeae.signal.denoiser import SignalDenoiser

__all__ = ["check_bundle", "where_it_runs"]


def check_bundle(
    model: str | Path, *, providers: Sequence[Provider] | None = None, threads: int = 1
) -> Iterator[str]:
    """One line for each check that went well, as it goes; EdgeaeError says which one did not.

    Every file is hashed and every graph looked into before it is opened (BundleError); then each
    precision is loaded and run on a signal made here, whose result must obey the laws of its kind.
    """
    bundle = find(model)
    graphs = [entry for files in bundle.manifest.graphs.values() for entry in files.values()]
    yield f"{len(graphs) + len(bundle.manifest.files)} files have the size and sha256 they should"
    yield f"{len(graphs)} graphs keep their weights inside and hold standard operators only"
    for precision in _precisions(bundle):
        loaded = load(bundle.path, precision=precision, providers=providers, threads=threads)
        yield f"{precision}: loaded, {where_it_runs(loaded.report())}"
        checks = (
            _codec_checks(loaded) if isinstance(loaded, ImageCodec) else _denoiser_checks(loaded)
        )
        for line in checks:
            yield f"{precision}: {line}"


def _codec_checks(codec: ImageCodec) -> Iterator[str]:
    image = _test_picture()
    told = []
    for quality in (1, 5, 9):
        blob = codec.compress(image, quality=quality)
        if codec.compress(image, quality=quality) != blob:
            raise EdgeaeError(f"self-test failed: quality {quality} gave two different files")
        restored = codec.decompress(blob)
        if restored.shape != image.shape or restored.dtype != image.dtype:
            raise EdgeaeError(
                f"self-test failed: {image.shape} came back as {restored.shape} {restored.dtype}"
            )
        if not np.array_equal(restored, codec.decode(codec.encode(image, quality=quality))):
            raise EdgeaeError(
                "self-test failed: the bytes decode to another picture than the latent"
            )
        told.append(f"{len(blob):,} bytes {psnr_db(image, restored):.1f} dB")
    yield f"qualities 1, 5, 9 of a test picture: {', '.join(told)}"
    yield "the same bytes twice, and the bytes decode to what the latent does"
    for position in range(0, len(blob), max(1, len(blob) // 50)):
        damaged = bytearray(blob)
        damaged[position] ^= 0x10
        try:
            codec.decompress(bytes(damaged))
        except BitstreamError:
            continue
        raise EdgeaeError(f"self-test failed: damage at byte {position} went unnoticed")
    yield "damaged files are refused"


def _denoiser_checks(denoiser: SignalDenoiser) -> Iterator[str]:
    rate_hz = 16_000
    noisy = _test_sound(rate_hz)
    whole = denoiser.denoise(noisy, sample_rate=rate_hz)
    if whole.shape != noisy.shape or not np.isfinite(whole).all():
        raise EdgeaeError("self-test failed: the sound that came out is not finite")
    stream = denoiser.stream(sample_rate=rate_hz)
    parts = [stream.process(block) for block in np.array_split(noisy, 37)]
    joined = np.concatenate([*parts, stream.flush()])[stream.delay :]
    difference = float(np.abs(joined - whole).max())
    if difference > 1e-6:
        raise EdgeaeError(f"self-test failed: a stream differs from the whole by {difference:.2g}")
    level_db = 20 * np.log10(np.std(whole) / np.std(noisy) + 1e-9)
    yield (
        f"{len(noisy) / rate_hz:.1f} s of noise came out at {level_db:.1f} dB, in blocks as in one"
    )


def _precisions(bundle: Bundle) -> list[str]:
    """Those that `load` takes: what the first stage of the model is there in."""
    graphs = bundle.manifest.graphs
    return list(graphs["encoder"] if "encoder" in graphs else next(iter(graphs.values())))


def where_it_runs(report: dict[str, Any]) -> str:
    """In words, how many graphs and nodes of a model's `report()` run on which provider."""
    nodes: Counter[str] = Counter()
    for graph in report["graphs"].values():
        nodes.update(graph["nodes"])
    placed = ", ".join(f"{count} nodes on {provider}" for provider, count in nodes.items())
    graphs = len(report["graphs"])
    return f"{graphs} graph{'s' if graphs > 1 else ''}, {placed}"


def _test_picture() -> NDArray[np.uint8]:
    """Slopes, edges and noise, at a size that no stride divides."""
    rows, columns = np.mgrid[:93, :131]
    slope = np.stack([rows + columns, 220 - rows, 90 + columns], axis=-1)
    slope[20:60, 30:80] = (200, 60, 40)
    noise = np.random.default_rng(0).normal(0, 6, slope.shape)
    return np.clip(slope + noise, 0, 255).astype(np.uint8)


def _test_sound(rate_hz: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, 0.1, rate_hz).astype(np.float32)
