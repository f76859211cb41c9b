"""Lost tiles of packets are filled in from those around them."""

from __future__ import annotations

import numpy as np
import pytest
import tiny

from edgeae.image.concealment import fill
from edgeae.metrics import psnr_db


def lost_at(shape, *squares):
    lost = np.zeros(shape, np.bool_)
    for top, left, side in squares:
        lost[top : top + side, left : left + side] = True
    return lost


def test_what_is_known_stays_and_what_is_lost_lies_between_its_neighbors():
    ramp = np.broadcast_to(np.arange(40, dtype=np.int16) * 10, (20, 30, 40)).copy()
    lost = lost_at((30, 40), (10, 12, 8), (0, 0, 3), (27, 38, 5))
    filled = np.where(lost, 0, ramp).astype(np.int16)
    fill(filled, lost)
    assert np.array_equal(filled[:, ~lost], ramp[:, ~lost]) and filled.dtype == np.int16
    inside = filled[:, 10:18, 12:20]
    assert inside.min() >= 110 and inside.max() <= 200
    assert np.abs(inside - ramp[:, 10:18, 12:20]).mean() < 12


def test_nothing_and_everything_lost_change_nothing():
    symbols = np.random.default_rng(0).integers(-9, 9, (5, 6, 7)).astype(np.int16)
    for lost in (np.zeros((6, 7), np.bool_), np.ones((6, 7), np.bool_)):
        same = symbols.copy()
        fill(same, lost)
        assert np.array_equal(same, symbols)


@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (1, 9), (7, 1), (33, 64)])
def test_one_known_value_fills_all_that_is_near(shape):
    symbols = np.zeros((3, *shape), np.int16)
    symbols[:, 0, 0] = 50
    lost = np.ones(shape, np.bool_)
    lost[0, 0] = False
    fill(symbols, lost)
    assert (symbols == 50).all()


def test_a_lost_tile_is_nearer_to_the_image_than_neutral_gray(model):
    image = tiny.picture(64, 64)
    packets = model.packets(image, max_packet_bytes=60, quality=3)
    found, mask = model.receive([p for i, p in enumerate(packets) if i % 5])
    assert mask.any() and not mask.all()
    gray = np.where(mask[:, :, None], np.uint8(128), found)
    assert psnr_db(image, found) > psnr_db(image, gray) + 6
