"""How many bits the latent of a signal costs: a causal context model that integers can carry out.

A step of the latent is 16 samples. Beats repeat, so a step is told three things: what a stack of
dilated causal convolutions makes of the steps before it; what followed where the signal has looked
most like now (*matches*, found among symbols that are known already, so that the decoder finds the
same); and the channels of this very step that are coded before the others.

All inputs are integers, all layers are convolutions and ReLU, so that export can turn them into
exact integer arithmetic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from train.entropy_model import bits_of_items, logistic_bits, logistic_scale, magnitude
from train.layers import begin_at_zero

__all__ = ["MATCHES", "MatchRule", "SignalContext", "SliceHead", "rounded_to_middle"]

# What the network sees of a symbol, and what matching does.
SIGNED_LIMIT, MATCH_LIMIT = 1023, 255
SIGNED_UNIT, MAGNITUDE_UNIT, LEVEL_UNIT, NEARNESS_UNIT = 1 / 16, 1 / 16, 1 / 64, 1 / 16
# Matches looked at, each best ones of its kind.
MATCHES = 3
# floor(log2(1 + distance)) where there is no match yet.
NO_MATCH = 31
# How much of what a smaller symbol saves at a high rate pays for what it loses.
_ERROR_PER_BIT = 2 * math.log(2) / 12
_STEPS = 0.8


@dataclass(frozen=True)
class MatchRule:
    """Which earlier steps count as like this one.

    Attributes:
        nearest, furthest: lags in steps that are looked at.
        history: weights of the steps before, the latest first, on squared differences of symbols.
        refine_channels: how many channels of this step count too once they are known.
        refine_weight: their weight.
    """

    nearest: int = 8
    furthest: int = 448
    history: tuple[int, ...] = (4, 2, 1, 1)
    refine_channels: int = 2
    refine_weight: int = 4


def rounded_to_middle(
    values: torch.Tensor, middle: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """The nearest whole numbers, or their neighbors towards the middle where those save more bits
    than they cost. The middle is in eighths."""
    near = values.round()
    offset = near - middle
    inner = near - torch.sign(offset) * (offset.abs() > 0.5)
    saved = logistic_bits(offset, scale) - logistic_bits(inner - middle, scale)
    lost = (values - inner).square() - (values - near).square()
    return torch.where(lost < _STEPS * _ERROR_PER_BIT * saved, inner, near)


class Matches:
    """What followed the best matches of every step.

    Attributes:
        first: by the steps before, (N, MATCHES * channels, 1, T), whole numbers.
        second: by the first channels of this step too.
        first_nearness, second_nearness: floor(log2(1 + distance)), (N, MATCHES, 1, T).
    """

    @torch.no_grad()
    def __init__(self, symbols: torch.Tensor, rule: MatchRule) -> None:
        y = symbols[:, :, 0]
        # The baseline wanders: the first channel, a mean but for its scale, counts by its change.
        before = F.pad(y[:, :1], (1, 0))[..., :-1]
        change = torch.cat([y[:, :1] - before, y[:, 1:]], dim=1)
        z = change.clamp(-MATCH_LIMIT, MATCH_LIMIT)
        steps, history = y.shape[2], rule.history
        error = _distances(F.pad(z, (len(history), 0)))
        distance = torch.zeros_like(error[:, :steps, :steps])
        for k, weight in enumerate(history, 1):
            first = len(history) - k
            part = slice(first, first + steps)
            distance += weight * error[:, part, part]
        place = torch.arange(steps, device=y.device)
        lag = place[:, None] - place[None, :]
        barred = (lag < rule.nearest) | (lag > rule.furthest)
        distance = distance.masked_fill(barred, math.inf)
        self.first, self.first_nearness = _followers(distance, change, before)
        refined = distance + rule.refine_weight * _distances(z[:, : rule.refine_channels])
        self.second, self.second_nearness = _followers(refined, change, before)


def _distances(z: torch.Tensor) -> torch.Tensor:
    """Squared distances between all pairs of steps of (N, channels, T), (N, T, T)."""
    norms = z.square().sum(1)
    return norms[:, :, None] + norms[:, None, :] - 2 * z.transpose(1, 2) @ z


def _followers(
    distance: torch.Tensor, change: torch.Tensor, before: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    count, steps = len(distance), distance.shape[1]
    kept = min(MATCHES, steps)
    # Of equal ones the latest: whole numbers differ by more than these fractions.
    lag = torch.arange(steps, device=distance.device)
    near = distance - lag * (0.25 / steps)
    values, places = near.topk(kept, dim=2, largest=False)
    there = torch.isfinite(values)
    items = torch.arange(count, device=distance.device)[:, None, None]
    found = change.transpose(1, 2)[items, places] * there[..., None]  # (N, T, kept, channels)
    found = F.pad(found, (0, 0, 0, MATCHES - kept))
    found[..., 0] += before.transpose(1, 2)
    nearness = (values.ceil() + 1).log2().floor()
    nearness = torch.where(there, nearness, torch.full_like(nearness, NO_MATCH))
    nearness = F.pad(nearness, (0, MATCHES - kept), value=NO_MATCH)
    planes = found.flatten(2).transpose(1, 2)[:, :, None]
    return planes, nearness.transpose(1, 2)[:, :, None]


def later(planes: torch.Tensor, steps: int) -> torch.Tensor:
    """Planes (..., T) moved on by so many steps, zeros in front."""
    return F.pad(planes, (steps, 0))[..., : planes.shape[-1]]


def signed(symbols: torch.Tensor) -> torch.Tensor:
    """Symbols as the network sees them, in their shape: bounded and scaled."""
    return symbols.clamp(-SIGNED_LIMIT, SIGNED_LIMIT) * SIGNED_UNIT


class History(nn.Module):
    """What the steps before say: symbols (N, channels, 1, T) to (N, width, 1, T), each step from
    earlier ones alone."""

    def __init__(self, channels: int, width: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.dilations = dilations
        self.mix = nn.Conv2d(2 * channels + 1, width, 1)
        self.layers = nn.ModuleList(
            nn.Conv2d(width, width, (1, 2), dilation=(1, d)) for d in dilations
        )
        with torch.no_grad():
            # A layer begins by handing on what it has.
            for layer in self.layers:
                assert isinstance(layer, nn.Conv2d)
                layer.weight.mul_(0.5)
                layer.weight[:, :, 0, 1] += torch.eye(width)

    def forward(self, symbols: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        known = later(symbols, 1)
        planes = [magnitude(known) * MAGNITUDE_UNIT, signed(known)]
        level = level.expand(-1, -1, -1, known.shape[3])
        x = torch.relu(self.mix(torch.cat([*planes, level], dim=1)))
        for dilation, layer in zip(self.dilations, self.layers, strict=True):
            x = torch.relu(layer(F.pad(x, (dilation, 0))))
        return x


class SliceHead(nn.Module):
    """Raw log scale and middle of some channels of a step.

    The last layer sees symbols beside what is hidden, so that a linear prediction, which
    `start` gives it, is exact at any size of symbols.
    """

    def __init__(
        self,
        channels: int,
        known: int,
        own: int,
        history: int,
        width: int,
        *,
        matched: bool = True,
    ) -> None:
        super().__init__()
        self.own, self.known, self.matched = own, known, matched
        planes = 2 * MATCHES * (channels + 1) if matched else 0
        # What the last layer sees: two steps before, the best match of each kind, this step.
        self.linear = 2 * channels + (2 * channels if matched else 0) + known
        self.mix = nn.Conv2d(history + planes + 2 * known + 1, width, 1)
        self.join = nn.Conv2d(width, width, 1)
        self.scale = nn.Conv2d(width + 1, own, 1)
        self.middle = nn.Conv2d(width + 1 + self.linear, own, 1)
        nn.init.zeros_(self.scale.weight)
        begin_at_zero(self.middle)

    def forward(
        self,
        history: torch.Tensor,
        matches: list[torch.Tensor],
        numbers: torch.Tensor,
        known: torch.Tensor,
        level: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, own, 1, T) both.

        Args:
            history: what `History` gives.
            matches: planes of both kinds of matches as the network sees them, none without.
            numbers: what the last layer sees of symbols but for this step's.
            known: this step's channels that are coded before, (N, known, 1, T).
            level: (N, 1, 1, T).
        """
        here = [magnitude(known) * MAGNITUDE_UNIT, signed(known)] if self.known else []
        x = torch.relu(self.mix(torch.cat([history, *matches, *here, level], dim=1)))
        x = torch.relu(self.join(x))
        x = torch.cat([x, level], dim=1)
        return self.scale(x), self.middle(torch.cat([x, numbers, signed(known)], dim=1))


class SignalContext(nn.Module):
    """Bits of a latent (N, channels, 1, T), coded step by step and in slices inside a step."""

    def __init__(
        self,
        slices: tuple[int, ...],
        *,
        width: int,
        head_width: int,
        dilations: tuple[int, ...],
        rule: MatchRule | None = None,
    ) -> None:
        super().__init__()
        self.slices = slices
        self.rule = rule or MatchRule()
        channels = sum(slices)
        self.history = History(channels, width, dilations)
        self.heads = nn.ModuleList(
            SliceHead(channels, sum(slices[:i]), own, width, head_width)
            for i, own in enumerate(slices)
        )

    def distribution(
        self, symbols: torch.Tensor, level: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Raw log scale and middle of every symbol (N, channels, 1, T), at levels (N,) in [0, 1]
        that are 64ths."""
        plane = level[:, None, None, None]
        history = self.history(symbols, plane)
        plane = plane.expand(-1, -1, -1, symbols.shape[3])
        found = Matches(symbols, self.rule)
        scales, middles = [], []
        for head in self.heads:
            assert isinstance(head, SliceHead)
            first, second, numbers = self.inputs(symbols, found, head)
            scale, middle = head(history, [first, second], numbers, symbols[:, : head.known], plane)
            scales.append(scale)
            middles.append(middle)
        return torch.cat(scales, dim=1), torch.cat(middles, dim=1)

    def inputs(
        self, symbols: torch.Tensor, found: Matches, head: SliceHead
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What a head sees of matches, and the symbols for its last layer.

        The second kind of match is known once the channels that refine it are; before, the first
        kind stands in its place.
        """
        channels = symbols.shape[1]
        refined = head.known >= self.rule.refine_channels
        kinds = [(found.first, found.first_nearness)]
        kinds.append((found.second, found.second_nearness) if refined else kinds[0])
        seen = [torch.cat([signed(m), near * NEARNESS_UNIT], dim=1) for m, near in kinds]
        whole = [later(symbols, 1), later(symbols, 2), *(m[:, :channels] for m, _ in kinds)]
        return seen[0], seen[1], signed(torch.cat(whole, dim=1))

    def forward(
        self, noisy: torch.Tensor, symbols: torch.Tensor, level: torch.Tensor
    ) -> torch.Tensor:
        """Bits of the symbols of every item, (N,); derivatives as of `bits_of_items`.

        Args:
            noisy: latents in quantization steps with uniform noise, (N, channels, 1, T).
            symbols: whole numbers, without derivatives.
            level: (N,) in [0, 1].
        """
        return bits_of_items(*self.distribution(symbols, level), noisy, symbols)

    @torch.no_grad()
    def rounded(self, values: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """Latents in quantization steps to the symbols that the codec picks: what plain rounding
        makes known says how near to its middle each lies."""
        raw, middle = self.distribution(values.round(), level)
        middle = (middle.float() * 8).round() / 8
        return rounded_to_middle(values, middle, logistic_scale(raw.float()))

    @torch.no_grad()
    def start(self, symbols: torch.Tensor, level: torch.Tensor, slope: float) -> None:
        """Begin with the best linear prediction of symbols (N, channels, 1, T) and its spread.

        `slope` is how much larger the logarithm of symbols is at level 1 than at level 0.
        """
        found = Matches(symbols, self.rule)
        begin = 0
        for head in self.heads:
            assert isinstance(head, SliceHead)
            _, _, numbers = self.inputs(symbols, found, head)
            own = symbols[:, begin : begin + head.own]
            known = signed(symbols[:, : head.known])
            seen = torch.cat([numbers, known], dim=1).transpose(0, 1).flatten(1).double()
            wanted = own.transpose(0, 1).flatten(1).double()
            square = seen @ seen.T
            square += torch.eye(len(square)) * (1e-3 * square.diagonal().mean() + 1e-6)
            weights = torch.linalg.solve(square, seen @ wanted.T).T
            head.middle.weight[:, -head.linear :, 0, 0] = weights.float()
            spread = (wanted - weights @ seen).abs().mean(1).float()
            # The mean of |x| of a logistic distribution is 2 ln 2 times its scale.
            raw = (spread / (2 * math.log(2))).clamp_min(0.03).log()
            assert head.scale.bias is not None
            head.scale.bias.copy_(raw - slope * level.mean())
            head.scale.weight[:, -1, 0, 0] = slope
            begin += head.own
