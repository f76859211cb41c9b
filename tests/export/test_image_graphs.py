"""Graphs of the photo codec's transforms: those of torch, and their twins for 8 bits."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from small_photo import SMALL, shaken

from edgeae.onnx_check import read_graph
from edgeae.runtime import Graph
from export.image_graphs import decoder_graph, encoder_graph
from export.quantize import even_inputs
from train.image.network import PhotoCodec


@pytest.fixture
def network():
    torch.manual_seed(2)
    return shaken(PhotoCodec(SMALL))


@pytest.mark.parametrize("effort", ["fast", "best"])
@pytest.mark.parametrize("size", [(16, 16), (32, 80), (112, 48)])
def test_the_transforms_agree_with_torch(size, effort, network, tmp_path):
    analysis = network.encoders[effort]
    with torch.no_grad():
        for part in (analysis, network.synthesis):
            part.unit.copy_(torch.linspace(0.5, 2, len(part.unit))[:, None, None])
    onnx.save(encoder_graph(analysis)[0], tmp_path / "encoder.onnx")
    onnx.save(decoder_graph(network.synthesis)[0], tmp_path / "decoder.onnx")
    pixels = torch.rand(1, 3, *size)
    with torch.no_grad():
        latents = analysis(pixels)
        (found,) = Graph(read_graph(tmp_path / "encoder.onnx"))(pixels.numpy())
        assert np.abs(found - latents.numpy()).max() < 1e-4
        for level in (0.0, 0.7):
            setting = torch.full((1, 1, 1, 1), level)
            restored = network.synthesis(latents, setting)
            (found,) = Graph(read_graph(tmp_path / "decoder.onnx"))(
                latents.numpy(), setting.numpy()
            )
            assert found.shape == (1, 3, *size)
            assert np.abs(found - restored.numpy()).max() < 1e-4


def test_evened_channels_give_the_same_and_lose_less_to_8_bits(network, tmp_path):
    with torch.no_grad():
        # One channel a hundred times as large as the others, as light is beside detail.
        network.encoders["fast"].enter.weight[3] *= 100
    graph, _ = encoder_graph(network.encoders["fast"])
    inputs = [
        {"pixels": np.random.default_rng(i).random((1, 3, 48, 64), np.float32)} for i in (0, 1)
    ]
    even, names = even_inputs(graph, inputs)
    assert len(names) == 4  # the blocks' 3x3 convolutions
    for model, file in ((graph, "plain.onnx"), (even, "even.onnx")):
        onnx.save(model, tmp_path / file)
    plain, evened = (Graph(read_graph(tmp_path / file)) for file in ("plain.onnx", "even.onnx"))
    for one in inputs:
        expected, found = plain(one["pixels"])[0], evened(one["pixels"])[0]
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()

    def spread(model, wanted):
        """How much larger the largest channel is that the first convolution sees."""
        shown = onnx.ModelProto()
        shown.CopyFrom(model)
        shown.graph.output.append(onnx.helper.make_empty_tensor_value_info(wanted))
        onnx.save(shown, tmp_path / "shown.onnx")
        values = Graph(read_graph(tmp_path / "shown.onnx"))(inputs[0]["pixels"])[-1]
        sizes = np.abs(values).max(axis=(0, 2, 3))
        return sizes.max() / np.median(sizes)

    assert spread(even, names[0]) < spread(graph, names[0]) / 4
