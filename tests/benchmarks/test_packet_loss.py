"""Losses in bursts as the benchmark draws them, and what photographs and speech make of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import packet_loss, publish
from benchmarks.losses import gilbert
from edgeae.media import write_image


@pytest.mark.parametrize("loss", [0.01, 0.1, 0.3])
@pytest.mark.parametrize("burst", packet_loss.BURSTS)
@pytest.mark.parametrize("well", [False, True])
def test_losses_are_as_many_and_in_runs_as_long_as_asked(loss, burst, well):
    lost = gilbert(200_000, loss, burst, np.random.default_rng(0), opens_well=well)
    runs = np.count_nonzero(np.diff(lost.astype(int), prepend=0) == 1)
    assert lost.mean() == pytest.approx(loss, rel=0.1)
    assert lost.sum() / runs == pytest.approx(burst, rel=0.1)


def test_losses_are_drawn_as_they_were_for_the_published_figures():
    drawn = {
        (2, 1): [4, 5, 6, 9, 22, 23, 24, 29, 30, 46, 47, 48],
        (3,): [0, 1, 20, 28],
    }
    for seed, places in drawn.items():
        lost = gilbert(60, 0.2, 3.0, np.random.default_rng(seed))
        assert np.flatnonzero(lost).tolist() == places


def test_a_link_that_opens_well_loses_its_first_packet_as_one_behind_one_that_came():
    opened = [
        gilbert(1, 0.3, 3.0, np.random.default_rng(seed), opens_well=well)[0]
        for well in (False, True)
        for seed in range(4000)
    ]
    assert np.mean(opened[:4000]) == pytest.approx(0.3, abs=0.02)
    assert np.mean(opened[4000:]) == pytest.approx(0.3 / 0.7 / 3, abs=0.02)


def test_a_higher_loss_takes_the_same_packets_and_more():
    few, many = (gilbert(5000, loss, 3.0, np.random.default_rng(1)) for loss in (0.05, 0.2))
    assert few.any() and many[few].all() and many.sum() > few.sum()


def test_no_loss_loses_nothing():
    assert not gilbert(1000, 0.0, 1.0, np.random.default_rng(0)).any()


def test_photos_and_speech_go_through_a_link_of_bursts(tmp_path, monkeypatch, capsys):
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    write_image(tmp_path / "a.png", noise)
    monkeypatch.setattr(packet_loss, "LOSSES", (0.0, 0.1))
    monkeypatch.setattr(packet_loss, "BURSTS", (3.0,))
    monkeypatch.setattr(packet_loss, "SPEECH_RUNS", 1)
    out = tmp_path / "out.json"
    packet_loss.main([str(tmp_path), "--json", str(out)])
    report = json.loads(out.read_text())
    whole, lossy = report["photos"]["points"]
    assert whole["exact"] == 1 and lossy["lost"] < 0.5
    assert report["speech"]["points"][0]["si_sdr_db_skip"] > report["speech"]["noisy_si_sdr_db"]
    assert "pixels exact" in capsys.readouterr().out
    (none, some) = publish.packet_loss_rows(report)
    assert none["packets lost"] == "0%" and some["packets lost"] == "10%"
    assert some["photos, bursts of 3"].endswith("%") and some["speech"].endswith("dB")

    # What is of the same graphs stays as it is.
    report["photos"]["points"][0]["psnr_db"] = 12.5
    report["speech"]["points"][0]["si_sdr_db_skip"] = -99.0
    report["graphs"]["speech"] = ["another"]
    out.write_text(json.dumps(report))
    packet_loss.main([str(tmp_path), "--json", str(out), "--keep"])
    kept = json.loads(out.read_text())
    assert kept["photos"]["points"][0]["psnr_db"] == 12.5
    assert kept["speech"]["points"][0]["si_sdr_db_skip"] > report["speech"]["noisy_si_sdr_db"]
    assert kept["graphs"]["speech"] != ["another"]
