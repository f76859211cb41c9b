"""An autoencoder of windows of normal series, and the error that a detector scores by."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from train.autoencoder.network import Autoencoder, AutoencoderNetwork

FRONTS = ("none", "center", "spectrum", "statistics")
WHITENINGS = ("none", "channel", "entry")
USUAL = ("training", "both")
# Below this share of a channel's mean power in normal data a frequency is silence.
_SILENCE = 1e-4
# Below this share of a channel's deviation in normal data a deviation is none: a twentieth, so that
# the logarithm does not make much of noise of the sensor alone.
_STILL_SHARE = 0.05
# Below this share of the latents' mean variance a latent is still.
_STILL = 1e-3


@dataclass(frozen=True)
class DetectorNetwork:
    """Sizes of a detector.

    Attributes:
        front: what windows become first: "none" leaves them, "center" takes each channel's mean
            off, "spectrum" gives the logarithm of each channel's power at every frequency,
            "statistics" gives each channel's mean and the logarithms of the standard deviations of
            its samples and of their differences.
        network, latent, hidden: of the autoencoder, see `AutoencoderNetwork`: "conv1d" sees
            neighbours in time, "dense" all of a window at once.
        whiten: errors count in units of what they are in normal data, for each "channel", for each
            "entry" of the window, or all alike ("none").
        usual: where errors and latents are measured that count as normal: in windows that were
            learned from ("training"), or in "both" these and those held back, each half. What
            drifts, or was learned by heart, then counts less.
        latent_distance: weight of how far the latents lie from those of normal data, beside the
            error: what is strange but like the components comes back well. See `Detector.forward`.
    """

    front: str = "none"
    network: str = "conv1d"
    latent: int = 16
    hidden: tuple[int, ...] = (32, 64, 64)
    whiten: str = "channel"
    usual: str = "training"
    latent_distance: float = 0.0

    def __post_init__(self) -> None:
        for key, value, known in (
            ("front", self.front, FRONTS),
            ("network", self.network, ("conv1d", "dense")),
            ("whiten", self.whiten, WHITENINGS),
            ("usual", self.usual, USUAL),
        ):
            if value not in known:
                raise ValueError(f"{key} is {value!r}, expected one of {', '.join(known)}")
        if not 0 <= self.latent_distance < 1e6:
            raise ValueError(f"latent_distance is {self.latent_distance}, expected 0 or more")


class Detector(nn.Module):
    """Windows (N, samples, channels) in the data's own units to squared errors."""

    slow_layers = ("autoencoder.encoder.linear.", "autoencoder.decoder.linear.")

    def __init__(self, config: DetectorNetwork, shape: tuple[int, int]) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        samples, channels = shape
        self.rows = {"spectrum": samples // 2, "statistics": 3}.get(config.front, samples)
        least = {"spectrum": 2, "statistics": 3}.get(config.front, 1)
        if samples < least:
            raise ValueError(
                f"windows of {samples} samples have no {config.front}, expected at least {least}"
            )
        features = (self.rows, channels)
        inner = (math.prod(features),) if config.network == "dense" else features
        self.autoencoder = Autoencoder(
            AutoencoderNetwork(network=config.network, latent=config.latent, hidden=config.hidden),
            inner,
        )
        # What squared errors are in normal data, and below what power a frequency is silence.
        self.register_buffer("usual", torch.ones(features))
        self.register_buffer("silence", torch.full((channels,), 1e-12))
        if config.latent_distance:
            self.register_buffer("center", torch.zeros(config.latent))
            self.register_buffer("whitening", torch.eye(config.latent))
        if config.front == "spectrum":
            time = torch.arange(samples) * (2 * math.pi / samples)
            angles = time[:, None] * torch.arange(1, self.rows + 1)
            taper = torch.hann_window(samples, periodic=True)[:, None] * math.sqrt(8 / 3) / samples
            self.register_buffer("cosine", angles.cos() * taper, persistent=False)
            self.register_buffer("sine", angles.sin() * taper, persistent=False)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """What the autoencoder sees of windows (N, samples, channels): (N, rows, channels)."""
        if self.config.front == "center":
            return x - x.mean(1, keepdim=True)
        if self.config.front == "spectrum":
            return torch.log(self._power(x) + self.get_buffer("silence"))
        if self.config.front == "statistics":
            mean, still = x.mean(1, keepdim=True), self.get_buffer("silence")
            steps = x[:, 1:] - x[:, :-1]
            spreads = [(x - mean).square().mean(1), (steps - steps.mean(1, True)).square().mean(1)]
            return torch.cat([mean, 0.5 * torch.log(torch.stack(spreads, 1) + still)], 1)
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Squared errors (N, rows, channels) in normalized units, see `usual`.

        With `latent_distance`, to each is added so many times the squared Mahalanobis distance of
        the window's latents, per latent: both have a mean of one in normal data, as the two halves
        of the combined index of Yue and Qin (2001).
        """
        features = self.features(x)
        difference, latents = self._compared(features, features)
        errors = difference.square() / self.get_buffer("usual")
        if not self.config.latent_distance:
            return errors
        whitened = (latents - self.get_buffer("center")) @ self.get_buffer("whitening")
        distance = self.config.latent_distance * whitened.square().mean(1)
        return errors + distance[:, None, None]

    def residual(self, shown: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """The difference between features (N, rows, channels) and what comes back of those of
        `shown`, windows, in units of the features' own spread."""
        return self._compared(self.features(shown), wanted)[0]

    def _compared(
        self, features: torch.Tensor, wanted: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What `residual` gives of features (N, rows, channels), and their latents (N, latent)."""
        given = features.reshape(-1, *self.autoencoder.shape)
        restored, latents, _ = self.autoencoder(given)
        scale = self.autoencoder.get_buffer("scale")
        difference: torch.Tensor = (restored - wanted.reshape(given.shape)) / scale
        return difference.reshape(-1, self.rows, self.shape[1]), latents

    @torch.no_grad()
    def start(self, x: torch.Tensor) -> None:
        """Fit the normalization and begin with the principal components of training windows."""
        if self.config.front == "spectrum":
            power = self._power(x).mean((0, 1))
            self.get_buffer("silence").copy_(_SILENCE * power + 1e-12)
        if self.config.front == "statistics":
            power = x.var((0, 1), correction=0)
            self.get_buffer("silence").copy_(_STILL_SHARE**2 * power + 1e-12)
        features = self.features(x).reshape(-1, *self.autoencoder.shape)
        self.autoencoder.start_linear(features, torch.ones_like(features))

    @torch.no_grad()
    def fit_usual(self, x: torch.Tensor, held: torch.Tensor | None = None) -> None:
        """Measure what squared errors, and latents, are of normal windows (N, samples, channels).

        Args:
            x: windows that were learned from.
            held: windows that were not, which count as much as all of `x` if `usual` is "both".
        """
        parts = [x] if self.config.usual == "training" or held is None else [x, held]
        if self.config.latent_distance:
            self._fit_latents(parts)
        if self.config.whiten == "none":
            return
        squares = torch.stack([self._squares(part) for part in parts]).mean(0)
        overall = squares.mean().clamp_min(1e-9)
        if self.config.whiten == "channel":
            squares = squares.mean(0, keepdim=True).expand_as(squares)
        # What is never wrong in training, such as a constant channel, must not be all that counts.
        self.get_buffer("usual").copy_(squares.clamp_min(float(0.05 * overall)))

    def _squares(self, x: torch.Tensor) -> torch.Tensor:
        """The mean squared error (rows, channels) of windows (N, samples, channels)."""
        return torch.cat(
            [self.residual(part, self.features(part)).square() for part in x.split(256)]
        ).mean(0)

    def _fit_latents(self, parts: list[torch.Tensor]) -> None:
        """Center of the latents of the windows of the first part, and what lies around it."""
        of_parts = []
        for x in parts:
            features = [self.features(part) for part in x.split(256)]
            of_parts.append(torch.cat([self._compared(f, f)[1] for f in features]).double())
        center = of_parts[0].mean(0)
        around = [(latents - center).T @ (latents - center) / len(latents) for latents in of_parts]
        covariance = torch.stack(around).mean(0)
        # Latents that hardly move would count most, and say least.
        floor = _STILL * covariance.diagonal().mean().clamp_min(1e-12)
        covariance += floor * torch.eye(len(center), dtype=torch.float64, device=center.device)
        inverse = torch.linalg.inv(torch.linalg.cholesky(covariance))
        self.get_buffer("center").copy_(center)
        self.get_buffer("whitening").copy_(inverse.T)

    def _power(self, x: torch.Tensor) -> torch.Tensor:
        """Power of each frequency but zero, (N, samples // 2, channels)."""
        centred = (x - x.mean(1, keepdim=True)).transpose(1, 2)
        real, imaginary = (centred @ self.get_buffer(name) for name in ("cosine", "sine"))
        return (real.square() + imaginary.square()).transpose(1, 2)
