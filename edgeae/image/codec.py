"""The codec: pictures to bytes and back, through one bundle.

`compress` reads from top to bottom: tiles, analysis graph, rounding in coding order, entropy
coding, file.
"""

from __future__ import annotations

import functools
import operator
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from edgeae.bundle import Bundle, find
from edgeae.coding import container as bitstream
from edgeae.coding import context, entropy
from edgeae.coding.container import Limits
from edgeae.coding.latent import LEVELS, check_ports, latent_spec, read_tables
from edgeae.coding.rounding import rounding
from edgeae.errors import BitstreamError, BundleError, EdgeaeError, UnknownCodec
from edgeae.image import alpha as plane
from edgeae.image import packets as datagram
from edgeae.image.tiles import Tile, inside, overlap, pad_to_stride, scaled, tiles
from edgeae.providers import Provider
from edgeae.runtime import CPU, Graph

__all__ = ["ImageCodec", "Latent", "file_codec_id", "file_info"]

LEVELS_PER_QUALITY = 8
DEFAULT_QUALITY = 5

# A receiver may have to hold the whole picture for the sake of one packet, and each tile, however
# small, takes it a millisecond.
PACKET_LIMITS = Limits(pixels=1 << 24, chunks=1 << 12)
# What a few bytes may leave to concealment whatever their number: see Limits.
_CONCEALED_PIXELS = 1 << 20
# What any file may hold however short it is, a photo of any usual camera: likewise.
_USUAL_PIXELS = 1 << 25

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Symbols = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float32]
Region = tuple[int, int, int, int]
# Rows and columns of pixels.
_Window = tuple[slice, slice]


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


class ImageCodec:
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
        if (kind := bundle.manifest.layout.get("kind")) != "image":
            raise BundleError(f"{bundle.manifest.name} is a codec of {kind!r}, expected 'image'")
        self.bundle = bundle
        self.precision = bundle.precision(precision)
        self._spec = latent_spec(bundle)
        self._id = bytes.fromhex(bundle.manifest.codec_id or "")
        self._tables, self._steps = read_tables(bundle, self._spec)
        self._rounding = rounding(self._tables)

        def graph(role: str) -> Graph:
            there = bundle.manifest.graphs.get(role, {})
            kind = self.precision if self.precision in there else "fp32"
            return Graph(
                bundle.graph(role, kind),
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
                Graph(bundle.graph(f"context{i}", "fp32"), providers=[CPU], threads=threads)
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
    ) -> ImageCodec:
        """The codec of a bundled model's name or of a bundle's folder.

        Args:
            model: a name that `edgeae models` lists, or a path.
            precision: "fp32" or "int8" for encoder and decoder; None takes int8 where there is one.
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

    @overload
    def decompress(
        self,
        blob: bytes,
        *,
        errors: Literal["strict"] = ...,
        region: Region | None = ...,
        limits: Limits | None = ...,
    ) -> Image: ...

    @overload
    def decompress(
        self,
        blob: bytes,
        *,
        errors: Literal["conceal"],
        region: Region | None = ...,
        limits: Limits | None = ...,
    ) -> tuple[Image, Mask]: ...

    def decompress(
        self,
        blob: bytes,
        *,
        errors: Literal["strict", "conceal"] = "strict",
        region: Region | None = None,
        limits: Limits | None = None,
    ) -> Image | tuple[Image, Mask]:
        """The picture of an .eae file, uint8 with the shape and rank that were compressed.

        Args:
            blob: the file.
            errors: "strict" refuses a damaged file. "conceal" puts neutral latents, a plain color,
                in the place of tiles that are damaged or missing and gives a mask (H, W) beside
                the picture: True wherever a pixel may not be what the undamaged file holds. Lost
                transparency is made opaque and masks everything.
            region: (top, left, height, width) in pixels: that part of the picture, exactly as the
                whole would show it. Only the tiles that it needs are decoded; checksums are those
                of the whole file.
            limits: what the file may ask for; None is `Limits()`.

        Raises:
            BitstreamError: not an .eae file, cut off, damaged or over a limit; with "conceal" only
                if no header is left, if the file is of the small form (one piece, whole or
                nothing), or if chunks whose checksums are right contradict each other.
            UnknownCodec: written by another codec.
            TypeError, ValueError: blob, errors or region are not as above.
        """
        data = _as_bytes(blob)
        if errors not in ("strict", "conceal"):
            raise ValueError(f"errors is {errors!r}, expected 'strict' or 'conceal'")
        if errors == "strict":
            header, content = bitstream.read(data, limits)
            blocks, packed = dict(enumerate(content.blocks)), content.alpha
        else:
            remains = bitstream.salvage(data, limits)
            header, packed, blocks = remains.header, remains.alpha, dict(remains.blocks)
        self._check_id(header.codec_id)
        expected = self._tile_count(header, self._spec.tile)
        if errors == "strict" and len(blocks) != expected:
            raise BitstreamError(f"the file has {len(blocks)} tiles, expected {expected}")
        window = _window(region, header.height, header.width)
        _check_proportion(window, len(data), limits)
        self._check_loss(header, self._spec.tile, blocks, len(data), limits)
        layout = self._layout(header, self._spec.tile, limits)
        lost = _lost(layout, blocks)
        columns = sum(tile.rows.start == 0 for tile in layout)
        needed = self._needed(layout, window)

        def row_of_symbols(row: int) -> Symbols:
            parts = [
                self._decode_block(
                    blocks.get(i) if i in needed else None, layout[i].shape, header.level
                )
                for i in range(row * columns, (row + 1) * columns)
            ]
            return np.concatenate(parts, axis=2)

        image = self._synthesize(
            row_of_symbols, header.level, window, channels=header.channels, lost=lost
        )
        if packed is not None:  # after the tiles: a kilobyte of it can unpack to a megabyte
            alpha = plane.unpack(bytes(packed), header.height, header.width)
            image[:, :, 3] = alpha[window]
        if errors == "strict":
            return image
        mask = self._touched(lost, header.height, header.width)[window]
        if header.channels == 4 and packed is None:
            image[:, :, 3] = 255
            mask[:] = True
        return image, mask

    def packets(
        self,
        image: Image,
        *,
        max_packet_bytes: int,
        quality: float = DEFAULT_QUALITY,
        number: int = 0,
    ) -> list[bytes]:
        """The picture in packets, any of which may be lost: see `receive`.

        Tiles are as large as fit into a packet, by powers of two; smaller ones cost more bytes.

        Args:
            image: as for `compress`, without transparency and of at most 2 ** 24 pixels.
            max_packet_bytes: what the largest packet may have, so that 4096 tiles are enough.
            quality: 1 to 9, as for `compress`.
            number: 0 to 255; count it up so that pictures that follow each other are told apart.

        Raises:
            TypeError, ValueError: the picture or an argument is not as above, or at this quality
                not even a tile of one latent fits.
        """
        pixels, alpha, channels = _pixels(image)
        height, width = pixels.shape[:2]
        if alpha is not None:
            raise ValueError("packets hold no transparency: give the first three channels")
        if height * width > PACKET_LIMITS.pixels:
            raise ValueError(
                f"image has shape {image.shape}, packets hold {PACKET_LIMITS.pixels} pixels"
            )
        if type(number) is not int or not 0 <= number <= 255:
            raise ValueError(f"number is {number!r}, expected 0 to 255")
        if not isinstance(max_packet_bytes, Real) or not max_packet_bytes >= 1:
            raise ValueError(f"max_packet_bytes is {max_packet_bytes!r}, expected at least 1")
        header = bitstream.Header(self._id, level_of_quality(quality), height, width, channels)
        latents = np.empty((self._spec.channels, *self._grid(height, width)), np.float32)
        for tile, part in self._analyze(pixels):
            latents[:, tile.rows, tile.columns] = part
        for side_log2 in range(self._spec.tile.bit_length() - 1, -1, -1):
            made = datagram.PacketHeader(header, number, side_log2)
            count = self._tile_count(header, 1 << side_log2)
            if count > PACKET_LIMITS.chunks:
                raise ValueError(
                    f"max_packet_bytes is {max_packet_bytes}, which would take {count} tiles: "
                    f"{PACKET_LIMITS.chunks} are allowed"
                )
            layout = self._layout(header, 1 << side_log2, None)
            room = int(max_packet_bytes) - datagram.overhead_bytes(made, len(layout))
            blocks: list[bytes] = []
            for tile in layout:
                block = self._code(latents[:, tile.rows, tile.columns], header.level)
                if len(block) > room:
                    break
                blocks.append(block)
            else:
                return datagram.write(made, blocks, int(max_packet_bytes))
        raise ValueError(
            f"a tile of one latent needs {len(block) - room} bytes more than max_packet_bytes, "
            f"which is {max_packet_bytes}"
        )

    def receive(
        self, packets: Iterable[bytes], *, limits: Limits | None = None
    ) -> tuple[Image, Mask]:
        """The picture of the packets that arrived, and a mask (H, W) of what is not exact.

        Packets may be lost, doubled, damaged and in any order. Those that are damaged or of
        another codec are passed over; where there are several pictures, that of the most packets
        is taken. The mask is True wherever a pixel may not be what all packets would give.

        Raises:
            TypeError: something that is no bytes.
            BitstreamError: no packet of a picture of this codec is there, or too few for its size.
        """
        allowed = limits or PACKET_LIMITS
        sound: list[datagram.Packet] = []
        came = there_bytes = 0
        for came, packet in enumerate(packets, 1):
            data = _as_bytes(packet)
            if came > allowed.chunks:
                raise BitstreamError(f"more than {allowed.chunks} packets came")
            try:
                held = datagram.read(data, self._id, allowed)
            except BitstreamError:
                continue
            # No writer makes them: they would take many times the memory of the codec's own tiles.
            if 1 << held.header.side_log2 > self._spec.tile:
                continue
            sound.append(held)
            there_bytes += len(data)
        if not sound:
            raise BitstreamError(f"of {came} packets none is sound and of this codec")
        header = Counter(packet.header for packet in sound).most_common(1)[0][0]
        picture = header.picture
        blocks = {
            packet.first + i: block
            for packet in reversed(sound)
            if packet.header == header
            for i, block in enumerate(packet.blocks)
        }
        self._check_loss(picture, 1 << header.side_log2, blocks, there_bytes, allowed)
        layout = self._layout(picture, 1 << header.side_log2, allowed)
        lost = _lost(layout, blocks)
        symbols = np.zeros((self._spec.channels, *lost.shape), np.int16)
        for i, block in blocks.items():
            tile = layout[i]
            symbols[:, tile.rows, tile.columns] = self._decode_block(
                block, tile.shape, picture.level
            )
        window = slice(0, picture.height), slice(0, picture.width)
        image = self._synthesize(
            self._rows_of(symbols), picture.level, window, channels=picture.channels, lost=lost
        )
        return image, self._touched(lost, picture.height, picture.width)

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
        window = slice(0, latent.height), slice(0, latent.width)
        lost = np.zeros(grid, np.bool_)
        image = self._synthesize(
            self._rows_of(latent.symbols), latent.level, window, channels=latent.channels, lost=lost
        )
        if latent.alpha is not None:
            image[:, :, 3] = latent.alpha
        return image

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

    def _tile_count(self, header: bitstream.Header, side: int) -> int:
        height, width = self._grid(header.height, header.width)
        return -(-height // side) * -(-width // side)

    def _layout(self, header: bitstream.Header, side: int, limits: Limits | None) -> list[Tile]:
        """The tiles of a picture, as the decoder sees them. Raises BitstreamError if they are more
        than the chunks that may carry them."""
        count, allowed = self._tile_count(header, side), (limits or Limits()).chunks
        if count > allowed:
            raise BitstreamError(f"the picture has {count} tiles, allowed are {allowed}")
        grid = self._grid(header.height, header.width)
        return list(tiles(*grid, side=side, halo=self._spec.decoder_halo))

    def _check_id(self, codec_id: bytes) -> None:
        if not self._id.startswith(codec_id):
            raise UnknownCodec(
                f"the file was written by codec {codec_id.hex()}, "
                f"{self.bundle.manifest.name} is {self._id.hex()}",
                codec_id=codec_id,
            )

    def _check_loss(
        self,
        header: bitstream.Header,
        side: int,
        blocks: Collection[int],
        there_bytes: int,
        limits: Limits | None,
    ) -> None:
        """Raises BitstreamError for a block without a tile, and for more loss than so many bytes
        may leave; before there is room for anything as large as the picture."""
        count = self._tile_count(header, side)
        if max(blocks, default=0) >= count:
            raise BitstreamError(f"there is a tile {max(blocks)}, the picture has {count}")
        rows, columns = self._grid(header.height, header.width)
        # Tiles at the edges are smaller: at least so much is lost.
        pixels = (rows * columns - len(blocks) * side**2) * self._spec.stride**2
        per_byte = (limits or Limits()).concealed_pixels_per_byte
        if pixels > max(_CONCEALED_PIXELS, per_byte * there_bytes):
            raise BitstreamError(
                f"{pixels} pixels are lost, {there_bytes} bytes are too few to conceal so many"
            )

    def _touched(self, lost: Mask, height: int, width: int) -> Mask:
        """The pixels (height, width) whose decoding sees a lost latent."""
        for axis in (0, 1):
            lost = _widened(lost, self._spec.decoder_halo, axis)
        stride = self._spec.stride
        return lost.repeat(stride, axis=0)[:height].repeat(stride, axis=1)[:, :width]

    def _rows_of(self, symbols: npt.NDArray[Any]) -> Callable[[int], Symbols]:
        side = self._spec.tile
        return lambda row: symbols[:, row * side : (row + 1) * side].astype(np.int16)

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
            _check_numbers(self._encoder, latents)
            yield tile, latents[0, :, tile.inner_rows, tile.inner_columns]

    def _chooser(self, latents: Floats, level: int) -> context.Decide:
        """What turns latents into symbols at a level, stage by stage."""
        quantized = latents / self._steps[level][:, None, None]
        np.clip(quantized, -context.SYMBOL_LIMIT, context.SYMBOL_LIMIT, out=quantized)
        return functools.partial(self._rounding, quantized)

    def _quantize(self, latents: Floats, level: int) -> context.Symbols:
        shape = latents.shape[1], latents.shape[2]
        return self._context.walk(shape, level, self._chooser(latents, level))

    def _code(self, latents: Floats, level: int) -> bytes:
        encoder = entropy.Encoder(self._tables)
        shape = latents.shape[1], latents.shape[2]
        context.code(self._context, shape, level, encoder, self._chooser(latents, level))
        return encoder.finish()

    def _decode_block(
        self, block: bytes | memoryview | None, shape: tuple[int, int], level: int
    ) -> Symbols:
        """The symbols (channels, h, w) of a block; zeros, which are neutral, if it is lost."""
        if block is None:
            return np.zeros((self._spec.channels, *shape), np.int16)
        decoder = entropy.Decoder(self._tables, bytes(block))
        return context.decode(self._context, shape, level, decoder).astype(np.int16)

    def _needed(self, layout: Sequence[Tile], window: _Window) -> set[int]:
        """The numbers of the tiles whose symbols decide the pixels of the window."""
        rows, columns = (
            slice(part.start // self._spec.stride, -(-part.stop // self._spec.stride))
            for part in window
        )
        shown = [
            tile for tile in layout if overlap(tile.rows, rows) and overlap(tile.columns, columns)
        ]
        # Tiles are in rows, so the first and the last span all that is seen.
        rows = slice(shown[0].seen_rows.start, shown[-1].seen_rows.stop)
        columns = slice(shown[0].seen_columns.start, shown[-1].seen_columns.stop)
        return {
            i
            for i, tile in enumerate(layout)
            if overlap(tile.rows, rows) and overlap(tile.columns, columns)
        }

    def _synthesize(
        self,
        row_of_symbols: Callable[[int], Symbols],
        level: int,
        window: _Window,
        *,
        channels: int,
        lost: Mask,
    ) -> Image:
        """The pixels of the window, in as many channels; the fourth is left to the caller.

        They come from rows of tiles that are made when they are first needed. Where all latents
        that a tile sees are `lost` (h, w) it is worked out once for each shape.
        """
        stride, side, halo = self._spec.stride, self._spec.tile, self._spec.decoder_halo
        # A file whose first tiles are unsound is refused before there is room for its picture.
        first = max(0, window[0].start // stride // side * side - halo) // side
        rows: dict[int, Symbols] = {first: row_of_symbols(first)}
        shape = tuple(part.stop - part.start for part in window)
        image = np.empty((*shape, channels) if channels else shape, np.uint8)
        neutral: dict[tuple[int, ...], Image] = {}
        steps = self._steps[level][:, None, None]
        level_input = np.full((1, 1, 1, 1), level / (LEVELS - 1), np.float32)
        for tile in tiles(*lost.shape, side=side, halo=halo):
            whole = scaled(tile.rows, stride), scaled(tile.columns, stride)
            part = overlap(whole[0], window[0]), overlap(whole[1], window[1])
            if part[0] is None or part[1] is None:
                continue
            unseen = bool(lost[tile.seen_rows, tile.seen_columns].all())
            if unseen and tile.view in neutral:
                pixels = neutral[tile.view]
            else:
                first, last = tile.seen_rows.start // side, (tile.seen_rows.stop - 1) // side
                for row in range(first, last + 1):
                    if row not in rows:
                        rows[row] = row_of_symbols(row)
                for row in [row for row in rows if row < first]:
                    del rows[row]
                seen = np.concatenate(
                    [rows[row][:, :, tile.seen_columns] for row in range(first, last + 1)], axis=1
                )
                top = tile.seen_rows.start - first * side
                seen = seen[:, top : top + tile.seen_rows.stop - tile.seen_rows.start]
                latents = np.multiply(seen, steps, dtype=np.float32)
                (planes,) = self._decoder(latents[None], level_input)
                _check_stride(self._decoder, planes.shape, (1, *seen.shape), stride)
                _check_numbers(self._decoder, planes)
                kept = planes[
                    0, :, scaled(tile.inner_rows, stride), scaled(tile.inner_columns, stride)
                ]
                pixels = _to_bytes(kept)
                if unseen:
                    neutral[tile.view] = pixels
            pixels = pixels[:, inside(part[0], whole[0]), inside(part[1], whole[1])]
            target = image[inside(part[0], window[0]), inside(part[1], window[1])]
            if channels >= 3:
                # One plane at a time is twice as fast as a transposed view.
                for plane in range(3):
                    target[:, :, plane] = pixels[plane]
            else:
                gray = np.rint(pixels.mean(axis=0, dtype=np.float32)).astype(np.uint8)
                target[...] = gray.reshape(target.shape)
        return image


def file_codec_id(
    data: bytes,
    *,
    errors: Literal["strict", "conceal"] = "strict",
    limits: Limits | None = None,
    **_: Any,
) -> bytes:
    """The id of the codec that wrote a picture file: 16 bytes, or the first 4 in the small form.

    Takes the options of `ImageCodec.decompress`. Raises BitstreamError if there is no sound header.
    """
    if errors == "conceal":
        return bitstream.salvage(data, limits).header.codec_id
    return bitstream.read_header(data, limits).codec_id


def file_info(data: bytes) -> dict[str, Any]:
    """What the header of a picture file says: {"kind", "width", "height", "channels", "quality",
    "level", "codec_id"}.

    `channels` are those of the array, 0 for (H, W); `codec_id` is hexadecimal, short in the small
    form. Only the beginning of the file need be there. Raises BitstreamError.
    """
    header = bitstream.read_header(data)
    return {
        "kind": "image",
        "width": header.width,
        "height": header.height,
        "channels": header.channels,
        "quality": 1 + header.level / LEVELS_PER_QUALITY,
        "level": header.level,
        "codec_id": header.codec_id.hex(),
    }


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


def _window(region: Region | None, height: int, width: int) -> _Window:
    """The rows and columns of a region, or all. Raises ValueError if it reaches beyond them."""
    if region is None:
        return slice(0, height), slice(0, width)
    try:
        top, left, rows, columns = map(operator.index, region)
    except (TypeError, ValueError):
        raise TypeError(f"region is {region!r}, expected (top, left, height, width)") from None
    inner = top + rows <= height and left + columns <= width
    if not inner or min(top, left) < 0 or min(rows, columns) < 1:
        raise ValueError(
            f"region is {region!r}, expected (top, left, height, width) "
            f"inside a picture of {height} rows and {width} columns"
        )
    return slice(top, top + rows), slice(left, left + columns)


def _check_proportion(window: _Window, there_bytes: int, limits: Limits | None) -> None:
    """Raises BitstreamError for more pixels than so many bytes may stand for."""
    pixels = (window[0].stop - window[0].start) * (window[1].stop - window[1].start)
    per_byte = (limits or Limits()).pixels_per_byte
    if pixels > max(_USUAL_PIXELS, per_byte * there_bytes):
        raise BitstreamError(
            f"the file holds {pixels} pixels in {there_bytes} bytes, allowed are {_USUAL_PIXELS}, "
            f"or {per_byte} a byte: take a region, or set limits=Limits(pixels_per_byte=...)"
        )


def _to_bytes(planes: Floats) -> Image:
    """Planes of [0, 1], and what lies outside clipped, as uint8 of the same shape."""
    values = np.clip(planes, 0, 1)
    values *= 255
    np.rint(values, out=values)
    return values.astype(np.uint8)


def _as_bytes(blob: Any) -> bytes:
    if not isinstance(blob, bytes | bytearray | memoryview):
        raise TypeError(f"blob is {type(blob).__name__}, expected bytes")
    return bytes(blob)


def _lost(layout: Sequence[Tile], blocks: Iterable[int]) -> Mask:
    """True for the latents (h, w) of tiles without a block."""
    lost = np.ones((layout[-1].rows.stop, layout[-1].columns.stop), np.bool_)
    for i in blocks:
        lost[layout[i].rows, layout[i].columns] = False
    return lost


def _widened(marks: Mask, reach: int, axis: int) -> Mask:
    """The marks and all within `reach` of one along the axis."""
    wide = marks.copy()
    for step in range(1, min(reach, marks.shape[axis] - 1) + 1):
        near, far = [slice(None)] * 2, [slice(None)] * 2
        near[axis], far[axis] = slice(step, None), slice(None, -step)
        wide[tuple(near)] |= marks[tuple(far)]
        wide[tuple(far)] |= marks[tuple(near)]
    return wide


def _check_numbers(graph: Graph, values: Floats) -> None:
    # An infinity is clipped like any large number; of NaN rounding would make some number.
    if np.isnan(values).any():
        raise EdgeaeError(f"{graph.file.name} gives NaN")


def _check_stride(
    graph: Graph, pixels: tuple[int, ...], latents: tuple[int, ...], stride: int
) -> None:
    if pixels[2:] != (latents[2] * stride, latents[3] * stride):
        raise BundleError(
            f"{graph.file} makes {pixels[2:]} pixels of {latents[2:]} latents or the reverse, "
            f"the manifest's stride is {stride}"
        )
