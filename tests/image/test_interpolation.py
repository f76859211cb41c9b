"""Holes are filled smoothly, and edges go on across thin ones."""

from __future__ import annotations

import numpy as np
import pytest

from edgeae.image.interpolation import smooth_fill


def plane(height=70, width=90, dtype=np.uint8):
    y, x = np.mgrid[:height, :width]
    whole = np.stack([20 + x, 200 - y, 30 + x / 2 + y], axis=2)
    return whole.astype(dtype) * (np.iinfo(dtype).max // 255)


def holes(height=70, width=90):
    found = np.zeros((height, width), bool)
    found[20:40, 30:50] = True
    found[55, 5:80] = True
    found[:4, :3] = True
    return found


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_is_known_stays_and_a_ramp_goes_on(dtype):
    image, hole = plane(dtype=dtype), holes()
    damaged = image.copy()
    damaged[hole] = 0
    before = damaged.copy()
    filled = smooth_fill(damaged, hole)
    assert filled.dtype == dtype and filled.shape == image.shape
    np.testing.assert_array_equal(damaged, before)
    np.testing.assert_array_equal(filled[~hole], image[~hole])
    off = np.abs(filled.astype(float) - image) / (np.iinfo(dtype).max // 255)
    # The thin plate holds a ramp exactly; the border bends it, and a large hole is not all relaxed.
    assert off[55, 5:80].max() <= 1 and off[hole].mean() < 2


def test_a_thin_hole_across_an_edge_is_filled_better_than_from_the_mean():
    y, x = np.mgrid[:64, :64]
    edge = (255 / (1 + np.exp(-(x - y) / 1.5))).astype(np.uint8)[:, :, None].repeat(3, axis=2)
    hole = np.zeros((64, 64), bool)
    hole[30:33] = True
    filled = smooth_fill(np.where(hole[:, :, None], 0, edge).astype(np.uint8), hole)
    straight = (edge[29].astype(float) + edge[33]) / 2
    error = np.square(filled[31].astype(float) - edge[31]).mean()
    assert error < np.square(straight - edge[31]).mean() / 2


@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (1, 9), (9, 1), (33, 64)])
def test_one_known_pixel_fills_all(shape):
    image = np.zeros((*shape, 3), np.uint8)
    hole = np.ones(shape, bool)
    image[0, 0], hole[0, 0] = (10, 100, 250), False
    filled = smooth_fill(image, hole)
    assert (np.abs(filled.astype(int) - image[0, 0]) <= 1).all()


def test_no_hole_is_a_copy():
    image = plane()
    filled = smooth_fill(image, np.zeros(image.shape[:2], bool))
    np.testing.assert_array_equal(filled, image)
    assert not np.shares_memory(filled, image)
