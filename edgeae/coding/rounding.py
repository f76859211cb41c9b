"""Latents to symbols: the nearest whole number, or a smaller one that saves more than it costs.

An encoder's choice alone: whatever it picks, a decoder reads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeae.coding.context import FRACTIONS, MIDDLE_UNITS, SCALES, Ints, Stage
from edgeae.coding.entropy import ALPHABET, PRECISION_BITS, Tables

__all__ = ["Rounding", "rounding"]

Floats = npt.NDArray[np.float32]

# At a high rate the distortion of a uniform quantizer is step ** 2 / 12 and falls by 2 ln 2 of
# itself a bit. train/entropy_model.py, behind the wall, has the same numbers.
_ERROR_PER_BIT = 2 * np.log(2) / 12
# How much of that pays at the first step from zero, at later ones, and at a step from a predicted
# middle: a symbol is also context for others, and the decoder expects plain rounding. The first two
# are the best of 0, 0.5, 1 and 1.5 each on held-out training images (5.6 % fewer bytes at equal
# PSNR than plain rounding), the third of 0, 0.5, 0.75, 1 and 1.5 (0.2 % at quality 2, nothing at
# 8; 1.5 costs 4 %).
_FIRST_STEP, _LATER_STEPS, _CENTERED_STEPS = 1.0, 0.5, 0.5


@dataclass(frozen=True, eq=False)
class Rounding:
    """What rounding towards zero, or towards a predicted middle, is worth.

    Attributes:
        zones: how much further than halfway a magnitude must lie to be rounded up, float32
            (2, scales): from 0 to 1, and from there on.
        saved: what the next symbol nearer to the middle may cost in squared steps, float32, flat
            (centered tables * alphabet).
    """

    zones: Floats
    saved: Floats

    def __call__(self, quantized: Floats, stage: Stage) -> Ints:
        """Whole symbols for a stage.

        Args:
            quantized: latents in quantization steps, (channels, h, w).
            stage: which of them to round.
        """
        values = quantized[stage.channels].reshape(-1)[stage.places]
        if stage.centers is None or stage.flipped is None:
            magnitudes = np.abs(values)
            whole = np.floor(magnitudes + np.float32(0.5) - self.zones[1][stage.tables])
            whole[magnitudes < np.float32(0.5) + self.zones[0][stage.tables]] = 0
            values = np.copysign(whole, values)
            symbols: Ints = values.astype(np.int64)
            return symbols
        near = np.rint(values)
        symbols = near.astype(np.int64)
        offsets = symbols - stage.centers
        # Only those that lie on the inner side of their whole number can gain, and zero offsets
        # have nowhere to go.
        inward = np.where(offsets > 0, near - values, values - near)
        some = np.flatnonzero((offsets != 0) & (inward > 0))
        tables, outward = stage.tables[some], offsets[some]
        turned = np.where(stage.flipped[some], -outward, outward)
        places = np.minimum(np.where(turned > 0, 2 * turned - 1, -2 * turned), ALPHABET - 1)
        # (1 - x) ** 2 - x ** 2 = 1 - 2 x for a value that lies x inwards.
        pays = 1 - 2 * inward[some] < self.saved[(tables - SCALES) * ALPHABET + places]
        moved = some[pays]
        symbols[moved] -= np.sign(offsets[moved])
        return symbols


def rounding(tables: Tables) -> Rounding:
    """The rounding that the code lengths of these tables pay for."""
    bits = PRECISION_BITS - np.log2(tables.frequencies.astype(np.float64))
    plain, centered = bits[:SCALES], bits[SCALES:]
    # (1 - x) ** 2 - x ** 2 = 1 - 2 x, so that rounding up pays when x exceeds 1/2 by half of what
    # the bits cost. The first step away from zero also costs a sign.
    first, later = plain[:, 1] + 1 - plain[:, 0], plain[:, 2] - plain[:, 1]
    extra = np.stack([_FIRST_STEP * first, _LATER_STEPS * later]) * (_ERROR_PER_BIT / 2)
    # Symbols 0, 1, 2, 3, 4 stand for offsets 0, 1, -1, 2, -2: the next nearer one is two before.
    symbols = np.arange(ALPHABET)
    saved = centered - centered[:, np.maximum(symbols - 2, 0)]
    # Beside a middle between two whole numbers, 1 may lie as near as 0.
    halves = np.arange(len(centered)) % FRACTIONS * 2 == MIDDLE_UNITS
    saved[halves, 1] = 0
    # The last symbol is the escape: what lies beyond costs the same everywhere.
    saved[:, -1] = 0
    saved *= _CENTERED_STEPS * _ERROR_PER_BIT
    # Where a symbol stands for a bucket of values there is nothing to weigh.
    extra[:, tables.shifts[:SCALES] > 0] = 0
    saved[tables.shifts[SCALES:] > 0] = 0
    return Rounding(
        np.maximum(extra, 0).astype(np.float32),
        np.maximum(saved, 0).astype(np.float32).ravel(),
    )
