"""What models do is counted, and read back from OpenTelemetry's reader in memory."""

from __future__ import annotations

import detectors
import numpy as np
import pytest
import tiny

pytest.importorskip("opentelemetry.sdk.metrics", reason="needs OpenTelemetry: the extra otel")
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import edgeae
from edgeae.telemetry import instrument


@pytest.fixture
def told():
    """A provider, and what it has been told: {(metric, operation, error type): point}."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)

    def read():
        data = reader.get_metrics_data()
        return {
            (
                metric.name,
                point.attributes["edgeae.operation"],
                point.attributes.get("error.type"),
            ): point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
        }

    yield provider, read
    provider.shutdown()


def test_calls_bytes_and_seconds_of_a_codec_are_counted(told, model):
    provider, read = told
    codec = instrument(model, meter_provider=provider)
    images = [tiny.picture(30, 40, 3, seed=seed) for seed in range(3)]
    blobs = [codec.compress(image, quality=6) for image in images]
    assert blobs == [model.compress(image, quality=6) for image in images]
    packets = codec.packets(images[0], max_packet_bytes=200)
    restored = codec.decompress(blobs[0])
    received, mask = codec.receive(packets)
    points = read()
    assert points["edgeae.calls", "compress", None].value == 3
    assert points["edgeae.bytes.in", "compress", None].value == 3 * 30 * 40 * 3
    assert points["edgeae.bytes.out", "compress", None].value == sum(map(len, blobs))
    assert points["edgeae.bytes.out", "decompress", None].value == restored.nbytes
    assert points["edgeae.bytes.in", "receive", None].value == sum(map(len, packets))
    assert points["edgeae.bytes.out", "receive", None].value == received.nbytes + mask.nbytes
    seconds = points["edgeae.call.duration", "compress", None]
    assert seconds.count == 3 == sum(seconds.bucket_counts) and seconds.sum > 0
    assert seconds.explicit_bounds[0] == 1e-4 and seconds.explicit_bounds[-1] == 30
    attributes = dict(seconds.attributes)
    assert attributes["edgeae.model"] == "tiny-codec"
    assert attributes["edgeae.bundle"] == model.bundle.id


def test_what_a_call_raises_is_counted_and_raised(told, model):
    provider, read = told
    codec = instrument(model, meter_provider=provider)
    with pytest.raises(edgeae.BitstreamError):
        codec.decompress(b"no file at all")
    points = read()
    assert points["edgeae.calls", "decompress", "BitstreamError"].value == 1
    assert points["edgeae.bytes.in", "decompress", "BitstreamError"].value == 14
    assert ("edgeae.calls", "decompress", None) not in points


def test_streams_are_counted_hop_by_hop(told, tmp_path):
    provider, read = told
    denoiser = edgeae.load(tiny.tiny_denoiser_bundle(tmp_path / "d"))
    stream = instrument(denoiser, meter_provider=provider).stream(sample_rate=16_000)
    assert stream.delay == denoiser.stream(sample_rate=16_000).delay
    block = np.zeros(160, np.float32)
    for _ in range(5):
        stream.process(block)
    tail = stream.flush()
    points = read()
    assert points["edgeae.calls", "process", None].value == 5
    assert points["edgeae.bytes.in", "process", None].value == 5 * block.nbytes
    assert points["edgeae.bytes.out", "flush", None].value == tail.nbytes


def test_what_a_detector_flags_is_an_alarm(told, tmp_path):
    provider, read = told
    detector = edgeae.load(detectors.squares(tmp_path / "d", detection={"threshold": 1.0}))
    watch = instrument(detector, meter_provider=provider)
    quiet = np.zeros(200, np.float32)
    strange = quiet.copy()
    strange[[50, 150]] = 9.0
    assert len(watch.flag(strange)) == 2
    assert watch.flag(quiet) == []
    scores = watch.score(strange)
    points = read()
    assert points["edgeae.alarms", "flag", None].value == 2
    assert points["edgeae.calls", "flag", None].value == 2
    held = (scores.starts, scores.windows, scores.channels, scores.samples)
    assert points["edgeae.bytes.out", "score", None].value == sum(x.nbytes for x in held)


def test_an_instrumented_model_is_the_model_in_everything_else(told, model):
    codec = instrument(model, meter_provider=told[0])
    assert codec.bundle is model.bundle and codec.report() == model.report()
    assert repr(model) in repr(codec)
    with pytest.raises(AttributeError, match="shrink"):
        _ = codec.shrink
