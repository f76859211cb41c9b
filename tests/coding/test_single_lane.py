"""One lane of range coding: what goes in comes out, in hardly more bytes than tables promise."""

import numpy as np
import pytest

from edgeae.coding.single_lane import ALPHABET, Decoder, FineTables, encode
from edgeae.errors import BitstreamError


def tables():
    """Three tables: wide with open bits, usual, and all but certain."""
    rows = []
    for share in (0.95, 0.5, 0.002):
        weights = (1 - share) * share ** np.arange(ALPHABET)
        whole = np.maximum(1, np.floor(weights / weights.sum() * 65536)).astype(np.int64)
        whole[0] += 65536 - whole.sum()
        rows.append(whole)
    return FineTables(np.stack(rows).astype(np.uint16), np.array([3, 0, 0], np.uint8))


@pytest.mark.parametrize("count", [*range(12), 100, 4000])
def test_values_come_back_and_the_block_ends_where_it_should(count):
    rng, fine = np.random.default_rng(count), tables()
    choice = rng.integers(0, 3, count)
    values = rng.geometric(0.6, count) - 1
    values[rng.random(count) < 0.05] = rng.integers(0, 2**40)
    block = encode(fine.events(values.astype(np.int64), choice))
    decoder = Decoder(fine, block)
    assert decoder.take_all(choice.tolist()) == values.tolist()
    decoder.finish()


def test_a_block_is_at_most_a_byte_longer_than_its_tables_say():
    rng, fine = np.random.default_rng(1), tables()
    for count in (1, 10, 50, 1000):
        choice = np.ones(count, np.int64)
        events = list(fine.events(rng.geometric(0.5, count) - 1, choice))
        bits = sum(16 - np.log2(frequency) for frequency, _ in events)
        assert 8 * len(encode(events)) <= bits + 9 + count / 1000


def test_what_is_all_but_certain_costs_next_to_nothing():
    fine = tables()
    assert encode(fine.events(np.zeros(300, np.int64), np.full(300, 2))) == b""


def test_a_block_that_is_cut_off_or_changed_is_refused_or_gives_other_values():
    rng, fine = np.random.default_rng(2), tables()
    choice = rng.integers(0, 3, 200)
    values = rng.geometric(0.6, 200) - 1
    block = encode(fine.events(values, choice))
    refused = 0
    for place in range(len(block)):
        changed = bytearray(block)
        changed[place] ^= 1 << place % 8
        for data in (bytes(changed), block[:place]):
            try:
                decoder = Decoder(fine, data)
                found = decoder.take_all(choice.tolist())
                decoder.finish()
            except BitstreamError:
                refused += 1
                continue
            assert found != values.tolist()
    assert refused > 0


def test_a_block_that_ends_in_a_zero_or_goes_on_is_refused():
    fine = tables()
    block = encode(fine.events(np.array([3, 1, 2]), np.array([1, 1, 1])))
    with pytest.raises(BitstreamError, match="ends in a zero"):
        Decoder(fine, block + b"\0")
    decoder = Decoder(fine, block + bytes(range(1, 9)))
    with pytest.raises(BitstreamError):
        decoder.take_all([1, 1, 1])
        decoder.finish()


def test_tables_that_do_not_sum_to_their_total_are_refused():
    fine = tables()
    wrong = fine.frequencies.copy()
    wrong[0, 0] -= 1
    with pytest.raises(ValueError, match="sum to 65536"):
        FineTables(wrong, fine.shifts)
    with pytest.raises(ValueError, match="expected at most 40"):
        FineTables(fine.frequencies, np.array([41, 0, 0], np.uint8))
