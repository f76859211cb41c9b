"""An autoencoder of a user's own data: latents, reconstructions, gaps filled in, new items."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.autoencoder_bundle import read_coder, read_layout, read_mixture, read_prior
from edgeae.bundle import Bundle, find, reopened
from edgeae.coding import item_file
from edgeae.coding.container import as_bytes
from edgeae.coding.item_latent import ItemLatent
from edgeae.coding.rate import (
    DEFAULT_QUALITY,
    finest_that_fits,
    level_of_quality,
    quality_of_level,
)
from edgeae.errors import BitstreamError, BundleError, EdgeaeError, UnknownCodec
from edgeae.opening import report_of
from edgeae.providers import Provider
from edgeae.runtime import Graph
from edgeae.window_stream import WindowStream

__all__ = ["Autoencoder", "file_codec_id", "file_info"]

# Items that go through a graph at once: enough for a processor to be busy, little memory.
BATCH = 256
# Entries of all items of a file that are decoded if no other limit is given: 256 MB of float32.
MAX_FILE_ENTRIES = 1 << 26
# Of a model that was not trained with gaps, what fills them settles within so many passes.
FILL_PASSES = 10

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


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
        self._layout = read_layout(bundle)

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
        self._prior_mean, self._prior_factor = read_prior(bundle, self._layout.latents)
        self._mixture = read_mixture(bundle, self._layout)
        self._codec_id = bytes.fromhex(bundle.manifest.codec_id or "")
        self._coder = read_coder(bundle, self._layout.latents) if self._codec_id else None

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

    def compress(
        self,
        x: Array,
        *,
        quality: float | None = None,
        max_bytes: int | None = None,
        known: Array | None = None,
    ) -> bytes:
        """The bytes of an item or a batch, as an .eae file holds them: its latents, rounded to
        steps and coded by tables that were counted on the training items.

        Args:
            x: an item or a batch, see the class. One costs 13 bytes besides its latents, 256 of
                them together 14.
            quality: 1 (smallest) to 9 in steps of an eighth; 5 if none is given. At 5 rounding adds
                about a quarter to the model's own squared error, at 9 nearly nothing.
            max_bytes: the finest level whose file is not larger.
            known: as for `encode`; what is unknown comes back filled in.

        Raises:
            TypeError, ValueError: as `encode`, both or other than such bounds, even the coarsest
                level does not fit, or more than 2 ** 26 entries or 2 ** 24 items.
            BundleError: the bundle has no tables: it was exported before there were such files, or
                has too many latents.
        """
        coder = self._coding()
        if quality is not None and max_bytes is not None:
            raise ValueError("quality and max_bytes are given, expected one of them")
        latents = self.encode(x, known=known)
        single = latents.ndim == 1
        rows = latents[None] if single else latents
        if not self._readable(len(rows), MAX_FILE_ENTRIES):
            raise ValueError(
                f"x has shape {np.shape(x)}, expected at most {MAX_FILE_ENTRIES} entries and "
                f"{item_file.MAX_ITEMS} items in one file"
            )
        dtype = np.asarray(x).dtype.name

        def write(level: int) -> bytes:
            header = item_file.Header(self._codec_id, level, dtype, len(rows), single)
            return item_file.write(header, coder.encode(coder.quantize(rows, level), level))

        if max_bytes is not None:
            return finest_that_fits(write, max_bytes)
        return write(level_of_quality(DEFAULT_QUALITY if quality is None else quality))

    def decompress(self, blob: bytes, *, max_entries: int = MAX_FILE_ENTRIES) -> Array:
        """The items of a file, of the shape and dtype that `compress` was given.

        Args:
            blob: the file.
            max_entries: of all items together, what is more is refused.

        Raises:
            TypeError: blob is no bytes.
            BitstreamError: not a file of items, cut off, damaged or over a limit.
            UnknownCodec: another model wrote it.
            BundleError: the bundle has no tables.
        """
        coder = self._coding()
        content = item_file.read(as_bytes(blob))
        header = content.header
        if not self._codec_id.startswith(header.codec_id):
            raise UnknownCodec(
                f"made by a model with codec id {header.codec_id.hex()}, expected "
                f"{self._codec_id.hex()}, that of {self.bundle.manifest.name}",
                codec_id=header.codec_id,
            )
        if not self._readable(header.items, max_entries):
            raise BitstreamError(
                f"the file holds {header.items} items of {math.prod(self.shape)} entries, "
                f"expected at most {max_entries} entries in all"
            )
        symbols = coder.decode(content.blocks, header.items, header.level)
        items = self._decode(coder.dequantize(symbols, header.level))
        return self._in_dtype(np.dtype(header.dtype), _as_given(items, header.single))

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

    def _coding(self) -> ItemLatent:
        if self._coder is None:
            raise BundleError(
                f"{self.bundle.manifest.name} has no tables to compress with: export it again"
            )
        return self._coder

    def _readable(self, items: int, max_entries: int) -> bool:
        return items <= item_file.MAX_ITEMS and items * math.prod(self.shape) <= max_entries

    def _in_dtype_of(self, x: Array, items: Floats) -> Array:
        return self._in_dtype(np.asarray(x).dtype, items)

    @staticmethod
    def _in_dtype(dtype: np.dtype[Any], items: Floats) -> Array:
        if dtype == np.uint8:
            return np.rint(np.clip(items, 0, 1) * 255).astype(np.uint8)
        return items.astype(dtype, copy=False)

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


def file_codec_id(data: bytes, **_: Any) -> bytes:
    """The id of the model that wrote a file of items: 16 bytes, or the first 4 in the small form.

    Raises BitstreamError if there is no sound header.
    """
    return item_file.read_header(data).codec_id


def file_info(data: bytes) -> dict[str, Any]:
    """What the header of a file of items says: {"kind", "items", "dtype", "quality", "level",
    "codec_id"}.

    `items` are 0 for one without the axis of a batch; `codec_id` is hexadecimal, short in the small
    form. Only the beginning of the file need be there. Raises BitstreamError.
    """
    header = item_file.read_header(data)
    return {
        "kind": "items",
        "items": 0 if header.single else header.items,
        "dtype": header.dtype,
        "quality": quality_of_level(header.level),
        "level": header.level,
        "codec_id": header.codec_id.hex(),
    }


def _parts(mixture: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], ...]:
    """Means (components, latents) and factors (components, latents, latents)."""
    return mixture[:, 1], mixture[:, 2:]


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
