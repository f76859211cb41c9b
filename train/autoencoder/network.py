"""Autoencoders over vectors, series and small images, with the linear transform that PCA finds
inside.

Encoder and decoder are a linear path plus a network whose last layer begins at zero. Started from
the principal components of the data, an untrained autoencoder is exactly PCA, and training only has
to learn what a linear map cannot say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

NETWORKS = ("dense", "conv1d", "conv2d")
ACTIVATIONS = ("none", "relu")


@dataclass(frozen=True)
class AutoencoderNetwork:
    """Sizes of an autoencoder.

    Attributes:
        network: "dense" for vectors, "conv1d" for series (samples, channels), "conv2d" for images
            (H, W, C).
        latent: number of latents, the bottleneck.
        hidden: units of the dense layers, or channels of the convolutions, each of which halves
            the signal; from the input inwards.
        latent_activation: "relu" gives latents that can be exactly zero, as sparsity needs.
        active: with "relu", at most so many latents of an item stay, the largest; 0 keeps all.
        dropout: share of hidden units left out in training.
        variational: the encoder also gives the logarithm of a variance for each latent.
        masked: the network is told which entries are known, and fills in the others.
        shared_scale: all entries of a vector have one unit, as pixels do, and are divided by one
            number instead of by their own deviations; series and images always are.
    """

    network: str = "dense"
    latent: int = 16
    hidden: tuple[int, ...] = (256, 128)
    latent_activation: str = "none"
    active: int = 0
    dropout: float = 0.0
    variational: bool = False
    masked: bool = False
    shared_scale: bool = False

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise ValueError(f"network is {self.network!r}, expected one of {', '.join(NETWORKS)}")
        if self.latent_activation not in ACTIVATIONS:
            raise ValueError(
                f"latent_activation is {self.latent_activation!r}, "
                f"expected one of {', '.join(ACTIVATIONS)}"
            )
        if self.latent < 1 or not self.hidden or min(self.hidden) < 1:
            raise ValueError(
                f"latent is {self.latent} and hidden is {list(self.hidden)}, "
                "expected whole numbers from 1"
            )
        if self.active and (self.latent_activation != "relu" or self.active > self.latent):
            raise ValueError(
                f"active is {self.active}, expected 0 to latent = {self.latent}, "
                'with latent_activation = "relu"'
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, expected 0 to below 1")


class Autoencoder(nn.Module):
    """Items (N, *shape) in the data's own units to latents (N, latent) and back.

    Normalization is part of it: `mean` and `scale` (*shape) are fitted on the training data.
    """

    # They begin as principal components, which a full learning rate would shake.
    slow_layers = ("encoder.linear.", "decoder.linear.")
    # What belongs to encoder and decoder alike, and goes with either into another network.
    travels = ("mean", "scale")

    def __init__(self, config: AutoencoderNetwork, shape: tuple[int, ...]) -> None:
        super().__init__()
        expected = {"dense": 1, "conv1d": 2, "conv2d": 3}[config.network]
        if len(shape) != expected:
            raise ValueError(
                f"items have shape {shape}, the network {config.network} expects {expected} axes"
            )
        self.config, self.shape = config, shape
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))
        # Mean and Cholesky factor of the latents of the training data: what `sample` draws from.
        self.register_buffer("latent_mean", torch.zeros(config.latent))
        self.register_buffer("latent_factor", torch.eye(config.latent))
        self.encoder = Encoder(config, shape)
        self.decoder = Decoder(config, shape)

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        """Items in the data's units, (N, *shape), to zero mean and unit scale."""
        mean, scale = self.get_buffer("mean"), self.get_buffer("scale")
        return (x - mean) / scale

    def encode(
        self, x: torch.Tensor, known: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Latents (N, latent), and the logarithm of their variances if variational.

        Args:
            x: items (N, *shape) in the data's units; entries that are not known count for nothing.
            known: 1 where an entry is known, 0 elsewhere, (N, *shape); None if all are.
        """
        normal = self.normalize(x)
        if not self.config.masked:
            return self._latents(self.encoder(normal))
        if known is None:
            known = torch.ones_like(normal)
        # `where` keeps a NaN in an unknown place out, which a product would not.
        normal = torch.where(known > 0, normal, torch.zeros_like(normal))
        return self._latents(self.encoder(normal, known))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Items (N, *shape) in the data's units of latents (N, latent)."""
        mean, scale = self.get_buffer("mean"), self.get_buffer("scale")
        return self.decoder(latents) * scale + mean

    def forward(
        self, x: torch.Tensor, known: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Items as they come back (N, *shape), their latents and log variances, see `encode`.

        A variational network in training decodes a draw from each latent's distribution.
        """
        latents, log_variance = self.encode(x, known)
        code = latents
        if log_variance is not None and self.training:
            code = latents + torch.randn_like(latents) * (0.5 * log_variance).exp()
        return self.decode(code), latents, log_variance

    def _latents(self, raw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        if self.config.variational:
            mean, log_variance = raw.chunk(2, dim=1)
            return mean, log_variance.clamp(-12.0, 6.0)
        if self.config.latent_activation == "relu":
            raw = torch.relu(raw)
        if self.config.active:
            least = raw.topk(self.config.active, dim=1).values[:, -1:]
            raw = torch.where(raw >= least, raw, torch.zeros_like(raw))
        return raw, None

    @torch.no_grad()
    def start_linear(self, x: torch.Tensor, known: torch.Tensor) -> None:
        """Fit the normalization and begin with the principal components of training items.

        Args:
            x: items (N, *shape) in the data's units.
            known: 1 where an entry is known, (N, *shape); unknown entries count as the mean.
        """
        count = known.sum(0).clamp_min(1)
        mean = torch.where(known > 0, x, 0).sum(0) / count
        centred = torch.where(known > 0, x - mean, 0)
        deviation = (centred.square().sum(0) / count).sqrt()
        # Entries of a signal or an image share their unit, columns of a table do not. A constant
        # column has no scale of its own.
        if self.config.network == "dense" and not self.config.shared_scale:
            scale = torch.where(deviation > 1e-6 * mean.abs().clamp_min(1), deviation, 1)
        else:
            axes = tuple(range(len(self.shape) - 1)) or (0,)
            overall = deviation.square().mean(axes).sqrt()
            scale = torch.where(overall > 1e-9, overall, 1).expand(self.shape)
        self.get_buffer("mean").copy_(mean)
        self.get_buffer("scale").copy_(scale)
        flat = (centred / scale).flatten(1).double()
        _, _, components = torch.linalg.svd(flat[:20_000], full_matrices=False)
        components = components[: self.config.latent].float()
        self.encoder.linear.weight.zero_()
        self.decoder.linear.weight.zero_()
        rows = len(components)
        if self.config.latent_activation == "relu":
            # A latent that cannot be negative holds one half of a component: as many as fit in
            # pairs of both signs.
            rows = self.config.latent // 2
            components = torch.cat([components[:rows], -components[:rows]])
            rows = len(components)
        self.encoder.linear.weight[:rows] = components
        self.decoder.linear.weight[:, :rows] = components.T

    @torch.no_grad()
    def complete(self, taken: tuple[str, ...], x: torch.Tensor, known: torch.Tensor) -> None:
        """Fit the linear path of what was not taken to what was, by least squares.

        Args:
            taken: parts whose weights come from another network, "encoder" or "decoder".
            x: items (N, *shape) in the data's units.
            known: 1 where an entry is known, (N, *shape); unknown entries count as the mean.
        """
        if "encoder" in taken and "decoder" not in taken:
            normal = torch.where(known > 0, self.normalize(x), 0).flatten(1)
            latents, _ = self.encode(x, known)
            fitted = torch.linalg.lstsq(latents.double(), normal.double(), driver="gelsd").solution
            self.decoder.linear.weight.copy_(fitted.T.float())
        if "decoder" in taken and "encoder" not in taken:
            self.encoder.linear.weight.zero_()
            inverse = torch.linalg.pinv(self.decoder.linear.weight.double()).float()
            self.encoder.linear.weight[: self.config.latent] = inverse

    @torch.no_grad()
    def fit_latents(self, latents: torch.Tensor) -> None:
        """Keep mean and covariance of the latents (N, latent) of the training data."""
        mean = latents.mean(0)
        centred = (latents - mean).double()
        covariance = centred.T @ centred / max(1, len(latents) - 1)
        # A latent that never moves has no variance; a trace of one keeps the factor defined.
        floor = 1e-6 * covariance.diagonal().mean().clamp_min(1e-6)
        covariance += floor * torch.eye(len(mean), dtype=torch.float64)
        self.get_buffer("latent_mean").copy_(mean)
        self.get_buffer("latent_factor").copy_(torch.linalg.cholesky(covariance).float())


class Encoder(nn.Module):
    """Normalized items (N, *shape) to what the latents are made of, (N, latent or 2 latent)."""

    def __init__(self, config: AutoencoderNetwork, shape: tuple[int, ...]) -> None:
        super().__init__()
        size = math.prod(shape)
        outputs = config.latent * (2 if config.variational else 1)
        self.linear = nn.Linear(size, outputs)
        nn.init.zeros_(self.linear.bias)
        if config.variational:
            # Small variances at first: the noise of an untrained code would drown the data.
            with torch.no_grad():
                self.linear.weight[config.latent :] = 0
                self.linear.bias[config.latent :] = -4.0
        planes = 2 if config.masked else 1
        self.body: nn.Module
        if config.network == "dense":
            self.body = _dense(size * planes, config.hidden, config.dropout)
            last = config.hidden[-1]
        else:
            self.body = _Down(shape, config, planes)
            last = self.body.size
        self.leave = nn.Linear(last, outputs)
        _zero(self.leave)

    def forward(self, x: torch.Tensor, known: torch.Tensor | None = None) -> torch.Tensor:
        shown = x if known is None else torch.cat([x, known], dim=-1)
        learned: torch.Tensor = self.leave(self.body(shown).flatten(1))
        return self.linear(x.flatten(1)) + learned


class Decoder(nn.Module):
    """Latents (N, latent) to normalized items (N, *shape)."""

    def __init__(self, config: AutoencoderNetwork, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        size = math.prod(shape)
        self.linear = nn.Linear(config.latent, size, bias=False)
        self.body: nn.Module
        if config.network == "dense":
            self.body = nn.Sequential(
                _dense(config.latent, config.hidden[::-1], config.dropout),
                _zero(nn.Linear(config.hidden[0], size)),
            )
        else:
            self.body = _Up(shape, config)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        flat = self.linear(latents) + self.body(latents).flatten(1)
        return flat.reshape(-1, *self.shape)


class _Down(nn.Module):
    """Items (N, *shape, planes) to features (N, size): each convolution halves every side."""

    def __init__(self, shape: tuple[int, ...], config: AutoencoderNetwork, planes: int) -> None:
        super().__init__()
        self.one_dimensional = config.network == "conv1d"
        sides = _sides(shape)
        layers: list[nn.Module] = []
        before = shape[-1] * planes
        for channels in config.hidden:
            layers += [_convolution(before, channels, sides, stride=2), nn.ReLU()]
            layers += [_convolution(channels, channels, sides), nn.ReLU()]
            if config.dropout:
                layers.append(nn.Dropout(config.dropout))
            sides = tuple(-(-side // 2) if side > 1 else 1 for side in sides)
            before = channels
        self.layers = nn.Sequential(*layers)
        self.size = before * math.prod(sides)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.layers(_channels_first(x, self.one_dimensional))
        return features.flatten(1)


class _Up(nn.Module):
    """Latents (N, latent) to items (N, *shape): the mirror image of `_Down`, by sub-pixels."""

    def __init__(self, shape: tuple[int, ...], config: AutoencoderNetwork) -> None:
        super().__init__()
        self.shape, self.one_dimensional = shape, config.network == "conv1d"
        sides = [_sides(shape)]
        for _ in config.hidden:
            sides.append(tuple(-(-side // 2) if side > 1 else 1 for side in sides[-1]))
        self.inner = (config.hidden[-1], *sides[-1])
        self.enter = nn.Linear(config.latent, math.prod(self.inner))
        stages: list[nn.Module] = []
        for i in reversed(range(len(config.hidden))):
            after = config.hidden[i - 1] if i else shape[-1]
            stages.append(_Double(config.hidden[i], after, sides[i + 1], sides[i], last=i == 0))
        self.stages = nn.Sequential(*stages)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.enter(latents)).reshape(-1, *self.inner)
        restored: torch.Tensor = self.stages(features)
        # (N, C, rows, columns) to the layout of the data.
        return restored.permute(0, 2, 3, 1).reshape(-1, *self.shape)


class _Double(nn.Module):
    """Doubles the sides of features (N, channels, *sides) and cuts them to the sides wanted."""

    def __init__(
        self,
        channels: int,
        after: int,
        sides: tuple[int, ...],
        wanted: tuple[int, ...],
        *,
        last: bool,
    ) -> None:
        super().__init__()
        self.wanted, self.last = wanted, last
        self.factors = tuple(2 if side > 1 else 1 for side in wanted)
        self.refine = _convolution(channels, channels, sides)
        self.expand = _convolution(channels, after * math.prod(self.factors), sides)
        self.after = after
        if last:
            _zero(self.expand)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.expand(torch.relu(self.refine(x)))
        rows, columns = self.factors
        n, _, height, width = x.shape
        x = x.reshape(n, self.after, rows, columns, height, width)
        x = x.permute(0, 1, 4, 2, 5, 3).reshape(n, self.after, height * rows, width * columns)
        x = x[:, :, : self.wanted[0], : self.wanted[1]]
        return x if self.last else torch.relu(x)


def _sides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Rows and columns of an item as convolutions see it: a series is one row."""
    return (1, shape[0]) if len(shape) == 2 else shape[:2]


def _channels_first(x: torch.Tensor, one_dimensional: bool) -> torch.Tensor:
    # One-dimensional convolutions run as 1 x K ones, which are faster on every runtime.
    return x.permute(0, 2, 1)[:, :, None] if one_dimensional else x.permute(0, 3, 1, 2)


def _convolution(
    channels: int, after: int, sides: tuple[int, ...], *, stride: int = 1
) -> nn.Conv2d:
    # Along a side of one there is nothing to look at; a series gets a wider kernel instead.
    wide = 5 if sides[0] == 1 else 3
    kernel = tuple(wide if side > 1 else 1 for side in sides)
    strides = tuple(stride if side > 1 else 1 for side in sides)
    padding = tuple(side // 2 for side in kernel)
    return nn.Conv2d(channels, after, kernel, stride=strides, padding=padding)  # type: ignore[arg-type]


def _dense(size: int, hidden: tuple[int, ...], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for units in hidden:
        layers += [nn.Linear(size, units), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
        size = units
    return nn.Sequential(*layers)


def _zero(layer: nn.Module) -> nn.Module:
    """The layer with weights and bias at zero: what it adds is nothing at first."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    return layer
