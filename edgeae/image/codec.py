"""The image codec: images to bytes and back, through one bundle.

`compress` reads from top to bottom: tiles, analysis graph, rounding in coding order, entropy
coding, file. `decompress` goes the same way back.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from edgeae.bundle import Bundle, find, reopened
from edgeae.coding.batched import batched_graphs
from edgeae.coding.block import BlockCoder
from edgeae.coding.container import as_bytes
from edgeae.coding.context import ContextModel, Symbols
from edgeae.coding.latent import check_ports, latent_spec, read_tables
from edgeae.coding.rate import (
    DEFAULT_QUALITY,
    byte_budget,
    finest_that_fits,
    level_of_quality,
    quality_of_level,
)
from edgeae.errors import BitstreamError, BundleError, UnknownCodec
from edgeae.image import exact, file, pixels
from edgeae.image.alpha import pack_plane, unpack_plane
from edgeae.image.concealment import fill, lost_latents
from edgeae.image.efforts import EFFORTS, Effort, Encoders
from edgeae.image.file import ImageFile
from edgeae.image.fitting import fitting_packets
from edgeae.image.header import (
    USUAL_PIXELS,
    Header,
    Limits,
    Metadata,
    check_metadata,
    check_proportion,
    check_readable,
)
from edgeae.image.latent import Latent, checked
from edgeae.image.packets import PacketHeader, gather
from edgeae.image.pixels import Region
from edgeae.image.tiles import Analysis, Synthesis, Tile, Window
from edgeae.image.without_model import decompress_exact, file_codec_id, file_info
from edgeae.opening import graph_of, report_of
from edgeae.providers import Provider
from edgeae.runtime import CPU, Graph

__all__ = [
    "EFFORTS",
    "PACKET_LIMITS",
    "Effort",
    "ImageCodec",
    "Latent",
    "decompress_exact",
    "file_codec_id",
    "file_info",
]

# A receiver may have to hold the whole image for the sake of one packet, and each tile, however
# small, takes it a millisecond.
PACKET_LIMITS = Limits(pixels=1 << 24, chunks=1 << 12)
# What a few bytes may leave to concealment whatever their number: see Limits.
_CONCEALED_PIXELS = 1 << 20


Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]


class ImageCodec:
    """A learned image codec; safe to use from many threads."""

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
        if (manifest := bundle.manifest).task != "codec":
            raise BundleError(f"{manifest.name} is a {manifest.task}, expected a codec")
        if (kind := manifest.layout.get("kind")) != "image":
            raise BundleError(f"{manifest.name} is a codec of {kind!r}, expected 'image'")
        self.bundle = bundle
        self._settings = {
            "precision": precision,
            "providers": providers,
            "device": device,
            "threads": threads,
            "strict": strict,
        }
        self.precision = bundle.precision(precision)
        self._id = bytes.fromhex(bundle.manifest.codec_id or "")
        self._spec = spec = latent_spec(bundle)
        tables, steps = read_tables(bundle, spec)

        graph = functools.partial(
            graph_of,
            bundle,
            precision=self.precision,
            providers=providers,
            device=device,
            threads=threads,
            strict=strict,
        )

        self._encoders, decoder = Encoders(bundle, spec, graph), graph("decoder")
        # The context graphs are exact integer arithmetic on the CPU, whatever runs the rest.
        models = [bundle.graph(f"context{i}", "fp32") for i in range(len(spec.slices))]
        contexts = [Graph(model, providers=[CPU], threads=threads) for model in models]
        check_ports(spec, self._encoders.fast.graph, decoder, contexts)
        self._synthesis = Synthesis(
            decoder, steps, stride=spec.stride, side=spec.tile, halo=spec.decoder_halo
        )
        batched = functools.partial(batched_graphs, models, contexts, threads)
        self._blocks = BlockCoder(ContextModel(spec.slices, contexts, batched), tables, steps)

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
        self,
        image: Image,
        *,
        quality: float | None = None,
        max_bytes: int | None = None,
        lossless: bool | None = None,
        effort: Effort = "fast",
        metadata: Metadata | None = None,
        limits: Limits | None = None,
    ) -> bytes:
        """The bytes of an image, as an .eae file holds them.

        What the network cannot code well, text, line art and fine patterns, is kept exactly where
        that takes fewer bytes, fits into `max_bytes`, or is needed for the least PSNR of a quality:
        35 dB at 9, 4 dB less for each quality below.

        Args:
            image: uint8 (H, W, 3), (H, W, 4) whose transparency is kept exactly, (H, W, 1), (H, W).
            quality: 1 (smallest) to 9 in steps of an eighth; 5 if neither this nor `max_bytes` is
                given.
            max_bytes: the finest level whose file is not larger; the network runs only once.
            lossless: True keeps the image exactly, False never does; None as above.
            effort: "fast", or "best" for the encoder of a bundle that has one which needs fewer
                bytes and several times as long; readers take the files of both alike.
            metadata: EXIF and XMP, which the file holds byte for byte.
            limits: those of its readers, None is `Limits()`: what they would refuse is not made.

        Raises:
            TypeError, ValueError: the image or an argument is not as above, or even the coarsest
                level does not fit into `max_bytes`, or the file would be over the limits.
            BundleError: the bundle has no encoder of this effort.
        """
        analysis = self._encoders(effort)
        if quality is not None and (lossless or max_bytes is not None):
            raise ValueError(f"give quality or {'lossless' if lossless else 'max_bytes'}, not both")
        budget = None if max_bytes is None else byte_budget("max_bytes", max_bytes)
        level = level_of_quality(DEFAULT_QUALITY if quality is None else quality)
        parts = pixels.parts(image)
        check_metadata(metadata)
        kept = None
        if lossless or (lossless is None and exact.looks_plain(image)):
            kept = exact.write(image, metadata)
        fits = kept is not None and (budget is None or len(kept) <= budget)
        if kept is not None and lossless and not fits:
            raise ValueError(f"the exact image takes {len(kept)} bytes, max_bytes is {budget}")
        if kept is not None and fits and (lossless or budget is not None):
            blob = kept
        else:
            blob = self._coded(analysis, *parts, level=level, budget=budget, metadata=metadata)
            if kept is not None and fits and len(kept) > len(blob):
                restored = self.decompress(blob, limits=Limits(pixels_per_byte=USUAL_PIXELS))
                fits = exact.falls_short(image, restored, quality_of_level(level))
            blob = kept if kept is not None and fits else blob
        check_readable(image.shape[0] * image.shape[1], len(blob), limits)
        return blob

    def _coded(
        self,
        analysis: Analysis,
        colors: Image,
        alpha: Image | None,
        channels: int,
        *,
        level: int,
        budget: int | None,
        metadata: Metadata | None,
    ) -> bytes:
        """The file of an image's parts at a level, or at the finest that fits into a budget."""
        packed = None if alpha is None else pack_plane(alpha)
        height, width = colors.shape[:2]

        def write(level: int, analyzed: Iterable[Floats]) -> bytes:
            header = Header(self._id, level, height, width, channels)
            blocks = [self._blocks.encode(latents, level) for latents in analyzed]
            return file.write(header, blocks, packed, metadata)

        analyzed = (latents for _, latents in analysis(colors))
        if budget is None:
            return write(level, analyzed)
        held = list(analyzed)
        return finest_that_fits(lambda level: write(level, held), budget)

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
        """The image of an .eae file, uint8 with the shape and rank that were compressed.

        Args:
            blob: the file.
            errors: "strict" refuses a damaged file. "conceal" puts neutral latents, a plain color,
                in the place of tiles that are damaged or missing and gives a mask (H, W) beside
                the image: True wherever a pixel may not be what the undamaged file holds. Lost
                transparency is made opaque and masks everything.
            region: (top, left, height, width) in pixels: that part of the image, exactly as the
                whole would show it. Only the tiles that it needs are decoded; checksums are those
                of the whole file.
            limits: what the file may ask for; None is `Limits()`.

        Raises:
            BitstreamError: not an .eae file, cut off, damaged or over a limit; with "conceal" only
                if no header is left, if the file is of the small form (one piece, whole or
                nothing), or if chunks whose checksums are right contradict each other.
            UnknownCodec: written by another codec; a file that keeps its image exactly never is.
            TypeError, ValueError: blob, errors or region are not as above.
        """
        data = as_bytes(blob)
        if errors not in ("strict", "conceal"):
            raise ValueError(f"errors is {errors!r}, expected 'strict' or 'conceal'")
        if data.startswith(exact.MAGIC):
            return decompress_exact(data, errors=errors, region=region, limits=limits)
        strict = errors == "strict"
        content = (file.read if strict else file.salvage)(data, limits)
        header = content.header
        self._check_id(header.codec_id)
        shown = pixels.window(region, header.height, header.width)
        # What is cheap to refuse comes first: nothing below has room for an absurd image.
        if strict:
            self._check_complete(content)
        shown_pixels = (shown[0].stop - shown[0].start) * (shown[1].stop - shown[1].start)
        check_proportion(shown_pixels, len(data), limits)
        self._check_loss(header, self._spec.tile, content.blocks, len(data), limits)
        layout = self._layout(header, self._spec.tile, limits)
        lost = lost_latents(layout, content.blocks)
        image = self._restore(content, layout, shown, lost)
        if strict:
            return image
        mask = self._synthesis.touched(lost, header.height, header.width)[shown]
        if header.channels == 4 and content.alpha is None:
            image[:, :, 3] = 255
            mask[:] = True
        return image, mask

    def _restore(
        self, content: ImageFile, layout: Sequence[Tile], shown: Window, lost: Mask
    ) -> Image:
        """The pixels of a window of a file's image, from the tiles that they need alone."""
        header = content.header
        columns = sum(tile.rows.start == 0 for tile in layout)
        needed = self._synthesis.needed(layout, shown)

        def row_of_symbols(row: int) -> Symbols:
            parts = [
                self._decode_block(
                    content.blocks.get(i) if i in needed else None, layout[i].shape, header.level
                )
                for i in range(row * columns, (row + 1) * columns)
            ]
            return np.concatenate(parts, axis=2)

        image = self._synthesis(
            row_of_symbols, header.level, shown, channels=header.channels, blank=lost
        )
        # After the tiles: a kilobyte of transparency can unpack to a megabyte.
        if content.alpha is not None:
            alpha = unpack_plane(bytes(content.alpha), header.height, header.width)
            image[:, :, 3] = alpha[shown]
        return image

    def packets(
        self,
        image: Image,
        *,
        max_packet_bytes: int,
        quality: float = DEFAULT_QUALITY,
        effort: Effort = "fast",
        number: int = 0,
    ) -> list[bytes]:
        """The image in packets, any of which may be lost: see `receive`.

        Tiles are as large as fit into a packet, by powers of two; smaller ones cost more bytes.

        Args:
            image: as for `compress`, without transparency and of at most 2 ** 24 pixels.
            max_packet_bytes: what the largest packet may have, so that 4096 tiles are enough.
            quality, effort: as for `compress`.
            number: 0 to 255; count it up so that images that follow each other are told apart.

        Raises:
            TypeError, ValueError: the image or an argument is not as above, or at this quality
                not even a tile of one latent fits.
        """
        colors, alpha, channels = pixels.parts(image)
        height, width = colors.shape[:2]
        if alpha is not None:
            raise ValueError(
                "image has transparency, expected the first three channels: packets hold no more"
            )
        if height * width > PACKET_LIMITS.pixels:
            raise ValueError(
                f"image has shape {image.shape}, expected at most {PACKET_LIMITS.pixels} pixels"
            )
        if type(number) is not int or not 0 <= number <= 255:
            raise ValueError(f"number is {number!r}, expected 0 to 255")
        size = byte_budget("max_packet_bytes", max_packet_bytes)
        header = Header(self._id, level_of_quality(quality), height, width, channels)
        grid = self._synthesis.grid(height, width)
        latents = np.empty((self._spec.channels, *grid), np.float32)
        for tile, part in self._encoders(effort)(colors):
            latents[:, tile.rows, tile.columns] = part
        return fitting_packets(
            self._blocks,
            self._synthesis,
            latents,
            PacketHeader(header, number, self._spec.tile.bit_length() - 1),
            max_packet_bytes=size,
            max_tiles=PACKET_LIMITS.chunks,
        )

    def receive(
        self, packets: Iterable[bytes], *, limits: Limits | None = None
    ) -> tuple[Image, Mask]:
        """The image of the packets that arrived, uint8 in its shape, and a mask of what is not
        exact, bool (H, W).

        Packets may be lost, doubled, damaged and in any order. Those that are damaged or of
        another codec are passed over; where there are several images, that of the most packets
        is taken. Lost tiles are filled in smoothly from those around them; the mask is True
        wherever a pixel may not be what all packets would give.

        Raises:
            TypeError: something that is no bytes.
            BitstreamError: no packet of an image of this codec is there, or too few for its size.
        """
        allowed = limits or PACKET_LIMITS
        received = gather(
            packets,
            self._id,
            max_side=self._spec.tile,
            stride=self._spec.stride,
            limits=allowed,
        )
        header, blocks = received.header.image, received.blocks
        height, width, level = header.height, header.width, header.level
        side = 1 << received.header.side_log2
        self._check_loss(header, side, blocks, received.packet_bytes, allowed)
        layout = self._layout(header, side, allowed)
        lost = lost_latents(layout, blocks)
        symbols = np.zeros((self._spec.channels, *lost.shape), np.int16)
        tiles = [layout[i] for i in blocks]
        parts = self._blocks.decode_many([*blocks.values()], [t.shape for t in tiles], level)
        for tile, part in zip(tiles, parts, strict=True):
            symbols[:, tile.rows, tile.columns] = part
        fill(symbols, lost)
        image = self._synthesis(
            self._synthesis.rows_of(symbols),
            level,
            (slice(0, height), slice(0, width)),
            channels=header.channels,
            blank=lost & ~symbols.any(axis=0),
        )
        return image, self._synthesis.touched(lost, height, width)

    def encode(
        self, image: Image, *, quality: float = DEFAULT_QUALITY, effort: Effort = "fast"
    ) -> Latent:
        """The latent of an image: what `compress` at this quality and effort writes.

        Raises:
            TypeError, ValueError: as for `compress`.
        """
        colors, alpha, channels = pixels.parts(image)
        level = level_of_quality(quality)
        height, width = colors.shape[:2]
        grid = self._synthesis.grid(height, width)
        symbols = np.empty((self._spec.channels, *grid), np.int32)
        for tile, latents in self._encoders(effort)(colors):
            symbols[:, tile.rows, tile.columns] = self._blocks.quantize(latents, level)
        return Latent(symbols, level, height, width, channels, alpha)

    def decode(self, latent: Latent) -> Image:
        """The image of a latent, uint8 in its shape.

        Raises:
            TypeError, ValueError: shape, level or values are not those of this codec's latents.
        """
        checked(latent, channels=self._spec.channels, stride=self._spec.stride)
        image = self._synthesis(
            self._synthesis.rows_of(latent.symbols),
            int(latent.level),
            (slice(0, latent.height), slice(0, latent.width)),
            channels=latent.channels,
            blank=np.zeros(latent.symbols.shape[1:], np.bool_),
        )
        if latent.alpha is not None:
            image[:, :, 3] = latent.alpha
        return image

    def pack(self, latent: Latent) -> bytes:
        """The bytes of a latent: what `compress` writes of an image with this latent.

        Raises:
            TypeError: as for `decode`.
            ValueError: as for `decode`, or a symbol that the context graphs hold for certain is
                another one, which a file cannot say.
        """
        checked(latent, channels=self._spec.channels, stride=self._spec.stride)
        level = int(latent.level)
        header = Header(
            self._id, level, int(latent.height), int(latent.width), int(latent.channels)
        )
        blocks = []
        for tile in self._layout(header, self._spec.tile, None):
            symbols = latent.symbols[:, tile.rows, tile.columns]
            block = self._blocks.encode_symbols(symbols, level)
            blocks.append(block)
        packed = None if latent.alpha is None else pack_plane(latent.alpha)
        return file.write(header, blocks, packed)

    def unpack(self, blob: bytes, *, limits: Limits | None = None) -> Latent:
        """The latent of a file that `pack` or `compress` wrote.

        Raises:
            TypeError: blob is no bytes.
            BitstreamError, UnknownCodec: as for `decompress`.
        """
        data = as_bytes(blob)
        content = file.read(data, limits)
        header = content.header
        self._check_id(header.codec_id)
        self._check_complete(content)
        check_proportion(header.height * header.width, len(data), limits)
        grid = self._synthesis.grid(header.height, header.width)
        symbols = np.zeros((self._spec.channels, *grid), np.int32)
        for i, tile in enumerate(self._layout(header, self._spec.tile, limits)):
            symbols[:, tile.rows, tile.columns] = self._blocks.decode(
                content.blocks[i], tile.shape, header.level
            )
        alpha = None
        if content.alpha is not None:
            alpha = unpack_plane(bytes(content.alpha), header.height, header.width)
        return Latent(symbols, header.level, header.height, header.width, header.channels, alpha)

    def __repr__(self) -> str:
        manifest = self.bundle.manifest
        nodes = self._encoders.fast.graph.report()["nodes"]
        return (
            f"ImageCodec({manifest.name} {manifest.version}, {self.precision}, "
            f"{self._spec.channels} latent channels of {self._spec.stride} x {self._spec.stride} "
            f"pixels, on {' and '.join(nodes)})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Sessions cannot be copied: a copy opens the bundle's directory again.
        return reopened, (ImageCodec, self.bundle.path, self.bundle.id, self._settings)

    @property
    def graphs(self) -> dict[str, Graph]:
        """The graphs that run, by role."""
        contexts = {f"context{i}": g for i, g in enumerate(self._blocks.contexts.graphs)}
        return {**self._encoders.graphs, "decoder": self._synthesis.graph, **contexts}

    def report(self) -> dict[str, Any]:
        """What was asked for and what runs where, graph by graph."""
        return report_of(self.bundle, self.precision, self.graphs)

    def _layout(self, header: Header, side: int, limits: Limits | None) -> list[Tile]:
        """The tiles of an image, as the decoder sees them. Raises BitstreamError if they are more
        than the chunks that may carry them."""
        count = self._synthesis.tile_count(header.height, header.width, side)
        allowed = (limits or Limits()).chunks
        if count > allowed:
            raise BitstreamError(f"the image has {count} tiles, expected at most {allowed}")
        return self._synthesis.layout(header.height, header.width, side)

    def _check_complete(self, content: ImageFile) -> None:
        """Raises BitstreamError for another number of tiles than the header says."""
        header, tile = content.header, self._spec.tile
        count = self._synthesis.tile_count(header.height, header.width, tile)
        if len(content.blocks) != count:
            raise BitstreamError(f"the file has {len(content.blocks)} tiles, expected {count}")

    def _check_id(self, codec_id: bytes) -> None:
        if not self._id.startswith(codec_id):
            raise UnknownCodec(
                f"the file was written by codec {codec_id.hex()}, expected "
                f"{self.bundle.manifest.name}, {self._id.hex()}",
                codec_id=codec_id,
            )

    def _check_loss(
        self,
        header: Header,
        side: int,
        blocks: Collection[int],
        there_bytes: int,
        limits: Limits | None,
    ) -> None:
        """Raises BitstreamError for a block without a tile, and for more loss than so many bytes
        may leave; before there is room for anything as large as the image."""
        count = self._synthesis.tile_count(header.height, header.width, side)
        if max(blocks, default=0) >= count:
            raise BitstreamError(f"there is a tile {max(blocks)}, expected {count} in all")
        rows, columns = self._synthesis.grid(header.height, header.width)
        # Tiles at the edges are smaller: at least so much is lost.
        pixels = (rows * columns - len(blocks) * side**2) * self._spec.stride**2
        per_byte = (limits or Limits()).concealed_pixels_per_byte
        if pixels > max(_CONCEALED_PIXELS, per_byte * there_bytes):
            raise BitstreamError(
                f"{pixels} pixels are lost, {there_bytes} bytes are too few to conceal so many"
            )

    def _decode_block(
        self, block: bytes | memoryview | None, shape: tuple[int, int], level: int
    ) -> npt.NDArray[np.int16]:
        """The symbols (channels, h, w) of a block; zeros, which are neutral, if it is lost."""
        if block is None:
            return np.zeros((self._spec.channels, *shape), np.int16)
        return self._blocks.decode(block, shape, level).astype(np.int16)
