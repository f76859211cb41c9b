"""The card of one's own model says what its run recorded, and the shipped texts stay where they
belong."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import export.__main__ as exporting
import export.image
from export.card import card_text
from train.checkpoint import SHIPPED
from train.config import config_from_dict
from train.speech.network import SpeechDenoiser

pytestmark = pytest.mark.usefixtures("one_thread")

SPEECH = {
    "name": "speech-denoiser",
    "task": "speech-denoiser",
    "network": {
        "band_widths": [16], "band_counts": [16], "span_bins": 16, "channels": 8, "memory": 8,
        "hidden": 8, "wide": [0],
    },
    "data": {"speech": ["synthetic"], "noise": ["synthetic"]},
    "loss": {},
    "optimize": {"steps": 20, "batch_size": 4, "learning_rate": 1e-3},
}  # fmt: skip


@pytest.fixture(scope="module")
def own_run(tmp_path_factory):
    """A checkpoint such as a user's run of twenty steps leaves, of a shipped config's name."""
    from train.checkpoint import save_checkpoint

    torch.manual_seed(0)
    config = config_from_dict(SPEECH)
    state = {
        "averaged": SpeechDenoiser(config.network).state_dict(),
        "step": 20,
        "seconds": 90.0,
        "best": -0.5,
        "history": [{"step": 20, "minutes": 1.5, "si_sdr_db": 3.25, "score": -0.5}],
        "before": [{"step": 9600, "seconds": 600.0, "history": [], "checkpoint": "shipped.pt"}],
        "data": {
            "speech": {
                "folders": ["/home/me/my-speech"], "train": 11, "held_out": 1,
                "unit": "2 min of 3 speakers to train on", "skipped": {"bad.wav": "cut off"},
            },
            "noise": {"folders": ["hum"], "train": 5, "held_out": 2, "skipped": {}},
        },
        "precision": "float32",
    }  # fmt: skip
    file = tmp_path_factory.mktemp("own") / "best.pt"
    save_checkpoint(file, config, state)
    return file


def test_the_card_of_an_own_run_is_made_of_that_run(own_run, tmp_path):
    out = tmp_path / "My Denoiser"
    exporting.export(own_run, out, calibration=("synthetic",), version="2.1")
    card = (out / "CARD.md").read_text()
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["name"], manifest["version"]) == ("my-denoiser", "2.1")
    assert card.startswith("# my-denoiser\n")
    for sentence in (
        "- speech: 11 to train on and 1 held out from `my-speech`; 2 min of 3 speakers",
        "1 files were left out, among them bad.wav.",
        "- noise: 5 to train on and 2 held out from `hum`.",
        "- 20 steps of 4 items in 1.5 minutes, precision float32, seed 0.",
        "- Before that: the checkpoint `shipped.pt`, with 9,600 steps in 10.0 minutes.",
        "| si sdr db | 3.25 |",
        "Licences of these files were not recorded.",
    ):
        assert sentence in card, sentence
    # Nothing of the shipped model's text, and no path of the user's machine.
    shipped = (SHIPPED / "speech-denoiser.md").read_text()
    for line in shipped.splitlines():
        assert len(line) < 20 or line not in card, line
    assert not re.search(r"RNNoise|LibriSpeech|/home/me", card)


def test_a_run_that_measured_nothing_says_so():
    config = config_from_dict(SPEECH)
    text = card_text("x", "denoiser", config, {"step": 1, "seconds": 60.0, "history": []})
    assert "1 step of 4 items" in text and "nothing was measured" in text
    assert "The run recorded nothing of its data." in text


def test_a_text_of_ones_own_takes_the_place_of_the_head(own_run, tmp_path, monkeypatch, capsys):
    (tmp_path / "text.md").write_text("# Mine\n\nMy mother's voice.\n")
    out = tmp_path / "out"
    options = ["--card", str(tmp_path / "text.md"), "--name", "mother"]
    assert exporting.main([str(own_run), str(out), *options]) == 0
    card = (out / "CARD.md").read_text()
    assert card.startswith("# Mine\n\nMy mother's voice.\n\n## Training and export")
    assert json.loads((out / "manifest.json").read_text())["name"] == "mother"
    assert exporting.main([str(own_run), str(out), "--card", "gone.md"]) == 1
    assert "gone.md" in capsys.readouterr().err


def test_a_text_beside_a_checkpoint_is_its_own(own_run, tmp_path):
    shutil.copy(own_run, tmp_path / "voice.pt")
    (tmp_path / "voice.md").write_text("# Voice\n\nAs it was measured.\n")
    exporting.export(tmp_path / "voice.pt", tmp_path / "out", calibration=("synthetic",))
    assert (tmp_path / "out" / "CARD.md").read_text().startswith("# Voice\n\nAs it was measured.\n")
    for name in ("photo-codec", "speech-denoiser"):
        assert (SHIPPED / f"{name}.md").read_text().startswith(f"# {name}\n")


@pytest.mark.parametrize("count", [1, 3, 60])
def test_calibration_takes_what_is_there(count, tmp_path, monkeypatch):
    monkeypatch.setattr(
        export.image,
        "read_photos",
        lambda *_, **__: ([np.zeros((300, 280, 3), np.uint8)] * count, {}),
    )
    found = export.image.calibration((str(tmp_path),))
    assert len(found) == min(count, 48) and found[0].shape == (256, 256, 3)


def test_calibration_is_checked_before_anything_is_computed(own_run, smoke_run, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="0 images of 128 pixels .* expected at least 1"):
        exporting.export(
            smoke_run / "best.pt", tmp_path / "out", calibration=(str(tmp_path / "empty"),)
        )
    assert not Path(tmp_path / "out").exists()
