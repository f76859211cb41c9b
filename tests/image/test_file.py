"""An .eae file is read whole and undamaged, or refused before it costs anything."""

from __future__ import annotations

import re
import struct
import time
import tracemalloc
import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import EAE_MAGIC, eae_chunks, eae_file, eae_head

from edgeae.errors import BitstreamError
from edgeae.image.file import read, read_header, read_metadata, salvage, write
from edgeae.image.header import Header, Limits, Metadata

CODEC_ID = bytes(range(16))
HEADER = Header(CODEC_ID, level=33, height=300, width=35_000, channels=4)
BLOCKS = [b"first", b"", b"\0third\xff"]
FILE = write(HEADER, BLOCKS, b"see-through")
HEAD_OF_FILE = eae_head(CODEC_ID, level=33, channels=4, height=300, width=35_000)
HEAD, DONE = eae_head(CODEC_ID, level=1, height=2, width=3), (b"DONE", b"")


def check_of(data):
    """The chunk with the CRCs of all critical ones."""
    critical = [kind + body for kind, body in eae_chunks(data) if kind[:1].isupper()]
    crcs = [zlib.crc32(whole).to_bytes(4, "little") for whole in critical if whole != b"DONE"]
    return b"crCS", b"".join(crcs)


def refused(data, match=None, limits=None):
    """Asserts that the bytes are refused with one line that matches."""
    with pytest.raises(BitstreamError, match=match) as caught:
        read(data, limits)
    assert "\n" not in str(caught.value)


# --- what a file says


def test_a_file_gives_back_its_header_and_blocks():
    content = read(FILE)
    assert content.header == HEADER
    assert [bytes(content.blocks[i]) for i in range(3)] == BLOCKS
    assert bytes(content.alpha) == b"see-through"


def test_a_file_is_what_its_description_says():
    assert FILE[:8] == EAE_MAGIC
    assert eae_chunks(FILE) == [
        HEAD_OF_FILE,
        (b"ALPH", b"see-through"),
        *((b"TILE", bytes([i]) + block) for i, block in enumerate(BLOCKS)),
        (b"heAD", HEAD_OF_FILE[1]),
        check_of(FILE),
        DONE,
    ]
    assert eae_file(eae_chunks(FILE)) == FILE


@pytest.mark.parametrize("channels", [0, 1, 3])
@pytest.mark.parametrize("level", [0, 64])
def test_every_field_of_the_header_comes_back(channels, level):
    header = Header(CODEC_ID[::-1], level, 1, 65_536, channels)
    assert read(write(header, [b"x", b"y"])).header == header
    small = read(write(header, [b"x"]))
    assert small.header == replace(header, codec_id=CODEC_ID[:-5:-1])
    assert small.blocks == {0: b"x"} and small.alpha is None


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=50), max_size=10))
def test_any_blocks_come_back(blocks):
    data = write(HEADER, blocks, b"")
    assert read(data).blocks == dict(enumerate(blocks))


def test_the_header_is_read_from_the_beginning_alone():
    end_of_header = len(EAE_MAGIC) + 12 + 26
    assert read_header(FILE[:end_of_header]) == HEADER
    for length in range(end_of_header):
        with pytest.raises(BitstreamError, match="cut off"):
            read_header(FILE[:length])


# --- damage


def test_every_truncation_is_refused():
    for length in range(len(FILE)):
        refused(FILE[:length], "cut off")


def test_a_file_that_begins_late_is_refused():
    for start in range(1, len(FILE)):
        refused(FILE[start:], "not an .eae file")


def test_every_flipped_bit_is_refused():
    for bit in range(8 * len(FILE)):
        flipped = bytearray(FILE)
        flipped[bit // 8] ^= 1 << bit % 8
        refused(bytes(flipped))


def test_every_changed_byte_is_refused():
    for place in range(len(FILE)):
        for value in {0, 0x20, 0x7F, 0xFF} - {FILE[place]}:
            refused(FILE[:place] + bytes([value]) + FILE[place + 1 :])


def test_bytes_after_the_end_are_refused():
    for extra in (b"\0", b"\n", FILE):
        refused(FILE + extra, f"{len(extra)} bytes after its end")


def test_two_bytes_that_change_places_are_refused():
    for place in range(len(FILE) - 1):
        a, b = FILE[place], FILE[place + 1]
        if a != b:
            refused(FILE[:place] + bytes([b, a]) + FILE[place + 2 :])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_refused(data):
    refused(data)
    refused(EAE_MAGIC + data)


@pytest.mark.parametrize(
    "data", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF", b"{}", EAE_MAGIC[::-1], bytes(100)]
)
def test_another_kind_of_file_is_refused_as_such(data):
    refused(data, "not an .eae file")


def test_a_file_that_went_through_a_text_transfer_is_refused():
    refused(FILE.replace(b"\r\n", b"\n"), "not an .eae file")
    refused(FILE.replace(b"\n", b"\r\n"), "not an .eae file")


# --- chunks


def test_chunks_that_may_be_skipped_are_skipped_wherever_they_stand():
    extra = (b"noTE", b"taken on a Sunday")
    chunks = eae_chunks(FILE)
    for place in range(1, len(chunks)):
        data = eae_file([*chunks[:place], extra, *chunks[place:]])
        assert read(data) == read(FILE)


def test_a_damaged_chunk_that_may_be_skipped_is_still_damage():
    data = eae_file([HEAD, (b"noTE", b"x"), DONE])
    refused(data.replace(b"noTEx", b"noTEy"), "checksum")


@pytest.mark.parametrize("kind", [b"NOTE", b"Tile", b"HEAD", b"ZZZZ"])
def test_an_unknown_chunk_that_may_not_be_skipped_is_refused_by_name(kind):
    refused(eae_file([HEAD, (b"TILE", b"\0x"), (kind, HEAD[1]), DONE]), repr(kind.decode()))


def test_transparency_is_there_once_in_front_and_only_with_four_channels():
    four, alpha, tile = eae_head(CODEC_ID, channels=4), (b"ALPH", b"a"), (b"TILE", b"\0x")
    assert read(eae_file([four, alpha, tile, DONE])).alpha == b"a"
    refused(eae_file([four, alpha, alpha, tile, DONE]), "'ALPH' that is out of place")
    refused(eae_file([four, tile, alpha, DONE]), "'ALPH' that is out of place")
    refused(eae_file([four, tile, DONE]), "transparency does not fit")
    for channels in (0, 1, 3):
        head = eae_head(CODEC_ID, channels=channels)
        refused(eae_file([head, alpha, tile, DONE]), "transparency does not fit")


@pytest.mark.parametrize("kind", [b"T\0LE", b"TIL1", b"    ", b"\xff\xfe\xfd\xfc", b"TIL\n"])
def test_a_chunk_type_that_is_no_word_is_damage(kind):
    refused(eae_file([HEAD, (kind, b""), DONE]), "damaged near byte 46")


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [DONE],
        [(b"TILE", b"\0x"), HEAD, DONE],
        [(b"noTE", b""), HEAD, DONE],
        [(b"HEAD", HEAD[1][:-1]), DONE],
        [(b"HEAD", HEAD[1] + b"\0"), DONE],
        [(b"HEAD", b""), DONE],
    ],
)
def test_a_file_that_does_not_begin_with_its_header_is_refused(chunks):
    refused(eae_file(chunks), "header" if chunks else "cut off")


def test_a_file_without_its_end_is_refused():
    refused(eae_file([HEAD, (b"TILE", b"\0x")]), "cut off")


def test_an_end_that_holds_something_is_refused():
    refused(eae_file([HEAD, (b"DONE", b"x")]), "end holds 1 bytes")


# --- chunks of several files

OTHER = write(HEADER, [b"another", b"picture's", b"tiles"], b"see-through")


def spliced(tile):
    """The file with one of the other's tiles in the place of its own."""
    chunks = eae_chunks(FILE)
    chunks[tile] = eae_chunks(OTHER)[tile]
    return eae_file(chunks)


@pytest.mark.parametrize("tile", [2, 3, 4])
def test_a_tile_of_another_file_is_refused_and_is_lost_when_concealed(tile):
    refused(spliced(tile), "put together of chunks of several files")
    remains = salvage(spliced(tile))
    assert sorted(remains.blocks) == [i for i in range(3) if i != tile - 2]
    assert all(remains.blocks[i] == BLOCKS[i] for i in remains.blocks)


def test_transparency_of_another_file_is_noticed():
    chunks = eae_chunks(FILE)
    chunks[1] = (b"ALPH", b"of another")
    refused(eae_file(chunks), "several files")
    assert salvage(eae_file(chunks)).alpha is None


def test_the_check_holds_where_the_header_is_left_in_its_copy_alone():
    head, *chunks = eae_chunks(spliced(3))
    damaged = eae_file([(b"HEAX", head[1]), *chunks])
    assert sorted(salvage(damaged).blocks) == [0, 2]


def test_a_file_without_the_check_is_read_as_before():
    chunks = [chunk for chunk in eae_chunks(FILE) if chunk[0] != b"crCS"]
    assert read(eae_file(chunks)) == read(FILE)
    assert salvage(eae_file(chunks)) == salvage(FILE)


@pytest.mark.parametrize("change", [lambda b: b"", lambda b: b[:-4], lambda b: b + b[:4]])
def test_a_check_of_other_chunks_is_refused(change):
    *chunks, check, done = eae_chunks(FILE)
    refused(eae_file([*chunks, (b"crCS", change(check[1])), done]), "several files")


def test_a_chunk_after_the_check_is_refused():
    *chunks, tile, copy, check, done = eae_chunks(FILE)
    refused(eae_file([*chunks, check_of(eae_file(chunks)), tile, copy, done]), "after the check")


def test_what_is_left_ends_with_the_file():
    left_of_both = salvage(FILE[:-40] + OTHER)
    assert [left_of_both.blocks[i] for i in range(3)] == BLOCKS
    assert salvage(FILE + OTHER) == salvage(FILE)
    # Of a file whose header is lost, nothing gets into the next one's image.
    chunks = eae_chunks(FILE)
    headless = eae_file([c for c in chunks if c[0] not in (b"HEAD", b"heAD")])
    first, *rest = eae_chunks(OTHER)
    assert salvage(headless + eae_file([first, rest[0], rest[1]])).blocks == {0: b"another"}


# --- metadata

EXIF, XMP = b"II*\0whatever a camera says", b"<x:xmpmeta/>"


def test_metadata_comes_back_byte_for_byte_and_costs_the_small_form():
    for exif, xmp in ((EXIF, XMP), (EXIF, None), (None, XMP), (b"", b"")):
        metadata = Metadata(exif, xmp)
        data = write(HEADER, BLOCKS, b"see-through", metadata)
        assert read(data) == replace(read(FILE), metadata=metadata)
        assert salvage(data) == replace(salvage(FILE), metadata=metadata)
        assert read_metadata(data) == metadata
        one = write(replace(HEADER, channels=3), [b"one"], None, metadata)
        assert read_metadata(one) == metadata and read(one).blocks == {0: b"one"}
    assert read_metadata(FILE) == read_metadata(SMALL) == Metadata()


def test_metadata_stands_before_the_tiles_in_chunks_that_a_reader_may_skip():
    chunks = eae_chunks(write(HEADER, BLOCKS, b"see-through", Metadata(EXIF, XMP)))
    assert chunks[1:3] == [(b"exIF", EXIF), (b"xmPP", XMP)]
    assert [chunks[0], *chunks[3:]] == eae_chunks(FILE)


def test_the_first_metadata_counts():
    chunks = eae_chunks(write(HEADER, BLOCKS, b"see-through", Metadata(EXIF)))
    chunks.insert(5, (b"exIF", b"second"))
    assert read_metadata(eae_file(chunks)).exif == EXIF


# --- limits


@pytest.mark.parametrize(
    "head",
    [
        {"height": 0},
        {"width": 0},
        {"level": 65},
        {"level": 255},
        {"channels": 2},
        {"channels": 5},
        {"channels": 255},
    ],
)
def test_a_header_that_makes_no_sense_is_refused(head):
    refused(eae_file([eae_head(CODEC_ID, **head), DONE]), "makes no sense")


@pytest.mark.parametrize(
    ("height", "width"),
    [(65_537, 1), (1, 65_537), (16_385, 16_384), (65_536, 4_097), (2**32 - 1, 2**32 - 1)],
)
def test_more_pixels_than_the_limits_allow_are_refused(height, width):
    data = eae_file([eae_head(CODEC_ID, height=height, width=width), DONE])
    refused(data, f"{width} x {height} pixels, expected at most 268435456 in all and 65536 a side")
    with pytest.raises(BitstreamError, match="expected at most"):
        read_header(data)


def test_as_many_pixels_as_the_limits_allow_are_read():
    for height, width in [(65_536, 4_096), (4_096, 65_536), (16_384, 16_384)]:
        data = eae_file([eae_head(CODEC_ID, height=height, width=width), DONE])
        assert read(data).header.height == height


def test_limits_are_the_callers_to_set():
    refused(FILE, "expected at most 1000 in all", Limits(pixels=1000))
    refused(FILE, "and 299 a side", Limits(side_pixels=299))
    assert read(FILE, Limits(pixels=300 * 35_000, side_pixels=35_000)).header == HEADER


def bombs():
    """Short files that ask for much."""
    for length in (2**32 - 1, 2**31, 1 << 20):
        yield EAE_MAGIC + struct.pack("<I4s", length, b"HEAD") + HEAD[1]
        yield eae_file([HEAD]) + struct.pack("<I4s", length, b"TILE") + b"x" * 30
    for height, width in [(2**32 - 1, 1), (1, 2**32 - 1), (2**16, 2**16), (2**31, 2**31)]:
        yield eae_file([eae_head(CODEC_ID, height=height, width=width), (b"TILE", b"\0x"), DONE])


@pytest.mark.parametrize("data", list(bombs()), ids=lambda data: f"{len(data)} bytes")
def test_a_short_file_that_asks_for_much_is_refused_at_once(data):
    tracemalloc.start()
    began = time.process_time()
    refused(data)
    seconds, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Refusing takes microseconds; the rest is pytest's.
    assert seconds < 1 and peak < 1 << 20


def test_more_chunks_than_allowed_are_refused():
    tiles = [(b"TILE", bytes([i])) for i in range(9)]
    assert len(read(eae_file([HEAD, *tiles[:8], DONE]), Limits(chunks=10)).blocks) == 8
    refused(eae_file([HEAD, *tiles, DONE]), "more than 10 chunks", Limits(chunks=10))


def test_more_bytes_than_allowed_are_refused():
    assert read(FILE, Limits(file_bytes=len(FILE))).header == HEADER
    for data in (FILE, SMALL):
        refused(data, f"{len(data)} bytes, expected at most 9", Limits(file_bytes=9))


def test_as_many_tiles_as_the_limits_allow_fit_into_the_allowed_chunks():
    # The smallest tiles of a shipped codec have 64 x 64 latents of 16 pixels.
    limits = Limits()
    assert limits.pixels // (64 * 16) ** 2 + 2 * limits.side_pixels // 1024 < limits.chunks


def test_a_tile_out_of_its_order_is_refused():
    tiles = [(b"TILE", bytes([i]) + b"x") for i in range(3)]
    for wrong in (tiles[1:], tiles[::-1], [tiles[0], tiles[2]], [tiles[0], tiles[0]]):
        refused(eae_file([HEAD, *wrong, DONE]), r"the file has tile \d where \d should be")
    refused(eae_file([HEAD, (b"TILE", b""), DONE]), "cut off, or a number in it")


# --- what is left of a damaged file


def left(data, limits=None):
    remains = salvage(data, limits)
    assert remains.header == HEADER
    return sorted(remains.blocks), remains.alpha is not None


def test_all_of_a_sound_file_is_left():
    remains = salvage(FILE)
    assert [bytes(remains.blocks[i]) for i in range(3)] == BLOCKS
    assert (remains.header, bytes(remains.alpha)) == (HEADER, b"see-through")
    assert bytes(salvage(SMALL).blocks[0]) == b"block"


def test_any_changed_byte_costs_one_chunk_at_most():
    for place in range(len(FILE)):
        for flip in (1, 0x20, 0x80, 0xFF):
            changed = bytearray(FILE)
            changed[place] ^= flip
            tiles, alpha = left(bytes(changed))
            assert len(tiles) + alpha >= 3
            assert set(tiles) <= {0, 1, 2}


def test_any_piece_that_is_cut_out_costs_the_chunks_it_touches():
    # Without the list of all CRCs: a cut from one of them into the list can make a chunk whole.
    file = eae_file([chunk for chunk in eae_chunks(FILE) if chunk[0] != b"crCS"])
    starts = [m.start() - 4 for m in re.finditer(b"HEAD|ALPH|TILE|heAD|DONE", file)]
    ends = [*starts[1:], len(file)]
    for begin in range(0, len(file), 3):
        for end in range(begin + 1, len(file), 5):
            sound = [i for i in range(6) if ends[i] <= begin or starts[i] >= end]
            data = file[:begin] + file[end:]
            if not {0, 5} & set(sound):
                continue
            assert left(data) == ([i - 2 for i in sound if 2 <= i <= 4], 1 in sound)


def test_every_beginning_with_a_header_gives_what_is_whole():
    for length in range(len(EAE_MAGIC) + 12 + 26, len(FILE)):
        tiles, _ = left(FILE[:length])
        assert tiles == list(range(len(tiles)))
    with pytest.raises(BitstreamError, match="nothing is left of its header"):
        salvage(FILE[: len(EAE_MAGIC) + 30])


def test_a_small_file_is_one_piece():
    for length in range(len(SMALL)):
        with pytest.raises(BitstreamError):
            salvage(SMALL[:length])


def test_limits_hold_for_what_is_left():
    for limits in (Limits(pixels=1000), Limits(side_pixels=299), Limits(file_bytes=50)):
        with pytest.raises(BitstreamError, match="expected at most"):
            salvage(FILE, limits)
    assert left(FILE, Limits(chunks=3)) == ([0], True)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_nothing_is_left_of_any_bytes(data):
    with pytest.raises(BitstreamError):
        salvage(data)


def test_a_megabyte_of_chunks_that_are_none_is_searched_quickly():
    # Each names all that follows it, so that checking every one would take minutes.
    size = 1 << 20
    starts = range(0, size - 12, 8)
    data = b"".join(struct.pack("<I4s", size - start - 12, b"TILE") for start in starts)
    began = time.process_time()
    with pytest.raises(BitstreamError):
        salvage(data)
    assert time.process_time() - began < 5


def test_a_checksum_is_over_type_and_body():
    (kind, body), *_ = eae_chunks(FILE)
    (crc,) = struct.unpack_from("<I", FILE, len(EAE_MAGIC) + 8 + len(body))
    assert crc == zlib.crc32(kind + body)


# --- the small form

SMALL = write(Header(CODEC_ID, 33, 300, 127, 3), [b"block"])


def test_a_small_file_is_what_its_description_says():
    body = b"\x89e" + CODEC_ID[:4] + bytes([33 * 3 + 2, 300 % 128 | 128, 300 // 128, 127])
    assert SMALL == body + b"block" + struct.pack("<I", zlib.crc32(body + b"block"))
    assert len(SMALL) - len(b"block") == 14


def test_pictures_that_the_small_form_cannot_hold_are_whole_files():
    header = Header(CODEC_ID, 1, 2, 3, 3)
    assert write(header, [b"one"]).startswith(b"\x89e")
    assert write(header, [b"one", b"two"]).startswith(EAE_MAGIC)
    see_through = write(replace(header, channels=4), [b"one"], b"alpha")
    assert see_through.startswith(EAE_MAGIC)


def test_every_truncation_of_a_small_file_is_refused():
    for length in range(len(SMALL)):
        refused(SMALL[:length])


def test_every_changed_bit_or_byte_of_a_small_file_is_refused():
    for place in range(len(SMALL)):
        for flip in range(1, 256):
            changed = bytearray(SMALL)
            changed[place] ^= flip
            refused(bytes(changed))


def test_bytes_after_the_end_of_a_small_file_are_refused():
    refused(SMALL + b"\0", match="checksum")


def test_a_small_header_that_makes_no_sense_is_refused():
    def made(after_id):
        body = b"\x89e" + CODEC_ID[:4] + after_id
        return body + struct.pack("<I", zlib.crc32(body))

    assert read(made(bytes([2, 1, 1]))).header.channels == 3
    refused(made(b""), match="cut off")
    refused(made(bytes([2])), match="makes no sense")
    refused(made(bytes([65 * 3, 1, 1])), match="makes no sense")  # level 65
    refused(made(bytes([2, 0, 1])), match="makes no sense")  # no rows
    refused(made(bytes([2, *[255] * 9, 1, 1])), match="makes no sense")  # a size without end
    refused(made(bytes([2, 255, 255, 255, 127, 1])), match="pixels, expected at most")


def test_the_header_of_a_small_file_is_read_from_its_beginning():
    header = Header(CODEC_ID[:4], 33, 300, 127, 3)
    assert read_header(SMALL[:10]) == header
    for length in range(10):
        with pytest.raises(BitstreamError):
            read_header(SMALL[:length])
