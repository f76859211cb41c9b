"""From made pictures to a bundle that denoises and fills, by the two commands."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

import edgeae
import export.__main__ as exporting
import train.__main__ as training
from edgeae.bench.self_test import check_bundle
from export import denoiser
from export.denoiser import export_photo_denoiser, verify
from export.parity import ExportError
from train.checkpoint import load_checkpoint
from train.denoiser.damage import Damage
from train.denoiser.network import DenoiserNetwork, PhotoDenoiser
from train.image.data import made_images

CONFIG = """
name = "small"
task = "photo-denoiser"
[network]
channels = [16, 16]
blocks = [1, 1]
level_channels = 8
[data]
folders = ["synthetic"]
crop_pixels = 64
held_out = 2
[loss]
[optimize]
steps = 4
batch_size = 2
learning_rate = 1e-3
precision = "float32"
algorithm = "muon"
[validate]
every_steps = 4
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    (folder / "small.toml").write_text(CONFIG)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    assert training.main([str(folder / "small.toml"), "--out", str(folder / "run")]) == 0
    assert exporting.main([str(folder / "run" / "last.pt"), str(folder / "small")]) == 0
    torch.set_num_threads(before)
    return folder / "small"


def test_the_two_commands_give_a_model_that_verifies(bundle):
    model = edgeae.load(bundle)
    assert type(model) is edgeae.ImageDenoiser and model.precision == "int8"
    told = "\n".join(check_bundle(str(bundle)))
    assert "a hole is filled" in told and "fp32" in told and "int8" in told
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["task"] == "denoiser" and "stream" not in manifest
    assert set(manifest["figures"]["calibration_psnr_db_25"]) == {"fp32", "int8"}


def test_the_package_gives_what_torch_gives(bundle):
    config, state = load_checkpoint(bundle.parent / "run" / "last.pt")
    network = PhotoDenoiser(config.network)
    network.load_state_dict(state["averaged"])
    network = network.half().float().eval()
    picture = made_images(1)[0][:96, :120]
    pixels = torch.from_numpy(picture.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    ones = torch.ones_like(pixels[:, :1])
    with torch.no_grad():
        expected = network.restore(pixels, 20 / 255 * ones, ones)[0].permute(1, 2, 0)
    found = edgeae.load(bundle, precision="fp32").denoise(picture, strength=20)
    assert np.abs(found - 255 * expected.clamp(0, 1).numpy()).max() < 0.51


def test_a_graph_that_disagrees_with_torch_is_not_exported(tmp_path, monkeypatch):
    network = PhotoDenoiser(DenoiserNetwork(channels=(8, 8), blocks=(1, 1), level_channels=8))
    torch.nn.init.normal_(network.leave.weight, 0, 0.1)
    whole = denoiser.denoiser_graph

    def wrong(network):
        graph, in_float = whole(network)
        (node,) = [n for n in graph.graph.node if n.op_type == "Concat"]
        node.input[1], node.input[2] = node.input[2], node.input[1]
        return graph, in_float

    monkeypatch.setattr(denoiser, "denoiser_graph", wrong)
    pictures = [picture[:64, :64] for picture in made_images(2)]
    with pytest.raises(ExportError, match="away from torch"):
        export_photo_denoiser(network, tmp_path, pictures, Damage())


def test_what_sees_half_resolution_stays_in_float(tmp_path):
    network = PhotoDenoiser(DenoiserNetwork(channels=(8, 12), blocks=(1, 1), level_channels=8))
    pictures = [picture[:64, :64] for picture in made_images(2)]
    export_photo_denoiser(network, tmp_path, pictures, Damage())
    graph = onnx.load(tmp_path / "denoiser.int8.onnx").graph
    made = {name: node for node in graph.node for name in node.output}
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    whole = [
        shapes[made[node.input[1]].input[0]]
        for node in graph.node
        if node.op_type == "Conv" and made[node.input[1]].op_type == "DequantizeLinear"
    ]
    assert whole == [[12, 12, 3, 3]] * 2


def test_int8_beyond_its_budget_is_refused(bundle, monkeypatch):
    monkeypatch.setattr(denoiser, "INT8_BUDGET_DB", -1.0)
    with pytest.raises(ExportError, match="int8 loses .* dB at sigma 5, allowed -1.0 dB"):
        verify(bundle, [picture[:64, :64] for picture in made_images(2)])


@pytest.mark.parametrize("gain_db", [-0.1, 0.05, 0.3])
def test_holes_are_passed_over_several_times_where_that_gains(tmp_path, monkeypatch, gain_db):
    network = PhotoDenoiser(
        DenoiserNetwork(channels=(8, 8), blocks=(1, 1), level_channels=8, smooth_holes=True)
    )
    monkeypatch.setattr(denoiser, "_passes_gain_db", lambda network, pictures: gain_db)
    pictures = [picture[:64, :64] for picture in made_images(2)]
    layout = export_photo_denoiser(network, tmp_path, pictures, Damage())["layout"]
    assert layout.get("fill_levels", []) == ([40, 19, 9, 4, 2] if gain_db > 0.1 else [])


@pytest.mark.parametrize(("gain_db", "asked"), [(None, False), (0.05, False), (2.0, True)])
def test_holes_count_for_int8_only_where_the_network_adds_to_them(
    tmp_path, monkeypatch, gain_db, asked
):
    # A new network is the identity: it adds nothing to holes that are filled smoothly.
    network = PhotoDenoiser(
        DenoiserNetwork(channels=(8, 8), blocks=(1, 1), level_channels=8, smooth_holes=True)
    )
    if gain_db is not None:
        monkeypatch.setattr(denoiser, "_hole_gain_db", lambda network, pictures: gain_db)
    calibrated = []
    quantize = denoiser.quantize

    def noted(source, target, inputs, **options):
        calibrated.extend(inputs)
        quantize(source, target, inputs, **options)

    monkeypatch.setattr(denoiser, "quantize", noted)
    pictures = [picture[:64, :64] for picture in made_images(2)]
    made = export_photo_denoiser(network, tmp_path, pictures, Damage(holes=0.9))
    assert made["layout"]["smooth_holes"] is asked
    assert any((one["known"] == 0).any() for one in calibrated) is asked
