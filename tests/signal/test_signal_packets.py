"""Signals in packets that are lost, doubled, damaged and out of place."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edgeae.bench.signal_codec import made_pulse
from edgeae.errors import BitstreamError
from edgeae.signal import codec_file as file
from edgeae.signal.codec import SignalCodec

GOLDEN = Path(__file__).parent.parent / "golden"
STEPS, RATE = 8, 360.0
SECONDS = STEPS * 16 / RATE


@pytest.fixture(scope="module")
def codec():
    return SignalCodec.load(GOLDEN / "tiny-signal-codec")


@pytest.fixture(scope="module")
def pulse():
    return made_pulse(1500, RATE)


@pytest.mark.parametrize("keys", [None, 4 * SECONDS])
def test_all_packets_give_a_signal_without_a_mask(codec, pulse, keys):
    packets = codec.packets(pulse, packet_seconds=SECONDS, key_seconds=keys)
    assert len(packets) == 1 + -(-1500 // (16 * STEPS))
    restored, lost = codec.receive(packets)
    assert not lost.any() and restored.shape == pulse.shape and restored.dtype == pulse.dtype
    error = np.square(restored - pulse.astype(float)).mean()
    assert error < 0.05 * pulse.var()


def test_every_block_stands_alone_without_keys(codec, pulse):
    packets = codec.packets(pulse, packet_seconds=SECONDS)
    whole, _ = codec.receive(packets)
    restored, lost = codec.receive([packets[0], packets[6]])
    first = 5 * STEPS * 16
    assert not lost[first + 40 : first + STEPS * 16 - 40].any()
    assert lost[: first - 40].all()
    assert np.array_equal(restored[~lost], whole[~lost])


def test_a_loss_spreads_to_the_next_key_and_no_further(codec, pulse):
    packets = codec.packets(pulse, packet_seconds=SECONDS, key_seconds=4 * SECONDS)
    whole, _ = codec.receive(packets)
    restored, lost = codec.receive([p for i, p in enumerate(packets) if i != 1 + 5])
    block = 16 * STEPS
    assert lost[5 * block : 8 * block].all()
    halo = 48
    assert not lost[: 5 * block - halo].any() and not lost[8 * block + halo :].any()
    assert np.array_equal(restored[~lost], whole[~lost])


def test_leaning_on_what_came_before_takes_fewer_bytes(codec):
    pulse = made_pulse(6000, RATE)
    alone = codec.packets(pulse, packet_seconds=SECONDS)
    leaning = codec.packets(pulse, packet_seconds=SECONDS, key_seconds=16 * SECONDS)
    assert sum(map(len, leaning)) < sum(map(len, alone))


def test_a_signal_whose_first_block_is_lost_goes_on_at_the_next_key(codec, pulse):
    packets = codec.packets(pulse, packet_seconds=0.5, key_seconds=1.5)
    whole, _ = codec.receive(packets)
    restored, mask = codec.receive([packets[0], *packets[2:]])
    assert mask[0] and not mask.all()
    assert np.array_equal(restored[~mask], whole[~mask])


def test_an_opening_without_keys_lets_all_blocks_lean_on_the_first(codec, pulse):
    packets = codec.packets(pulse, packet_seconds=0.5, key_seconds=99)
    opened = file.read_opening(packets[0], codec._id)
    header = dataclasses.replace(opened.header, key_blocks=0)
    opening = file.write_opening(header, 5)
    check = file.read_opening(opening, codec._id).check
    blocks = [file.read_block_packet(packet, opened.check) for packet in packets[1:]]
    sent = [opening, *(file.write_block_packet(i, block, check) for i, block in blocks)]
    restored, mask = codec.receive(sent)
    assert len(blocks) > 2 and not mask.any()
    assert np.array_equal(restored, codec.receive(packets)[0])


def test_order_and_doubles_change_nothing(codec, pulse):
    packets = codec.packets(pulse, packet_seconds=SECONDS)
    expected, _ = codec.receive(packets)
    mixed = [*packets[1:], *packets[:4]]
    mixed[0], mixed[5] = mixed[5], mixed[0]
    restored, lost = codec.receive(mixed)
    assert not lost.any() and np.array_equal(restored, expected)


def test_block_numbers_go_round_in_a_long_signal(codec):
    pulse = made_pulse(16 * 300, RATE)
    packets = codec.packets(pulse, packet_seconds=16 / RATE)
    assert len(packets) == 301
    restored, lost = codec.receive([p for i, p in enumerate(packets) if i % 50 != 7])
    assert lost.any() and not lost.all() and len(restored) == len(pulse)
    assert np.flatnonzero(lost).max() < 16 * 280


def test_damaged_packets_and_those_of_another_signal_are_passed_over(codec, pulse):
    packets = codec.packets(pulse, packet_seconds=SECONDS, number=3)
    expected, _ = codec.receive(packets)
    others = codec.packets(pulse // 2, packet_seconds=SECONDS, number=4)
    damaged = bytes([packets[2][0], packets[2][1] ^ 4]) + packets[2][2:]
    restored, lost = codec.receive([packets[0], b"", b"\x05", damaged, *packets[1:], *others[1:4]])
    assert not lost.any() and np.array_equal(restored, expected)


def test_several_leads_share_their_packets(codec, pulse):
    signal = np.stack([pulse, -pulse, pulse // 3], axis=1)
    packets = codec.packets(signal, packet_seconds=SECONDS, quality=4)
    restored, lost = codec.receive(packets)
    assert restored.shape == signal.shape and lost.shape == (len(signal),) and not lost.any()


def test_without_an_opening_nothing_is_received(codec, pulse):
    packets = codec.packets(pulse, packet_seconds=SECONDS)
    with pytest.raises(BitstreamError, match="none opens a signal"):
        codec.receive(packets[1:])
    with pytest.raises(BitstreamError, match="no block of the signal came|none"):
        codec.receive(packets[:0])
    with pytest.raises(TypeError, match="a packet is str"):
        codec.receive(["x"])


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"packet_seconds": 0}, "packet_seconds is 0"),
        ({"packet_seconds": 1e6}, "expected 1 to"),
        ({"key_seconds": -1}, "key_seconds is -1"),
        ({"number": 128}, "number is 128"),
    ],
)
def test_arguments_out_of_range_are_refused(codec, pulse, asked, match):
    with pytest.raises(ValueError, match=match):
        codec.packets(pulse, **asked)
