"""A new family of models is a row in each of the three tables, and new files."""

from __future__ import annotations

import types

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import line

import export.__main__ as exporting
from edgeae import loading
from edgeae.loading import DOORS, Door
from edgeae.runtime import Graph
from train.checkpoint import load_checkpoint
from train.loop import train
from train.recipes import RECIPES

pytestmark = pytest.mark.usefixtures("one_thread")


class LineCodec:
    """What runs a bundle of kind "points"."""

    def __init__(self, bundle, **options):
        self.graph = Graph(bundle.graph("encoder", "fp32"))


def test_a_made_up_family_trains_exports_and_loads(tmp_path, monkeypatch):
    module = types.ModuleType("line_codec")
    module.LineCodec = LineCodec
    monkeypatch.setitem(__import__("sys").modules, "line_codec", module)
    monkeypatch.setitem(RECIPES, "line", line.ROW)
    monkeypatch.setitem(exporting.EXPORTERS, "line", "line")
    door = Door("line_codec", "LineCodec", trials="line_codec", files="line_codec")
    monkeypatch.setitem(DOORS, ("codec", "points"), door)

    train(line.line_config(), tmp_path / "run")
    figures = exporting.export(tmp_path / "run" / "best.pt", tmp_path / "Line 1", calibration=())
    assert figures == {"parameters": 4, "nodes": 1}
    codec = loading.load(tmp_path / "Line 1")
    assert isinstance(codec, LineCodec)
    weights = load_checkpoint(tmp_path / "run" / "best.pt")[1]["averaged"]
    x = np.array([[1.0, -2.0, 0.5]], np.float32)
    expected = x @ weights["weight"].numpy().T + weights["bias"].numpy()
    assert np.allclose(codec.graph(x)[0], expected, atol=1e-6)
    card = (tmp_path / "Line 1" / "CARD.md").read_text()
    assert card.startswith("# line-1\n") and "- points: 26 to train on and 4 held out." in card
