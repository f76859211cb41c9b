"""What several test files share and is slow to make."""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path

import pytest
import tiny

from edgeae.image.codec import ImageCodec

CONFIGS = Path(__file__).parent.parent / "train" / "configs"


@pytest.fixture(scope="session")
def codec_path(tmp_path_factory):
    """The folder of the tiny codec, which no test may change."""
    return tiny.tiny_codec_bundle(tmp_path_factory.mktemp("codec") / "tiny")


@pytest.fixture(scope="session")
def model(codec_path):
    """The tiny codec."""
    return ImageCodec.load(codec_path)


@pytest.fixture
def one_thread():
    """torch on one thread and from one seed, so that results are the same everywhere."""
    torch = pytest.importorskip("torch")

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory):
    """The folder of a photo codec's run: the smoke configuration, through its command line."""
    pytest.importorskip("torch")
    import torch

    from train.__main__ import main

    out = tmp_path_factory.mktemp("runs") / "smoke"
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        arguments = [str(CONFIGS / "smoke-photo.toml"), "--out", str(out)]
        patch.setattr("sys.argv", ["train", *arguments])
        assert main() == 0
    torch.set_num_threads(before)
    return out


@pytest.fixture(autouse=True)
def one_table_of_operators():
    """torch's exporter makes its table of some thousand operators anew for each graph, which takes
    longer than the graphs of these tests; here it is made once in a process."""
    if "torch" in sys.modules and importlib.util.find_spec("onnxscript"):
        _share_the_table()


@functools.cache
def _share_the_table():
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    ONNXRegistry.from_torchlib = staticmethod(functools.cache(ONNXRegistry.from_torchlib))
