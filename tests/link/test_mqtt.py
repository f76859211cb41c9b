"""Codes through a real broker, also one that ends and starts again in the middle."""

from __future__ import annotations

import csv
import dataclasses
import json

import detectors
import numpy as np
import pytest
import tiny
from mosquitto import PROGRAM, Mosquitto

pytest.importorskip("paho.mqtt.client", reason="needs paho-mqtt: the extra mqtt")
if PROGRAM is None:
    pytest.skip("needs mosquitto, an MQTT broker", allow_module_level=True)

from typer.testing import CliRunner

import edgeae
from edgeae.cli.app import app
from edgeae.errors import BitstreamError, UnknownCodec
from edgeae.link import Broker, Decoder, FolderWriter, Publisher, Subscriber
from edgeae.link import broker as link_broker
from edgeae.media import read_image, write_image


@pytest.fixture
def broker(tmp_path):
    folder = tmp_path / "broker"
    folder.mkdir()
    running = Mosquitto(folder).start()
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def back_soon(monkeypatch):
    monkeypatch.setattr(link_broker, "_RECONNECT_S", (1, 1))


def at(broker):
    return Broker("127.0.0.1", broker.port)


def collected(subscriber, count, timeout_s=60):
    found = []
    for message in subscriber.messages(timeout_s=timeout_s):
        found.append(message)
        if len(found) == count:
            break
    return found


def table(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_pictures_signals_and_alarms_arrive_as_they_were_sent(broker, model, codec_path):
    images = [tiny.picture(60, 70, channels, seed=channels) for channels in (0, 1, 3, 4)]
    alarm = {"score": 3.5, "threshold": 2, "where": "bearing 4"}
    blocks = [b"block 1", b"block 22", b"block 333"]
    with Subscriber(at(broker)) as subscriber:
        with Publisher(at(broker), device="cam-7") as publisher:
            names = [publisher.image(model, image, quality=6) for image in images]
            names += [publisher.alarm(alarm), publisher.codes("signal", blocks)]
        found = collected(subscriber, 6)
    assert [message.name for message in found] == names
    assert {message.device for message in found} == {"cam-7"}
    assert all(message.complete for message in found)
    decoder = Decoder([codec_path])
    for message, image in zip(found, images, strict=False):
        decoded, mask = decoder.image(message)
        assert message.kind == "image" and mask is None
        assert np.array_equal(decoded, model.decompress(model.compress(image, quality=6)))
        assert message.bundle["bundle"] == model.bundle.id
    assert decoder.alarm(found[4]) == alarm
    assert list(found[5].codes) == blocks


def test_what_is_larger_than_a_payload_goes_in_packets_and_comes_back_exactly(
    tmp_path, model, codec_path
):
    (tmp_path / "b").mkdir()
    # Lower than what the publisher would send: a larger packet ends the connection.
    broker = Mosquitto(tmp_path / "b", max_packet_size=600).start()
    image = tiny.picture(150, 200, 3, noise=20)
    assert len(model.compress(image)) > 1200
    try:
        with Subscriber(at(broker)) as subscriber:
            with Publisher(at(broker), device="cam", max_payload_bytes=10_000) as publisher:
                assert publisher.max_payload_bytes < 600
                publisher.image(model, image)
                with pytest.raises(ValueError, match="expected at most"):
                    publisher.codes("signal", [bytes(600)])
            (message,) = collected(subscriber, 1)
    finally:
        broker.stop()
    assert message.parts == len(message.codes) > 3
    assert max(map(len, message.codes)) < 600
    decoded, mask = Decoder([codec_path]).image(message)
    assert not mask.any()
    assert np.array_equal(decoded, model.decompress(model.compress(image)))


def test_nothing_is_lost_or_doubled_when_the_broker_ends_and_starts_again(broker, model):
    images = [tiny.picture(40, 50, 3, seed=seed) for seed in range(12)]
    with (
        Subscriber(at(broker), client_id="archive") as subscriber,
        Publisher(at(broker), device="cam") as publisher,
    ):
        sent = [publisher.image(model, image) for image in images[:4]]
        found = collected(subscriber, 2)
        broker.stop()
        sent += [publisher.image(model, image) for image in images[4:8]]
        broker.start()
        sent += [publisher.image(model, image) for image in images[8:]]
        publisher.wait(timeout_s=30)
        # The last of the first two had not been acknowledged when the loop over it ended, but its
        # caller has it.
        for message in subscriber.messages(timeout_s=60):
            subscriber.acknowledge(message)
            found.append(message)
            if {message.name for message in found} == set(sent):
                break
        # What comes twice would show.
        found += collected(subscriber, 100, timeout_s=2)
    names = [message.name for message in found]
    assert sorted(set(names)) == sorted(sent)
    assert len(names) in (12, 13) and names.count(sent[1]) == len(names) - 11


def test_a_subscriber_that_was_away_gets_what_came_and_what_it_had_not_finished(broker):
    with Subscriber(at(broker), client_id="archive"):
        pass
    with Publisher(at(broker), device="cam") as publisher:
        sent = [publisher.codes("signal", [bytes([i])]) for i in range(5)]
    with Subscriber(at(broker), client_id="archive") as subscriber:
        # The second is not acknowledged: its work was not done.
        assert [m.name for m in collected(subscriber, 2)] == sent[:2]
    with Subscriber(at(broker), client_id="archive") as subscriber:
        assert [m.name for m in collected(subscriber, 4)] == sent[1:]


def test_the_bundle_is_retained_also_by_a_broker_that_forgets_everything(tmp_path, model):
    (tmp_path / "b").mkdir()
    broker = Mosquitto(tmp_path / "b", persistence="false").start()
    try:
        with Publisher(at(broker), device="cam") as publisher:
            publisher.announce("image", model.bundle)
            publisher.wait()
            broker.stop()
            broker.start()
            with Subscriber(at(broker)) as subscriber:
                for _ in range(600):
                    list(subscriber.messages(timeout_s=0.1))
                    if subscriber.bundles:
                        break
                said = subscriber.bundles["cam", "image"]
        assert said["bundle"] == model.bundle.id
        assert said["codec_id"] == model.bundle.manifest.codec_id
    finally:
        broker.stop()


def test_a_message_of_which_parts_are_missing_is_given_as_it_is(broker, model, codec_path):
    import paho.mqtt.client as mqtt

    image = tiny.picture(150, 200, 3, noise=20)
    packets = model.packets(image, max_packet_bytes=500)
    with Subscriber(at(broker), patience_s=5) as subscriber:
        with Publisher(at(broker), device="cam") as publisher:
            publisher.announce("image", model.bundle)
        other = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        other.connect("127.0.0.1", broker.port)
        other.loop_start()
        for index, packet in enumerate(packets[:-1], 1):
            topic = f"edgeae/cam/image/1700000000000-00000000-0/{index}-{len(packets)}"
            other.publish(topic, packet, qos=1).wait_for_publish(10)
        for topic in ("edgeae/cam/film", "edgeae/../image/x/1-1"):
            other.publish(topic, b"x", qos=1).wait_for_publish(10)
        other.disconnect()
        other.loop_stop()
        (message,) = collected(subscriber, 1)
        assert subscriber.ignored == 2
    assert not message.complete
    decoded, mask = Decoder([codec_path]).image(message)
    whole = model.decompress(model.compress(image))
    assert mask.any() and not mask.all()
    assert np.array_equal(decoded[~mask], whole[~mask])
    with pytest.raises(UnknownCodec):
        Decoder().image(message)


def test_a_folder_gets_files_and_tables(broker, model, codec_path, tmp_path):
    image = tiny.picture(60, 70, 3)
    with Subscriber(at(broker)) as subscriber:
        with Publisher(at(broker), device="cam") as publisher:
            names = [
                publisher.image(model, image),
                publisher.alarm({"score": 7.25, "threshold": 5, "at_s": 12}),
                publisher.codes("signal", [b"one"]),
                publisher.codes("signal", [b"one", b"two"]),
                publisher.codes("image", [b"\x89EAE damaged"]),
                publisher.codes("alarm", [b"[1]"]),
            ]
        with FolderWriter(tmp_path / "out", Decoder([codec_path])) as writer:
            for message in collected(subscriber, 6):
                writer.write(message)
    out = tmp_path / "out"
    rows = table(out / "messages.csv")
    assert [row["name"] for row in rows] == names
    assert [row["note"] == "" for row in rows] == [True, True, True, True, False, False]
    picture = read_image(out / rows[0]["file"])
    assert np.array_equal(picture, model.decompress(model.compress(image)))
    assert (out / rows[2]["file"]).read_bytes() == b"one"
    assert (out / rows[3]["file"] / "0002.eae").read_bytes() == b"two"
    assert (out / rows[4]["file"]).read_bytes() == b"\x89EAE damaged"
    (alarm,) = table(out / "alarms.csv")
    assert (alarm["score"], alarm["threshold"]) == ("7.25", "5")
    assert json.loads(alarm["values"]) == {"at_s": 12}


def test_memory_is_bounded_while_the_broker_is_away(broker, monkeypatch):
    with Publisher(at(broker), device="cam", max_waiting=3) as publisher:
        monkeypatch.setattr(publisher, "_timeout_s", 0.5)
        broker.stop()
        for _ in range(3):
            publisher.codes("signal", [b"x"])
        with pytest.raises(TimeoutError, match="has not taken 3 messages"):
            publisher.codes("signal", [b"x"])
        broker.start()
        publisher.wait(timeout_s=60)


def test_a_broker_that_is_not_there_or_refuses_is_told(tmp_path):
    (tmp_path / "b").mkdir()
    broker = Mosquitto(tmp_path / "b", allow_anonymous="false")
    with pytest.raises(TimeoutError, match="no broker answers"):
        Publisher(at(broker), device="cam", timeout_s=0.3)
    broker.start()
    try:
        with pytest.raises(ConnectionRefusedError, match="refuses"):
            Subscriber(at(broker))
    finally:
        broker.stop()


def test_what_a_detector_flags_arrives_with_its_bundle(broker, tmp_path):
    detector = edgeae.load(detectors.squares(tmp_path / "d", detection={"threshold": 1.0}))
    signal = np.zeros(100, np.float32)
    signal[50] = 9.0
    (alarm,) = detector.flag(signal)
    with Subscriber(at(broker)) as subscriber:
        with Publisher(at(broker), device="pump") as publisher:
            publisher.alarm(alarm, bundle=detector.bundle)
        (message,) = collected(subscriber, 1)
    assert Decoder.alarm(message) == dataclasses.asdict(alarm)
    assert message.bundle["bundle"] == detector.bundle.id


def test_values_that_json_cannot_hold_are_no_alarm(broker):
    with Publisher(at(broker), device="cam") as publisher:
        for value in (float("nan"), b"bytes"):
            with pytest.raises(ValueError):
                publisher.alarm({"score": value})


def test_packets_of_a_device_that_says_nothing_are_refused(broker, model):
    packets = model.packets(tiny.picture(150, 200, 3), max_packet_bytes=500)
    with Subscriber(at(broker)) as subscriber:
        with Publisher(at(broker), device="mute") as publisher:
            publisher.codes("image", packets)
        (message,) = collected(subscriber, 1)
    with pytest.raises(BitstreamError, match="mute has not said"):
        Decoder().image(message)


def test_the_command_sends_a_folder_and_writes_it(broker, codec_path, model, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(3):
        write_image(photos / f"{index}.png", tiny.picture(60, 70, 3, seed=index))
    address = f"mqtt://127.0.0.1:{broker.port}"
    run = CliRunner().invoke
    # The broker keeps what comes for this name.
    asked = ["--broker", address, "--client-id", "a", "--idle", "1", "--model", str(codec_path)]
    assert run(app, ["subscribe", str(tmp_path / "out"), *asked]).exit_code == 0
    sent = run(
        app,
        ["publish", str(photos), "--broker", address, "--device", "cam"]
        + ["--model", str(codec_path), "--max-payload-bytes", "500"],
    )
    assert sent.exit_code == 0, sent.output
    asked += ["--idle", "60", "--count", "3"]
    assert run(app, ["subscribe", str(tmp_path / "out"), *asked]).exit_code == 0
    written = sorted((tmp_path / "out" / "cam").glob("*.png"))
    assert len(written) == 3
    for index, path in enumerate(written):
        picture = read_image(photos / f"{index}.png")
        assert np.array_equal(read_image(path), model.decompress(model.compress(picture)))
