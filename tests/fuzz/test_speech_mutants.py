"""Speech from strangers: changed files, packets and live streams, headers that claim much."""

from __future__ import annotations

import dataclasses
import math
import random
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from changes import changed, mutated_chunks
from decoders import mutated_packet

import edgeae
from edgeae.bench.speech_codec import made_talk
from edgeae.errors import BitstreamError, EdgeaeError
from edgeae.signal import codec_file as file
from edgeae.signal.codec_header import Limits
from edgeae.signal.speech_pipe import MAGIC, PacketSplitter, framed

BUNDLE = Path(__file__).parent.parent / "golden" / "tiny-speech-codec"
LIMITS = Limits(samples=1 << 12)


@pytest.fixture(scope="module")
def codec():
    return edgeae.load(BUNDLE)


def outcome(read):
    """What a read gave, or None if it was refused in one line."""
    try:
        return read()
    except EdgeaeError as error:
        assert "\n" not in str(error)
        return None


def test_changed_files_give_audio_as_their_header_says_or_are_refused(codec):
    talk = made_talk(1000)
    pair = np.stack([talk, talk[::-1]], axis=1)
    blobs = [codec.compress(x, quality=q) for x in (talk, pair[:321]) for q in (1, 9)]
    rng, found = random.Random(0), []
    for _ in range(150):
        data = mutated_chunks(rng, rng.choice(blobs), file.MAGIC, file.SMALL_MAGIC)
        audio = outcome(lambda data=data: codec.decompress(data, limits=LIMITS))
        found.append(audio is not None)
        if audio is not None:
            header = file.read_header(data)
            shape = (header.samples, header.channels)
            assert audio.shape == (shape[:1] if header.flat else shape)
            assert audio.dtype == header.dtype and np.isfinite(audio).all()
    assert 10 < sum(found) < 140


def test_changed_packets_give_audio_of_their_length_or_are_refused(codec):
    sender = codec.stream(packet_frames=2, quality=6)
    sent = [sender.opening, *sender.send(made_talk(6400))]
    rng, found, received = random.Random(0), [], codec.listen(sender.opening)
    for number in range(200):
        place = number % 11
        packet = mutated_packet(rng, sent, place, codec._id) if rng.random() < 0.7 else sent[place]
        if not place:
            # Packets of another stream's length or level are no less hostile.
            received = outcome(lambda packet=packet: codec.listen(packet)) or received
            continue
        audio = outcome(lambda to=received, packet=packet: to.receive(packet))
        found.append(audio is not None)
        assert audio is None or np.isfinite(audio).all()
    assert 10 < sum(found) < len(found) - 10


def test_changed_live_streams_are_split_or_refused(codec):
    sender = codec.stream()
    packets = [sender.opening, *sender.send(made_talk(6400))]
    whole = MAGIC + b"".join(map(framed, packets))
    splitter = PacketSplitter()
    assert sum((splitter.feed(whole[i : i + 7]) for i in range(0, len(whole), 7)), []) == packets
    rng = random.Random(0)
    for _ in range(300):
        data = changed(rng, whole)
        split = outcome(lambda data=data: PacketSplitter().feed(data))
        # An empty one has nothing to split.
        assert split is None or sum(map(len, split)) <= max(0, len(data) - len(MAGIC))


def test_packets_behind_damage_are_found_as_they_come_and_none_is_made_up(codec):
    sender = codec.stream()
    packets = [sender.opening, *sender.send(made_talk(32_000))]
    whole = MAGIC + b"".join(map(framed, packets))
    ends = np.cumsum([len(MAGIC), *(len(framed(packet)) for packet in packets)])
    rng = random.Random(0)
    for _ in range(20):
        # Bytes go, come or change somewhere behind the opening packet.
        at, count = rng.randrange(int(ends[1]), len(whole) - 300), rng.randrange(0, 40)
        new = rng.randbytes(rng.choice([0, 0, 1, count, 300]))
        data = whole[:at] + new + whole[at + count :]
        spoiled = [
            i for i in range(len(packets)) if ends[i + 1] > at and ends[i] < at + max(count, 1)
        ]
        told = []
        splitter = PacketSplitter(lambda begin, end, told=told: told.append((begin, end)))
        found, late = [], 0
        for i in range(len(data)):
            found += splitter.feed(data[i : i + 1])
            # The second packet behind the damage brings the first with it.
            sound = [
                packet
                for number, packet in enumerate(packets)
                if number not in spoiled
                and ends[number + 1] + (len(data) - len(whole) if number > spoiled[-1] else 0)
                <= i + 1
            ]
            late = max(late, len(sound) - len(found))
        found += splitter.end()
        kept = [packet for number, packet in enumerate(packets) if number not in spoiled]
        # Where what went was whole packets, or what changed is as it was, nothing is missing.
        assert found in (kept, packets) and late <= 1
        assert splitter.left_bytes == 0 and len(told) <= 1


def test_noise_behind_the_opening_packet_is_let_go(codec):
    opening = MAGIC + framed(codec.stream().opening)
    places = []
    splitter = PacketSplitter(lambda begin, end: places.append((begin, end)))
    splitter.feed(opening)
    rng, count = random.Random(0), 5 << 16
    began = time.process_time()
    found = sum((splitter.feed(rng.randbytes(1 << 15)) for _ in range(count >> 15)), [])
    # Ten times what it takes.
    assert time.process_time() - began < 20
    assert splitter.left_bytes <= 2 << 18 and len(found) <= 1
    assert places[0][0] == len(opening) and places[-1][1] <= len(opening) + count


def test_headers_that_claim_much_are_refused_at_once(codec):
    blob = codec.compress(np.zeros(1000, np.float32))
    good = file.read(blob).header
    huge, claims = (1 << 32) - 1, []
    for change in (
        {"samples": 0},
        {"samples": huge},
        {"samples": 1 << 27},
        {"level": 65},
        {"level": 255},
        {"block_steps": 0},
        {"block_steps": 30},
        {"block_steps": huge},
        {"block_steps": 8192},
        {"key_blocks": 1},
        {"dtype": "uint8"},
        {"dtype": "int32"},
        {"exact": True},
        {"sample_rate_hz": 8000.0},
        {"sample_rate_hz": math.nan},
        {"sample_rate_hz": math.inf},
        {"channels": 65, "flat": False, "offsets": (0.0,) * 65, "scales": (1.0,) * 65},
        {"channels": 0, "offsets": (), "scales": ()},
        {"channels": 4097, "offsets": (), "scales": ()},
    ):
        header = dataclasses.replace(good, codec_id=codec._id, **change)
        claims.append(lambda h=header: codec.decompress(file.write(h, [b"\1\2\3"])))
        # In packets a key comes with each, and how many samples there will be is not known.
        sound = {"samples": 0, "block_steps": 40, "key_blocks": 1}
        header = dataclasses.replace(good, **{**sound, **change})
        if change not in ({"samples": 0}, {"key_blocks": 1}):
            claims.append(lambda h=header: codec.listen(file.write_opening(h, 0)))
    claims.append(lambda: codec.listen(file.write_opening(good, 0)))
    tracemalloc.start()
    try:
        for number, claim in enumerate(claims):
            began = time.process_time()
            with pytest.raises(BitstreamError):
                claim()
            # A hundred times what it takes.
            assert time.process_time() - began < 1, number
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
