"""How many bits the quantized latents cost: a context model that integers can carry out.

Latent channels are coded slice by slice, and inside a slice first one half of a checkerboard, then
the other. A small network per slice looks at everything coded before and says how widely each next
symbol is spread (an index into a table of scales) and, for the first slices, where its middle is.
Its inputs are integers, its layers are ReLU and convolutions, so that export can turn it into
exact integer arithmetic.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from train.layers import begin_at_zero

# Slices with a predicted middle; the finer ones are symmetric about zero.
CENTERED_SLICES = 2
# Natural logarithm of the logistic scale (in quantization steps) as the network gives it, before
# its floor.
SCALE_COUNT, FIRST_LOG_SCALE, LOG_SCALE_STEP = 64, -2.9, 0.13
_FLOOR = math.log(0.03)
# What a bit is worth in squared steps at a high rate, where the distortion of a uniform quantizer
# is step ** 2 / 12 and falls by 2 ln 2 of itself a bit; and how much of it the codec lets pay at
# the first step away from zero and at later ones (`edgeae/coding/rounding.py` says why).
_ERROR_PER_BIT = 2 * math.log(2) / 12
_FIRST_STEP, _LATER_STEPS = 1.0, 0.5
# The same for steps towards a predicted middle.
_CENTERED_STEPS = 0.5
# Limits of the integers that the network sees.
ABS_LIMIT, SIGNED_LIMIT = 32, 511


def logistic_scale(raw: torch.Tensor) -> torch.Tensor:
    """The scale of a logistic distribution, in steps, never below 0.03.

    Args:
        raw: what the network gives, float32 of any shape, which the result has too.
    """
    return (_FLOOR + F.softplus(raw - _FLOOR)).clamp_max(6.0).exp()


def logistic_bits(offset: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """-log2 of the mass of a logistic distribution on [offset - 1/2, offset + 1/2].

    With a > b the two edges, sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)),
    which stays exact in the tails.

    Args:
        offset: from the distribution's middle, in steps; float32 of any shape.
        scale: of the distribution, in steps, above 0, of the same shape.

    Returns:
        Bits, float32 of that shape, differentiable.
    """
    distance = -offset.abs()
    upper, lower = (distance + 0.5) / scale, (distance - 0.5) / scale
    log_mass = F.logsigmoid(upper) + F.logsigmoid(-lower) + (-torch.expm1(-1 / scale)).log()
    return log_mass * (-1 / math.log(2))


def bits_of_items(
    raw: torch.Tensor, middle: torch.Tensor, noisy: torch.Tensor, symbols: torch.Tensor
) -> torch.Tensor:
    """Bits of the symbols of every item, (N,).

    Their derivatives by the contexts' weights are those of the symbols' bits, and those by the
    latents are those of the bits of latents with noise, which have some.

    Args:
        raw, middle: what the contexts give for every symbol, (N, channels, h, w).
        noisy: latents in quantization steps with uniform noise, of that shape.
        symbols: whole numbers, without derivatives, of that shape.
    """
    scale = logistic_scale(raw)
    bits = logistic_bits(symbols - middle, scale).sum((1, 2, 3))
    if not torch.is_grad_enabled():
        return bits
    soft = logistic_bits(noisy - middle.detach(), scale.detach()).sum((1, 2, 3))
    return bits + soft - soft.detach()


def steps_at(log_steps: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    """Quantization steps (N, channels, 1, 1) of levels (N,) in [0, 1], on a line between the
    logarithms (levels, channels) of those that are learned."""
    place = level * (len(log_steps) - 1)
    low = place.floor().clamp(0, len(log_steps) - 2).long()
    part = (place - low)[:, None]
    return torch.lerp(log_steps[low], log_steps[low + 1], part).exp()[:, :, None, None]


def dead_zone_round(values: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The nearest whole numbers, or smaller ones where those save more bits than they cost.

    Args:
        values: latents in steps, float32 of any shape.
        scale: that of each value's logistic distribution about zero, in steps, of that shape.
    """
    here = [logistic_bits(torch.full_like(scale, step), scale) for step in (0.0, 1.0, 2.0)]
    first = _FIRST_STEP * _ERROR_PER_BIT / 2 * (here[1] - here[0])
    later = _LATER_STEPS * _ERROR_PER_BIT / 2 * (here[2] - here[1])
    magnitudes = values.abs()
    whole = (magnitudes + 0.5 - later.clamp_min(0)).floor()
    whole = torch.where(magnitudes < 0.5 + first.clamp_min(0), torch.zeros_like(whole), whole)
    return torch.copysign(whole, values)


def centered_round(values: torch.Tensor, middle: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The nearest whole numbers, or their neighbors towards the middle where those save more bits
    than they cost.

    Args:
        values: latents in steps, float32 of any shape.
        middle, scale: those of each value's logistic distribution, in steps, of that shape.
    """
    near = values.round()
    offset = near - middle
    inner = near - torch.sign(offset) * (offset.abs() > 0.5)
    saved = logistic_bits(offset, scale) - logistic_bits(inner - middle, scale)
    lost = (values - inner).square() - (values - near).square()
    pays = lost < _CENTERED_STEPS * _ERROR_PER_BIT * saved
    return torch.where(pays, inner, near)


@torch.no_grad()
def _chosen(values: torch.Tensor, raw: torch.Tensor, middle: torch.Tensor | None) -> torch.Tensor:
    scale = logistic_scale(raw.float())
    if middle is None:
        return dead_zone_round(values, scale)
    return centered_round(values, (middle.float() * 8).round() / 8, scale)


def magnitude(symbols: torch.Tensor) -> torch.Tensor:
    """A concave integer measure of |symbol|, 0 to 56 in float32 of the same shape: fine for small
    values, coarse for large ones.
    """
    a = symbols.abs()
    return 4 * a.clamp_max(2) + 2 * a.clamp_max(8) + a.clamp_max(ABS_LIMIT)


def checkerboard(height: int, width: int, device: torch.device) -> torch.Tensor:
    """1 where the first half is coded, 0 where the second is, float32 (1, 1, height, width)."""
    rows = torch.arange(height, device=device)[:, None]
    columns = torch.arange(width, device=device)[None, :]
    return ((rows + columns + 1) % 2).float()[None, None]


class SliceContext(nn.Module):
    """Scale and middle of one slice from the integer planes known so far."""

    # Integers are brought to about unit range for the float network; export folds these into the
    # weights.
    MAGNITUDE_UNIT, SIGNED_UNIT, LEVEL_UNIT = 1 / 16, 1 / 16, 1 / 64

    def __init__(self, known: tuple[int, ...], own: int, channels: int, *, centered: bool) -> None:
        super().__init__()
        self.own, self.centered = own, centered
        self.two_phases = own_is_shown = centered or len(known) < 4
        seen = sum(known) + (own if own_is_shown else 0)
        signed = sum(known[:CENTERED_SLICES]) + (own if centered else 0)
        self.mix = nn.Conv2d(seen + signed + 2, channels, 1)
        self.gather = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.join = nn.Conv2d(channels, channels, 1)
        self.scale = nn.Conv2d(channels + 1, own, 1)
        self.middle = nn.Conv2d(channels + 1, own, 1) if centered else None
        nn.init.zeros_(self.scale.weight)
        if self.middle is not None:
            begin_at_zero(self.middle)
        with torch.no_grad():
            # The spatial filters begin by looking mostly at their own place.
            self.gather.weight.mul_(0.5)
            self.gather.weight[:, :, 2, 2] += 0.5

    def forward(
        self, known: list[torch.Tensor], shown: torch.Tensor, phase: float, level: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Raw log scales and middles, each (N, own, h, w).

        Args:
            known: the symbols of earlier slices.
            shown: this slice's symbols where they are known already, zero elsewhere.
            phase: 0 for the first half of the checkerboard, 1 for the second.
            level: quality levels (N,) in [0, 1], seen as integers 0 to 64.
        """
        n, _, h, w = shown.shape
        level_plane = level.mul(64).round()[:, None, None, None].expand(n, 1, h, w)
        seen = [*known, shown] if self.two_phases else known
        signed = [*known[:CENTERED_SLICES], shown] if self.centered else known[:CENTERED_SLICES]
        planes = torch.cat(
            [magnitude(plane) * self.MAGNITUDE_UNIT for plane in seen]
            + [plane.clamp(-SIGNED_LIMIT, SIGNED_LIMIT) * self.SIGNED_UNIT for plane in signed]
            + [level_plane * self.LEVEL_UNIT, torch.full_like(level_plane, phase)],
            dim=1,
        )
        x = torch.relu(self.mix(planes))
        x = torch.relu(self.gather(x))
        x = torch.relu(self.join(x))
        x = torch.cat([x, level_plane * self.LEVEL_UNIT], dim=1)
        return self.scale(x), None if self.middle is None else self.middle(x)


_Judged = tuple[torch.Tensor, torch.Tensor | None]


def _by_halves(first: torch.Tensor, one: _Judged, other: _Judged) -> _Judged:
    """Log scales and middles, each from `one` where `first` is set and from `other` elsewhere."""
    raw = torch.where(first, one[0], other[0])
    if one[1] is None or other[1] is None:
        return raw, None
    return raw, torch.where(first, one[1], other[1])


# The axes of each layer's weights that grow with the channels of a context model.
_HEADS = ("scale", "middle")
_WIDE_AXES = {"mix": (0,), "gather": (0,), "join": (0, 1), "scale": (1,), "middle": (1,)}


class ContextModel(nn.Module):
    """Bits of a whole latent under the slice contexts."""

    def __init__(self, slices: tuple[int, ...], channels: tuple[int, ...]) -> None:
        """`channels` are those inside the context of each slice.

        Raises ValueError unless there are as many as slices.
        """
        super().__init__()
        if len(channels) != len(slices):
            raise ValueError(
                f"context_channels are {list(channels)}, expected {len(slices)}, one for each slice"
            )
        self.slices = slices
        self.contexts = nn.ModuleList(
            SliceContext(slices[:i], own, inside, centered=i < CENTERED_SLICES)
            for i, (own, inside) in enumerate(zip(slices, channels, strict=True))
        )

    def forward(
        self, values: torch.Tensor, symbols: torch.Tensor, level: torch.Tensor
    ) -> torch.Tensor:
        """Bits of every picture, (N,).

        Args:
            values: what is measured, (N, latent, h, w): symbols, or latents with uniform noise.
            symbols: the integers that the context sees.
            level: quality levels (N,) in [0, 1].
        """
        bits = values.new_zeros(len(values))
        parts = list(symbols.split(self.slices, dim=1))
        for i, (context, value) in enumerate(
            zip(self.contexts, values.split(self.slices, dim=1), strict=True)
        ):
            raw, middle = self.distribution(context, parts[:i], parts[i], level)
            offset = value if middle is None else value - middle
            bits = bits + logistic_bits(offset, logistic_scale(raw)).sum((1, 2, 3))
        return bits

    @torch.no_grad()
    def widened(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The weights of a model with fewer channels, put into this one's shapes.

        What is new sees what the others see, as a new network would, and nothing looks at it yet:
        the wider model says exactly what the narrow one said. Other weights come back as they are.

        Args:
            state: tensors by their names, as `state_dict` gives them.
        """
        found = dict(state)
        for name, ours in self.state_dict().items():
            layer, kind = name.split(".")[-2:]
            theirs, axes = state.get(name), _WIDE_AXES[layer] if kind == "weight" else (0,)
            if theirs is None or theirs.ndim != ours.ndim or (kind == "bias" and layer in _HEADS):
                continue
            changed = {axis for axis in range(ours.ndim) if ours.shape[axis] != theirs.shape[axis]}
            if not changed or not changed <= set(axes):
                continue
            if any(theirs.shape[axis] > ours.shape[axis] for axis in changed):
                continue
            value = ours.clone()
            if layer in _HEADS:  # their last input is the level
                value.zero_()
                value[:, : theirs.shape[1] - 1], value[:, -1] = theirs[:, :-1], theirs[:, -1]
            else:
                if layer == "join" and kind == "weight":
                    value[: len(theirs)] = 0
                value[tuple(slice(size) for size in theirs.shape)] = theirs
            found[name] = value
        return found

    def coded(self, values: torch.Tensor, level: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The symbols that the codec picks, and the bits of every picture.

        Symbols lie nearer to their middle, or to zero, by as much as their spread, which the
        symbols before them tell, makes it pay. Derivatives of the bits are as `bits_of_items` says.

        Args:
            values: latents in quantization steps, float32 (N, latent, h, w).
            level: quality levels, float32 (N,) in [0, 1].

        Returns:
            Whole numbers, float32 (N, latent, h, w) without derivatives, and (N,).
        """
        bits = values.new_zeros(len(values))
        parts: list[torch.Tensor] = []
        first = checkerboard(values.shape[2], values.shape[3], values.device) > 0
        for context, value in zip(self.contexts, values.split(self.slices, dim=1), strict=True):
            assert isinstance(context, SliceContext)
            fixed = value.detach()
            raw, middle = context(parts, torch.zeros_like(value), 0.0, level)
            own = _chosen(fixed, raw, middle)
            if context.two_phases:
                raw_2, middle_2 = context(parts, own * first, 1.0, level)
                own = torch.where(first, own, _chosen(fixed, raw_2, middle_2))
                raw, middle = _by_halves(first, (raw, middle), (raw_2, middle_2))
            if middle is None:
                middle = torch.zeros_like(raw)
            noisy = value + torch.rand_like(value) - 0.5 if self.training else value
            bits = bits + bits_of_items(raw, middle, noisy, own)
            parts.append(own)
        return torch.cat(parts, dim=1), bits

    @staticmethod
    def distribution(
        context: nn.Module, known: list[torch.Tensor], own: torch.Tensor, level: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Raw log scales and middles of a slice as both phases of its coding see them.

        Args:
            context: the slice's own network.
            known: the symbols of earlier slices, (N, channels, h, w) each.
            own: those of this slice, float32 (N, own, h, w).
            level: quality levels, float32 (N,) in [0, 1].

        Returns:
            float32 (N, own, h, w) each; no middles where the slice has none.
        """
        hidden = torch.zeros_like(own)
        raw, middle = context(known, hidden, 0.0, level)
        if context.two_phases:
            first = checkerboard(own.shape[2], own.shape[3], own.device) > 0
            late = context(known, own * first, 1.0, level)
            raw, middle = _by_halves(first, (raw, middle), late)
        return raw, middle

    @torch.no_grad()
    def start_scales(self, deviations: torch.Tensor, log_steps: torch.Tensor) -> None:
        """Begin with the spread that each channel has on average.

        Args:
            deviations: standard deviation of each latent channel, (latent,).
            log_steps: logarithm of the quantization steps, (levels, latent).
        """
        # The deviation of a logistic distribution is pi / sqrt(3) times its scale.
        log_scale = (deviations.clamp_min(1e-4) * math.sqrt(3) / math.pi).log()
        parts = log_scale.split(self.slices)
        starts, ends = log_steps[0].split(self.slices), log_steps[-1].split(self.slices)
        for context, part, coarse, fine in zip(self.contexts, parts, starts, ends, strict=True):
            # Most blocks are quieter than the deviation says: the distribution over blocks is
            # heavy-tailed.
            assert isinstance(context, SliceContext) and context.scale.bias is not None
            context.scale.bias.copy_(part - coarse - 0.7)
            context.scale.weight[:, -1, 0, 0] = coarse - fine
