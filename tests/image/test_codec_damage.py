"""Files that are damaged or made to deceive, and the plane of transparency."""

from __future__ import annotations

import time

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeae.errors import BitstreamError, EdgeaeError
from edgeae.image import alpha, file


def test_every_truncation_and_every_flipped_bit_is_refused(model):
    blob = model.compress(tiny.picture(5, 9, 4), quality=3)
    for length in range(len(blob)):
        with pytest.raises(BitstreamError):
            model.decompress(blob[:length])
    for bit in range(8 * len(blob)):
        flipped = bytearray(blob)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            model.decompress(bytes(flipped))


def unlisted(blob):
    """The chunks of a file without the check that none of them is of another one."""
    return [chunk for chunk in tiny.eae_chunks(blob) if chunk[0] != b"crCS"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda chunks: chunks[:1] + chunks[2:], "has tile 1 where 0 should be"),
        (lambda chunks: [chunks[0], chunks[1], *chunks[1:]], "has tile 0 where 1 should be"),
        (lambda chunks: chunks[:4] + chunks[5:], "has 3 tiles, expected 4"),
        (lambda chunks: [*chunks[:5], (b"TILE", b"\x04x"), *chunks[5:]], "5 tiles, expected 4"),
        (lambda chunks: [chunks[0], chunks[-1]], "0 tiles, expected 4"),
    ],
)
def test_another_number_of_tiles_than_the_picture_has_is_refused(model, change, match):
    chunks = unlisted(model.compress(tiny.picture(30, 30)))
    with pytest.raises(BitstreamError, match=match):
        model.decompress(tiny.eae_file(change(chunks)))


def test_a_header_that_asks_for_much_is_refused_at_once(model):
    for height, width in [(65_536, 4_096), (4_096, 65_536), (16_384, 16_384)]:
        head = tiny.eae_head(model._id, height=height, width=width)
        blob = tiny.eae_file([head, (b"TILE", b"\0" * 9), (b"DONE", b"")])
        began = time.process_time()
        with pytest.raises(BitstreamError, match=f"expected {height * width // 256}"):
            model.decompress(blob)
        assert time.process_time() - began < 1


def mutated(chunks, rng):
    """Chunks with a few things changed, as damage or malice would."""
    chunks = [*chunks]
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(len(chunks)))
        kind, body = chunks[place]
        spot = int(rng.integers(len(body) + 1))
        match int(rng.integers(9)):
            case 0 | 1:  # flip a bit
                if body:
                    spot %= len(body)
                    body = (
                        body[:spot] + bytes([body[spot] ^ 1 << rng.integers(8)]) + body[spot + 1 :]
                    )
            case 2:  # overwrite a stretch
                noise = rng.bytes(int(rng.integers(1, 9)))
                body = body[:spot] + noise + body[spot + len(noise) :]
            case 3:
                body = body[:spot]
            case 4:
                body = body[:spot] + rng.bytes(int(rng.integers(1, 9))) + body[spot:]
            case 5:
                body = rng.bytes(int(rng.integers(0, 60)))
            case 6:  # two chunks change places, or one comes twice
                other = int(rng.integers(len(chunks)))
                chunks[other], (kind, body) = (kind, body), chunks[other]
            case 7:
                kind = [b"TILE", b"HEAD", b"ALPH", b"DONE", b"noTE", b"WHAT"][rng.integers(6)]
            case 8:  # another size, level or number of channels
                head = chunks[0][1]
                sizes = [int(rng.choice([1, 4, 16, 17, 40, 65_536])) for _ in range(2)]
                level, channels = int(rng.integers(66)), int(rng.integers(6))
                options = {"level": level, "channels": channels}
                chunks[0] = tiny.eae_head(
                    head[:16].ljust(16, b"\0"), height=sizes[0], width=sizes[1], **options
                )
                continue
        chunks[place] = kind, body
    return chunks


def test_mutated_files_with_sound_checksums_are_refused_or_give_a_picture_quickly(model):
    sizes = [(13, 18, 3), (9, 5, 0), (20, 7, 4), (1, 1, 1), (17, 16, 3)]
    seeds = [
        unlisted(model.compress(tiny.picture(*size, noise=noise), quality=quality))
        for size, noise, quality in zip(sizes, [0, 100, 30, 0, 100], [1, 9, 5, 3, 7], strict=True)
    ]
    rng = np.random.default_rng(7)
    refused, slowest = 0, 0.0
    for i in range(2000):
        blob = tiny.eae_file(mutated(seeds[i % len(seeds)], rng))
        began = time.process_time()
        try:
            restored = model.decompress(blob)
        except EdgeaeError as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            header = file.read_header(blob)
            shape = (header.height, header.width, header.channels)
            assert restored.shape == (shape if header.channels else shape[:2])
            assert restored.dtype == np.uint8
        slowest = max(slowest, time.process_time() - began)
    assert slowest < 5
    # Most are noticed even without their checksums, and some are not: both ways were taken.
    assert 1000 < refused < 1990


# --- transparency


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 8, 64, 256]), st.integers(0, 99))
def test_a_plane_comes_back_exactly(height, width, unit, seed):
    rng = np.random.default_rng(seed)
    values = (rng.integers(0, 256, (height, width)) // unit * unit).astype(np.uint8)
    assert np.array_equal(alpha.unpack_plane(alpha.pack_plane(values), height, width), values)


def test_a_plane_that_is_one_value_or_a_ramp_costs_next_to_nothing():
    ramp = np.repeat(np.arange(250, dtype=np.uint8)[:, None], 300, axis=1)
    assert len(alpha.pack_plane(np.full((250, 300), 255, np.uint8))) < 120
    assert len(alpha.pack_plane(ramp)) < 200


@pytest.mark.parametrize("height, width", [(5, 6), (6, 5), (1, 1), (5, 7), (1000, 1000)])
def test_a_plane_of_another_size_is_refused(height, width):
    packed = alpha.pack_plane(np.zeros((5, 5), np.uint8))
    with pytest.raises(BitstreamError, match="transparency"):
        alpha.unpack_plane(packed, height, width)


def test_a_damaged_plane_is_refused_or_has_the_right_size():
    packed = alpha.pack_plane(np.random.default_rng(0).integers(0, 9, (6, 7)).astype(np.uint8))
    damaged = [packed[:n] for n in range(len(packed))]
    damaged += [packed + b"\0", bytes([2]) + packed[1:]]
    for data in damaged:
        with pytest.raises(BitstreamError, match="transparency"):
            alpha.unpack_plane(data, 6, 7)


def test_a_plane_that_would_unpack_to_much_is_refused_at_its_size(model):
    bomb = alpha.pack_plane(np.zeros((4000, 4000), np.uint8))
    chunks = unlisted(model.compress(tiny.picture(4, 4, 4)))
    chunks[1] = (b"ALPH", bomb)
    with pytest.raises(BitstreamError, match="another size than its image"):
        model.decompress(tiny.eae_file(chunks))
