"""An autoencoder of a user's own data: latents, reconstructions, gaps filled in, new items."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.bundle import Bundle, find, reopened
from edgeae.errors import BundleError, EdgeaeError
from edgeae.opening import report_of
from edgeae.providers import Provider
from edgeae.runtime import Graph
from edgeae.window_stream import WindowStream

__all__ = ["Autoencoder"]

# Axes of one item of each kind of data.
KINDS = {"vector": 1, "signal": 2, "image": 3}
MAX_ENTRIES, MAX_LATENTS, MAX_MIXTURE = 1 << 24, 1 << 12, 256
# Items that go through a graph at once: enough for a processor to be busy, little memory.
BATCH = 256
# Of a model that was not trained with gaps, what fills them settles within so many passes.
FILL_PASSES = 10

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Layout:
    """The manifest's layout and latent sections, checked."""

    kind: str
    shape: tuple[int, ...]
    dtype: str
    latents: int
    masked: bool
    mixture: int


class Autoencoder:
    """Items of one shape to latents and back; safe to use from many threads.

    An item is a vector (features,), a piece of a signal (samples, channels) or an image (H, W, C),
    as `shape` says, float32 in the units of the training data. Images may be uint8. Every method
    takes one item or a batch (N, *shape) and gives back as many.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        precision: str | None = None,
        providers: Sequence[Provider] | None = None,
        device: str | None = None,
        threads: int = 1,
        strict: bool = False,
    ) -> None:
        """See `load`."""
        if bundle.manifest.task != "autoencoder":
            raise BundleError(
                f"{bundle.manifest.name} is a {bundle.manifest.task}, expected an autoencoder"
            )
        self.bundle = bundle
        self._settings = {
            "precision": precision,
            "providers": None if providers is None else list(providers),
            "device": device,
            "threads": threads,
            "strict": strict,
        }
        self.precision = bundle.precision(precision)
        self._layout = _layout(bundle)

        def graph(role: str) -> Graph:
            return Graph(
                bundle.graph(role, self.precision),
                providers=providers,
                device=device,
                threads=threads,
                strict=strict,
            )

        self._encoder, self._decoder = graph("encoder"), graph("decoder")
        inputs = 2 if self._layout.masked else 1
        if len(self._encoder.inputs) != inputs or len(self._decoder.inputs) != 1:
            raise BundleError(
                f"{bundle.manifest.name}: the encoder has {len(self._encoder.inputs)} inputs and "
                f"the decoder {len(self._decoder.inputs)}, expected {inputs} and 1"
            )
        self._prior_mean, self._prior_factor = _prior(bundle, self._layout.latents)
        self._mixture = _mixture(bundle, self._layout)

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        precision: str | None = None,
        providers: Sequence[Provider] | None = None,
        device: str | None = None,
        threads: int = 1,
        strict: bool = False,
    ) -> Autoencoder:
        """The autoencoder of a bundled model's name or of a bundle's folder.

        Args:
            model: a name that `edgeae models` lists, or a path.
            precision: "fp32" or "int8"; None takes int8 where there is one.
            providers: onnxruntime's provider names, or pairs of a name and its options.
            device: "cpu", "gpu", "npu" or "auto" instead of `providers`.
            threads: threads of one graph.
            strict: refuse to run any node elsewhere than on `providers`.

        Raises:
            BundleError: not there, damaged, or not an autoencoder.
            ProviderError: a provider is not available or takes no node.
        """
        return cls(
            find(model),
            precision=precision,
            providers=providers,
            device=device,
            threads=threads,
            strict=strict,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles and copies by the bundle's path and the settings of `load`: no weights."""
        return reopened, (Autoencoder, self.bundle.path, self.bundle.id, self._settings)

    @property
    def kind(self) -> str:
        """ "vector", "signal" or "image"."""
        return self._layout.kind

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one item: (features,), (samples, channels) or (H, W, C)."""
        return self._layout.shape

    @property
    def latents(self) -> int:
        """Latents of one item."""
        return self._layout.latents

    @property
    def masked(self) -> bool:
        """Whether the model was trained with missing values."""
        return self._layout.masked

    @property
    def graphs(self) -> dict[str, Graph]:
        """The graphs that run, by role."""
        return {"encoder": self._encoder, "decoder": self._decoder}

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.shape))
        return (
            f"<Autoencoder {self.bundle.manifest.name}: {self.kind} {shape} to "
            f"{self.latents} latents, {self.precision}>"
        )

    def encode(self, x: Array, *, known: Array | None = None) -> Floats:
        """Latents, float32 (latents,) of one item or (N, latents) of a batch.

        Args:
            x: an item or a batch, see the class.
            known: bool that broadcasts to the shape of `x`, True where an entry is known, for a
                model that was trained with missing values; None if all are.

        Raises:
            TypeError, ValueError: another dtype or shape, a value that is not finite, or `known`
                where the model knows no missing values.
        """
        if known is None:
            items, single = self._items(x)
            return _as_given(self._encode(items, None), single)
        if not self.masked:
            raise ValueError("known is given, expected None: the model knows no missing values")
        given, mask = _known(x, known)
        items, single = self._items(given)
        return _as_given(self._encode(items, mask.reshape(items.shape)), single)

    def stream(self, *, hop_samples: int | None = None) -> WindowStream:
        """Latents of a signal that arrives in blocks of any size, for a model of such windows.

            stream = model.stream(hop_samples=32)
            for block in blocks:
                windows = stream.push(block)  # .starts, .items, .latents

        Args:
            hop_samples: distance between windows; None sets one after the other.

        Raises:
            ValueError: the model takes no signal, or `hop_samples` is not a whole number from 1.
        """
        return WindowStream(self, hop_samples=hop_samples)

    def decode(self, latents: Array) -> Floats:
        """Items, float32 (*shape) or (N, *shape), of latents (latents,) or (N, latents).

        Raises:
            TypeError, ValueError: another dtype or shape, or a value that is not finite.
        """
        codes = _finite_floats(latents, "latents")
        single = codes.ndim == 1
        codes = codes[None] if single else codes
        if codes.ndim != 2 or codes.shape[1] != self.latents:
            raise ValueError(
                f"latents have shape {np.shape(latents)}, expected ({self.latents},) "
                f"or (N, {self.latents})"
            )
        return _as_given(self._decode(codes), single)

    def reconstruct(self, x: Array) -> Array:
        """What comes back of items through the latents, of the shape and dtype of `x`.

        Args:
            x: an item or a batch, see the class.

        Raises:
            TypeError, ValueError: as `encode`.
        """
        items, single = self._items(x)
        return self._in_dtype_of(x, _as_given(self._decode(self._encode(items, None)), single))

    def fill(self, x: Array, known: Array) -> Array:
        """Items whose unknown entries are filled in; what is known stays exactly.

        Args:
            x: an item or a batch; whatever stands at unknown entries, NaN too, counts for nothing.
            known: bool of the same shape as `x`, or one that broadcasts to it: True where an entry
                is known.

        Raises:
            TypeError, ValueError: as `encode`, or `known` is no such mask.
        """
        given, mask = _known(x, known)
        items, single = self._items(given)
        seen = mask.reshape(items.shape)
        if self._layout.masked:
            restored = self._decode(self._encode(items, seen))
        else:
            # Begin with the mean, then let the model correct its own filling.
            mean = self._decode(self._prior_mean[None])
            restored = np.asarray(np.broadcast_to(mean, items.shape))
            for _ in range(FILL_PASSES):
                restored = self._decode(self._encode(np.where(seen, items, restored), None))
        filled = self._in_dtype_of(given, _as_given(restored, single))
        return np.where(mask, given, filled)

    def sample(self, n: int, *, seed: int | None = None) -> Floats:
        """New items, float32 (n, *shape), from latents that are spread as those of the training
        data: normal distributions fitted to them, one or a mixture (Ghosh et al. 2020).

        Raises:
            TypeError, ValueError: n is no whole number from 1.
        """
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
            raise ValueError(f"n is {n!r}, expected a whole number from 1")
        rng = np.random.default_rng(seed)
        normal = rng.standard_normal((int(n), self.latents))
        if self._mixture is None:
            latents = self._prior_mean + normal @ self._prior_factor.T
        else:
            latents, weights = normal, self._mixture[:, 0, 0]
            chosen = rng.choice(len(weights), int(n), p=weights / weights.sum())
            for k, (mean, factor) in enumerate(zip(*_parts(self._mixture), strict=True)):
                latents[chosen == k] = mean + normal[chosen == k] @ factor.T
        return self._decode(latents.astype(np.float32))

    def interpolate(self, a: Array, b: Array, steps: int) -> Floats:
        """Items on the way from one to another, float32 (steps, *shape), both ends included.

        The way is spherical in the latents once their spread is made round: halfway between two
        typical items lies a typical one.

        Args:
            a, b: one item each.
            steps: how many, at least 2.

        Raises:
            TypeError, ValueError: as `encode`, or `steps` is not a whole number from 2.
        """
        if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 2:
            raise ValueError(f"steps is {steps!r}, expected a whole number from 2")
        ends = []
        for name, item in (("a", a), ("b", b)):
            latents = self.encode(item)
            if latents.ndim != 1:
                raise ValueError(f"{name} has shape {np.shape(item)}, expected {self.shape}")
            ends.append(np.linalg.solve(self._prior_factor, latents - self._prior_mean))
        path = _spherical(ends[0], ends[1], np.linspace(0, 1, int(steps)))
        codes = self._prior_mean + path @ self._prior_factor.T
        return self._decode(codes.astype(np.float32))

    def report(self) -> dict[str, Any]:
        """What was asked for and what runs where, graph by graph."""
        return report_of(self.bundle, self.precision, self.graphs)

    def _items(self, x: Array) -> tuple[Floats, bool]:
        """Items (N, *shape) as the encoder takes them, and whether one was given."""
        values = x
        if isinstance(x, np.ndarray) and x.dtype == np.uint8 and self._layout.dtype == "uint8":
            values = x.astype(np.float32) * np.float32(1 / 255)
        items = _finite_floats(values, "x")
        single = items.ndim == len(self.shape)
        items = items[None] if single else items
        if items.shape[1:] != self.shape or not len(items):
            raise ValueError(
                f"x has shape {np.shape(x)}, expected {self.shape} or (N, {str(self.shape)[1:]}"
            )
        return items, single

    def _in_dtype_of(self, x: Array, items: Floats) -> Array:
        if np.asarray(x).dtype == np.uint8:
            return np.rint(np.clip(items, 0, 1) * 255).astype(np.uint8)
        return items.astype(np.asarray(x).dtype, copy=False)

    def _encode(self, items: Floats, known: npt.NDArray[np.bool_] | None) -> Floats:
        found = []
        for start in range(0, len(items), BATCH):
            batch = np.ascontiguousarray(items[start : start + BATCH])
            inputs = [batch]
            if self._layout.masked:
                seen = np.ones(batch.shape) if known is None else known[start : start + BATCH]
                inputs.append(np.ascontiguousarray(seen, np.float32))
            found.append(self._run(self._encoder, inputs, (self.latents,)))
        return np.concatenate(found)

    def _decode(self, latents: Floats) -> Floats:
        found = []
        for start in range(0, len(latents), BATCH):
            batch = np.ascontiguousarray(latents[start : start + BATCH])
            found.append(self._run(self._decoder, [batch], self.shape))
        return np.concatenate(found)

    @staticmethod
    def _run(graph: Graph, inputs: list[Floats], shape: tuple[int, ...]) -> Floats:
        (values,) = graph(*inputs)
        expected = (len(inputs[0]), *shape)
        if values.shape != expected or values.dtype != np.float32:
            raise EdgeaeError(
                f"{graph.file.name} gives {values.dtype} {values.shape}, "
                f"expected float32 {expected}"
            )
        if not np.isfinite(values).all():
            raise EdgeaeError(f"{graph.file.name} gives numbers that are not finite")
        return values


def _layout(bundle: Bundle) -> _Layout:
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
    return _Layout(kind, tuple(sizes), dtype, size, masked, mixture)


def _prior(bundle: Bundle, latents: int) -> tuple[Floats, npt.NDArray[np.float64]]:
    """Mean (latents,) and Cholesky factor (latents, latents) of the training data's latents."""
    values = _stored(bundle, "latents.npy", (latents + 1, latents))
    factor = _factors(bundle, "latents.npy", values[1:])
    return values[0], factor


def _mixture(bundle: Bundle, layout: _Layout) -> npt.NDArray[np.float64] | None:
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


def _parts(mixture: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], ...]:
    """Means (components, latents) and factors (components, latents, latents)."""
    return mixture[:, 1], mixture[:, 2:]


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


def _spherical(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], t: Array) -> Array:
    """Points from a to b, (len(t), latents): the angle and the length change evenly."""
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    if min(lengths) < 1e-9:
        return a + t[:, None] * (b - a)
    u, v = a / lengths[0], b / lengths[1]
    angle = np.arccos(np.clip(u @ v, -1, 1))
    if np.sin(angle) < 1e-6:
        return a + t[:, None] * (b - a)
    way = (np.sin((1 - t) * angle)[:, None] * u + np.sin(t * angle)[:, None] * v) / np.sin(angle)
    return np.asarray(way * ((1 - t) * lengths[0] + t * lengths[1])[:, None])


def _known(x: Array, known: Array) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Items with zeros at unknown entries, and what is known, of their shape."""
    given = np.asarray(x)
    mask = np.asarray(known)
    if mask.dtype != np.bool_:
        raise TypeError(f"known has dtype {mask.dtype}, expected bool")
    try:
        mask = np.broadcast_to(mask, given.shape)
    except ValueError:
        raise ValueError(
            f"known has shape {np.shape(known)}, expected that of x, {given.shape}"
        ) from None
    if given.dtype.kind == "f":
        given = np.where(mask, given, given.dtype.type(0))
    return given, mask


def _finite_floats(values: Any, name: str) -> Floats:
    if not isinstance(values, np.ndarray) or isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"{name} is {type(values).__name__}, expected a numpy array")
    if values.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name} has dtype {values.dtype}, expected float32 or float64")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds NaN or infinity: `fill` takes values that are missing")
    return values.astype(np.float32, copy=False)


def _as_given(values: Floats, single: bool) -> Floats:
    return values[0] if single else values
