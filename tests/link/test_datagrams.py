"""Pictures over a real UDP socket, with loss that the test makes itself."""

from __future__ import annotations

import socket
import time

import numpy as np
import pytest
import tiny

from edgeae.link import DatagramReceiver, datagrams, send_datagrams

PACKET_BYTES = 200


def receiver_of(model):
    return DatagramReceiver(model, ("127.0.0.1", 0), idle_s=0.2)


def test_pictures_come_whole_over_a_link_that_loses_nothing(model):
    sent = [tiny.picture(90, 70 + i, 3, seed=i) for i in range(3)]
    with receiver_of(model) as receiver:
        for number, image in enumerate(sent):
            packets = model.packets(image, max_packet_bytes=PACKET_BYTES, number=number)
            send_datagrams(receiver.address, packets)
        found = list(receiver.images(timeout_s=0.5))
    assert len(found) == 3
    for (image, mask), original in zip(found, sent, strict=True):
        assert np.array_equal(image, model.decompress(model.compress(original)))
        assert not mask.any()


def test_a_tenth_of_the_datagrams_is_lost_and_what_came_is_exact(model):
    rng = np.random.default_rng(5)
    # Known again by their widths.
    sent = {160 + i: tiny.picture(120, 160 + i, 3, noise=20, seed=i) for i in range(6)}
    lost = total = 0
    with receiver_of(model) as receiver:
        for number, image in enumerate(sent.values()):
            packets = model.packets(image, max_packet_bytes=PACKET_BYTES, number=number)
            kept = [packet for packet in packets if rng.random() >= 0.1]
            lost, total = lost + len(packets) - len(kept), total + len(packets)
            # Late ones overtake others, and some come twice.
            rng.shuffle(kept)
            send_datagrams(receiver.address, [*kept, *kept[:2]])
        found = list(receiver.images(timeout_s=0.5))
    assert 0.05 < lost / total < 0.2
    assert len(found) == len(sent)
    masked = 0
    for image, mask in found:
        original = sent.pop(image.shape[1])
        whole, _ = model.receive(model.packets(original, max_packet_bytes=PACKET_BYTES))
        assert np.array_equal(image[~mask], whole[~mask])
        assert not mask.all()
        masked += mask.any()
    assert masked > 0 and not sent


def test_strange_datagrams_are_passed_over(model):
    image = tiny.picture(60, 60, 3)
    with receiver_of(model) as receiver:
        send_datagrams(receiver.address, [b"", b"\xe2", b"noise" * 40, b"\x89EAE\r\n\x1a\n"])
        send_datagrams(receiver.address, model.packets(image, max_packet_bytes=PACKET_BYTES))
        ((found, mask),) = receiver.images(timeout_s=0.5)
        assert receiver.ignored == 4
    assert not mask.any() and found.shape == image.shape


def test_pictures_that_never_become_whole_make_room(model, monkeypatch):
    monkeypatch.setattr(datagrams, "MAX_IMAGES", 3)
    with receiver_of(model) as receiver:
        for number in range(10):
            image = tiny.picture(120, 160, 3, seed=number)
            packets = model.packets(image, max_packet_bytes=PACKET_BYTES, number=number)
            send_datagrams(receiver.address, packets[1:])
        images = receiver.images(timeout_s=0.5)
        next(images)
        assert len(receiver._images) <= 4
        assert len(list(images)) == 9


def test_a_slow_link_is_not_flooded(model):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.bind(("127.0.0.1", 0))
        start = time.monotonic()
        send_datagrams(end.getsockname(), [bytes(100)] * 4, bytes_per_s=1000)
        # The fourth goes after three tenths of a second; nothing makes it come sooner.
        assert time.monotonic() - start >= 0.3


@pytest.mark.parametrize("idle_s", [0, -1, float("nan"), float("inf")])
def test_a_receiver_waits_for_a_time_above_zero(model, idle_s):
    with pytest.raises(ValueError, match="idle_s is .*, expected a number of seconds above 0"):
        DatagramReceiver(model, ("127.0.0.1", 0), idle_s=idle_s)
