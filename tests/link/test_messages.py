"""Topics say what a payload is, and messages are put together from parts in bounded memory."""

from __future__ import annotations

import itertools

import pytest

from edgeae.errors import BitstreamError
from edgeae.link import message
from edgeae.link.broker import Broker
from edgeae.link.message import Message, Part, Parts

NAME = "1700000000123-00c0ffee-7"


def test_a_topic_says_what_it_was_made_of():
    part = Part("cam-7", "image", NAME, 2, 11)
    topic = message.part_topic("fleet/north", part)
    assert topic == f"fleet/north/cam-7/image/{NAME}/3-11"
    assert message.read_topic("fleet/north", topic) == part
    bundle = message.bundle_topic("fleet/north", "cam-7", "signal")
    assert message.read_topic("fleet/north", bundle) == ("cam-7", "signal")


@pytest.mark.parametrize(
    "rest",
    [
        f"cam/image/{NAME}/0-1",
        f"cam/image/{NAME}/2-1",
        f"cam/image/{NAME}/1-9999",
        f"cam/image/{NAME}/1",
        f"cam/image/{NAME}",
        f"cam/film/{NAME}/1-1",
        "cam/image/../1-1",
        f"../image/{NAME}/1-1",
        f"/image/{NAME}/1-1",
        f"cam/image/{NAME}/1-1/more",
        "cam/bundle/film",
        "cam",
        "",
    ],
)
def test_other_topics_are_nothing(rest):
    assert message.read_topic("edgeae", f"edgeae/{rest}") is None
    assert message.read_topic("edgeae", "edgeaf/cam/bundle/image") is None


@pytest.mark.parametrize("device", ["", "a/b", "..", "+", "#", "a b", "é", "x" * 65, 3])
def test_a_device_is_a_name_for_topics_and_paths(device):
    with pytest.raises(ValueError, match="device is"):
        message.check_device(device)


@pytest.mark.parametrize("prefix", ["", "/a", "a/", "a/#", "+", "$SYS"])
def test_a_prefix_holds_no_wildcards(prefix):
    with pytest.raises(ValueError, match="prefix is"):
        message.check_prefix(prefix)


def test_parts_in_any_order_and_twice_make_one_message():
    codes = (b"a", b"bb", b"ccc")
    for order in itertools.permutations(range(3)):
        parts = Parts()
        sent = [i for i in order for _ in range(2)][:-1]
        found = [
            whole for i in sent for whole in parts.add(Part("d", "image", NAME, i, 3), codes[i], 0)
        ]
        assert found == [Message("d", "image", NAME, codes, 3)]
        assert found[0].complete and found[0].time_s == 1700000000.123


def test_what_waits_for_its_parts_is_bounded_in_number_and_bytes(monkeypatch):
    parts = Parts()
    names = [f"1700000000123-00c0ffee-{i}" for i in range(message.MAX_INCOMPLETE + 1)]
    given = [
        whole
        for now, name in enumerate(names)
        for whole in parts.add(Part("d", "image", name, 1, 3), b"x", now)
    ]
    assert given == [Message("d", "image", names[0], (b"x",), 3)]
    assert not given[0].complete
    monkeypatch.setattr(message, "MAX_INCOMPLETE_BYTES", 1000)
    large = parts.add(Part("d", "image", NAME, 0, 2), bytes(998), 1000)
    # 64 wait with a byte each: as many as make room.
    assert len(large) == 62 + 1 - 1
    assert [m.name for m in parts.overdue(before_s=1e9)] == [*names[63:], NAME]
    assert parts.overdue(before_s=1e9) == []


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"[" * 4000,
        b'"text"',
        b'{"name": 1, "version": "1", "bundle": "b", "codec_id": null}',
        b'{"name": "n", "version": "1", "bundle": "b", "codec_id": ""}',
        b'{"name": "n", "version": "1", "bundle": "b", "codec_id": "zz"}',
        b" " * 5000,
        b"\xff",
    ],
)
def test_a_damaged_word_on_a_bundle_is_refused(payload):
    with pytest.raises(BitstreamError, match="damaged"):
        message.read_announcement(payload)


def test_an_address_of_a_broker_is_read():
    assert Broker.parse("gateway") == Broker("gateway", 1883)
    assert Broker.parse("mqtt://10.0.0.1:2000") == Broker("10.0.0.1", 2000)
    secret = Broker.parse("mqtts://me:p%40ss@host")
    assert secret == Broker("host", 8883, "me", "p@ss", tls=True)
    assert "p@ss" not in repr(secret) + str(secret)


@pytest.mark.parametrize("text", ["http://x", "", "mqtt://", "host:0", "host:99999", "host/topic"])
def test_a_wrong_address_is_refused_without_its_password(text):
    with pytest.raises(ValueError, match="expected mqtt"):
        Broker.parse(text)
