"""The photo codec's entropy model: masses, rounding, and what may depend on what."""

from __future__ import annotations

import copy
import math

import pytest

torch = pytest.importorskip("torch")

from train.entropy_model import (
    ContextModel,
    centered_round,
    checkerboard,
    dead_zone_round,
    logistic_bits,
    logistic_scale,
    magnitude,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("scale", [0.03, 0.2, 1.0, 7.0])
@pytest.mark.parametrize("middle", [0.0, 0.3, -4.5])
def test_the_masses_of_all_integers_sum_to_one(scale, middle):
    values = torch.arange(-400, 401, dtype=torch.float64)
    bits = logistic_bits(values - middle, torch.tensor(scale, dtype=torch.float64))
    assert float(torch.exp2(-bits).sum()) == pytest.approx(1, abs=1e-9)


def test_the_cost_of_a_value_far_out_stays_finite_and_differentiable():
    offset = torch.tensor([0.0, 1e3, -1e4], requires_grad=True)
    bits = logistic_bits(offset, torch.tensor(0.03))
    bits.sum().backward()
    assert torch.isfinite(bits).all() and torch.isfinite(offset.grad).all()
    assert bits[2] > bits[1] > bits[0] >= 0


def test_a_scale_is_never_below_its_floor():
    raw = torch.tensor([-100.0, -3.5, 0.0, 2.0, 100.0])
    scale = logistic_scale(raw)
    assert float(scale.min()) == pytest.approx(0.03, rel=1e-3) and torch.isfinite(scale).all()
    assert float(scale[3]) == pytest.approx(math.exp(2), rel=0.01)
    assert (scale.diff() >= 0).all()


@pytest.mark.parametrize("scale", [0.05, 0.3, 2.0])
@pytest.mark.parametrize("middle", [-3.375, 0.0, 0.25])
def test_rounding_towards_a_middle_only_ever_saves(scale, middle):
    values = middle + torch.linspace(-4, 4, 4001)
    middles, scales = torch.full_like(values, middle), torch.full_like(values, scale)
    found = centered_round(values, middles, scales)
    near = values.round()
    moved = found != near
    assert ((found - middles).abs() <= (near - middles).abs()).all()
    assert ((found - near).abs() <= 1).all()
    bits = logistic_bits(found - middles, scales) - logistic_bits(near - middles, scales)
    assert (bits[moved] < 0).all()
    assert scale == 2.0 or moved.any()


def test_rounding_with_a_dead_zone_only_ever_saves():
    values = torch.linspace(-6, 6, 4001)
    for scale in (0.05, 0.3, 1.0, 20.0):
        found = dead_zone_round(values, torch.full_like(values, scale))
        plain = values.round()
        assert torch.equal(found, found.round()) and torch.equal(-found, found.flip(0))
        assert (found.abs() <= plain.abs()).all() and (plain - found).abs().max() <= 1
    # Where a one is dear, 0.6 is nothing; where all symbols cost alike, rounding is plain.
    at = torch.tensor([0.6, 0.6])
    assert dead_zone_round(at, torch.tensor([0.1, 20.0])).tolist() == [0.0, 1.0]


def test_the_symbols_trained_on_are_those_of_the_shipped_codec():
    slices = (4, 8, 12, 16)
    model = ContextModel(slices, (16, 16, 16, 16))
    with torch.no_grad():
        for context in model.contexts[:2]:
            torch.nn.init.normal_(context.middle.weight, std=0.5)
    generator = torch.Generator().manual_seed(3)
    values = 2 * torch.randn(2, 40, 6, 7, generator=generator)
    level = torch.tensor([0.25, 0.75])
    symbols, _ = model.coded(values, level)
    parts = symbols.split(slices, dim=1)
    for i, (own, value) in enumerate(zip(parts, values.split(slices, dim=1), strict=True)):
        context = model.contexts[i]
        # Each was rounded with what a decoder knows before it has the symbol.
        raw, middle = model.distribution(context, list(parts[:i]), own, level)
        if middle is None:
            assert torch.equal(own, dead_zone_round(value, logistic_scale(raw)))
        else:
            eighths = (middle * 8).round() / 8
            assert torch.equal(own, centered_round(value, eighths, logistic_scale(raw)))


def test_the_magnitude_grows_ever_more_slowly():
    values = magnitude(torch.arange(0, 40).float())
    assert values[:4].tolist() == [0, 7, 14, 17] and values[-1] == values[32] == 56
    assert (values.diff().diff() <= 0).all()
    assert torch.equal(magnitude(torch.tensor([-5.0])), magnitude(torch.tensor([5.0])))


def test_a_symbol_is_judged_by_what_is_coded_before_it_and_by_nothing_else():
    torch.manual_seed(1)
    slices, height, width = (2, 2, 3, 2, 3), 6, 7
    model = ContextModel(slices, (8,) * 5).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    symbols = torch.randint(-9, 10, (1, sum(slices), height, width)).float()
    first = checkerboard(height, width, torch.device("cpu"))[0, 0] > 0
    level = torch.tensor([0.5])

    def judged(symbols):
        parts = list(symbols.split(slices, dim=1))
        found = [
            model.distribution(context, parts[:i], parts[i], level)
            for i, context in enumerate(model.contexts)
        ]
        return [raw if middle is None else raw + middle for raw, middle in found]

    with torch.no_grad():
        before = judged(symbols)
        for i, context in enumerate(model.contexts):
            for half in (first, ~first):
                changed = copy.deepcopy(symbols)
                start = sum(slices[:i])
                changed[0, start : start + slices[i]][:, half] += 3
                after = judged(changed)
                assert all(torch.equal(a, b) for a, b in zip(before[:i], after, strict=False))
                # In its own slice, the first half is seen by the second, in two phases.
                own = (before[i] != after[i])[0].any(0)
                assert not own[first].any()
                seen = context.two_phases and torch.equal(half, first)
                assert bool(own[~first].any()) == seen
                assert all(
                    (a != b).any() for a, b in zip(before[i + 1 :], after[i + 1 :], strict=True)
                )


def test_bits_teach_the_contexts_by_symbols_and_the_latents_by_noise():
    model = ContextModel((4, 8), (8, 8)).train()
    values = (2 * torch.randn(2, 12, 6, 7)).requires_grad_()
    level = torch.tensor([0.25, 0.75])
    symbols, bits = model.coded(values, level)
    with torch.no_grad():
        expected = model(symbols, symbols, level)
        assert torch.equal(model.eval().coded(values, level)[0], symbols)
    # In number they are those of the symbols, whatever the noise was.
    assert torch.allclose(bits, expected, rtol=1e-4)
    bits.sum().backward()
    assert not symbols.requires_grad and values.grad.abs().sum() > 0
    assert all(part.scale.weight.grad.abs().sum() > 0 for part in model.contexts)
    with pytest.raises(ValueError, match=r"context_channels are \[8\], expected 2"):
        ContextModel((4, 8), (8,))
