"""The context model of signals: whole and step by step, in pieces and from the past alone."""

from pathlib import Path

import numpy as np
import pytest

from edgeae.bench.signal_codec import made_pulse
from edgeae.bundle import find
from edgeae.coding.context import MIDDLE_UNITS
from edgeae.errors import BitstreamError
from edgeae.runtime import Graph
from edgeae.signal.codec import SignalCodec
from edgeae.signal.contexts import Contexts, Distribution, code_values, symbols_taken
from edgeae.signal.matches import (
    MatchRule,
    changes,
    matches,
    matches_of_both_kinds,
    past_distances,
    refined,
)

BUNDLE = Path(__file__).parent.parent / "golden" / "tiny-signal-codec"
LEVEL = 40


@pytest.fixture(scope="module")
def codec():
    return SignalCodec.load(BUNDLE)


@pytest.fixture(scope="module")
def symbols(codec):
    return codec.encode(made_pulse(16 * 540, 360.0), quality=6).symbols[0]


def test_pieces_of_any_length_have_the_contexts_of_the_whole(codec, symbols):
    contexts = codec._coder.contexts
    whole = contexts.distribution(contexts.past(), symbols, LEVEL)
    past, parts, begin = contexts.past(), [], 0
    for length in (1, 1, 30, 200, 300, 8):
        part = symbols[:, begin : begin + length]
        parts.append(contexts.distribution(past, part, LEVEL))
        past.add(part)
        begin += length
    assert begin == symbols.shape[1]
    for name in ("index", "middle"):
        joined = np.concatenate([getattr(part, name) for part in parts], axis=1)
        assert np.array_equal(joined, getattr(whole, name))


@pytest.mark.parametrize("lengths", [(1, 23, 63, 2, 300), (23,) * 23, (180, 180, 180)])
def test_parts_together_have_the_contexts_that_each_has_alone(codec, symbols, lengths):
    contexts = codec._coder.contexts
    parts, alone, begin = [], [], 0
    for number, length in enumerate(lengths):
        part = symbols[:, begin : begin + length]
        # Every fourth part leans on the one before.
        leans = number % 4 == 1
        past = parts[-1][0].followed_by(parts[-1][1]) if leans else contexts.past()
        parts.append((past, part))
        alone.append(contexts.distribution(past, part, LEVEL))
        begin += length
    together = contexts.distributions(parts, LEVEL)
    for name in ("index", "middle"):
        joined = np.concatenate([getattr(part, name) for part in alone], axis=1)
        assert np.array_equal(joined, getattr(together, name))


@pytest.mark.parametrize("key_blocks", [0, 1, 3])
def test_blocks_written_together_are_those_written_one_by_one(codec, symbols, key_blocks):
    coder, expected = codec._coder, []
    for number, begin in enumerate(range(0, symbols.shape[1], 70)):
        if number == 0 or (key_blocks and number % key_blocks == 0):
            past = coder.contexts.past()
        expected.append(coder.encode(past, symbols[:, begin : begin + 70], LEVEL))
    assert coder.encode_all(symbols, LEVEL, 70, key_blocks) == expected


def test_step_by_step_contexts_are_those_of_all_steps_at_once(codec, symbols):
    contexts, here = codec._coder.contexts, symbols[:, :200]
    whole = contexts.distribution(contexts.past(), here, LEVEL)
    ends = np.cumsum([0, *contexts.slices])
    seen = []

    def take(known):
        step, part = divmod(len(seen), len(contexts.slices))
        rows = slice(ends[part], ends[part + 1])
        seen.append(
            np.array_equal(known.index, whole.index[rows, step])
            and np.array_equal(known.middle, whole.middle[rows, step])
        )
        return here[rows, step]

    assert np.array_equal(contexts.decode(contexts.past(), 200, LEVEL, take), here)
    assert all(seen) and len(seen) == 200 * len(contexts.slices)


@pytest.mark.parametrize("optimization", ["disabled", "basic"])
def test_contexts_do_not_depend_on_how_graphs_are_optimized(codec, symbols, optimization):
    bundle, spec = find(BUNDLE), codec._spec
    graphs = [
        Graph(bundle.graph(f"context{i}", "fp32"), optimization=optimization, threads=2)
        for i in range(1 + len(spec.slices))
    ]
    other = Contexts(spec.slices, spec.rule, spec.reach, graphs)
    usual = codec._coder.contexts
    a = usual.distribution(usual.past(), symbols, LEVEL)
    b = other.distribution(other.past(), symbols, LEVEL)
    assert np.array_equal(a.index, b.index) and np.array_equal(a.middle, b.middle)


def test_codes_and_symbols_are_each_others_inverse():
    rng = np.random.default_rng(0)
    known = Distribution(rng.integers(0, 64, 500), rng.integers(-200, 200, 500))
    symbols = rng.integers(-40, 40, 500).astype(np.int32)
    values = code_values(symbols, known)
    asked = []
    taken = symbols_taken(known, lambda tables: asked.extend(tables) or values.tolist())
    assert values.min() >= 0 and np.array_equal(taken, symbols)
    assert np.array_equal(asked, known.tables)
    with pytest.raises(BitstreamError, match="beyond 30000"):
        symbols_taken(known, lambda tables: [1 << 70] * len(tables))
    # The nearest whole number to the middle is 0, the next nearest 1.
    near = np.rint(known.middle / MIDDLE_UNITS - 1e-9).astype(np.int32)
    assert (code_values(near, known) <= 1).all()


RULE = MatchRule(nearest=3, furthest=20, history=(2, 1), refine_channels=1, refine_weight=4)


def slowly(change, step, rule, *, refine):
    """Matches of a step as the format says them, one distance after the other."""
    change = np.clip(change.astype(np.int64), -255, 255)

    def at(i):
        return change[:, i] if i >= 0 else np.zeros(len(change), np.int64)

    found = []
    for s in range(max(0, step - rule.furthest), step - rule.nearest + 1):
        distance = sum(
            w * int(np.square(at(step - k) - at(s - k)).sum())
            for k, w in enumerate(rule.history, 1)
        )
        if refine:
            rows = slice(0, rule.refine_channels)
            distance += rule.refine_weight * int(np.square(at(step)[rows] - at(s)[rows]).sum())
        found.append((distance, step - s))
    return sorted(found)[:3]


@pytest.mark.parametrize("steps", [1, 4, 6, 15, 60])
def test_matches_are_those_that_the_format_says(steps):
    rng = np.random.default_rng(1)
    change = changes(rng.integers(-2, 3, (4, steps)).astype(np.int32))
    distances = past_distances(change, 0, steps, RULE)
    alone = matches(distances, change, steps, RULE), refined(distances, change, steps, RULE)
    together = matches_of_both_kinds(change, 0, steps, RULE)
    for refine, got in (
        (False, alone[0]),
        (True, alone[1]),
        (False, together[0]),
        (True, together[1]),
    ):
        for step in range(steps):
            expected = slowly(change, step, RULE, refine=refine)
            for i in range(3):
                if i < len(expected):
                    distance, lag = expected[i]
                    assert np.array_equal(got.changes[i, :, step], change[:, step - lag])
                    assert got.nearness[i, step] == (distance + 1).bit_length() - 1
                else:
                    assert got.nearness[i, step] == 31 and not got.changes[i, :, step].any()


@pytest.mark.parametrize(("first", "last"), [(0, 1), (0, 23), (9, 30), (3, 150)])
def test_matches_of_several_parts_are_those_of_each_alone(first, last):
    rng = np.random.default_rng(3)
    parts = changes(rng.integers(-2, 3, (5, 4, last)).astype(np.int32))
    together = matches_of_both_kinds(parts, first, last, RULE)
    alone = [matches_of_both_kinds(part, first, last, RULE) for part in parts]
    for kind in (0, 1):
        for name in ("changes", "nearness"):
            joined = np.concatenate([getattr(pair[kind], name) for pair in alone], axis=-1)
            assert np.array_equal(getattr(together[kind], name), joined)


def test_matches_need_nothing_beyond_their_reach():
    rng = np.random.default_rng(2)
    change = rng.integers(-2, 3, (4, 200)).astype(np.int32)
    whole, _ = matches_of_both_kinds(change, 150, 160, RULE)
    begin = 150 - RULE.reach
    part, _ = matches_of_both_kinds(change[:, begin:], 150 - begin, 160 - begin, RULE)
    assert np.array_equal(whole.changes, part.changes)
