"""Rounding moves a latent towards its middle where the tables say that it pays, and only there."""

from __future__ import annotations

import numpy as np
import pytest

import edgeae.coding.rounding
from edgeae.coding.context import FRACTIONS, SCALES, TABLES, Stage
from edgeae.coding.entropy import ALPHABET, ESCAPE, PRECISION_BITS, Tables
from edgeae.coding.rounding import rounding

# Half a step squared is what one bit is worth at the most; see the module.
PRICE = 0.5 * 2 * np.log(2) / 12


def tables(shift=0):
    """Geometric tables whose ratio falls with the table's number."""
    rows = []
    for table in range(TABLES):
        weights = (0.05 + 0.9 * table / TABLES) ** np.arange(ALPHABET)
        row = 1 + np.floor(weights / weights.sum() * (4096 - ALPHABET)).astype(int)
        row[0] += 4096 - row.sum()
        rows.append(row)
    return Tables(np.array(rows, np.uint16), np.full(TABLES, shift, np.uint8))


def stage(count, table, center=0, flipped=False):
    """All of one slice (1, 1, count) in one centered table."""
    return Stage(
        slice(0, 1),
        np.arange(count),
        np.full(count, table),
        np.full(count, center),
        np.full(count, flipped),
    )


def bits(known, table, offset, flipped):
    """What the symbol of an offset from the center costs, one by one from the table."""
    offset = -offset if flipped else offset
    symbol = 2 * offset - 1 if offset > 0 else -2 * offset
    assert symbol < ESCAPE
    return PRECISION_BITS - np.log2(float(known.frequencies[table, symbol]))


@pytest.mark.parametrize("fraction", range(FRACTIONS))
@pytest.mark.parametrize(("center", "flipped"), [(0, False), (3, True), (-7, False)])
def test_a_centered_symbol_moves_inwards_exactly_where_it_pays(fraction, center, flipped):
    known = tables()
    values = np.linspace(center - 4.4, center + 4.4, 1001).astype(np.float32)
    moved = 0
    for scale in (0, 5, 20, 50):
        table = SCALES + scale * FRACTIONS + fraction
        found = rounding(known)(values[None, None], stage(len(values), table, center, flipped))
        for value, symbol in zip(values, found, strict=True):
            near = int(np.rint(value))
            offset = near - center
            expected = near
            # The side on which the middle lies; half way, one has nothing to gain from zero.
            turned = -offset if flipped else offset
            if offset and not (fraction == FRACTIONS - 1 and turned == 1):
                inner = near - int(np.sign(offset))
                saved = bits(known, table, offset, flipped) - bits(
                    known, table, inner - center, flipped
                )
                if (value - inner) ** 2 - (value - near) ** 2 < PRICE * saved - 1e-5:
                    expected = inner
                elif abs((value - inner) ** 2 - (value - near) ** 2 - PRICE * saved) <= 1e-5:
                    continue
            assert symbol == expected, (float(value), scale)
            moved += expected != near
    assert moved > 20


def test_buckets_and_escapes_are_rounded_plainly():
    values = np.linspace(-40, 40, 4001).astype(np.float32)[None, None]
    far = values + np.float32(500)
    assert np.array_equal(
        rounding(tables(shift=1))(values, stage(4001, SCALES)), np.rint(values).ravel()
    )
    assert np.array_equal(rounding(tables())(far, stage(4001, SCALES)), np.rint(far).ravel())


def test_a_symmetric_symbol_moves_towards_zero_alone():
    values = np.linspace(-9, 9, 2001).astype(np.float32)
    for table in (1, 30, 60):
        part = Stage(slice(0, 1), np.arange(2001), np.full(2001, table))
        found = rounding(tables())(values[None, None], part)
        plain = np.rint(values)
        assert (np.abs(found) <= np.abs(plain)).all() and np.abs(plain - found).max() <= 1
        assert np.array_equal(found, -found[::-1])


def test_training_rounds_as_the_codec_does():
    # The walls keep the two apart, so the numbers stand on both sides.
    entropy_model = pytest.importorskip("train.entropy_model")
    for name in ("_ERROR_PER_BIT", "_FIRST_STEP", "_LATER_STEPS", "_CENTERED_STEPS"):
        assert getattr(entropy_model, name) == getattr(edgeae.coding.rounding, name), name
