"""The codec: pictures to bytes and back, through one bundle.

`compress` reads from top to bottom: tiles, analysis graph, rounding in coding order, entropy
coding, file.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import bitstream, context, entropy, plane
from .bundle import Bundle, bundled_with_codec_id, find
from .errors import BitstreamError, BundleError, UnknownCodec
from .latent import LEVELS, check_ports, latent_spec, read_tables
from .layout import Tile, pad_to_stride, scaled, tiles
from .providers import Provider
from .runtime import CPU, Graph

__all__ = ["Codec", "Latent", "decompress"]

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
        channels: 1, 3 or 4 of a picture (H, W, channels), 0 for (H, W).
        alpha: transparency, kept exactly, uint8 (height, width), if there are 4 channels.
    """

    symbols: context.Symbols
    level: int
    height: int
    width: int
    channels: int = 3
    alpha: npt.NDArray[np.uint8] | None = None


class Codec:
    """A learned picture codec; safe to use from many threads."""

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
        if bundle.manifest.task != "codec":
            raise BundleError(f"{bundle.manifest.name} is a {bundle.manifest.task}, not a codec")
        self.bundle = bundle
        self.precision = bundle.precision(precision)
        self._spec = latent_spec(bundle)
        self._id = bytes.fromhex(bundle.manifest.codec_id or "")
        self._tables, self._steps = read_tables(bundle, self._spec)
        self._dead_zones = dead_zones(self._tables)

        def graph(role: str) -> Graph:
            there = bundle.manifest.graphs.get(role, {})
            kind = self.precision if self.precision in there else "fp32"
            return Graph(
                bundle.graph_file(role, kind),
                providers=providers,
                device=device,
                threads=threads,
                strict=strict,
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
        check_ports(self._spec, self._encoder, self._decoder, self._context.graphs)

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
    ) -> Codec:
        """The codec of a bundled model's name or of a bundle's folder.

        Args:
            model: a name that `edgeae models` lists, or a path.
            precision: "fp32" or "int8" for the encoder; None takes int8 where there is one.
            providers: onnxruntime's provider names for the encoder and decoder, or pairs of a name
                and its options; None is the CPU.
            device: "cpu", "gpu", "npu" or "auto" instead of `providers`, see `Graph`.
            threads: threads of one graph.
            strict: refuse to run any node elsewhere than on `providers`.

        Raises:
            BundleError: not there, damaged, or not a codec.
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

    def compress(
        self, image: Image, *, quality: float | None = None, max_bytes: int | None = None
    ) -> bytes:
        """The bytes of a picture, as an .eae file holds them.

        Args:
            image: uint8 (H, W, 3), (H, W, 4) whose transparency is kept exactly, (H, W, 1), (H, W).
            quality: 1 (smallest) to 9 in steps of an eighth; 5 if neither this nor `max_bytes` is
                given.
            max_bytes: the finest level whose file is not larger; the network runs only once.

        Raises:
            TypeError, ValueError: the picture or an argument is not as above, or even the coarsest
                level does not fit into `max_bytes`.
        """
        if quality is not None and max_bytes is not None:
            raise ValueError("give quality or max_bytes, not both")
        pixels, alpha, channels = _pixels(image)
        height, width = pixels.shape[:2]
        packed = None if alpha is None else plane.pack(alpha)

        def write(level: int, analyzed: Iterable[Floats]) -> bytes:
            header = bitstream.Header(self._id, level, height, width, channels)
            blocks = [self._code(latents, level) for latents in analyzed]
            return bitstream.write(header, bitstream.Content(blocks, packed))

        analyzed = (latents for _, latents in self._analyze(pixels))
        if max_bytes is None:
            return write(
                level_of_quality(DEFAULT_QUALITY if quality is None else quality), analyzed
            )
        kept = list(analyzed)
        return _finest_that_fits(lambda level: write(level, kept), max_bytes)

    def decompress(self, blob: bytes) -> Image:
        """The picture of an .eae file, uint8 with the shape and rank that were compressed.

        Raises:
            BitstreamError: not an .eae file, cut off, damaged or over a limit.
            UnknownCodec: written by another codec.
        """
        header, content = bitstream.read(_as_bytes(blob))
        if not self._id.startswith(header.codec_id):
            raise UnknownCodec(
                f"the file was written by codec {header.codec_id.hex()}, "
                f"{self.bundle.manifest.name} is {self._id.hex()}",
                codec_id=header.codec_id,
            )
        grid = self._grid(header.height, header.width)
        columns = -(-grid[1] // self._spec.tile)
        expected = -(-grid[0] // self._spec.tile) * columns
        if len(content.blocks) != expected:
            raise BitstreamError(f"the file has {len(content.blocks)} tiles, expected {expected}")
        alpha = None
        if content.alpha is not None:
            alpha = plane.unpack(bytes(content.alpha), header.height, header.width)
        layout = list(tiles(*grid, side=self._spec.tile, halo=self._spec.decoder_halo))

        def row_of_symbols(row: int) -> npt.NDArray[np.int16]:
            some = slice(row * columns, (row + 1) * columns)
            parts = [
                self._decode_block(bytes(block), tile.shape, header.level)
                for block, tile in zip(content.blocks[some], layout[some], strict=True)
            ]
            return np.concatenate(parts, axis=2)

        rgb = self._synthesize(row_of_symbols, header.level, header.height, header.width)
        return _as_given(rgb, alpha, header.channels)

    def encode(self, image: Image, *, quality: float = DEFAULT_QUALITY) -> Latent:
        """The latent of a picture: what `compress` at this quality writes.

        Raises:
            TypeError, ValueError: as for `compress`.
        """
        pixels, alpha, channels = _pixels(image)
        level = level_of_quality(quality)
        height, width = pixels.shape[:2]
        symbols = np.empty((self._spec.channels, *self._grid(height, width)), np.int32)
        for tile, latents in self._analyze(pixels):
            symbols[:, tile.rows, tile.columns] = self._quantize(latents, level)
        return Latent(symbols, level, height, width, channels, alpha)

    def decode(self, latent: Latent) -> Image:
        """The picture of a latent, uint8.

        Raises:
            ValueError: shape, level or values are not those of this codec's latents.
        """
        if latent.height < 1 or latent.width < 1:
            raise ValueError(f"a latent of {latent.width} x {latent.height} pixels has none")
        grid = self._grid(latent.height, latent.width)
        expected = (self._spec.channels, *grid)
        if latent.symbols.shape != expected:
            raise ValueError(f"symbols have shape {latent.symbols.shape}, expected {expected}")
        if latent.channels not in bitstream.CHANNELS:
            raise ValueError(f"channels are {latent.channels}, expected {bitstream.CHANNELS}")
        if (latent.alpha is not None) != (latent.channels == 4):
            there = "no" if latent.alpha is None else "an"
            raise ValueError(f"a latent of {latent.channels} channels has {there} alpha")
        if latent.alpha is not None and (
            latent.alpha.dtype != np.uint8 or latent.alpha.shape != (latent.height, latent.width)
        ):
            raise ValueError(
                f"alpha is {latent.alpha.dtype} {latent.alpha.shape}, "
                f"expected uint8 {(latent.height, latent.width)}"
            )
        if not 0 <= latent.level < LEVELS:
            raise ValueError(f"level is {latent.level}, expected 0 to {LEVELS - 1}")
        if latent.symbols.dtype.kind != "i":
            raise ValueError(f"symbols are {latent.symbols.dtype}, expected signed integers")
        if max(-int(latent.symbols.min()), int(latent.symbols.max())) > context.SYMBOL_LIMIT:
            raise ValueError(f"symbols reach beyond {context.SYMBOL_LIMIT}")
        side = self._spec.tile

        def row_of_symbols(row: int) -> npt.NDArray[np.int16]:
            return latent.symbols[:, row * side : (row + 1) * side].astype(np.int16)

        rgb = self._synthesize(row_of_symbols, latent.level, latent.height, latent.width)
        return _as_given(rgb, latent.alpha, latent.channels)

    @property
    def graphs(self) -> dict[str, Graph]:
        """The graphs that run, by role."""
        contexts = {f"context{i}": graph for i, graph in enumerate(self._context.graphs)}
        return {"encoder": self._encoder, "decoder": self._decoder, **contexts}

    def report(self) -> dict[str, Any]:
        """What was asked for and what runs where, graph by graph."""
        return {
            "bundle": self.bundle.id,
            "name": self.bundle.manifest.name,
            "precision": self.precision,
            "graphs": {role: graph.report() for role, graph in self.graphs.items()},
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
            _check_stride(self._encoder, planes.shape, latents.shape, stride)
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
            _check_stride(self._decoder, planes.shape, (1, *seen.shape), stride)
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
    # numpy's numbers are Real too.
    if not isinstance(quality, Real) or not 1 <= quality <= 9:
        raise ValueError(f"quality is {quality!r}, expected 1 (smallest) to 9")
    return round((float(quality) - 1) * LEVELS_PER_QUALITY)


def _finest_that_fits(write: Callable[[int], bytes], max_bytes: int) -> bytes:
    if not isinstance(max_bytes, Real) or not max_bytes >= 1:
        raise ValueError(f"max_bytes is {max_bytes!r}, expected at least 1")
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


def _pixels(image: Any) -> tuple[Image, Image | None, int]:
    """The picture (H, W, 3), its transparency (H, W), its channels as a header says them."""
    if not isinstance(image, np.ndarray):
        raise TypeError(f"image is {type(image).__name__}, expected a uint8 array (H, W, 3)")
    if image.dtype != np.uint8:
        raise TypeError(f"image has dtype {image.dtype}, expected uint8")
    channels = image.shape[2] if image.ndim == 3 else 0
    if image.ndim not in (2, 3) or channels not in (1, 3, 4) and image.ndim == 3:
        raise ValueError(
            f"image has shape {image.shape}, expected (H, W, 3), (H, W, 4), (H, W, 1) or (H, W)"
        )
    if image.size == 0:
        raise ValueError(f"image has shape {image.shape}: it has no pixels")
    limits = bitstream.Limits()
    if max(image.shape[:2]) > limits.side_pixels or image.shape[0] * image.shape[1] > limits.pixels:
        raise ValueError(
            f"image has shape {image.shape}, allowed are {limits.pixels} pixels in all "
            f"and {limits.side_pixels} a side"
        )
    if channels >= 3:
        return image[:, :, :3], image[:, :, 3] if channels == 4 else None, channels
    return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2), None, channels


def _as_given(rgb: Image, alpha: Image | None, channels: int) -> Image:
    if alpha is not None:
        return np.dstack([rgb, alpha])
    if channels == 3:
        return np.ascontiguousarray(rgb)
    gray: Image = np.rint(rgb.mean(axis=2, dtype=np.float32)).astype(np.uint8)
    return gray if channels == 0 else gray[:, :, None]


def _as_bytes(blob: Any) -> bytes:
    if not isinstance(blob, bytes | bytearray | memoryview):
        raise TypeError(f"blob is {type(blob).__name__}, expected bytes")
    return bytes(blob)


def _check_stride(
    graph: Graph, pixels: tuple[int, ...], latents: tuple[int, ...], stride: int
) -> None:
    if pixels[2:] != (latents[2] * stride, latents[3] * stride):
        raise BundleError(
            f"{graph.file} makes {pixels[2:]} pixels of {latents[2:]} latents or the reverse, "
            f"the manifest's stride is {stride}"
        )
