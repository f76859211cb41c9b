"""Inputs that no writer makes: headers that claim much, and megabytes that are costly to refuse."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tiny

from edgeae import media
from edgeae.coding.container import varint
from edgeae.image.codec import ImageCodec
from edgeae.image.header import Limits
from edgeae.image.packets import MARK

MEGABYTE = 1 << 20
HUGE = (1 << 32) - 1
# Sides that are none, too long, or make too many pixels.
SIDES = (
    (0, 1), (1, 0), (1, 65_537), (65_537, 1), (16_384, 16_385), (65_536, 65_536), (HUGE, 1),
    (1, HUGE), (HUGE, HUGE), (1 << 31, 1 << 31),
)  # fmt: skip
# What `most` decides: within the default limits, and far more than the file's bytes can stand for.
MOST = (16_384, 16_384)

Read = Callable[[], object]
Chunk = tuple[bytes, bytes]
DONE: Chunk = (b"DONE", b"")


def small_file(codec_id: bytes, code: int, numbers: bytes, block: bytes = b"") -> bytes:
    """A file of the small form: level and channels in one code, then varints."""
    body = b"\x89e" + codec_id[:4] + bytes([code]) + numbers + block
    return body + struct.pack("<I", zlib.crc32(body))


def packet(codec_id: bytes, side_log2: int, code: int, numbers: bytes, block: bytes = b"") -> bytes:
    """A packet: level and channels in one code, then height, width and first tile as varints."""
    body = bytes([MARK + side_log2, 0, code]) + numbers + block
    return body + struct.pack("<I", zlib.crc32(codec_id + body))


def bombs(model: ImageCodec) -> Mapping[str, Read]:
    """Short files and packets whose headers claim what must not be believed, by what they claim;
    each read must raise an EdgeaeError at once."""
    codec_id = model._id
    read: dict[str, Read] = {}

    def file(name: str, *chunks: Chunk) -> None:
        data = tiny.eae_file(chunks)
        read[f"file, {name}"] = lambda: model.decompress(data)

    def conceal(name: str, *chunks: Chunk) -> None:
        data = tiny.eae_file(chunks)
        read[f"concealed, {name}"] = lambda: model.decompress(data, errors="conceal")

    def head(height: int = 16, width: int = 16, level: int = 0, channels: int = 3) -> Chunk:
        return tiny.eae_head(codec_id, level=level, channels=channels, height=height, width=width)

    for height, width in SIDES:
        size = varint(height) + varint(width)
        file(f"{height} x {width}", head(height, width), DONE)
        conceal(f"{height} x {width}", head(height, width))
        small = small_file(codec_id, 2, size, b"\0" * 9)
        read[f"small, {height} x {width}"] = lambda data=small: model.decompress(data)
        sent = packet(codec_id, 6, 2, size + varint(0) + b"\0")
        read[f"packet, {height} x {width}"] = lambda data=sent: model.receive([data])
    for channels in (2, 5, 255):
        file(f"{channels} channels", head(channels=channels), DONE)
    for level in (65, 255):
        file(f"level {level}", head(level=level), DONE)
        small = small_file(codec_id, min(level * 3, 255), varint(9) * 2, b"\0" * 9)
        read[f"small, level {level}"] = lambda data=small: model.decompress(data)
    for length in (0, 25, 27, 4000):
        file(f"a header of {length} bytes", (b"HEAD", bytes(length)), DONE)
    file("the most pixels", head(*MOST), DONE)
    file("the most pixels and a tile", head(*MOST), (b"TILE", varint(0) + b"\0" * 9), DONE)
    tiles = [(b"TILE", varint(i)) for i in range(99)]
    file("the most pixels in tiles of nothing", head(*MOST), *tiles, DONE)
    file("a tile's pixels in tiles of nothing", head(), *tiles, DONE)
    file("the most pixels with transparency", head(*MOST, channels=4), (b"ALPH", b"\0"), DONE)
    conceal("the most pixels", head(*MOST))
    conceal("the most pixels and a tile", head(*MOST), (b"TILE", varint(0) + b"\0" * 9))
    conceal("a tile far out", head(), (b"TILE", varint(1 << 34) + b"\0" * 9))
    small = small_file(codec_id, 2, varint(16_384) * 2, b"\0" * 9)
    read["small, the most pixels"] = lambda data=small: model.decompress(data)
    small = small_file(codec_id, 2, b"\xff" * 10)
    read["small, endless numbers"] = lambda data=small: model.decompress(data)
    for side_log2 in (0, 6, 10):
        sent = packet(codec_id, side_log2, 2, varint(4096) * 2 + varint(0) + b"\0")
        read[f"packet, the most pixels in tiles of {1 << side_log2}"] = lambda data=sent: (
            model.receive([data])
        )
    for name, numbers in {
        "a tile far out": varint(100) * 2 + varint(1 << 34) + b"\0",
        "a block of 34 bits": varint(100) * 2 + varint(0) + varint(1 << 33),
        "endless numbers": b"\xff" * 20,
    }.items():
        sent = packet(codec_id, 4, 2, numbers)
        read[f"packet, {name}"] = lambda data=sent: model.receive([data])
    for kind in (b"HEAD", b"TILE", b"noTE"):
        claim = tiny.EAE_MAGIC + struct.pack("<I4s", HUGE, kind) + bytes(40)
        read[f"file, a {kind.decode()} of {HUGE} bytes"] = lambda data=claim: model.decompress(data)
    return read


def megabytes(model: ImageCodec, folder: Path) -> Mapping[str, Read]:
    """Inputs of up to a megabyte that are costly to refuse, or that are sound and claim as much as
    they may, by name; what a read gives or raises is its own matter. `folder` is for files."""
    codec_id, stride, side = model._id, model._spec.stride, model._spec.tile
    tile = stride * side
    noise = np.random.default_rng(0).bytes(MEGABYTE)
    read: dict[str, Read] = {}

    def file(name: str, data: bytes, limits: Limits | None = None) -> None:
        assert len(data) <= MEGABYTE + 4096, (name, len(data))
        read[f"file, {name}"] = lambda: model.decompress(data, limits=limits)
        read[f"concealed, {name}"] = lambda: model.decompress(data, errors="conceal", limits=limits)

    def head(height: int, width: int, **fields: int) -> Chunk:
        return tiny.eae_head(codec_id, height=height, width=width, **fields)

    def numbered(count: int, block: bytes) -> list[Chunk]:
        return [(b"TILE", varint(i) + block) for i in range(count)]

    one = head(tile, tile, level=64)
    most = head(*MOST)
    count = -(-MOST[0] // tile) * -(-MOST[1] // tile)
    file("noise", noise)
    file("noise after the magic", tiny.EAE_MAGIC + noise)
    file("chunks to skip", tiny.eae_file([one, *[(b"noTE", b"")] * (MEGABYTE // 12 - 9), DONE]))
    file("tiles of nothing", tiny.eae_file([most, *numbered(MEGABYTE // 16, b""), DONE]))
    file("one tile of noise", tiny.eae_file([one, *numbered(1, b"\x09" + noise), DONE]))
    file("one lane for a tile", tiny.eae_file([one, *numbered(1, bytes(MEGABYTE)), DONE]))
    noises = numbered(count, b"\x03" + noise[: MEGABYTE // count - 20])
    file("tiles of noise", tiny.eae_file([most, *noises, DONE]))
    file(
        "chunks that hold all others",
        b"".join(
            struct.pack("<I4s", MEGABYTE - at - 12, b"TILE") for at in range(0, MEGABYTE - 12, 8)
        ),
    )
    file("a header alone", tiny.eae_file([head(1024, 1024), DONE]))
    see_through = head(*MOST, channels=4)
    unpacks = b"\0" + zlib.compress(bytes(1 << 28), 9)
    file("a plane of 2 ** 28", tiny.eae_file([see_through, (b"ALPH", unpacks), DONE]))
    file(
        "a plane of 2 ** 28 and tiles of nothing",
        tiny.eae_file([see_through, (b"ALPH", unpacks), *numbered(count, b""), DONE]),
    )
    small = varint(tile) * 2
    read["small, few bytes"] = lambda: model.decompress(small_file(codec_id, 2, small, bytes(20)))
    read["small, noise"] = lambda: model.decompress(
        small_file(codec_id, 194, small, b"\x09" + noise)
    )
    read["packet of noise"] = lambda: model.receive(
        [packet(codec_id, 6, 194, small + varint(0) + b"\0", b"\x09" + noise)]
    )
    tiny_ones = [
        packet(codec_id, 0, 2, varint(4096) * 2 + varint(i) + b"\0", b"\0" * 4)
        for i in range(MEGABYTE // 20)
    ]
    read["packets of a latent each"] = lambda: model.receive(tiny_ones)
    same = packet(codec_id, 0, 2, varint(1024) * 2 + varint(0) + b"\0", b"\0" * 4)
    read["one packet again and again"] = lambda: model.receive([same] * (MEGABYTE // len(same)))
    read["empty packets"] = lambda: model.receive([b""] * MEGABYTE)
    numbers = varint(4096) * 2 + varint(0) + b"\1\0" * (MEGABYTE // 2) + b"\0"
    many = packet(codec_id, 0, 2, numbers)
    read["a packet of half a million blocks"] = lambda: model.receive([many])
    for name, data in pictures().items():
        path = folder / f"{len(read)}.png"
        path.write_bytes(data)
        read[f"picture, {name}"] = lambda path=path: media.read_image(path)
    return read


def sound(model: ImageCodec) -> Mapping[str, Read]:
    """Files and packets of up to a megabyte that are sound and cost as much as they may, by name.

    Nothing in them is wrong, but for the last tile of one; what a read gives is its own matter.
    """
    side, stride, channels = model._spec.tile, model._spec.stride, model._spec.channels
    tile = side * stride
    rng = np.random.default_rng(0)

    def block(rows: int, level: int, spread: float) -> bytes:
        scale = model._blocks.steps[level][:, None, None] * np.float32(spread)
        latents = rng.normal(0, 1, (channels, rows, rows)).astype("f4") * scale
        return model._blocks.encode(latents, level)

    empty, busy = block(side, 0, 0.0), block(side, 0, 1.0)
    read: dict[str, Read] = {}

    def file(name: str, blocks: list[bytes], pixels: int, of: int = 3, **options: object) -> None:
        # A side has at most 2 ** 16 pixels: as many columns of tiles as that takes.
        height = min(len(blocks) * tile, Limits().side_pixels)
        width = pixels // height
        chunks = [tiny.eae_head(model._id, channels=of, height=height, width=width)]
        if of == 4:
            plane = zlib.compress(bytes(pixels), 9)
            chunks.append((b"ALPH", b"\0" + plane))
        chunks += [(b"TILE", varint(i) + b) for i, b in enumerate(blocks)]
        data = tiny.eae_file([*chunks, DONE])
        assert len(data) <= MEGABYTE + 4096, (name, len(data))
        read[name] = lambda: model.decompress(data, **options)

    for power in (21, 25):
        pixels, count = 1 << power, (1 << power) // tile**2
        limits = Limits(pixels=1 << 21) if power == 21 else None
        file(f"2 ** {power} pixels that are empty", [empty] * count, pixels, limits=limits)
        most = max(1, min(count, MEGABYTE // len(busy) - 1))
        file(
            f"2 ** {power} pixels, noise and empty",
            [busy] * most + [empty] * (count - most),
            pixels,
            limits=limits,
        )
        file(f"2 ** {power} pixels with transparency", [empty] * count, pixels, 4, limits=limits)
        file(f"2 ** {power} gray pixels", [empty] * count, pixels, 0, limits=limits)
    # All that a file of up to 4 MB may ask for.
    file(
        "2 ** 27 pixels, noise and empty",
        [busy] * most + [empty] * ((1 << 27) // tile**2 - most),
        1 << 27,
    )
    file("2 ** 25 pixels, the last tile broken", [empty] * (count - 1) + [b"\5"], 1 << 25)
    file("2 ** 25 pixels, a region of 9", [empty] * count, 1 << 25, region=(5000, 500, 3, 3))
    small = block(1, 0, 0.0)
    for side, limits in ((16, Limits(pixels=1 << 20, chunks=1 << 8)), (64, None)):
        size = varint(side * stride) * 2
        many = [packet(model._id, 0, 2, size + varint(i) + b"\0", small) for i in range(side**2)]
        read[f"{side**2} packets of a latent each"] = lambda p=many, limits=limits: model.receive(
            p, limits=limits
        )
    return read


def pictures() -> Mapping[str, bytes]:
    """PNG files of up to a megabyte that unfold to much."""
    from PIL import Image

    plain = io.BytesIO()
    Image.new("RGB", (8, 8)).save(plain, "PNG")
    chunks, at, data = [], 8, plain.getvalue()
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        chunks.append((kind, data[at + 8 : at + 8 + length]))
        at += 12 + length

    def png(*parts: Chunk) -> bytes:
        return data[:8] + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in parts
        )

    (_, header), *rest = chunks
    much = zlib.compress(bytes(1 << 29), 9)
    profile = b"p\0\0" + much
    return {
        "the most pixels": png((b"IHDR", struct.pack(">II", *MOST) + header[8:]), *rest),
        "a profile of 512 MB": png((b"IHDR", header), (b"iCCP", profile), *rest),
        "a text of 512 MB": png((b"IHDR", header), (b"zTXt", profile), *rest),
        "data of 512 MB": png((b"IHDR", header), (b"IDAT", much), (b"IEND", b"")),
    }
