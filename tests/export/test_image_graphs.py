"""Graphs of the photo codec's transforms: those of torch, and their twins for 8 bits."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from edgeae.onnx_check import read_graph
from edgeae.runtime import Graph
from export.image_graphs import decoder_graph, encoder_graph
from export.quantize import even_inputs
from train.image.network import Encoder, PhotoCodec, PhotoNetwork

SMALL = PhotoNetwork(
    slices=(2, 3, 4, 7),
    components=8,
    fast=Encoder(16, 3, 8, 1, 8),
    best=Encoder(16, 2, 16, 1, 8, 8, 2),
    synthesis_channels=16,
    synthesis_blocks=2,
    synthesis_hidden=16,
    synthesis_deep_blocks=1,
    synthesis_deep_hidden=8,
    context_channels=(12,) * 4,
)


def shaken(network):
    """A network none of whose layers is zero, as training would leave it."""
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return network.eval()


@pytest.mark.parametrize("effort", ["fast", "best"])
@pytest.mark.parametrize("size", [(16, 16), (32, 80), (112, 48)])
def test_the_transforms_agree_with_torch(size, effort, tmp_path):
    network = shaken(PhotoCodec(SMALL))
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


def test_evened_channels_give_the_same_and_lose_less_to_8_bits(tmp_path):
    network = shaken(PhotoCodec(SMALL))
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
