"""`benchmarks.speech_codec`: losses are those of its record, and a run tells what it measured."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("soxr")

from benchmarks import family_tables, speech_codec, speech_codec_peers
from benchmarks.losses import gilbert
from benchmarks.speech_codec_peers import FRAME, RATE_HZ
from edgeae.bench.speech_codec import made_talk

BUNDLE = Path(__file__).parent.parent / "golden" / "tiny-speech-codec"
RESULTS = Path(__file__).parent.parent.parent / "benchmarks" / "results"


def test_frames_are_lost_as_they_were_for_the_published_figures():
    published = json.loads((RESULTS / "speech_codec.json").read_text())
    rows = next(iter(published["systems"].values()))["files"]
    assert len(rows) == 60
    for row in rows:
        rng = np.random.default_rng(zlib.crc32(row["file"].encode()))
        frames = math.ceil(round(row["seconds"] * RATE_HZ) / FRAME)
        lost = gilbert(frames, published["loss"], published["burst_frames"], rng, opens_well=True)
        assert round(float(lost.mean()), 5) == row["lost"], row["file"]


def test_a_run_tells_rates_scores_and_losses_of_each_system(tmp_path, capsys, monkeypatch):
    def scores(missing, *, dnsmos):
        missing["PESQ-WB"] = "pesq"
        yield "stoi", lambda reference, found: float(np.corrcoef(reference, found)[0, 1])
        yield "si_sdr_db", lambda reference, found: 0.0

    def listener():
        raise ImportError

    monkeypatch.setattr(speech_codec, "_visqol", listener)
    # What the figures themselves are is not ours to test, and their packages take long to import.
    monkeypatch.setattr(speech_codec, "installed_metrics", scores)
    talk = made_talk(16_000)
    soundfile.write(tmp_path / "a.flac", talk, 16_000)
    out = tmp_path / "out.json"
    speech_codec.main(
        [str(tmp_path), "--model", str(BUNDLE), "--qualities", "1", "9", "--json", str(out)]
    )
    report = json.loads(out.read_text())
    ours = [told for name, told in report["systems"].items() if "tiny-speech-codec" in name]
    assert len(ours) == 2 and ours[0]["bit_per_s"] < ours[1]["bit_per_s"]
    for told in ours:
        (row,) = told["files"]
        assert row["bits"] == told["bit_per_s"] and {"stoi", "stoi_lossy", "lost"} <= set(row)
        # Three bytes and what is coded, 50 times a second and once for the delay.
        assert told["packet_bit_per_s"] >= 51 * 24
    assert set(report["missing"]) | set(report["systems"]) >= {
        "Opus 6",
        "Opus 12",
        "PESQ-WB",
        "ViSQOL",
    }
    assert "tiny-speech-codec 9" in capsys.readouterr().out


def test_what_takes_long_is_measured_without_losses_only(tmp_path, monkeypatch):
    monkeypatch.setattr(
        speech_codec, "installed_metrics", lambda missing, dnsmos: [("si_sdr_db", None)]
    )
    monkeypatch.setattr(speech_codec, "_visqol", lambda: lambda reference, found: 3.0)
    soundfile.write(tmp_path / "a.flac", made_talk(8_000), 16_000)
    out = tmp_path / "out.json"
    asked = [str(tmp_path), "--model", str(BUNDLE), "--qualities", "1", "--json", str(out)]
    speech_codec.main(asked)
    told = json.loads(out.read_text())["systems"]["edgeae tiny-speech-codec 1"]
    assert told["visqol"] == 3 and "visqol_lossy" not in told and "packet_bit_per_s" in told


def test_a_record_gains_the_metrics_that_it_lacks_and_keeps_its_times(tmp_path, monkeypatch):
    def scores(missing, *, dnsmos):
        yield "stoi", lambda reference, found: float(np.corrcoef(reference, found)[0, 1])
        yield "si_sdr_db", None
        if dnsmos:
            yield "dnsmos", lambda reference, found: float(1 + np.abs(found).mean())

    monkeypatch.setattr(speech_codec, "installed_metrics", scores)
    for peer in ("opus", "codec2"):
        monkeypatch.setattr(speech_codec, peer, lambda *_: None)
    talk = made_talk(8_000)
    soundfile.write(tmp_path / "a.flac", talk, 16_000)
    out = tmp_path / "out.json"
    asked = [str(tmp_path), "--model", str(BUNDLE), "--qualities", "1", "9", "--no-visqol"]
    speech_codec.main([*asked, "--no-dnsmos", "--json", str(out)])
    before = json.loads(out.read_text())
    speech_codec.main([*asked, "--add-to", str(out)])
    report = json.loads(out.read_text())
    assert report["original"]["dnsmos"] == pytest.approx(1 + np.abs(talk).mean(), abs=1e-3)
    assert [*report["added"]] == ["dnsmos"]
    rows = family_tables.speech_codec_rows(
        {
            **report,
            "systems": {k: v | {"pesq": 1, "estoi": 1} for k, v in report["systems"].items()},
        }
    )
    assert [row["codec"] for row in rows] == [*report["systems"], "the recordings"]
    assert all(row["DNSMOS"] > "1.0" for row in rows) and rows[-1]["ESTOI"] == "-"
    for found in report["systems"].values():
        of_file = found["files"][0].pop("dnsmos")
        assert found.pop("dnsmos") == pytest.approx(of_file, abs=1e-4) and of_file > 1
    assert report["systems"] == before["systems"]
    # Of another coder, of another file or of other qualities nothing is added.
    name = [*before["systems"]][1]
    for change in ({"bits": 1}, {"stoi": 0.1}, {"file": "b.flac"}):
        other = json.loads(json.dumps(before))
        other["systems"][name]["files"][0] |= change
        out.write_text(json.dumps(other))
        with pytest.raises(SystemExit, match=name):
            speech_codec.main([*asked, "--add-to", str(out)])
        assert json.loads(out.read_text()) == other
    with pytest.raises(SystemExit, match="same models and qualities"):
        speech_codec.main([*asked[:-3], "5", "--no-visqol", "--add-to", str(out)])


def test_opus_gives_back_what_it_was_given_at_its_rate_and_conceals():
    system = speech_codec_peers.opus(12)
    if system is None:
        pytest.skip("PyAV's libopus is not installed")
    talk = made_talk(32_000)
    coded = system.code(talk, None)
    assert coded.audio.shape == talk.shape and 6_000 < coded.bits / 2 < 18_000
    level = [np.sqrt(np.square(x).mean()) for x in (talk, coded.audio)]
    assert 0.7 < level[1] / level[0] < 1.2
    # Aligned: the envelopes of 20 ms go together best as they are.
    frames = [np.sqrt(np.square(x.reshape(-1, 320)).mean(1)) for x in (talk, coded.audio)]
    match = [np.corrcoef(np.roll(frames[1], shift), frames[0])[0, 1] for shift in (-1, 0, 1)]
    assert np.argmax(match) == 1
    lost = np.zeros(100, bool)
    lost[40:44] = True
    gap = system.code(talk, lost)
    assert np.array_equal(gap.audio[: 39 * 320], coded.audio[: 39 * 320])
    assert not np.array_equal(gap.audio, coded.audio) and gap.bits == coded.bits
