"""Checkpoints of speech models judged on what their training held out."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from benchmarks import held_out_codec, held_out_denoiser, held_out_speech
from benchmarks.family_tables import held_out_codec_rows, held_out_denoiser_rows
from benchmarks.figures import mean_of, shown
from edgeae.metrics import si_sdr_db
from train.checkpoint import save_checkpoint
from train.config import read_config
from train.speech.codec_data import CodecSpeech
from train.speech.codec_network import SpeechCodec
from train.speech.data import SpeechData, SpeechMixer
from train.speech.network import SpeechDenoiser

CONFIGS = Path(__file__).parents[2] / "train" / "configs"
RATE_HZ = 16_000
MADE = {"speech": ("synthetic",), "noise": ("synthetic",), "cache": ""}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Fewer and shorter mixes and recordings, and metrics without their packages, which find no
    speech in what is made."""
    for module, count in ((held_out_denoiser, "MIXES"), (held_out_codec, "RECORDINGS")):
        monkeypatch.setattr(module, count, 4)
        monkeypatch.setattr(module, "SECONDS", 2)
    monkeypatch.setattr(held_out_denoiser, "FAST_VOICES", 2)
    monkeypatch.setattr(held_out_denoiser, "CLEAN_VOICES", 2)
    monkeypatch.setattr(held_out_speech, "installed_metrics", scores)


def scores(missing, *, dnsmos):
    def same(reference, found):
        return float(np.corrcoef(reference, found)[0, 1])

    yield from (("pesq", same), ("stoi", same), ("estoi", same), ("si_sdr_db", si_sdr_db))


class Unchanged:
    """A denoiser that leaves everything as it is, but for a gain."""

    config = SimpleNamespace(window_samples=512, hop_samples=256)

    def __init__(self, gain=1.0):
        self.gain = gain

    def __call__(self, spectrum):
        return self.gain * spectrum


def checkpoint(file, task="smoke-speech", *, seed=0, data=None, **network):
    """A checkpoint of a smoke config's network that was never trained."""
    config = read_config(CONFIGS / f"{task}.toml")
    config = dataclasses.replace(config, network=dataclasses.replace(config.network, **network))
    made = {"speech-denoiser": SpeechDenoiser, "speech-codec": SpeechCodec}[config.task]
    torch.manual_seed(seed)
    weights = made(config.network).state_dict()
    state = {"averaged": weights, "step": 1, "seconds": 1.0, "best": 0.0, "history": []}
    file.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(file, config, state | ({"data": data} if data else {}))
    return file


# --- mixes ------------------------------------------------------------------------------------


def test_mixes_are_fixed_and_of_what_is_held_out_alone(monkeypatch):
    first = held_out_denoiser.read(SpeechData(**MADE))

    def with_new_training_clips(self, config):
        made(self, config)
        for source in (self.speech, self.noise):
            for i in source.indices:
                source.corpus.clip(i)[:] = 0

    made = SpeechMixer.__init__
    monkeypatch.setattr(SpeechMixer, "__init__", with_new_training_clips)
    second = held_out_denoiser.read(SpeechData(**MADE))
    for key in ("clean", "noisy", "rumbling", "fast"):
        assert np.array_equal(getattr(first, key), getattr(second, key)), key
    assert first.found["speech"]["held_out"] == 3 and first.found["speech"]["train"] == 15


def test_mixes_have_the_levels_that_are_told():
    found = held_out_denoiser.read(SpeechData(**MADE))
    assert found.clean.shape == found.noisy.shape == (4, 2 * RATE_HZ)
    assert found.fast.shape == (4, 2 * RATE_HZ) and found.rumbling.shape == (2, 2 * RATE_HZ)
    for voices in (found.clean, found.fast):
        assert np.sqrt(np.mean(voices**2, axis=1)) == pytest.approx([0.05] * 4, rel=1e-4)
    noise = np.mean((found.noisy - found.clean) ** 2, axis=1)
    snr_db = 10 * np.log10(np.mean(found.clean**2, axis=1) / noise)
    assert snr_db == pytest.approx([-2.5, 4.17, 10.83, 17.5], abs=0.05)
    rumble = found.rumbling - found.noisy[2:]
    power = np.square(np.abs(np.fft.rfft(rumble, axis=1)))
    assert power[:, : 2 * 60].sum() > 0.98 * power.sum()
    level_db = 20 * np.log10(np.sqrt(np.mean(rumble**2, axis=1)) / 0.05)
    assert np.abs(level_db).max() < 6.1 and level_db[0] != pytest.approx(level_db[1], abs=0.5)


def test_a_denoiser_that_does_nothing_is_judged_as_the_mixes_are():
    held_out = held_out_denoiser.read(SpeechData(**MADE))
    figures = held_out_denoiser.judged(Unchanged(), held_out, dict(scores({}, dnsmos=False)))
    means = figures["means"]
    pairs = [*zip(held_out.clean, held_out.noisy, strict=True)]
    assert means["si_sdr_db"] == pytest.approx(np.mean([si_sdr_db(*p) for p in pairs]), abs=1e-3)
    # What was in one stream is back in its place.
    assert means["stream_pesq"] == pytest.approx(means["pesq"], abs=1e-4)
    assert means["rumble_si_sdr_db"] < np.mean([row["si_sdr_db"] for row in figures["mixes"][2:]])
    assert means["clean_pesq"] == pytest.approx(1, abs=1e-4)
    assert means["kept_1.4_db"] == pytest.approx(0, abs=1e-3)
    assert len(figures["mixes"]) == 4


def test_half_of_everything_is_6_db_less_in_pauses_and_voices():
    held_out = held_out_denoiser.read(SpeechData(**MADE))
    # A pause of half a second in each.
    held_out.clean[:, :8000] = 0
    held_out.fast[3] = -held_out.fast[3]
    metrics = dict(scores({}, dnsmos=False))
    means = held_out_denoiser.judged(Unchanged(0.5), held_out, metrics)["means"]
    for key in ("pauses_db", "kept_1.4_db", "kept_1.6_db", "kept_1.6_worst_db"):
        assert means[key] == pytest.approx(-6.02, abs=0.01), key


def test_the_worst_of_the_voices_is_told_and_pauses_that_are_none_are_not():
    time_s = np.arange(RATE_HZ) / RATE_HZ
    voice = np.sin(2 * np.pi * 200 * time_s).astype(np.float32)
    assert held_out_denoiser.kept_db(voice, 0.1 * voice) == pytest.approx(-20, abs=0.01)
    assert held_out_denoiser.kept_db(voice, -voice) == -80
    assert np.isnan(held_out_denoiser.pauses_db(voice, voice, voice))
    broken = voice.copy()
    broken[:8000] = 0
    noisy = broken + np.float32(0.01)
    assert held_out_denoiser.pauses_db(broken, noisy, 0.1 * noisy) == pytest.approx(-20, abs=0.01)


def test_a_figure_that_is_none_counts_in_no_mean_and_is_shown_as_none():
    assert mean_of([1.0, float("nan"), 3.0]) == 2
    assert mean_of([float("nan")]) is None
    assert (shown(1234.56, 1), shown(None, 1)) == ("1,234.6", "-")


def test_the_network_runs_as_in_its_own_stream():
    config = read_config(CONFIGS / "smoke-speech.toml")
    denoiser = SpeechDenoiser(config.network).eval()
    noisy = np.random.default_rng(0).normal(size=(9, 5000)).astype(np.float32)
    out = held_out_denoiser.denoised(denoiser, noisy)
    assert out.shape == noisy.shape
    alone = held_out_denoiser.denoised(denoiser, noisy[8:, :2560])
    # Causal but for the window: the rest of a row and other rows change nothing.
    assert out[8:, : 2560 - 512] == pytest.approx(alone[:, : 2560 - 512], abs=1e-5)


# --- recordings -------------------------------------------------------------------------------


class Late:
    """A codec that is late as the codec is, tells 50 bits a frame and nothing of lost frames, or,
    where it waits for the next one, half."""

    def __call__(self, audio, level, lost=None, late=None):
        out = torch.nn.functional.pad(audio, (held_out_codec.DELAY_SAMPLES, 0))[:, : audio.shape[1]]
        if lost is not None:
            said = torch.where(lost, 0.0 if late is None else 0.5, 1.0)
            out = out * said.repeat_interleave(320, dim=1)
        return out, 100 * level


def test_each_recording_loses_frames_of_its_own():
    lost = held_out_codec.read(CodecSpeech(speech=("synthetic",), cache="")).lost
    assert lost.any(axis=1).all() and 0.03 < lost.mean() < 0.3
    assert len({row.tobytes() for row in lost}) == len(lost)


def test_recordings_are_judged_in_time_with_the_original():
    held_out = held_out_codec.read(CodecSpeech(speech=("synthetic",), cache=""))
    assert held_out.audio.shape == (4, 2 * RATE_HZ) and held_out.lost.shape == (4, 100)
    assert np.sqrt(np.mean(held_out.audio**2, 1)) == pytest.approx([0.05] * 4, rel=1e-4)
    figures = held_out_codec.judged(Late(), held_out, dict(scores({}, dnsmos=False)))
    low, high = figures["means"]["qualities"]
    assert low["pesq"] == high["pesq"] == 1
    assert low["lossy_pesq"] < low["late_pesq"] < 0.999
    # Levels 25/64 and 50/64, 50 frames a second.
    assert low["bit_per_s"] == pytest.approx(50 * 100 * 25 / 64)
    assert high["bit_per_s"] == pytest.approx(50 * 100 * 50 / 64)
    assert set(figures["means"]["bands_db"].values()) == {0.0}
    assert figures["means"]["flat_pesq"] == pytest.approx(1)
    assert len(figures["recordings"]) == 8


def test_a_band_that_is_louder_is_told():
    time_s = np.arange(RATE_HZ) / RATE_HZ
    low, high = (np.sin(2 * np.pi * hz * time_s)[None] for hz in (120, 500))
    rest = 0.1 * np.random.default_rng(0).normal(size=(1, RATE_HZ))
    found = held_out_codec.bands_db(low + high + rest, low + 2 * high + rest)
    assert found["400-600"] == pytest.approx(6.02, abs=0.1)
    assert found["100-150"] == pytest.approx(0, abs=0.01) and found["6000-8000"] == 0


def test_a_color_is_made_flat():
    audio = np.random.default_rng(0).normal(size=(2, 2 * RATE_HZ)).astype(np.float32)
    spectrum = np.fft.rfft(audio, axis=1)
    hz = np.fft.rfftfreq(audio.shape[1], 1 / RATE_HZ)
    colored = np.fft.irfft(spectrum * (1 + np.exp(-(np.log2((hz + 1) / 500) ** 2))), axis=1)
    found = held_out_codec.flattened(colored, held_out_codec.bands_db(audio, colored))
    before, after = (held_out_codec.bands_db(audio, each) for each in (colored, found))
    assert before["400-600"] > 5
    assert max(map(abs, after.values())) < 0.5


# --- the command ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "said", "rows", "table"),
    [
        ("smoke-speech", "SI-SDR", "mixes", held_out_denoiser_rows),
        ("smoke-speech-codec", "bit/s", "recordings", held_out_codec_rows),
    ],
)
def test_each_checkpoint_gets_a_line_and_all_figures_are_written(
    tmp_path, capsys, task, said, rows, table
):
    files = [checkpoint(tmp_path / run / "last.pt", task, seed=i) for i, run in enumerate("abb")]
    out = tmp_path / "new" / "out.json"
    folders = ["--speech", "synthetic", "--noise", "synthetic", "--cache", ""]
    held_out_speech.main([*map(str, files), *folders, "--json", str(out)])
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert [line.split()[0] for line in lines] == ["a/last.pt", "b/last.pt", "b/last.pt"]
    assert all(said in line for line in lines) and "does not say" in told.err
    report = json.loads(out.read_text())
    first, second, again = report["checkpoints"]
    assert second == again and first["sha256"] != second["sha256"]
    assert first["means"] != second["means"] and len(first[rows]) >= 4
    assert torch.get_num_threads() == 1
    published = table(report)
    assert [*dict.fromkeys(row["weights"] for row in published)] == ["a/last.pt", "b/last.pt"]
    means = first["means"].get("qualities", [first["means"]])[0]
    assert published[0]["PESQ-WB"] == f"{means['pesq']:.2f}"


def test_a_training_with_other_recordings_is_told(tmp_path, capsys):
    counts = {"train": 15, "held_out": 3}
    same = {"speech": counts, "noise": counts}
    file = checkpoint(tmp_path / "same.pt", data=same)
    folders = ["--speech", "synthetic", "--noise", "synthetic", "--cache", ""]
    held_out_speech.main([str(file), *folders])
    assert capsys.readouterr().err == ""
    other = checkpoint(tmp_path / "other.pt", data=same | {"noise": {"train": 20, "held_out": 3}})
    held_out_speech.main([str(other), *folders])
    assert "was trained on 20 recordings of noise and 3 were held out" in capsys.readouterr().err


def test_what_cannot_be_judged_is_refused(tmp_path):
    denoiser = checkpoint(tmp_path / "denoiser.pt")
    codec = checkpoint(tmp_path / "codec.pt", "smoke-speech-codec")
    given = ["--speech", "synthetic", "--noise", "synthetic", "--cache", ""]
    for arguments, told in (
        (["speech-codec", str(denoiser), *given], "is of the task speech-denoiser, expected spe"),
        (["photo-codec", *given], "expected speech-codec or speech-denoiser"),
        ([str(denoiser), "--speech", "synthetic", "--cache", ""], "no folder of noise is given"),
        ([str(codec), "--cache", ""], "no folder of speech is given"),
        ([str(codec), "--speech", str(tmp_path / "none")], "none is not a folder"),
        ([str(tmp_path / "gone.pt"), *given], "no checkpoint at"),
    ):
        with pytest.raises(SystemExit, match=told):
            held_out_speech.main(arguments)
    other = tmp_path / "other.pt"
    config = read_config(CONFIGS / "smoke-speech.toml")
    config = dataclasses.replace(
        config, data=dataclasses.replace(config.data, held_out_percent=20.0)
    )
    state = {"averaged": {}, "step": 1, "seconds": 1.0, "best": 0.0, "history": []}
    save_checkpoint(other, config, state)
    with pytest.raises(SystemExit, match="held out 20.0 % of the data, expected 8.0 %"):
        held_out_speech.main([str(denoiser), str(other), *given])


def test_a_metric_whose_package_is_missing_is_named(tmp_path, monkeypatch):
    def lacking(missing, *, dnsmos):
        missing["PESQ-WB"] = "pesq"
        return iter(())

    monkeypatch.setattr(held_out_speech, "installed_metrics", lacking)
    with pytest.raises(SystemExit, match="pip install pesq"):
        held_out_speech.main([str(checkpoint(tmp_path / "a.pt")), "--speech", "synthetic"])
