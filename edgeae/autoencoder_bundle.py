"""What an autoencoder's bundle holds beside its graphs, checked: layout, prior, tables."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.bundle import Bundle
from edgeae.coding.item_latent import ItemLatent
from edgeae.errors import BundleError

__all__ = ["Layout", "read_coder", "read_layout", "read_mixture", "read_prior"]

# Axes of one item of each kind of data.
KINDS = {"vector": 1, "signal": 2, "image": 3}
MAX_ENTRIES, MAX_LATENTS, MAX_MIXTURE = 1 << 24, 1 << 12, 256

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Layout:
    """The manifest's layout and latent sections, checked."""

    kind: str
    shape: tuple[int, ...]
    dtype: str
    latents: int
    masked: bool
    mixture: int


def read_coder(bundle: Bundle, latents: int) -> ItemLatent:
    """What codes the latents. Raises BundleError if tables.bin does not hold it."""
    try:
        return ItemLatent.from_bytes(bundle.read("tables.bin"), latents)
    except ValueError as error:
        raise BundleError(f"{bundle.manifest.name}: tables.bin has {error}") from None


def read_layout(bundle: Bundle) -> Layout:
    """The layout and latent sections of the manifest. Raises BundleError, naming the key."""
    manifest = bundle.manifest
    layout, latent = manifest.layout, manifest.latent or {}
    kind, shape, dtype = layout.get("kind"), layout.get("shape"), layout.get("dtype")
    if not isinstance(kind, str) or kind not in KINDS:
        raise BundleError(
            f"{manifest.name}: layout.kind is {kind!r}, expected one of {', '.join(KINDS)}"
        )
    sizes: list[Any] = shape if isinstance(shape, list) else []
    whole = len(sizes) == KINDS[kind] and all(type(size) is int and size >= 1 for size in sizes)
    if not whole or math.prod(sizes) > MAX_ENTRIES:
        raise BundleError(
            f"{manifest.name}: layout.shape is {shape!r}, expected {KINDS[kind]} whole numbers "
            f"from 1 with a product of at most {MAX_ENTRIES}"
        )
    if dtype not in ("float32", "uint8"):
        raise BundleError(
            f"{manifest.name}: layout.dtype is {dtype!r}, expected 'float32' or 'uint8'"
        )
    size, masked = latent.get("size"), latent.get("masked", False)
    if type(size) is not int or not 1 <= size <= MAX_LATENTS:
        raise BundleError(f"{manifest.name}: latent.size is {size!r}, expected 1 to {MAX_LATENTS}")
    if type(masked) is not bool:
        raise BundleError(f"{manifest.name}: latent.masked is {masked!r}, expected true or false")
    mixture = latent.get("mixture", 0)
    if type(mixture) is not int or not 0 <= mixture <= MAX_MIXTURE:
        raise BundleError(
            f"{manifest.name}: latent.mixture is {mixture!r}, expected 0 to {MAX_MIXTURE}"
        )
    return Layout(kind, tuple(sizes), dtype, size, masked, mixture)


def read_prior(bundle: Bundle, latents: int) -> tuple[Floats, npt.NDArray[np.float64]]:
    """Mean (latents,) and Cholesky factor (latents, latents) of the training data's latents."""
    values = _stored(bundle, "latents.npy", (latents + 1, latents))
    factor = _factors(bundle, "latents.npy", values[1:])
    return values[0], factor


def read_mixture(bundle: Bundle, layout: Layout) -> npt.NDArray[np.float64] | None:
    """Components of the latents' distribution, (components, latents + 2, latents): the weight in
    every entry of the first row, the mean, the Cholesky factor; None where there is one alone."""
    if not layout.mixture:
        return None
    name = "mixture.npy"
    values = _stored(bundle, name, (layout.mixture, layout.latents + 2, layout.latents))
    components = values.astype(np.float64)
    components[:, 2:] = _factors(bundle, name, values[:, 2:])
    if not (components[:, 0, 0] >= 0).all() or not components[:, 0, 0].sum() > 0:
        raise BundleError(f"{bundle.manifest.name}: {name} holds weights that are negative or 0")
    return components


def _stored(bundle: Bundle, file: str, expected: tuple[int, ...]) -> Floats:
    """A float32 array of a bundle's file. Raises BundleError if it is another."""
    name = f"{bundle.manifest.name}: {file}"
    try:
        values: Floats = np.load(io.BytesIO(bundle.read(file)), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise BundleError(f"{name} is no array: {error}") from None
    if values.shape != expected or values.dtype != np.float32 or not np.isfinite(values).all():
        raise BundleError(
            f"{name} holds {values.dtype} {values.shape}, expected finite float32 {expected}"
        )
    return values


def _factors(bundle: Bundle, file: str, values: Floats) -> npt.NDArray[np.float64]:
    """Lower triangular matrices, whose diagonals must be positive."""
    factors = np.tril(values.astype(np.float64))
    if not (np.diagonal(factors, axis1=-2, axis2=-1) > 0).all():
        raise BundleError(
            f"{bundle.manifest.name}: {file} holds no Cholesky factor: its diagonal is not positive"
        )
    return factors
