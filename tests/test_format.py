"""docs/FORMAT.md says what the code does: a decoder made from that page alone reads its files."""

from __future__ import annotations

import json
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tiny

from edgeae.coding import context, entropy, rate
from edgeae.image import exact, file, packets
from edgeae.image.codec import PACKET_LIMITS, ImageCodec
from edgeae.image.header import Limits
from edgeae.image.latent import Latent
from edgeae.onnx_check import read_graph
from edgeae.runtime import Graph

PAGE = (Path(__file__).parent.parent / "docs" / "FORMAT.md").read_text(encoding="utf-8")


# --- the numbers on the page


def says(*words):
    assert all(word in re.sub(r"\s+", " ", PAGE) for word in words), words


def test_the_magics_are_those_of_the_page():
    says(file.MAGIC.hex(" ").upper() + " magic", file.SMALL_MAGIC.hex(" ") + " magic")
    says(exact.MAGIC.hex(" ") + " magic")
    says(f"{packets.MARK:X} + s", f"s is 0 to {packets.MAX_SIDE_LOG2}")


def test_the_limits_are_those_of_the_page():
    limits = Limits()
    assert (limits.pixels, PACKET_LIMITS.pixels) == (2**28, 2**24)
    says("2 ** 27 pixels", f"one for {limits.pixels_per_byte} of them")
    says(f"2 ** 24 pixels and {PACKET_LIMITS.chunks} tiles")
    says("2 ** 28 pixels", f"{limits.side_pixels} pixels a side")
    says(f"up to {limits.chunks} chunks")
    assert rate.LEVELS == 65
    says("0 (coarsest) to 64", f"beyond {context.SYMBOL_LIMIT}")


def test_the_tables_are_those_of_the_page(codec_path):
    says(f"{context.TABLES} tables of {entropy.ALPHABET}", f"Symbol {entropy.ESCAPE} is the escape")
    says(f"next {entropy.ESCAPE_BITS} + s", f"sum to {1 << entropy.PRECISION_BITS}")
    says(f"L is 0 to {entropy.MAX_LANES_LOG2}", "min(9, floor(log2(number of symbols)) - 9)")
    assert entropy.SYMBOLS_PER_LANE_LOG2 == 9
    offsets = [0, 2 * 384 * 64, 2 * 384 * 64 + 384]
    assert (codec_path / "tables.bin").stat().st_size == offsets[2] + 260 * 9
    says(*(f"| {offset} |" for offset in offsets), "260 * channels")
    assert (context.MIDDLE_UNITS, context.FRACTIONS, context.SCALES) == (8, 5, 64)
    says("(middle + 4) // 8", "64 + 5 * index + abs(fraction)")


# --- a decoder from the page alone, one symbol at a time


class Bundle:
    def __init__(self, path):
        manifest = json.loads((path / "manifest.json").read_text())
        self.spec, self.id = manifest["latent"], bytes.fromhex(manifest["codec_id"])
        self.contexts = [
            Graph(read_graph(path / f"context{i}.fp32.onnx"))
            for i in range(len(self.spec["slices"]))
        ]
        self.channels = sum(part["channels"] for part in self.spec["slices"])
        data = (path / "tables.bin").read_bytes()
        self.frequencies = np.frombuffer(data, "<u2", 384 * 64).reshape(384, 64).tolist()
        self.shifts = list(data[49152:49536])


class Bits:
    """Bits of bytes, the highest of each first."""

    def __init__(self, data):
        self.bits = "".join(f"{byte:08b}" for byte in data)
        self.at = 0

    def take(self, count):
        assert self.at + count <= len(self.bits)
        self.at += count
        return int("0" + self.bits[self.at - count : self.at], 2)


class Block:
    def __init__(self, data, bundle):
        self.lanes = 1 << data[0]
        states = Bits(data[1:])
        self.states = []
        for _ in range(self.lanes):
            length = 16 + states.take(4)
            self.states.append((1 << length) + states.take(length))
        self.data, self.at = data, 1 + -(-states.at // 8)
        self.open = Bits(data[self.at :][::-1])
        self.bundle = bundle

    def stage(self, tables):
        return [self.value(i % self.lanes, table) for i, table in enumerate(tables)]

    def value(self, lane, table):
        x, start, symbol = self.states[lane], 0, 0
        slot = x % 4096
        while slot >= start + self.bundle.frequencies[table][symbol]:
            start += self.bundle.frequencies[table][symbol]
            symbol += 1
        x = x // 4096 * self.bundle.frequencies[table][symbol] + slot - start
        if x < 1 << 16:
            x = x << 16 | int.from_bytes(self.data[self.at : self.at + 2], "little")
            self.at += 2
        self.states[lane] = x
        shift = self.bundle.shifts[table]
        return (symbol << shift) + self.open.take(shift + 16 * (symbol == 63))

    def signs(self, count):
        inside = "".join(f"{x - (1 << 16):016b}" for x in self.states)
        more = -(-max(0, count - len(inside)) // 8)
        bits = inside + Bits(self.data[self.at : self.at + more]).bits
        assert self.at + more + -(-self.open.at // 8) == len(self.data)
        return [bit == "1" for bit in bits[:count]]


def decoded(data, height, width, level, bundle):
    """The symbols (channels, height, width) of one block."""
    block = Block(bytes(data), bundle)
    known = np.zeros((1, bundle.channels, height, width), np.float32)
    start, unsigned = 0, []
    for part, graph in zip(bundle.spec["slices"], bundle.contexts, strict=True):
        stop = start + part["channels"]
        for phase in range(part["phases"]):
            inputs = [np.array([level, phase], np.float32).reshape(1, 2, 1, 1)]
            inputs += [known[:, :start].copy()] if start else []
            inputs += [known[:, start:stop].copy()] if part["phases"] == 2 else []
            index, *middle = graph(*inputs)
            here = [
                (c, y, x)
                for c, y, x in np.ndindex(index.shape[1:])
                if part["phases"] == 1 or (y + x) % 2 == phase
            ]
            coded = [place for place in here if index[0][place] > 0]
            tables, centers, fractions = [], {}, {}
            for place in here:
                if part["centered"]:
                    centers[place] = (int(middle[0][0][place]) + 4) // 8
                    fractions[place] = int(middle[0][0][place]) - 8 * centers[place]
                    known[0][start + place[0], *place[1:]] = centers[place]
            for place in coded:
                scale = int(index[0][place])
                tables.append(64 + 5 * scale + abs(fractions[place]) if part["centered"] else scale)
            for place, v in zip(coded, block.stage(tables), strict=True):
                where = (0, start + place[0], *place[1:])
                if part["centered"]:
                    offset = (v + 1) // 2 if v % 2 else -(v // 2)
                    v = centers[place] + (-offset if fractions[place] < 0 else offset)
                elif v:
                    unsigned.append(where)
                known[where] = v
        start = stop
    for where, negative in zip(unsigned, block.signs(len(unsigned)), strict=True):
        known[where] *= -1 if negative else 1
    return known[0].astype(int)


def varint(data, at):
    value, shift = 0, 0
    while True:
        value |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return value, at


def blocks_of(data, bundle):
    """(level, height, width, side of the tiles, [(number of a tile, block)]) of any form."""
    crc = int.from_bytes(data[-4:], "little")
    if data[0] >> 4 == 0xE:
        assert crc == zlib.crc32(bundle.id + data[:-4])
        level, (height, at) = data[2] // 3, varint(data, 3)
        width, at = varint(data, at)
        tile, at = varint(data, at)
        blocks = []
        while True:
            length, at = varint(data, at)
            end = at + length if length else len(data) - 4
            blocks.append((tile + len(blocks), data[at:end]))
            at = end
            if not length:
                return level, height, width, 1 << (data[0] & 15), blocks
    if data[:2] == b"\x89e":
        assert crc == zlib.crc32(data[:-4]) and data[2:6] == bundle.id[:4]
        height, at = varint(data, 7)
        width, at = varint(data, at)
        return data[6] // 3, height, width, bundle.spec["tile"], [(0, data[at:-4])]
    assert data[:8] == bytes.fromhex("894541450D0A1A0A")
    at, chunks = 8, []
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "little")
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert zlib.crc32(kind + body) == int.from_bytes(data[at + 8 + length :][:4], "little")
        chunks.append((kind, body))
        at += 12 + length
    (first, head), (last, _) = chunks[0], chunks[-1]
    assert (first, last, head[:16]) == (b"HEAD", b"DONE", bundle.id)
    height, width = struct.unpack("<II", head[18:])
    tiles = [varint(body, 0) + (body,) for kind, body in chunks if kind == b"TILE"]
    return head[16], height, width, bundle.spec["tile"], [(i, body[at:]) for i, at, body in tiles]


def symbols_of(files, path):
    """All symbols of a picture that one file or several packets hold."""
    bundle = Bundle(path)
    found = None
    for data in files:
        level, height, width, side, blocks = blocks_of(data, bundle)
        rows, columns = (-(-size // bundle.spec["stride"]) for size in (height, width))
        if found is None:
            found = np.full((bundle.channels, rows, columns), 99_999)
        for tile, block in blocks:
            top, left = tile // -(-columns // side) * side, tile % -(-columns // side) * side
            part = found[:, top : top + side, left : left + side]
            part[:] = decoded(block, *part.shape[1:], level, bundle)
    return found


@pytest.mark.parametrize("quality", [1, 5, 9])
@pytest.mark.parametrize("size", [(5, 9, 3), (16, 16, 0), (30, 37, 1), (20, 9, 4)])
def test_a_decoder_from_the_page_alone_finds_the_symbols(model, codec_path, size, quality):
    image = tiny.picture(*size, noise=60)
    blob = model.compress(image, quality=quality, lossless=False)
    expected = model.encode(image, quality=quality).symbols
    assert np.array_equal(symbols_of([blob], codec_path), expected)


def test_a_decoder_from_the_page_alone_reads_many_lanes(codec_path, tmp_path):
    codec_path = tiny.tiny_codec_bundle(tmp_path / "large", tile=64)
    model = ImageCodec.load(codec_path)
    image = tiny.picture(90, 120, noise=60)
    blob = model.compress(image, quality=9, lossless=False)
    assert file.read(blob).blocks[0][0] > 2  # more than 4 lanes
    assert np.array_equal(symbols_of([blob], codec_path), model.encode(image, quality=9).symbols)


def test_a_decoder_from_the_page_alone_reads_packets(model, codec_path):
    image = tiny.picture(16, 20, noise=20)
    packets = model.packets(image, max_packet_bytes=60)
    symbols = symbols_of(packets, codec_path)
    assert len(packets) > 3 and np.abs(symbols).max() < 30_000
    restored, _ = model.receive(packets)
    assert np.array_equal(model.decode(Latent(symbols, 32, 16, 20)), restored)
