"""What an autoencoder is trained to lower: reconstruction error, and a penalty or a prior."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from train.autoencoder.network import Autoencoder

RECONSTRUCTIONS = ("mse", "mae", "bce")


@dataclass(frozen=True)
class AutoencoderLoss:
    """Reconstruction plus penalties; a weight of 0 leaves one out.

    Errors are in normalized units, so that a weight means the same for every data set.

    Attributes:
        reconstruction: "mse", "mae", or "bce" for data in [0, 1].
        sparsity: weight of the mean absolute latent.
        contraction: weight of the squared Frobenius norm of the encoder's Jacobian (Rifai et al.
            2011): exact for dense networks, by Hutchinson's estimate for convolutions.
        whole_contraction: weight of that norm of the whole way, d output / d input in normalized
            units, by Hutchinson's estimate (Alain and Bengio 2014). A decoder cannot make up for
            it, as it can for smaller latents: it is what noise on the input adds to the output.
        kl: weight of the divergence from a standard normal prior, for variational networks (beta
            of Higgins et al. 2017).
        kl_warmup_steps: steps over which that weight grows from 0.
        free_bits: bits of each latent that the prior does not count (Kingma et al. 2016).
        noise: standard deviation of Gaussian noise on the input, in normalized units.
        hide: share of the known entries that are hidden from the encoder, which it must fill in.
        hide_spans: hidden entries lie together, as gaps in series and holes in images.
        l1, l2: penalties on weights.
    """

    reconstruction: str = "mse"
    sparsity: float = 0.0
    contraction: float = 0.0
    whole_contraction: float = 0.0
    kl: float = 0.0
    kl_warmup_steps: int = 500
    free_bits: float = 0.0
    noise: float = 0.0
    hide: float = 0.0
    hide_spans: bool = False
    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self) -> None:
        if self.reconstruction not in RECONSTRUCTIONS:
            raise ValueError(
                f"reconstruction is {self.reconstruction!r}, "
                f"expected one of {', '.join(RECONSTRUCTIONS)}"
            )
        if not 0 <= self.hide < 1:
            raise ValueError(f"hide is {self.hide}, expected 0 to below 1")


def autoencoder_loss(
    network: nn.Module,
    x: torch.Tensor,
    known: torch.Tensor,
    config: AutoencoderLoss,
    step: int,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of a batch and its parts.

    Args:
        network: the autoencoder, or what wraps it for several processes.
        x: items (N, *shape) in the data's units.
        known: 1 where an entry is known, (N, *shape).
        config: what counts how much.
        step: the step's number, for the warm-up of the prior.
    """
    plain = getattr(network, "module", network)
    assert isinstance(plain, Autoencoder)
    shown, seen = corrupt(plain, x, known, config)
    if config.contraction or config.whole_contraction:
        shown = shown.detach().requires_grad_()
    restored, latents, log_variance = network(shown, seen)
    error = reconstruction_error(plain, restored, x, known, config.reconstruction)
    loss, parts = error, {"error": error}
    if config.sparsity:
        parts["activity"] = latents.abs().mean()
        loss = loss + config.sparsity * parts["activity"]
    if log_variance is not None:
        divergence = kl_divergence(latents, log_variance, config.free_bits)
        grown = min(1.0, (step + 1) / max(1, config.kl_warmup_steps))
        # Per entry, as the reconstruction is.
        parts["kl"] = divergence / x[0].numel()
        loss = loss + config.kl * grown * parts["kl"]
    if config.contraction:
        exact = plain.config.network == "dense"
        parts["contraction"] = jacobian_norm(shown, latents, plain.get_buffer("scale"), exact)
        loss = loss + config.contraction * parts["contraction"]
    if config.whole_contraction:
        scale = plain.get_buffer("scale")
        normal = ((restored - plain.get_buffer("mean")) / scale).flatten(1)
        parts["whole_contraction"] = jacobian_norm(shown, normal, scale, exact=False)
        loss = loss + config.whole_contraction * parts["whole_contraction"]
    if config.l1 or config.l2:
        weights = [p for p in network.parameters() if p.ndim > 1]
        loss = loss + config.l1 * sum(w.abs().sum() for w in weights)
        loss = loss + config.l2 * sum(w.square().sum() for w in weights)
    return loss, parts


def corrupt(
    network: Autoencoder, x: torch.Tensor, known: torch.Tensor, config: AutoencoderLoss
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the encoder is shown of a batch, and which of its entries it is told are known.

    Args:
        network: whose scale of the data noise is relative to.
        x: items, float32 (N, *shape) in the data's units.
        known: 1 where an entry is known, float32 (N, *shape).
        config: which corruption, and how much.

    Returns:
        Two arrays like `x` and `known`.
    """
    seen = known
    if config.hide:
        # Each item hides another share, from nothing to twice the mean.
        share = 2 * config.hide * torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device)
        hidden = _spans(x, share) if config.hide_spans else torch.rand_like(x) < share
        seen = known * (~hidden).float()
    shown = torch.where(seen > 0, x, network.get_buffer("mean").expand_as(x))
    if config.noise:
        shown = shown + config.noise * network.get_buffer("scale") * torch.randn_like(x)
    return shown, seen


def _spans(x: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """A span of time, or a rectangle of an image, of each item: True inside, (N, *shape)."""
    hidden = torch.ones_like(x, dtype=torch.bool)
    axes = range(1, max(2, x.ndim - 1))
    for axis in axes:
        size = x.shape[axis]
        length = (share.flatten().clamp(0, 1) ** (1 / len(axes)) * size).round()
        start = (torch.rand(len(x), device=x.device) * (size - length + 1)).floor()
        place = torch.arange(size, device=x.device)
        inside = (place >= start[:, None]) & (place < (start + length)[:, None])
        shape = [len(x)] + [size if a == axis else 1 for a in range(1, x.ndim)]
        hidden = hidden & inside.reshape(shape)
    return hidden


def reconstruction_error(
    network: Autoencoder,
    restored: torch.Tensor,
    x: torch.Tensor,
    known: torch.Tensor,
    kind: str = "mse",
) -> torch.Tensor:
    """Mean error over the known entries, a float32 scalar: normalized units, or nats for "bce".

    Args:
        network: whose scale of the data errors are relative to.
        restored: what came back, float32 (N, *shape) in the data's units.
        x: the items, likewise.
        known: 1 where an entry is known, float32 (N, *shape).
        kind: which error, one of those of `AutoencoderLoss`.
    """
    if kind == "bce":
        each = F.binary_cross_entropy(
            restored.clamp(1e-5, 1 - 1e-5), x.clamp(0, 1), reduction="none"
        )
    else:
        difference = (restored - x) / network.get_buffer("scale")
        each = difference.square() if kind == "mse" else difference.abs()
    return (torch.where(known > 0, each, 0)).sum() / known.sum().clamp_min(1)


def kl_divergence(
    mean: torch.Tensor, log_variance: torch.Tensor, free_bits: float = 0.0
) -> torch.Tensor:
    """Divergence of N(mean, variance) from N(0, 1), a float32 scalar in nats an item.

    Args:
        mean, log_variance: float32 (N, latent).
        free_bits: bits of each latent that cost nothing, from 0.
    """
    each = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
    floor = free_bits * 0.6931
    return each.mean(0).clamp_min(floor).sum()


def jacobian_norm(
    shown: torch.Tensor, latents: torch.Tensor, scale: torch.Tensor, exact: bool
) -> torch.Tensor:
    """Mean squared Frobenius norm of d latents / d normalized input, a differentiable scalar.

    Exact: the sum of the squared gradients of every latent. Otherwise Hutchinson's estimate,
    E |v J|^2 = |J|^2 for v of independent signs.

    Args:
        shown: what the encoder saw, float32 (N, *shape), which gradients are taken to.
        latents: what it gave, float32 (N, latent).
        scale: of the data's entries, which broadcasts over `shown`.
        exact: a pass back for each latent instead of one in all.
    """
    directions: list[torch.Tensor]
    if exact:
        directions = [row.expand_as(latents) for row in torch.eye(latents.shape[1])]
    else:
        directions = [torch.randint_like(latents, 2) * 2 - 1]
    total = latents.new_zeros(())
    for direction in directions:
        (gradient,) = torch.autograd.grad(
            latents, shown, direction.to(latents.device), create_graph=True
        )
        total = total + (gradient * scale).flatten(1).square().sum(1).mean()
    return total
