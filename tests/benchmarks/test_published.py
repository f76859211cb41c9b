"""Every figure in README and in the cards comes from a file under benchmarks/results."""

from __future__ import annotations

import json
import shutil

import pytest

from benchmarks import publish
from export.bundle import markdown_table


@pytest.mark.parametrize("page", publish.PAGES)
def test_a_page_shows_what_was_measured(page):
    text = (publish.ROOT / page).read_text(encoding="utf-8")
    shown = text.partition(publish.BEGIN)[2].partition(publish.END)[0]
    assert shown.strip() == publish.PAGES[page]()


def test_the_tables_of_readme_fit_on_a_screen():
    assert len(publish.readme_results().splitlines()) <= 40


@pytest.mark.parametrize(
    "model",
    ["photo-codec", "photo-denoiser", "speech-denoiser", "speech-codec", *publish.SIGNAL_MODELS],
)
def test_a_card_and_its_manifest_show_what_was_measured(model):
    folder = publish.MODELS / model
    rows = [p.rows(result) for p, result in publish.results() if p.model == model]
    measured = json.loads((folder / "manifest.json").read_text())["figures"]["measured"]
    assert rows and [one["rows"] for one in measured] == rows
    card = (folder / "CARD.md").read_text(encoding="utf-8")
    for table in rows:
        assert markdown_table(table) in card


def test_parameters_of_a_denoiser_are_those_that_were_trained():
    # Its graph holds 65 thousand numbers more, zeros for the most part.
    pytest.importorskip("soxr")
    from benchmarks import speech_systems

    manifest = json.loads((publish.MODELS / "speech-denoiser" / "manifest.json").read_text())
    trained = manifest["figures"]["parameters"]
    assert speech_systems.ours("speech-denoiser").parameters == trained == 628_736
    for name in ("denoise_dev", "voicebank_dev"):
        result = json.loads((publish.ROOT / f"benchmarks/results/{name}.json").read_text())
        assert result["systems"]["edgeae speech-denoiser"]["parameters"] == trained


def test_publishing_twice_changes_nothing(tmp_path, monkeypatch):
    names = (*publish.PAGES, "benchmarks/results", "edgeae/models")
    for name in names:
        source, target = publish.ROOT / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    before = {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    monkeypatch.setattr(publish, "ROOT", tmp_path)
    monkeypatch.setattr(publish, "RESULTS", tmp_path / "benchmarks" / "results")
    monkeypatch.setattr(publish, "MODELS", tmp_path / "edgeae" / "models")
    publish.main()
    assert {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()} == before
