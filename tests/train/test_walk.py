"""The README's section on one's own model, walked with twelve made photos and twelve recordings.

Scaled down: seconds of training instead of minutes, and a hop of the real configs' sizes. With
EDGEAE_WALK_MINUTES=2 each training takes two minutes, and each model is trained as on a processor
with bfloat16 and as on one without; else each as on one of them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

import soundfile

from train.image.data import made_images
from train.speech.made import made_noise, made_voice

ROOT = Path(__file__).parents[2]
WHOLE = "EDGEAE_WALK_MINUTES" in os.environ
MINUTES = float(os.environ.get("EDGEAE_WALK_MINUTES", "0.05"))
# How long the first sign may take. Machines that run other tests meanwhile are not timed; on one
# that is busy with something else the processor's time counts, of which it takes as much as ever.
SIGN_S = 10.0
# What a step in bfloat16 takes of one in float32, on a processor that has it and on one that has
# not: the second was measured. The run itself finds out which is faster.
PROCESSORS = {"bfloat16": 0.5, "float32": 11.0}
SIMULATED = """
import runpy, sys
from train import precision
share, measured = float(sys.argv.pop(1)), precision.seconds_per_step
def simulated(recipe, batch, device, name):
    return measured(recipe, batch, device, "float32") * (share if name == "bfloat16" else 1)
precision.seconds_per_step = simulated
runpy.run_module("train", run_name="__main__", alter_sys=True)
"""


def photos(folder):
    from PIL import Image

    folder.mkdir()
    for i, picture in enumerate(made_images(12)):
        Image.fromarray(picture).save(folder / f"photo-{i:02}.{'png' if i % 2 else 'jpg'}")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")


def recordings(folder, kind):
    folder.mkdir()
    rng = np.random.default_rng(1)
    for i in range(6):
        audio = made_voice(i, rng) if kind == "speech" else 0.3 * made_noise(48_000, rng)
        soundfile.write(folder / f"take_{i}.wav", audio / max(1.0, np.abs(audio).max()), 16_000)


def command(*arguments, expected=0):
    """Run one command; its output and the seconds until its first line."""
    return python("-m", *arguments, expected=expected)


def trained_on(processor, *arguments, expected=0):
    """Run `python -m train` as on a processor that is faster in one of the precisions."""
    return python("-c", SIMULATED, PROCESSORS[processor], *arguments, expected=expected)


def python(*arguments, expected):
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    first = process.stdout.readline()
    sign_s = time.monotonic() - began
    if sys.platform == "linux" and os.getloadavg()[0] > os.cpu_count():
        sign_s = cpu_s(process.pid)
    rest, error = process.communicate(timeout=1800)
    assert process.returncode == expected, error
    return first + rest, error, sign_s


def cpu_s(pid):
    """Seconds of processor time that a process has taken, from Linux."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def readme_commands():
    """The train and export commands of the README's section, one list of words each."""
    section = (ROOT / "README.md").read_text().split("## Your own model")[1].split("\n## ")[0]
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", section, re.S)).replace("\\\n", " ")
    return [
        line.split()[2:] for line in blocks.splitlines() if re.match(r"python -m (tr|ex)", line)
    ]


FIELDS = (("bits per pixel fast q5", "psnr db fast q5"), ("si sdr db", "intelligibility"))


@pytest.mark.parametrize(
    ("number", "precision"),
    [
        (0, "float32"),
        (1, "float32"),
        pytest.param(0, "bfloat16", marks=pytest.mark.skipif(not WHOLE, reason="minutes")),
        pytest.param(1, "bfloat16", marks=pytest.mark.skipif(not WHOLE, reason="minutes")),
    ],
)
def test_the_readme_leads_from_files_to_a_bundle(number, precision, tmp_path):
    commands = readme_commands()
    assert [words[0] for words in commands] == ["train", "export"] * 2
    training, exporting = commands[2 * number : 2 * number + 2]
    assert training.index("--start-from") == 2  # it stands first
    photos(tmp_path / "my-photos")
    recordings(tmp_path / "my-speech", "speech")
    recordings(tmp_path / "my-noise", "noise")
    places = {"my-photos/", "my-speech/", "my-noise/", "my-codec/", "my-denoiser/"}

    def here(words):
        return [
            str(tmp_path / word) if word in places or word.startswith("runs/") else word
            for word in words
        ]

    training = here(training)
    training[training.index("--max-minutes") + 1] = str(MINUTES)
    said, _, sign_s = trained_on(precision, *training[1:])
    assert not WHOLE or sign_s < SIGN_S
    assert f" in bfloat16: {precision} is taken" in said
    assert re.search(r"to train on, \d+ held out", said)
    assert re.search(r"^step 1/\d+ loss .* steps/s, .* left$", said, re.M)
    run = Path(training[training.index("--out") + 1])
    for name in ("last.pt", "best.pt", "tensorboard"):
        assert (run / name).exists()
    _, error, _ = command(*training, expected=1)
    assert "holds a run, expected --resume" in error

    exporting = here(exporting)
    command(*exporting)
    bundle = Path(exporting[2])
    command("edgeae", "verify", bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["name"] == bundle.name
    _every_sentence_is_true(bundle / "CARD.md", manifest, FIELDS[number], number)


def _every_sentence_is_true(file, manifest, fields, number):
    card = file.read_text()
    if number == 0:
        assert "- photographs: 11 to train on and 1 held out from `my-photos`." in card
        assert "1 files were left out, among them broken.jpg." in card
        shipped = "photo-codec"
    else:
        assert "- speech: 5 to train on and 1 held out from `my-speech`" in card
        assert "- noise: 5 to train on and 1 held out from `my-noise`" in card
        shipped = "speech-denoiser"
    assert f"the checkpoint `{shipped}.pt`" in card
    for field in fields:
        assert f"| {field} |" in card
    for claim in ("RNNoise", "Kodak", "LibriSpeech", "389", "beside"):
        assert claim not in card.replace("any other system beside this one", ""), claim
    own = int(re.search(r"- ([\d,]+) steps? of", card)[1].replace(",", ""))
    assert own < manifest["provenance"]["steps"]
