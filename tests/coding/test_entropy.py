"""Symbols come back from their bytes exactly, cost what their tables say, and no damage escapes."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeae.coding import entropy
from edgeae.coding.entropy import ALPHABET, ESCAPE, Decoder, Encoder, Tables
from edgeae.errors import BitstreamError


def frequencies(weights):
    """One table near to these 64 weights."""
    whole = 1 + np.floor(np.asarray(weights) / np.sum(weights) * (4096 - ALPHABET)).astype(int)
    whole[whole.argmax()] += 4096 - whole.sum()
    return whole


def geometric(ratio):
    return frequencies(ratio ** np.arange(ALPHABET))


# Flat, certain, and in between; without open bits, with a few, and with the most there can be.
TABLES = Tables(
    np.array(
        [
            np.full(ALPHABET, 64),
            frequencies(np.arange(ALPHABET) == 0),
            geometric(0.5),
            geometric(0.9),
            geometric(0.8),
            geometric(0.7),
            frequencies(np.arange(ALPHABET) == ESCAPE),
        ],
        np.uint16,
    ),
    np.array([0, 0, 0, 0, 3, 12, 1], np.uint8),
)
OTHERS = Tables(TABLES.frequencies[::-1].copy(), TABLES.shifts)


def drawn(tables, rng):
    """Values as the tables expect them, with an escape now and then."""
    cumulative = np.cumsum(TABLES.frequencies, axis=1)
    symbols = (rng.integers(0, 4096, len(tables))[:, None] >= cumulative[tables]).sum(axis=1)
    beyond = np.where(symbols == ESCAPE, rng.integers(0, 1 << 16, len(tables)), 0)
    shifts = TABLES.shifts[tables].astype(np.int64)
    return ((symbols + beyond) << shifts) + rng.integers(0, 1 << shifts)


def some(count, seed=0):
    """So many values, with a table for each."""
    rng = np.random.default_rng(seed)
    tables = rng.integers(0, len(TABLES.shifts), count)
    return drawn(tables, rng), tables


def signs(count):
    return np.random.default_rng(count).random(count) < 0.5


def block_of(stages, negative=()):
    encoder = Encoder(TABLES)
    for values, tables in stages:
        encoder.put(values, tables)
    encoder.put_signs(np.asarray(negative, np.bool_))
    return encoder.finish()


def taken(block, of_stages, sign_count=0, tables=TABLES):
    """The values of all stages, and the signs."""
    decoder = Decoder(tables, block)
    values = [decoder.take(some) for some in of_stages]
    return values, decoder.take_signs(sign_count)


def comes_back(stages, negative=()):
    values, found = taken(block_of(stages, negative), [t for _, t in stages], len(negative))
    return all(
        np.array_equal(there, back) for (there, _), back in zip(stages, values, strict=True)
    ) and np.array_equal(found, negative)


def fails(block, of_stages, sign_count=0, tables=TABLES):
    """Whether the block is refused; whatever else is raised comes through."""
    try:
        taken(block, of_stages, sign_count, tables)
    except BitstreamError:
        return True
    return False


# --- there and back


@pytest.mark.parametrize("count", [0, 1, 2, 511, 512, 513, 1023, 1024, 1025, 5000, 300_001])
def test_values_come_back(count):
    assert comes_back([some(count)], signs(count // 2))


def test_an_empty_block_has_a_few_bytes():
    assert comes_back([])
    assert len(block_of([])) <= 4


@pytest.mark.parametrize("symbols_per_lane_log2", [0, 2, 9])
def test_values_come_back_from_every_split_into_stages(symbols_per_lane_log2, monkeypatch):
    # 32 lanes, 8 lanes and one.
    monkeypatch.setattr(entropy, "SYMBOLS_PER_LANE_LOG2", symbols_per_lane_log2)
    values, tables = some(50)
    for cut in range(51):
        stages = [(values[:cut], tables[:cut]), (values[cut:], tables[cut:])]
        assert comes_back(stages, signs(20)), cut


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 700), max_size=6), st.integers(0, 3000), st.integers(0, 2**32 - 1))
def test_any_stages_and_signs_come_back(counts, sign_count, seed):
    assert comes_back([some(n, seed + i) for i, n in enumerate(counts)], signs(sign_count))


@pytest.mark.parametrize("count", [3, 5000])
def test_signs_come_back_whether_they_fit_into_the_starting_states_or_not(count):
    inside = 16 << entropy.lanes_log2(count)
    for sign_count in {0, 1, 7, 8, 15, 16, *range(inside - 1, inside + 18), 4 * inside}:
        assert comes_back([some(count)], signs(sign_count)), sign_count


def test_signs_put_in_parts_come_back_as_one():
    encoder = Encoder(TABLES)
    encoder.put_signs(np.array([True, False]))
    encoder.put(*some(10))
    encoder.put_signs(np.array([True]))
    _, found = taken(encoder.finish(), [some(10)[1]], 3)
    assert found.tolist() == [True, False, True]


@pytest.mark.parametrize("table", range(len(TABLES.shifts)))
def test_values_at_every_edge_of_a_table_come_back(table):
    shift = int(TABLES.shifts[table])
    edges = [0, 1, ESCAPE - 1, ESCAPE, ESCAPE + 1, ESCAPE + (1 << 16) - 1]
    values = [(edge << shift) + low for edge in edges for low in (0, (1 << shift) - 1)]
    values.append(int(TABLES.largest[table]))
    tables = np.full(len(values), table)
    assert comes_back([(np.array(values), tables)])


# --- what it costs


def ideal_bits(values, tables):
    """The code length that the tables promise, with open bits and signs of one bit."""
    shifts = TABLES.shifts[tables].astype(np.int64)
    symbols = np.minimum(values >> shifts, ESCAPE)
    coded = 12 - np.log2(TABLES.frequencies[tables, symbols])
    return float((coded + shifts + 16 * (symbols == ESCAPE)).sum())


@pytest.mark.parametrize(("sign_count", "ratio"), [(0, 0.02), (50_000, 0.005)])
def test_a_hundred_thousand_symbols_cost_what_the_tables_say(sign_count, ratio):
    rng = np.random.default_rng(1)
    tables = rng.integers(2, 4, 100_000)
    values = drawn(tables, rng)
    promised = (ideal_bits(values, tables) + sign_count) / 8
    assert len(block_of([(values, tables)], signs(sign_count))) < (1 + ratio) * promised + 16


def test_a_few_symbols_cost_three_bytes_more_than_the_tables_say():
    values, tables = np.array([0, 1, 0, 2, 1]), np.full(5, 2)
    assert len(block_of([(values, tables)])) <= ideal_bits(values, tables) / 8 + 4
    # Sixteen signs ride along for nothing.
    assert len(block_of([(values, tables)], signs(16))) <= ideal_bits(values, tables) / 8 + 6


def test_certain_symbols_are_all_but_free():
    certain = np.zeros(100_000, np.int64), np.ones(100_000, np.int64)
    assert len(block_of([certain])) < 100_000 * np.log2(4096 / 4033) / 8 * 1.02 + 400


# --- what is refused


@pytest.mark.parametrize("table", range(len(TABLES.shifts)))
@pytest.mark.parametrize("beyond", [False, True])
def test_a_value_that_its_table_cannot_code_is_refused(table, beyond):
    value = TABLES.largest[table] + 1 if beyond else -1
    with pytest.raises(ValueError, match="expected 0 to the largest that its table can code"):
        Encoder(TABLES).put(np.array([0, value]), np.full(2, table))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda f, s: (f[:, :63], s), "shape"),
        (lambda f, s: (f, s[1:]), "shape"),
        (lambda f, s: (f[0], s), "shape"),
        (lambda f, s: (f + np.uint16(1), s), "sum to 4096"),
        (lambda f, s: (np.roll(np.diag(np.full(64, 4096, np.uint16)), 1), s[:1].repeat(64)), "sum"),
        (lambda f, s: (f, s + np.uint8(1)), "shifts reach 13, expected at most 12"),
    ],
)
def test_tables_that_cannot_be_are_refused(change, match):
    with pytest.raises(ValueError, match=match):
        Tables(*change(TABLES.frequencies, TABLES.shifts))


BLOCKS = {
    "one lane": ([some(60), some(0), some(30, seed=1)], signs(40)),
    "no signs": ([some(50, seed=2)], signs(0)),
    "no open bits": ([(np.arange(40) % 20, np.full(40, 3))], signs(11)),
    "nothing": ([], signs(0)),
}


@pytest.fixture(params=BLOCKS)
def small(request):
    """A block, the tables of its stages and how many signs it has."""
    stages, negative = BLOCKS[request.param]
    return block_of(stages, negative), [tables for _, tables in stages], len(negative)


@pytest.fixture
def four_lanes(monkeypatch):
    monkeypatch.setattr(entropy, "SYMBOLS_PER_LANE_LOG2", 4)
    stages, negative = [some(64), some(30, seed=1)], signs(80)
    return block_of(stages, negative), [tables for _, tables in stages], len(negative)


def test_every_truncation_is_refused(small):
    block, of_stages, sign_count = small
    for length in range(len(block)):
        assert fails(block[:length], of_stages, sign_count), length
        assert fails(block[length + 1 :], of_stages, sign_count), length


def test_every_truncation_of_several_lanes_is_refused(four_lanes):
    test_every_truncation_is_refused(four_lanes)


def test_bytes_after_the_end_are_refused(small):
    block, of_stages, sign_count = small
    for extra in (b"\0", b"\xff", b"\0\0", block):
        assert fails(block + extra, of_stages, sign_count)


def test_a_flipped_bit_is_refused_or_gives_values(small):
    block, of_stages, sign_count = small
    for bit in range(8 * len(block)):
        flipped = bytearray(block)
        flipped[bit // 8] ^= 1 << bit % 8
        # An open bit or a sign has no other way to be read; all else raises, or stays in range.
        if not fails(bytes(flipped), of_stages, sign_count):
            values, negative = taken(bytes(flipped), of_stages, sign_count)
            assert len(negative) == sign_count
            for found, tables in zip(values, of_stages, strict=True):
                assert (found >= 0).all() and (found <= TABLES.largest[tables]).all()


def test_a_flipped_bit_of_several_lanes_is_refused_or_gives_values(four_lanes):
    test_a_flipped_bit_is_refused_or_gives_values(four_lanes)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 60), st.integers(0, 60))
def test_any_bytes_are_refused_or_give_values(block, count, sign_count):
    fails(block, [some(count)[1]], sign_count)


def test_as_many_lanes_as_there_can_be_need_as_many_states():
    for lanes_log2 in range(256):
        assert fails(bytes([lanes_log2]) + bytes(2), [some(10)[1]])


@pytest.mark.parametrize("lanes_log2", range(entropy.MAX_LANES_LOG2))
def test_too_few_lanes_for_the_symbols_are_refused_before_they_are_taken(lanes_log2):
    count = 1 << 10 + lanes_log2
    block = bytes([lanes_log2]) + bytes(10 * count)
    with pytest.raises(BitstreamError, match="too few lanes"):
        Decoder(TABLES, block).take(np.zeros(count, np.int64))
    Decoder(TABLES, block).take(np.zeros(count - 1, np.int64))


def test_other_tables_are_refused():
    for seed in range(50):
        values, tables = some(100, seed)
        assert fails(block_of([(values, tables)], signs(30)), [tables], 30, OTHERS)


def test_another_number_of_signs_is_refused(small):
    block, of_stages, sign_count = small
    # Up to seven more fill the last byte with what may be zeros; one byte more cannot.
    assert fails(block, of_stages, sign_count + 200)


def test_a_sign_left_out_of_the_count_is_refused():
    stages = [some(20)]
    block = block_of(stages, [True] * 30)
    for sign_count in range(30):
        assert fails(block, [stages[0][1]], sign_count), sign_count


# --- no floats


def test_the_entropy_path_holds_no_float():
    tree = ast.parse(Path(entropy.__file__).read_text(encoding="utf-8"))
    inexact = {"mean", "average", "exp", "log", "log2", "sqrt", "divide", "true_divide", "math"}
    for node in ast.walk(tree):
        where = f"line {getattr(node, 'lineno', '?')}"
        if isinstance(node, ast.Constant):
            assert not isinstance(node.value, float | complex), where
        if isinstance(node, ast.BinOp | ast.AugAssign):
            assert not isinstance(node.op, ast.Div), where
        name = getattr(node, "attr", None) or getattr(node, "id", None) or ""
        assert "float" not in name and "double" not in name and name not in inexact, where
