"""Bundles of a codec that are wrong are refused when they are loaded."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny
from bundles import renewed, spoiled

import edgeae
from edgeae.coding import context
from edgeae.errors import BundleError
from edgeae.image.codec import ImageCodec


@pytest.fixture
def own(tmp_path):
    """A bundle that a test may spoil."""
    return tiny.tiny_codec_bundle(tmp_path / "own")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s: s.clear(), "slices"),
        (lambda s: s.pop("slices"), "slices are None"),
        (lambda s: s.update(slices=[]), r"slices are \[\]"),
        (lambda s: s.update(slices={"channels": 9}), "slices are"),
        (lambda s: s.update(slices="abc"), "slices are 'abc'"),
        (lambda s: s.update(slices=[3]), "channels is None"),
        (lambda s: s["slices"][0].pop("channels"), "channels is None"),
        (lambda s: s["slices"][0].update(channels=0), "channels is 0, expected 1 to 4096"),
        (lambda s: s["slices"][0].update(channels=-2), "channels is -2"),
        (lambda s: s["slices"][0].update(channels=5000), "channels is 5000"),
        (lambda s: s["slices"][0].update(channels=True), "channels is True"),
        (lambda s: s["slices"][1].update(phases=3), "phases is 3, expected 1 to 2"),
        (lambda s: s["slices"][1].update(phases=1.0), "phases is 1.0"),
        (lambda s: s["slices"][1].update(centered="false"), "centered"),
        (lambda s: s["slices"][1].update(centered=0), "centered"),
        (lambda s: s["slices"][1].pop("centered"), "centered"),
        (lambda s: s["slices"][0].update(phases=1), "first slice in 1 phases"),
        (lambda s: s["slices"][1].update(channels=4096), "the latent has 4102 channels"),
        (lambda s: s.update(stride=0), "stride is 0, expected 1 to 64"),
        (lambda s: s.update(stride=65), "stride is 65"),
        (lambda s: s.update(stride="16"), "stride is '16'"),
        (lambda s: s.update(stride=16.5), "stride is 16.5"),
        (lambda s: s.update(stride=None), "stride is None"),
        (lambda s: s.update(stride=[16]), "stride is"),
        (lambda s: s.pop("tile"), "tile is None"),
        (lambda s: s.update(tile=0), "tile is 0"),
        (lambda s: s.update(tile=1025), "tile is 1025"),
        (lambda s: s.update(encoder_halo=5), "encoder_halo is 5, expected 0 to 4"),
        (lambda s: s.update(decoder_halo=-1), "decoder_halo is -1"),
        (lambda s: s.update(decoder_halo=float(10**20)), "decoder_halo is 1e"),
        # Sound in itself, but not what the files hold.
        (lambda s: s["slices"].pop(), "tables.bin has"),
        (lambda s: s["slices"][0].update(channels=3), "tables.bin has"),
        (lambda s: s["slices"].reverse() or s["slices"][0].update(phases=2), "context0.fp32.onnx"),
        (lambda s: s["slices"][0].update(centered=False), "context0.fp32.onnx gives"),
        (lambda s: s["slices"][1].update(centered=True), "context1.fp32.onnx gives"),
        (lambda s: s["slices"][1].update(phases=1), "context1.fp32.onnx takes"),
        (lambda s: s["slices"][2].update(phases=2), "context2.fp32.onnx takes"),
        (lambda s: s["slices"].append(s["slices"][0]), "tables.bin has"),
    ],
)
def test_a_latent_section_that_is_wrong_is_refused(own, change, match):
    spoiled(change)(own)
    with pytest.raises(BundleError, match=match) as caught:
        ImageCodec.load(own)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("stride", [1, 2, 8, 64])
def test_another_stride_than_the_graphs_have_is_refused(own, stride):
    spoiled(lambda section: section.update(stride=stride))(own)
    model = ImageCodec.load(own)
    with pytest.raises(BundleError, match=f"stride is {stride}"):
        model.compress(tiny.picture())


@pytest.mark.parametrize("role", ["encoder", "decoder", "context0", "context2"])
def test_a_codec_without_one_of_its_graphs_is_refused(own, role):
    tiny.change_manifest(own, lambda manifest: manifest["graphs"].pop(role))
    renewed(own)
    with pytest.raises(BundleError, match=f"no '{role}' graph"):
        ImageCodec.load(own)


@pytest.mark.parametrize(
    ("role", "other"),
    [
        ("encoder", "decoder"),
        ("decoder", "encoder"),
        ("context0", "context1"),
        ("context1", "context2"),
        ("context2", "encoder"),
    ],
)
def test_a_graph_in_the_place_of_another_is_refused(own, role, other):
    data = (own / f"{other}.fp32.onnx").read_bytes()
    with pytest.raises(BundleError, match=f"{role}.fp32.onnx (takes|gives) "):
        ImageCodec.load(renewed(tiny.replace_graph(own, data, role)))


def rewritten_tables(path, change):
    data = bytearray((path / "tables.bin").read_bytes())
    change(data)
    (path / "tables.bin").write_bytes(data)

    def renew(manifest):
        manifest["files"]["tables.bin"] = tiny.fingerprint(path / "tables.bin")

    return renewed(tiny.change_manifest(path, renew))


STEPS = 2 * context.TABLES * 64 + context.TABLES


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda d: d.pop(), "tables.bin has .* bytes, expected"),
        (lambda d: d.append(0), "tables.bin has .* bytes, expected"),
        (lambda d: d.clear(), "tables.bin has 0 bytes"),
        (lambda d: d.__setitem__(slice(0, 2), b"\0\0"), "positive numbers that sum to 4096"),
        (lambda d: d.__setitem__(slice(1, 2), b"\xff"), "positive numbers that sum to 4096"),
        (lambda d: d.__setitem__(STEPS - 1, 13), "shifts reach 13"),
        (
            lambda d: d.__setitem__(slice(STEPS, STEPS + 4), b"\0\0\0\0"),
            "expected positive numbers",
        ),
        (lambda d: d.__setitem__(slice(-4, None), b"\0\0\xc0\x7f"), "expected positive numbers"),
        (lambda d: d.__setitem__(slice(-4, None), b"\0\0\x80\xbf"), "expected positive numbers"),
        (lambda d: d.__setitem__(slice(-4, None), b"\0\0\x80\x7f"), "expected positive numbers"),
    ],
)
def test_tables_that_are_wrong_are_refused(own, change, match):
    with pytest.raises(BundleError, match=match):
        ImageCodec.load(rewritten_tables(own, change))


def test_a_precision_that_is_not_there_is_refused(codec_path):
    with pytest.raises(BundleError, match="no precision 'int8': it has fp32"):
        ImageCodec.load(codec_path, precision="int8")


def test_a_provider_that_is_not_there_is_refused(codec_path):
    with pytest.raises(edgeae.ProviderError, match="MoonExecutionProvider is not on this machine"):
        ImageCodec.load(codec_path, providers=["MoonExecutionProvider"])


def test_the_codec_id_is_over_all_that_a_reader_must_share(own):
    manifest = json.loads((own / "manifest.json").read_text())
    files = {role: {"fp32": of["fp32"]["file"]} for role, of in manifest["graphs"].items()}
    assert tiny.codec_id(own, manifest["latent"], files) == manifest["codec_id"]
    see_through = np.zeros((4, 4, 4), np.uint8)  # a whole file, whose header holds the id
    assert (
        ImageCodec.load(own).compress(see_through, lossless=False)[16:32].hex()
        == manifest["codec_id"]
    )
    assert ImageCodec.load(own).compress(tiny.picture(4, 4))[2:6].hex() == manifest["codec_id"][:8]
