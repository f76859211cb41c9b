"""The tables of an autoencoder's files: how finely each latent is rounded, and how often each
symbol comes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from edgeae.coding.item_latent import MAX_FREQUENCY, QUALITIES, ItemLatent, folded, quality_index
from edgeae.coding.rate import LEVELS
from edgeae.coding.single_lane import ALPHABET, ESCAPE, PRECISION_BITS, FineTables
from train.autoencoder.network import Autoencoder

__all__ = ["MAX_CODED_LATENTS", "item_latent", "sensitivities"]

# A latent's tables and steps take 1.4 kB: more of them would outweigh the graphs.
MAX_CODED_LATENTS = 256
# At the middle quality rounding adds this share of the model's own squared error, and each quality
# is a factor of 2 in it: 4 times that error at quality 1, a sixty-fourth at 9.
_ADDED_AT_MIDDLE, _FACTOR = 0.25, 2.0
# A model without error would ask for steps of no width: -50 dB of the data's variance.
_LEAST_ERROR = 1e-5
# A latent that moves nothing, or never moves, is rounded to its center.
_WIDEST_STEP = 64.0
# What a normal distribution of the counted symbols' mean and deviation counts for beside them, as a
# share, and what every symbol counts for.
_PRIOR_SHARE, _EVERY = 0.05, 0.02
# Items that sensitivities are measured at, and how far a latent is moved, in deviations.
_PROBED, _PROBE = 256, 0.1

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def item_latent(network: Autoencoder, latents: Floats, error: float) -> ItemLatent:
    """What codes the latents of a network.

    Args:
        network: in evaluation mode.
        latents: of the training items, float32 (N, latents).
        error: mean squared error of what comes back, in normalized units.
    """
    deviation = latents.astype(np.float64).std(axis=0)
    # Symbols cluster around the most frequent value: where a latent rests, as sparse ones do.
    centers = np.median(latents, axis=0).astype(np.float32)
    gains = sensitivities(network, latents)
    entries = float(np.prod(network.shape))
    # Uniform noise of a step has a twelfth of its square as variance: each latent adds as much.
    moving = np.maximum(1, np.count_nonzero((deviation > 1e-6) & (gains > 0)))
    added = _ADDED_AT_MIDDLE * max(error, _LEAST_ERROR) * entries / moving
    step = np.sqrt(12 * added / np.maximum(gains, 1e-30))
    step = np.minimum(step, _WIDEST_STEP * np.maximum(deviation, 1e-6))
    finer = _FACTOR ** (-np.linspace(-4, 4, LEVELS) / 2)
    coder = ItemLatent(
        centers,
        np.maximum(finer[:, None] * step, 1e-30).astype(np.float32),
        FineTables(np.full((1, ALPHABET), 1 << (PRECISION_BITS - 6), np.uint16), np.zeros(1, "u1")),
    )
    rows = []
    for quality in range(QUALITIES):
        level = quality * (LEVELS - 1) // (QUALITIES - 1)
        assert quality_index(level) == quality
        rows += [_table(column) for column in coder.quantize(latents, level).T]
    frequencies = np.stack([row for row, _ in rows]).astype(np.uint16)
    shifts = np.array([shift for _, shift in rows], np.uint8)
    return ItemLatent(coder.centers, coder.steps, FineTables(frequencies, shifts))


@torch.no_grad()
def sensitivities(network: Autoencoder, latents: Floats) -> Doubles:
    """By how much each latent moves what comes back: the squared change of all entries together, in
    normalized units, over its own squared change; float64 (latents,).

    Args:
        network: in evaluation mode.
        latents: float32 (N, latents).
    """
    codes = torch.from_numpy(latents[:_PROBED])
    deviation = torch.from_numpy(latents).std(0, unbiased=False)
    scale = network.get_buffer("scale")
    resting = network.decode(codes)
    found = np.zeros(codes.shape[1])
    for i, move in enumerate((_PROBE * deviation).tolist()):
        if move <= 0:
            continue
        moved = codes.clone()
        moved[:, i] += move
        change = ((network.decode(moved) - resting) / scale).flatten(1).square().sum(1)
        found[i] = float(change.mean()) / move**2
    return found


def _table(symbols: npt.NDArray[np.int32]) -> tuple[Ints, int]:
    """Frequencies (64,) and shift that code a latent's symbols, int32 (N,), in the fewest bits."""
    wide = symbols.astype(np.float64)
    mean, spread = wide.mean(), max(float(wide.std()), 0.3)
    values = folded(symbols)
    best: tuple[float, Ints, int] | None = None
    for shift in range(13):
        counts = np.bincount(np.minimum(values >> shift, ESCAPE), minlength=ALPHABET).astype(float)
        weights = counts + _PRIOR_SHARE * len(values) * _normal(mean, spread, shift) + _EVERY
        frequencies = _frequencies(weights)
        bits = float(counts @ (PRECISION_BITS - np.log2(frequencies))) + shift * len(values)
        # An escape costs its length and itself besides.
        bits += 16 * counts[ESCAPE]
        if best is None or bits < best[0]:
            best = bits, frequencies, shift
        if not counts[ESCAPE]:
            break
    assert best is not None
    return best[1], best[2]


def _normal(mean: float, spread: float, shift: int) -> Doubles:
    """Masses of the 64 symbols under a normal distribution of the unfolded ones, sum at most 1."""
    width = 1 << shift
    values = np.arange(ESCAPE * width)
    places = np.where(values % 2 == 1, (values + 1) // 2, -(values // 2))
    density = np.exp(-0.5 * np.square((places - mean) / spread)) / (spread * np.sqrt(2 * np.pi))
    masses = density.reshape(ESCAPE, width).sum(1)
    return np.append(masses / max(1.0, masses.sum()), 0.0)


def _frequencies(weights: Doubles) -> Ints:
    """Whole frequencies of sum 65536, each from 1 to what a table may have."""
    total = 1 << PRECISION_BITS
    ideal = weights / weights.sum() * (total - ALPHABET) + 1
    ideal = np.minimum(ideal, MAX_FREQUENCY)
    # What the largest may not have goes to the others alike.
    short = total - ideal.sum()
    others = ideal < MAX_FREQUENCY
    ideal[others] += short / max(1, others.sum())
    whole = np.floor(ideal).astype(np.int64)
    for place in np.argsort(whole - ideal)[: total - whole.sum()]:
        whole[place] += 1
    return whole
