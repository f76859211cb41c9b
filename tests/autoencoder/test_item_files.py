"""Files of an autoencoder's items: what comes back, what is refused, what a reader must find."""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path

import coded_items
import numpy as np
import pytest
import tiny
from test_autoencoder import items, projection
from typer.testing import CliRunner

import edgeae
from edgeae import media
from edgeae.autoencoder import Autoencoder
from edgeae.cli import options
from edgeae.cli.app import app
from edgeae.coding import item_file
from edgeae.coding.item_latent import (
    MAX_FREQUENCY,
    MAX_SYMBOL,
    ItemLatent,
    quality_index,
    table_bytes,
)
from edgeae.coding.rate import LEVELS, level_of_quality
from edgeae.errors import BitstreamError, BundleError, UnknownCodec

GOLDEN = Path(__file__).parent.parent / "golden" / "items"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return edgeae.load(projection(tmp_path_factory.mktemp("coded") / "p"))


@pytest.mark.parametrize("count", [1, 2, 255, 256, 257, 600])
@pytest.mark.parametrize("quality", [1, 5, 9])
def test_what_comes_back_is_what_the_rounded_latents_decode_to(model, count, quality):
    x = items(count)
    blob = model.compress(x, quality=quality)
    level = level_of_quality(quality)
    coder = coded_items.item_latent(2)
    rounded = coder.dequantize(coder.quantize(model.encode(x), level), level)
    np.testing.assert_array_equal(model.decompress(blob), model.decode(rounded))
    assert np.abs(rounded - model.encode(x)).max() <= coder.steps[level].max() * 0.501
    assert blob.startswith(item_file.SMALL_MAGIC if count <= 256 else item_file.MAGIC)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("single", [False, True])
def test_rank_and_dtype_come_back(model, dtype, single):
    x = items(5).astype(dtype)
    given = x[0] if single else x
    back = model.decompress(model.compress(given, quality=9))
    assert back.shape == given.shape and back.dtype == dtype
    np.testing.assert_allclose(back, given, atol=0.05)


def test_bytes_of_pixels_come_back_as_bytes(tmp_path):
    model = edgeae.load(
        projection(tmp_path / "p", kind="image", shape=(2, 2, 1), dtype="uint8", scale=1.0)
    )
    pixels = (127 * (1 + items(9) / 4).clip(0, 2)).astype(np.uint8).reshape(9, 2, 2, 1)
    back = model.decompress(model.compress(pixels, quality=9))
    assert back.dtype == np.uint8 and back.shape == pixels.shape
    assert np.abs(back.astype(int) - model.reconstruct(pixels)).max() <= 3


def test_a_finer_quality_is_nearer_and_a_budget_is_kept(model):
    x = items(200)
    errors, sizes = [], []
    for quality in (1, 3, 5, 7, 9):
        blob = model.compress(x, quality=quality)
        sizes.append(len(blob))
        errors.append(float(np.square(model.decompress(blob) - x).mean()))
    assert errors == sorted(errors, reverse=True) and sizes == sorted(sizes)
    budget = model.compress(x, max_bytes=sizes[2])
    assert sizes[1] < len(budget) <= sizes[2]
    with pytest.raises(ValueError, match="max_bytes is 20, expected at least"):
        model.compress(x, max_bytes=20)
    with pytest.raises(ValueError, match="expected one of them"):
        model.compress(x, max_bytes=20, quality=3)
    with pytest.raises(ValueError, match="quality is 10"):
        model.compress(x, quality=10)


def test_what_is_not_known_counts_for_nothing(tmp_path):
    model = edgeae.load(projection(tmp_path / "p", masked=True))
    x, known = items(9), np.random.default_rng(0).random((9, 4)) < 0.7
    spoiled = np.where(known, x, np.nan).astype(np.float32)
    assert model.compress(spoiled, known=known) == model.compress(
        np.where(known, x, 7).astype(np.float32), known=known
    )


def test_far_away_items_are_coded_too(model):
    x = 1e6 * items(3)
    back = model.decompress(model.compress(x, quality=9))
    np.testing.assert_allclose(back, x, rtol=1e-3, atol=1)
    # Beyond what symbols can say they end at the last one.
    end = model.decompress(model.compress(np.full((1, 4), 1e30, np.float32), quality=9))
    assert np.isfinite(end).all() and end.max() > 1e6


def test_every_cut_and_every_changed_bit_is_told(model):
    small = model.compress(items(3))
    for length in range(len(small)):
        with pytest.raises(BitstreamError):
            model.decompress(small[:length])
    for bit in range(8 * len(small)):
        spoiled = bytearray(small)
        spoiled[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            model.decompress(bytes(spoiled))
    whole = model.compress(items(300))
    for place in range(0, len(whole), 7):
        with pytest.raises(BitstreamError):
            model.decompress(whole[:place])
        spoiled = bytearray(whole)
        spoiled[place] ^= 1
        with pytest.raises(BitstreamError):
            model.decompress(bytes(spoiled))


def _small(model, level, kind, count, block):
    body = item_file.SMALL_MAGIC + bytes.fromhex(model.bundle.manifest.codec_id)[:4]
    body += bytes([kind, level]) + item_file.varint(count) + block
    return body + struct.pack("<I", zlib.crc32(body))


@pytest.mark.parametrize(
    ("level", "kind", "count", "block", "told"),
    [
        (65, 0, 1, b"", "header makes no sense"),
        (0, 3, 1, b"", "header makes no sense"),
        (0, 0, 0, b"", "header makes no sense"),
        (0, 16, 2, b"", "header makes no sense"),
        (0, 0, 257, b"", "257 items in one block"),
        (0, 0, 1 << 25, b"", "header makes no sense"),
        (0, 0, 256, b"x\0", "ends in a zero"),
        (0, 0, 1, b"x" * 100, "longer than what it holds"),
    ],
)
def test_a_file_that_no_writer_makes_is_refused(model, level, kind, count, block, told):
    with pytest.raises(BitstreamError, match=told):
        model.decompress(_small(model, level, kind, count, block))


def test_a_few_bytes_cannot_claim_much(tmp_path):
    coder = coded_items.item_latent(2)
    with pytest.raises(BitstreamError, match="claims 256 items in 0 bytes"):
        # 256 * 40 symbols in 6 bytes that may have been left out.
        coded_items.item_latent(40).decode([b""], 256, 0)
    assert coder.decode([b""], 3, 0).tolist() == [[0, 0]] * 3
    model = edgeae.load(projection(tmp_path / "p"))
    blob = model.compress(items(100))
    with pytest.raises(BitstreamError, match="100 items of 4 entries, expected at most 399"):
        model.decompress(blob, max_entries=399)


def test_a_file_of_another_model_is_refused_by_its_id(model, tmp_path):
    other = projection(tmp_path / "p", latent={"size": 2, "masked": False, "note": "another"})
    for count in (3, 300):
        with pytest.raises(UnknownCodec, match="made by a model with codec id"):
            edgeae.load(other).decompress(model.compress(items(count)))
        with pytest.raises(UnknownCodec, match="load that codec from its directory"):
            edgeae.decompress(model.compress(items(count)))


def test_a_bundle_without_tables_says_so_and_does_all_else(tmp_path):
    model = edgeae.load(projection(tmp_path / "p", coded=False))
    assert model.reconstruct(items(2)).shape == (2, 4)
    with pytest.raises(BundleError, match="no tables to compress with"):
        model.compress(items(2))


def _spoiled(change):
    good = coded_items.item_latent(2)
    return change(bytearray(table_bytes(good)))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: data[:-1], "bytes, expected"),
        (lambda data: data[:-4] + struct.pack("<f", 0.0), "a step is not a positive number"),
        (lambda data: data[:-4] + struct.pack("<f", np.nan), "a step is not a positive number"),
        (lambda data: struct.pack("<H", 65473) + data[2:], "expected at most 64830"),
        (lambda data: struct.pack("<H", 5) + data[2:], "sum to 65536"),
    ],
)
def test_tables_that_are_none_are_refused(change, told):
    with pytest.raises(ValueError, match=told):
        ItemLatent.from_bytes(bytes(_spoiled(change)), 2)


def test_tables_that_were_changed_are_told_by_their_id(tmp_path):
    path = projection(tmp_path / "p")

    def change(manifest):
        manifest["codec_id"] = "0" * 32

    with pytest.raises(BundleError, match="codec_id is 0000"):
        edgeae.load(tiny.change_manifest(path, change))
    section = {"size": 2, "masked": False}
    other = projection(tmp_path / "q")
    told = coded_items.add_tables(other, coded_items.item_latent(3), section)
    files = ["latents.npy", "tables.bin", "CARD.md"]
    with pytest.raises(BundleError, match=r"tables.bin has \d+ bytes, expected"):
        edgeae.load(projection(other, coded=False, latent=section, codec_id=told, files=files))


def test_symbols_of_every_size_come_back():
    coder = coded_items.item_latent(3)
    rng = np.random.default_rng(0)
    sizes = 2 ** rng.integers(0, 30, (700, 3))
    symbols = (rng.choice([-1, 1], (700, 3)) * rng.integers(0, sizes)).astype(np.int32)
    symbols[0] = MAX_SYMBOL, -MAX_SYMBOL, 0
    for level in (0, 31, 64):
        np.testing.assert_array_equal(
            coder.decode(coder.encode(symbols, level), 700, level), symbols
        )
    assert [quality_index(level) for level in (0, 3, 4, 60, LEVELS - 1)] == [0, 0, 1, 8, 8]
    assert MAX_FREQUENCY < 65536 * 2 ** (-1 / 64) < MAX_FREQUENCY + 1


def test_the_command_compresses_and_restores_items(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    projection(Path("mine"))
    np.save("x.npy", items(300))

    def run(*words):
        return CliRunner().invoke(app, [*words])

    assert run("compress", "x.npy", "x.eae", "--model", "mine").exit_code == 0
    told = run("info", "x.eae", "--json").output
    assert {"kind": "items", "items": 300, "quality": 5}.items() <= json.loads(told).items()
    assert "300, float32" in run("info", "x.eae").output
    assert run("decompress", "x.eae", "y.npy", "--model", "mine").exit_code == 0
    model = Autoencoder.load("mine")
    np.testing.assert_array_equal(np.load("y.npy"), model.decompress(Path("x.eae").read_bytes()))
    assert run("compress", "x.npy", "s.eae", "--model", "mine", "--max-bytes", "250").exit_code == 0
    assert Path("s.eae").stat().st_size <= 250
    for words, told in (
        (("compress", "x.npy", "z.eae", "--model", "mine", "--lossless"), "is an autoencoder"),
        (("decompress", "x.eae", "z.csv", "--model", "mine"), "expected .npy or .png"),
        (("decompress", "x.eae", "z.png", "--model", "mine"), "expected .npy for vectors"),
        (("decompress", "x.eae", "z.npy", "--model", "mine", "--large"), "are for a codec"),
    ):
        found = run(*words)
        assert found.exit_code == 2 and told in found.output, words
    assert run("decompress", "x.eae", "z.npy").exit_code == 1


@pytest.mark.parametrize("name", ["one", "small", "whole"])
def test_golden_files_decode_for_ever(name):
    model = Autoencoder.load(GOLDEN / "tiny-autoencoder")
    blob = (GOLDEN / f"{name}.eae").read_bytes()
    header = item_file.read_header(blob)
    expected = np.load(GOLDEN / f"{name}.npy")
    coder = model._coding()
    content = item_file.read(blob)
    symbols = coder.decode(content.blocks, header.items, header.level)
    np.testing.assert_array_equal(symbols, expected)
    back = model.decompress(blob)
    latents = coder.dequantize(symbols, header.level)
    assert back.shape == ((4,) if header.single else (len(expected), 4))
    np.testing.assert_array_equal(back.reshape(-1, 4), model.decode(latents).astype(back.dtype))
    # What writes them is as it was.
    assert (
        item_file.write(
            item_file.Header(
                bytes.fromhex(model.bundle.manifest.codec_id),
                header.level,
                header.dtype,
                header.items,
                header.single,
            ),
            coder.encode(symbols, header.level),
        )
        == blob
    )


# Sections 13 and 14 of docs/FORMAT.md, from the page alone: nothing of `edgeae.coding` is used.
class _PageCoder:
    def __init__(self, block):
        self.data = block + bytes(40)
        self.code, self.width, self.position = int.from_bytes(self.data[:6], "big"), 2**48, 6

    def drop(self, frequency, start):
        part = self.width >> 16
        self.code, self.width = self.code - part * start, part * frequency
        while self.width <= 2**40:
            self.code = self.code * 256 + self.data[self.position]
            self.width, self.position = self.width * 256, self.position + 1

    def plain(self, bits):
        value = done = 0
        while done < bits:
            some = min(12, bits - done)
            one = 2 ** (16 - some)
            digit = self.code // (self.width >> 16) // one
            self.drop(one, digit * one)
            value |= digit << done
            done += some
        return value


def _page_symbols(blob, tables_bin, latents):
    small = blob[:2] == bytes([0x89, 0x76])
    if small:
        header, blocks = blob[6:], None
    else:
        at, blocks = 8, []
        while at < len(blob):
            (length,) = struct.unpack_from("<I", blob, at)
            kind, body = blob[at + 4 : at + 8], blob[at + 8 : at + 8 + length]
            at += 12 + length
            if kind == b"HEAD":
                header = body[16:]
            if kind == b"BLOK":
                blocks.append(body[1:])  # fewer than 128 blocks: their numbers are a byte
    level, items, at, place = header[1], 0, 2, 0
    while True:
        items |= (header[at] & 127) << 7 * place
        place, at = place + 1, at + 1
        if header[at - 1] < 128:
            break
    if small:
        blocks = [header[at:-4]]
    count = 9 * latents
    frequencies = struct.unpack_from(f"<{64 * count}H", tables_bin)
    shifts = tables_bin[128 * count :][:count]
    found = []
    for number, block in enumerate(blocks):
        coder = _PageCoder(block)
        for _ in range(min(256, items - 256 * number)):
            for latent in range(latents):
                table = (level + 4) // 8 * latents + latent
                row = frequencies[64 * table :][:64]
                slot, start, symbol = coder.code // (coder.width >> 16), 0, 0
                while slot >= start + row[symbol]:
                    start, symbol = start + row[symbol], symbol + 1
                coder.drop(row[symbol], start)
                if symbol == 63:
                    symbol += coder.plain(coder.plain(6))
                value = symbol << shifts[table] | coder.plain(shifts[table])
                found.append((value + 1) // 2 if value % 2 else -(value // 2))
    return np.array(found).reshape(items, latents)


@pytest.mark.parametrize("name", ["one", "small", "whole"])
def test_the_page_alone_reads_golden_files(name):
    tables = (GOLDEN / "tiny-autoencoder" / "tables.bin").read_bytes()
    symbols = _page_symbols((GOLDEN / f"{name}.eae").read_bytes(), tables, 2)
    np.testing.assert_array_equal(symbols, np.load(GOLDEN / f"{name}.npy"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
def test_a_manifest_that_never_ends_or_is_none_is_left_to_loading(tmp_path):
    photo = tmp_path / "a.png"
    media.write_image(photo, np.zeros((8, 8, 3), np.uint8))
    for name, make in (
        ("pipe", os.mkfifo),
        ("device", lambda path: path.symlink_to("/dev/zero")),
        ("nested", lambda path: path.write_text("[" * 100_000)),
    ):
        (tmp_path / name).mkdir()
        make(tmp_path / name / "manifest.json")
        assert not options.is_autoencoder(str(tmp_path / name))
        given = "compress", photo, tmp_path / "a.eae", "--model", tmp_path / name
        result = CliRunner().invoke(app, list(map(str, given)))
        assert result.exit_code == 1 and len(result.stderr.splitlines()) == 1
        assert "manifest.json" in result.stderr
