"""Windows of a running signal: the same whatever the blocks, and nothing piles up."""

from __future__ import annotations

import numpy as np
import pytest
from test_autoencoder import projection

import edgeae

LENGTH = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("stream") / "p"
    return edgeae.load(projection(path, kind="signal", shape=(LENGTH, 2)))


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    path = tmp_path_factory.mktemp("stream") / "m"
    return edgeae.load(projection(path, kind="signal", shape=(LENGTH, 1), masked=True))


def signal(samples, channels=2):
    return np.random.default_rng(0).normal(size=(samples, channels)).astype(np.float32)


@pytest.mark.parametrize("hop", [1, 3, 4, 5, 11])
@pytest.mark.parametrize("sizes", [(100,), (1,), (0, 3, 1, 8), (4,), (5,)])
def test_any_blocks_give_the_windows_of_the_whole(model, hop, sizes):
    x, stream = signal(100), model.stream(hop_samples=hop)
    found, at, turn = [], 0, 0
    while at < len(x):
        size = sizes[turn % len(sizes)]
        found.append(stream.push(x[at : at + size]))
        at, turn = at + size, turn + 1
    starts = np.concatenate([one.starts for one in found])
    np.testing.assert_array_equal(starts, np.arange(0, 100 - LENGTH + 1, hop))
    items = np.stack([x[start : start + LENGTH] for start in starts])
    np.testing.assert_array_equal(np.concatenate([one.items for one in found]), items)
    latents = np.concatenate([one.latents for one in found])
    np.testing.assert_allclose(latents, model.encode(items), atol=1e-6)
    assert stream.samples == 100


def test_windows_follow_each_other_by_default_and_a_reset_begins_anew(model):
    x, stream = signal(10), model.stream()
    first = stream.push(x)
    np.testing.assert_array_equal(first.starts, [0, 4])
    stream.reset()
    again = stream.push(x)
    np.testing.assert_array_equal(again.items, first.items)
    assert len(stream.push(x[:0])) == 0 and stream.push(x[:0]).latents.shape == (0, 2)


def test_what_is_kept_stays_below_a_window(model):
    stream = model.stream(hop_samples=3)
    for _ in range(500):
        stream.push(signal(7))
        assert len(stream._kept) < LENGTH
    assert stream.samples == 3500


def test_missing_values_count_for_nothing_where_the_model_knows_them(masked, model):
    x = signal(8, 1)
    x[5] = np.nan
    windows = masked.stream().push(x[:, 0].astype(np.float64))
    np.testing.assert_array_equal(np.isnan(windows.items).ravel().nonzero()[0], [5])
    known = ~np.isnan(windows.items)
    np.testing.assert_array_equal(
        windows.latents, masked.encode(np.nan_to_num(windows.items), known=known)
    )
    with pytest.raises(ValueError, match="NaN or infinity"):
        model.stream().push(np.full((3, 2), np.nan))


def test_a_refused_block_leaves_the_stream_as_it_was(model):
    x, stream = signal(8), model.stream()
    stream.push(x[:3])
    for block, kind, told in (
        (x[:, :1], ValueError, r"shape \(8, 1\), expected \(samples, 2\)"),
        (x[:, 0], ValueError, "shape"),
        (x.astype(np.int16), TypeError, "int16"),
        (x.tolist(), TypeError, "list"),
        (np.full((2, 2), np.inf), ValueError, "infinity"),
    ):
        with pytest.raises(kind, match=told):
            stream.push(block)
    np.testing.assert_array_equal(stream.push(x[3:]).items, x.reshape(2, 4, 2))


@pytest.mark.parametrize("hop", [0, -1, 2.0, True])
def test_a_hop_that_is_none_is_refused(model, hop):
    with pytest.raises(ValueError, match="hop_samples is"):
        model.stream(hop_samples=hop)


def test_a_model_of_other_items_has_no_stream(tmp_path):
    with pytest.raises(ValueError, match="takes a vector"):
        edgeae.load(projection(tmp_path / "p")).stream()
