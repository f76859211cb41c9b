"""The codec: pictures to bytes and back, through one bundle.

`compress` reads from top to bottom: tiles, analysis graph, rounding in coding order, entropy
coding, file.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import bitstream, context, entropy
from .bundle import Bundle, bundled_with_codec_id, find
from .errors import BitstreamError, BundleError, UnknownCodec
from .layout import Tile, pad_to_stride, scaled, tiles
from .runtime import CPU, Graph

__all__ = ["Codec", "Latent", "decompress"]

LEVELS = 65
LEVELS_PER_QUALITY = 8
DEFAULT_QUALITY = 5

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Latent:
    """What the bytes hold: integers, and what is needed to make a picture of them.

    Attributes:
        symbols: int32 (channels, ceil(height / stride), ceil(width / stride)).
        level: quantization level, 0 (coarsest) to 64.
        height, width: pixels of the picture.
        gray: True for one channel.
        flat: True for a picture given as (H, W).
    """

    symbols: context.Symbols
    level: int
    height: int
    width: int
    gray: bool = False
    flat: bool = False


@dataclass(frozen=True)
class LatentSpec:
    """The manifest's `latent` section, checked."""

    stride: int
    slices: tuple[context.SliceSpec, ...]
    encoder_halo: int
    decoder_halo: int
    tile: int

    @property
    def channels(self) -> int:
        """Latent channels of all slices."""
        return sum(part.channels for part in self.slices)


class Codec:
    """A learned picture codec; safe to use from many threads."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        precision: str | None = None,
        providers: Sequence[str] | None = None,
        threads: int = 1,
        strict: bool = False,
    ) -> None:
        """See `load`."""
        if bundle.manifest.task != "codec" or bundle.manifest.latent is None:
            raise BundleError(f"{bundle.manifest.name} is a {bundle.manifest.task}, not a codec")
        self.bundle = bundle
        self.precision = bundle.precision(precision)
        self._spec = _latent_spec(bundle.manifest.latent, bundle.manifest.name)
        self._id = bytes.fromhex(bundle.manifest.codec_id or "")
        self._tables, self._steps = _read_tables(bundle, self._spec)
        self._dead_zones = dead_zones(self._tables)

        def graph(role: str) -> Graph:
            there = bundle.manifest.graphs.get(role, {})
            kind = self.precision if self.precision in there else "fp32"
            return Graph(
                bundle.graph_file(role, kind), providers=providers, threads=threads, strict=strict
            )

        self._encoder, self._decoder = graph("encoder"), graph("decoder")
        # The context graphs are exact integer arithmetic on the CPU, whatever runs the rest.
        self._context = context.ContextModel(
            self._spec.slices,
            [
                Graph(bundle.graph_file(f"context{i}", "fp32"), providers=[CPU], threads=threads)
                for i in range(len(self._spec.slices))
            ],
        )

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        precision: str | None = None,
        providers: Sequence[str] | None = None,
        threads: int = 1,
        strict: bool = False,
    ) -> Codec:
        """The codec of a bundled model's name or of a bundle's folder.

        Args:
            model: a name that `edgeae models` lists, or a path.
            precision: "fp32" or "int8" for the encoder; None takes int8 where there is one.
            providers: onnxruntime's provider names for the encoder and decoder; None is the CPU.
            threads: threads of one graph.
            strict: refuse to run any node elsewhere than on `providers`.

        Raises:
            BundleError: not there, damaged, or not a codec.
            ProviderError: a provider is not available or takes no node.
        """
        return cls(
            find(model), precision=precision, providers=providers, threads=threads, strict=strict
        )

    def compress(
        self, image: Image, *, quality: float | None = None, max_bytes: int | None = None
    ) -> bytes:
        """The bytes of a picture, as an .eae file holds them.

        Args:
            image: uint8 (H, W, 3), (H, W, 1) or (H, W).
            quality: 1 (smallest) to 9 in steps of an eighth; 5 if neither this nor `max_bytes` is
                given.
            max_bytes: the finest level whose file is not larger; the network runs only once.

        Raises:
            TypeError, ValueError: the picture or an argument is not as above, or even the coarsest
                level does not fit into `max_bytes`.
        """
        if quality is not None and max_bytes is not None:
            raise ValueError("give quality or max_bytes, not both")
        pixels, gray, flat = _pixels(image)

        def header(level: int) -> bitstream.Header:
            height, width = pixels.shape[:2]
            return bitstream.Header(self._id, level, height, width, gray, flat)

        if max_bytes is None:
            level = level_of_quality(DEFAULT_QUALITY if quality is None else quality)
            blocks = [self._code(latents, level) for _, latents in self._analyze(pixels)]
            return bitstream.write(header(level), blocks)
        analyzed = [latents for _, latents in self._analyze(pixels)]
        return _finest_that_fits(
            lambda level: bitstream.write(
                header(level), [self._code(latents, level) for latents in analyzed]
            ),
            max_bytes,
        )

    def decompress(self, blob: bytes) -> Image:
        """The picture of an .eae file, uint8 with the shape and rank that were compressed.

        Raises:
            BitstreamError: not an .eae file, cut off, damaged or over a limit.
            UnknownCodec: written by another codec.
        """
        header, blocks = bitstream.read(_as_bytes(blob))
        if header.codec_id != self._id:
            raise UnknownCodec(
                f"the file was written by codec {header.codec_id.hex()}, "
                f"{self.bundle.manifest.name} is {self._id.hex()}",
                codec_id=header.codec_id,
            )
        grid = self._grid(header.height, header.width)
        layout = list(tiles(*grid, side=self._spec.tile, halo=self._spec.decoder_halo))
        if len(blocks) != len(layout):
            raise BitstreamError(f"the file has {len(blocks)} tiles, expected {len(layout)}")

        def row_of_symbols(row: int) -> npt.NDArray[np.int16]:
            columns = -(-grid[1] // self._spec.tile)
            some = slice(row * columns, (row + 1) * columns)
            parts = [
                self._decode_block(bytes(block), tile.shape, header.level)
                for block, tile in zip(blocks[some], layout[some], strict=True)
            ]
            return np.concatenate(parts, axis=2)

        rgb = self._synthesize(row_of_symbols, header.level, header.height, header.width)
        return _as_given(rgb, header.gray, header.flat)

    def encode(self, image: Image, *, quality: float = DEFAULT_QUALITY) -> Latent:
        """The latent of a picture: what `compress` at this quality writes.

        Raises:
            TypeError, ValueError: as for `compress`.
        """
        pixels, gray, flat = _pixels(image)
        level = level_of_quality(quality)
        height, width = pixels.shape[:2]
        symbols = np.empty((self._spec.channels, *self._grid(height, width)), np.int32)
        for tile, latents in self._analyze(pixels):
            symbols[:, tile.rows, tile.columns] = self._quantize(latents, level)
        return Latent(symbols, level, height, width, gray, flat)

    def decode(self, latent: Latent) -> Image:
        """The picture of a latent, uint8.

        Raises:
            ValueError: shape, level or values are not those of this codec's latents.
        """
        grid = self._grid(latent.height, latent.width)
        expected = (self._spec.channels, *grid)
        if latent.symbols.shape != expected:
            raise ValueError(f"symbols have shape {latent.symbols.shape}, expected {expected}")
        if not 0 <= latent.level < LEVELS:
            raise ValueError(f"level is {latent.level}, expected 0 to {LEVELS - 1}")
        if np.abs(latent.symbols).max() > context.SYMBOL_LIMIT:
            raise ValueError(f"symbols reach beyond {context.SYMBOL_LIMIT}")
        side = self._spec.tile

        def row_of_symbols(row: int) -> npt.NDArray[np.int16]:
            return latent.symbols[:, row * side : (row + 1) * side].astype(np.int16)

        rgb = self._synthesize(row_of_symbols, latent.level, latent.height, latent.width)
        return _as_given(rgb, latent.gray, latent.flat)

    def report(self) -> dict[str, Any]:
        """What was asked for and what runs where, graph by graph."""
        graphs = {"encoder": self._encoder, "decoder": self._decoder}
        graphs |= {f"context{i}": graph for i, graph in enumerate(self._context.graphs)}
        return {
            "bundle": self.bundle.id,
            "name": self.bundle.manifest.name,
            "precision": self.precision,
            "graphs": {role: graph.report() for role, graph in graphs.items()},
        }

    def _grid(self, height: int, width: int) -> tuple[int, int]:
        stride = self._spec.stride
        return -(-height // stride), -(-width // stride)

    def _analyze(self, pixels: Image) -> Iterator[tuple[Tile, Floats]]:
        """Every tile with its unquantized latents (channels, h, w)."""
        stride = self._spec.stride
        padded = pad_to_stride(pixels, stride)
        grid = padded.shape[0] // stride, padded.shape[1] // stride
        for tile in tiles(*grid, side=self._spec.tile, halo=self._spec.encoder_halo):
            seen = padded[scaled(tile.seen_rows, stride), scaled(tile.seen_columns, stride)]
            planes = np.empty((1, 3, *seen.shape[:2]), np.float32)
            np.multiply(seen.transpose(2, 0, 1), np.float32(1 / 255), out=planes[0])
            (latents,) = self._encoder(planes)
            yield tile, latents[0, :, tile.inner_rows, tile.inner_columns]

    def _chooser(self, latents: Floats, level: int) -> context.Decide:
        """What turns latents into symbols at a level, stage by stage."""
        quantized = latents / self._steps[level][:, None, None]
        np.clip(quantized, -context.SYMBOL_LIMIT, context.SYMBOL_LIMIT, out=quantized)
        return functools.partial(round_symbols, quantized, self._dead_zones)

    def _quantize(self, latents: Floats, level: int) -> context.Symbols:
        shape = latents.shape[1], latents.shape[2]
        return self._context.walk(shape, level, self._chooser(latents, level))

    def _code(self, latents: Floats, level: int) -> bytes:
        encoder = entropy.Encoder(self._tables)
        shape = latents.shape[1], latents.shape[2]
        context.code(self._context, shape, level, encoder, self._chooser(latents, level))
        return encoder.finish()

    def _decode_block(
        self, block: bytes, shape: tuple[int, int], level: int
    ) -> npt.NDArray[np.int16]:
        decoder = entropy.Decoder(self._tables, block)
        return context.decode(self._context, shape, level, decoder).astype(np.int16)

    def _synthesize(
        self,
        row_of_symbols: Callable[[int], npt.NDArray[np.int16]],
        level: int,
        height: int,
        width: int,
    ) -> Image:
        """The picture (height, width, 3), from rows of tiles that are made when they are first
        needed."""
        stride, side, halo = self._spec.stride, self._spec.tile, self._spec.decoder_halo
        grid = self._grid(height, width)
        image = np.empty((grid[0] * stride, grid[1] * stride, 3), np.uint8)
        rows: dict[int, npt.NDArray[np.int16]] = {}
        steps = self._steps[level][:, None, None]
        level_input = np.full((1, 1, 1, 1), level / (LEVELS - 1), np.float32)
        for tile in tiles(*grid, side=side, halo=halo):
            first, last = tile.seen_rows.start // side, (tile.seen_rows.stop - 1) // side
            for row in range(first, last + 1):
                if row not in rows:
                    rows[row] = row_of_symbols(row)
            for row in [row for row in rows if row < first]:
                del rows[row]
            seen = np.concatenate([rows[row] for row in range(first, last + 1)], axis=1)
            top = tile.seen_rows.start - first * side
            seen = seen[
                :, top : top + tile.seen_rows.stop - tile.seen_rows.start, tile.seen_columns
            ]
            (planes,) = self._decoder((seen * steps)[None].astype(np.float32), level_input)
            kept = planes[0, :, scaled(tile.inner_rows, stride), scaled(tile.inner_columns, stride)]
            whole = np.rint(np.clip(kept, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
            image[scaled(tile.rows, stride), scaled(tile.columns, stride)] = whole
        return image[:height, :width]


def decompress(blob: bytes) -> Image:
    """The picture of an .eae file, by the bundled codec that its id names.

    Raises:
        BitstreamError: not an .eae file, cut off, damaged or over a limit.
        UnknownCodec: no bundled codec has this id.
    """
    data = _as_bytes(blob)
    return _bundled_codec(bitstream.read_header(data).codec_id).decompress(data)


@functools.lru_cache(maxsize=4)
def _bundled_codec(codec_id: bytes) -> Codec:
    return Codec(bundled_with_codec_id(codec_id))


def level_of_quality(quality: float) -> int:
    """The quantization level of a quality from 1 to 9. Raises ValueError outside."""
    if not isinstance(quality, int | float) or not 1 <= quality <= 9:
        raise ValueError(f"quality is {quality!r}, expected 1 (smallest) to 9")
    return round((quality - 1) * LEVELS_PER_QUALITY)


def _finest_that_fits(write: Callable[[int], bytes], max_bytes: int) -> bytes:
    if max_bytes < 1:
        raise ValueError(f"max_bytes is {max_bytes}, expected at least 1")
    low, best = 0, write(0)
    if len(best) > max_bytes:
        raise ValueError(f"the picture needs at least {len(best)} bytes, max_bytes is {max_bytes}")
    high = LEVELS
    while high - low > 1:
        middle = (low + high) // 2
        blob = write(middle)
        if len(blob) <= max_bytes:
            low, best = middle, blob
        else:
            high = middle
    return best


def round_symbols(quantized: Floats, zones: Floats, stage: context.Stage) -> context.Ints:
    """Whole symbols for a stage: the nearest, unless a smaller one saves more bits than it costs.

    Args:
        quantized: latents in quantization steps, (channels, h, w).
        zones: see `dead_zones`.
        stage: which of them to round.
    """
    values = quantized[stage.channels].reshape(-1)[stage.places]
    if stage.centers is None:
        magnitudes = np.abs(values)
        whole = np.floor(magnitudes + np.float32(0.5) - zones[1][stage.tables])
        whole[magnitudes < np.float32(0.5) + zones[0][stage.tables]] = 0
        values = np.copysign(whole, values)
    symbols: context.Ints = np.rint(values).astype(np.int64)
    return symbols


# At a high rate the distortion of a uniform quantizer is step ** 2 / 12 and falls by 2 ln 2 of
# itself a bit.
_ERROR_PER_BIT = 2 * np.log(2) / 12
# How much of that pays at the first step from zero and at later ones: a symbol is also context for
# others, and the decoder expects plain rounding. Best of 0, 0.5, 1 and 1.5 each on held-out
# training pictures: 5.6 % fewer bytes at equal PSNR than plain rounding.
_FIRST_STEP, _LATER_STEPS = 1.0, 0.5


def dead_zones(tables: entropy.Tables) -> Floats:
    """How much further than halfway a magnitude must lie to be rounded up, (2, scales): from 0 to
    1, and from there on.

    (1 - x) ** 2 - x ** 2 = 1 - 2 x, so that rounding up pays when x exceeds 1/2 by half of what
    the bits cost.
    """
    bits = entropy.PRECISION_BITS - np.log2(tables.frequencies[: context.SCALES].astype(np.float64))
    # The first step away from zero also costs a sign.
    first, later = bits[:, 1] + 1 - bits[:, 0], bits[:, 2] - bits[:, 1]
    extra = np.stack([_FIRST_STEP * first, _LATER_STEPS * later])
    # Where a symbol stands for a bucket of values there is nothing to weigh.
    extra[:, tables.shifts[: context.SCALES] > 0] = 0
    zones: Floats = np.maximum(extra * (_ERROR_PER_BIT / 2), 0).astype(np.float32)
    return zones


def _pixels(image: Any) -> tuple[Image, bool, bool]:
    """The picture as (H, W, 3), and whether it is gray and flat."""
    if not isinstance(image, np.ndarray):
        raise TypeError(f"image is {type(image).__name__}, expected a uint8 array (H, W, 3)")
    if image.dtype != np.uint8:
        raise TypeError(f"image has dtype {image.dtype}, expected uint8")
    if image.size == 0:
        raise ValueError(f"image has shape {image.shape}: it has no pixels")
    flat = image.ndim == 2
    gray = flat or image.ndim == 3 and image.shape[2] == 1
    if not gray and (image.ndim != 3 or image.shape[2] != 3):
        raise ValueError(f"image has shape {image.shape}, expected (H, W, 3), (H, W, 1) or (H, W)")
    if gray:
        image = np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    return image, gray, flat


def _as_given(rgb: Image, gray: bool, flat: bool) -> Image:
    if not gray:
        return np.ascontiguousarray(rgb)
    one: Image = np.rint(rgb.mean(axis=2, dtype=np.float32)).astype(np.uint8)
    return one if flat else one[:, :, None]


def _as_bytes(blob: Any) -> bytes:
    if not isinstance(blob, bytes | bytearray | memoryview):
        raise TypeError(f"blob is {type(blob).__name__}, expected bytes")
    return bytes(blob)


def _latent_spec(raw: Mapping[str, Any], name: str) -> LatentSpec:
    try:
        spec = LatentSpec(
            stride=int(raw["stride"]),
            slices=tuple(
                context.SliceSpec(int(p["channels"]), bool(p["centered"]), int(p["phases"]))
                for p in raw["slices"]
            ),
            encoder_halo=int(raw["encoder_halo"]),
            decoder_halo=int(raw["decoder_halo"]),
            tile=int(raw["tile"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{name}: the manifest's latent section is wrong: {error!r}") from None
    sizes_fit = 1 <= spec.stride <= 64 and 1 <= spec.tile <= 1024 and 1 <= spec.channels <= 4096
    halos_fit = 0 <= spec.encoder_halo <= spec.tile and 0 <= spec.decoder_halo <= spec.tile
    phases_fit = all(part.phases in (1, 2) and part.channels > 0 for part in spec.slices)
    if not (sizes_fit and halos_fit and phases_fit):
        raise BundleError(f"{name}: the manifest's latent section has a value out of range")
    return spec


def _read_tables(bundle: Bundle, spec: LatentSpec) -> tuple[entropy.Tables, Floats]:
    """The entropy tables and the quantization steps (levels, channels) of tables.bin."""
    data = bundle.read("tables.bin")
    sizes = [2 * context.TABLES * entropy.ALPHABET, context.TABLES, 4 * LEVELS * spec.channels]
    if len(data) != sum(sizes):
        raise BundleError(f"tables.bin has {len(data)} bytes, expected {sum(sizes)}")
    frequencies = np.frombuffer(data, "<u2", sizes[0] // 2).astype(np.uint16)
    shifts = np.frombuffer(data, np.uint8, sizes[1], offset=sizes[0])
    steps = np.frombuffer(data, "<f4", offset=sizes[0] + sizes[1]).astype(np.float32)
    if not (np.isfinite(steps).all() and (steps > 0).all()):
        raise BundleError("tables.bin has a quantization step that is not a positive number")
    try:
        tables = entropy.Tables(frequencies.reshape(context.TABLES, entropy.ALPHABET), shifts)
    except ValueError as error:
        raise BundleError(f"tables.bin: {error}") from None
    return tables, steps.reshape(LEVELS, spec.channels)
