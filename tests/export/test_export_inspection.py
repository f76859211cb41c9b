"""From good images to a bundle that flags made defects at about the rate that it states."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from edgeae.image.detector import ImageDetector
from export.__main__ import export
from export.image_detector import threshold_of
from train.config import config_from_dict
from train.image.data import made_images
from train.loop import train


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A detector of made images, trained for a moment."""
    folder = tmp_path_factory.mktemp("inspection")
    config = config_from_dict(
        {
            "name": "inspection",
            "task": "image-detector",
            "network": {"clusters": 8, "components": 16},
            "data": {"folders": ["synthetic"], "crop_pixels": 64, "false_alarm_rate": 0.2},
            "loss": {},
            "optimize": {
                "steps": 5,
                "batch_size": 2,
                "learning_rate": 1e-2,
                "precision": "float32",
            },
            "validate": {"every_steps": 5},
        }
    )
    train(config, folder / "run")
    export(folder / "run", folder / "bundle", calibration=("synthetic",))
    return folder / "bundle"


def test_the_bundle_scores_any_size_and_states_its_calibration(bundle):
    model = ImageDetector.load(bundle)
    for shape in ((256, 256, 3), (97, 131), (8, 8, 1)):
        image = np.resize(made_images(1)[0], shape).astype(np.uint8)
        assert model.score(image).map.shape == shape[:2]
    detection = json.loads((bundle / "manifest.json").read_text())["detection"]
    assert detection["false_alarm_rate"] == 0.2 and detection["threshold"] == model.threshold
    assert detection["calibrated_on"]["images"] == 5
    assert sum(f.stat().st_size for f in bundle.iterdir()) < 1_000_000


def test_tiles_of_the_exported_graph_leave_no_seams(bundle):
    import dataclasses

    model = ImageDetector.load(bundle)
    image = np.tile(made_images(1)[0], (2, 2, 1))[:400, :304]
    whole = model.score(image).map
    scorer = model._scorer
    model._scorer = dataclasses.replace(scorer, spec=dataclasses.replace(scorer.spec, tile=64))
    np.testing.assert_allclose(model.score(image).map, whole, atol=2e-3)


def test_the_threshold_is_exceeded_at_about_the_stated_rate():
    rng = np.random.default_rng(0)
    for count in (5, 20, 100):
        rates = []
        for _ in range(400):
            scores = rng.normal(3, 2, count)
            limit = threshold_of(scores.tolist(), 0.1)
            rates.append((rng.normal(3, 2, 400) > limit).mean())
        assert 0.085 < np.mean(rates) < 0.115
    with pytest.raises(ValueError, match="1 good images are held back, expected at least 2"):
        threshold_of([1.0], 0.1)
