"""Graphs that must not be opened, and any bytes in place of a manifest or a graph."""

from __future__ import annotations

import json
import time

import pytest
import tiny
import unsafe_graphs
from bundles import denoiser_with_notes, refused
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edgeae import bundle
from edgeae.errors import BundleError
from edgeae.onnx_check import check_graph


@pytest.fixture
def path(tmp_path):
    return denoiser_with_notes(tmp_path)


def test_there_are_at_least_forty_unsafe_graphs():
    assert len(unsafe_graphs.UNSAFE_GRAPHS) >= 40


@pytest.mark.parametrize(
    ("change", "match"),
    unsafe_graphs.UNSAFE_GRAPHS,
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_unsafe_graph_is_refused_though_its_hash_is_right(path, change, match):
    refused(tiny.change_graph(path, change), f"step.fp32.onnx: .*{match}")


def test_weights_beside_the_graph_are_refused_even_if_the_file_is_there(path):
    (path / "weights.bin").write_bytes(bytes(16))
    refused(tiny.change_graph(path, unsafe_graphs.add_external_data), "external data")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\x0a",
        b"\xff" * 20,
        b"PK\x03\x04 not a model",
        b"\x3a\xff\xff\xff\xff\x0f",
        b"\x3b\x3c",
        b"\x38\x07",
        b"\x3a\x00\x3a\x00",
    ],
    ids=[
        "empty",
        "field 0",
        "no length",
        "endless number",
        "zip",
        "too long",
        "group",
        "graph that is a number",
        "two graphs",
    ],
)
def test_bytes_that_are_no_onnx_file_are_refused(path, data):
    refused(tiny.replace_graph(path, data), "not an ONNX file|not a usable ONNX file|wire type")


def test_every_cut_of_a_graph_is_refused_or_loses_a_whole_field_only(path):
    data = (path / "step.fp32.onnx").read_bytes()
    for size in range(len(data)):
        try:
            check_graph(data[:size], name="cut")
        except BundleError:
            continue
        tiny.onnx.load_from_string(data[:size])  # what is left is a whole message


def test_a_graph_of_endless_fields_is_refused_in_bounded_time():
    data = b"\x42\x00" * 8_000_000  # operator sets without a name
    start = time.process_time()
    with pytest.raises(BundleError, match="over 500000 fields"):
        check_graph(data, name="spam")
    assert time.process_time() - start < 20


def test_a_large_tensor_is_stepped_over_not_read():
    model = tiny.relu_model()
    model.graph.initializer.append(
        tiny.helper.make_tensor("w", 1, [10_000_000], bytes(40_000_000), raw=True)
    )
    data = model.SerializeToString()
    start = time.process_time()
    check_graph(data, name="large")
    assert time.process_time() - start < 1


# Properties: whatever the bytes, a bundle is read or refused with BundleError

quick = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A good bundle and the bytes of its manifest, for tests that spoil it many times over."""
    path = tiny.tiny_denoiser_bundle(tmp_path_factory.mktemp("sound") / "tiny")
    return path, (path / "manifest.json").read_bytes()


@quick
@given(st.data())
def test_any_bytes_changed_in_a_manifest_raise_nothing_but_bundle_errors(sound, data):
    path, manifest = sound
    at = data.draw(st.integers(0, len(manifest)))
    gone = data.draw(st.integers(0, 20))
    put = data.draw(st.binary(max_size=20) | st.sampled_from([b"{", b"]", b'"', b"null", b"-1"]))
    (path / "manifest.json").write_bytes(manifest[:at] + put + manifest[at + gone :])
    try:
        bundle.find(path)
    except BundleError as error:
        assert "\n" not in str(error)


@quick
@given(st.data())
def test_any_value_put_anywhere_in_a_manifest_raises_nothing_but_bundle_errors(sound, data):
    path, original = sound
    manifest = spot = json.loads(original)
    while True:
        key = data.draw(st.sampled_from(sorted(spot)))
        if not (isinstance(spot[key], dict) and spot[key] and data.draw(st.booleans())):
            break
        spot = spot[key]
    spot[data.draw(st.just(key) | st.text(max_size=8))] = data.draw(json_values)
    tiny.save_manifest(path, manifest)
    try:
        bundle.find(path)
    except BundleError as error:
        assert "\n" not in str(error)


@quick
@given(st.binary(max_size=200))
@example(b"\x3a\x04\x5a\x02\x12\x00")
def test_any_bytes_for_a_graph_raise_nothing_but_bundle_errors(data):
    with pytest.raises(BundleError):
        check_graph(b"\x00" + data, name="any")
    try:
        check_graph(data, name="any")
    except BundleError as error:
        assert "\n" not in str(error)


@quick
@given(st.data())
def test_any_bytes_changed_in_a_graph_raise_nothing_but_bundle_errors(data):
    graph = STEP_BYTES
    at = data.draw(st.integers(0, len(graph)))
    gone = data.draw(st.integers(0, 8))
    put = data.draw(st.binary(max_size=8))
    try:
        check_graph(graph[:at] + put + graph[at + gone :], name="changed")
    except BundleError as error:
        assert "\n" not in str(error)


STEP_BYTES = tiny.denoiser_step_model(bins=257).SerializeToString()
