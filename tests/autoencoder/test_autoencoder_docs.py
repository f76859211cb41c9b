"""Every example of docs/autoencoders.md runs, in its order, on small data and few steps."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_autoencoder import items, projection

import edgeae
from edgeae.cli.app import app

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "autoencoders.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.S)
    for line in block.splitlines()
    if not line.startswith("python -m pip")
]
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.S)


def prepare(folder):
    """What the commands find: data, and the configs with few steps."""
    (folder / "train" / "configs").mkdir(parents=True)
    for file in (ROOT / "train" / "configs").glob("*.toml"):
        text = re.sub(r"steps = \d+", "steps = 4", file.read_text())
        text = re.sub(r"hidden = \[.*\]", "hidden = [8, 8]", text)
        text = re.sub(r"choices = \[\[.*\]\]", "choices = [[4, 4]]", text)
        (folder / "train" / "configs" / file.name).write_text(text)
    shutil.copy(folder / "train" / "configs" / "table.toml", folder / "my.toml")
    rng = np.random.default_rng(0)
    table = rng.normal(size=(60, 3)) @ rng.normal(size=(3, 9))
    np.save(folder / "my-data.npy", table.astype(np.float32))
    for name in ("my-tables", "my-data"):
        (folder / name).mkdir()
        rows = [",".join("abcdefghi"), *(",".join(f"{v:.4f}" for v in row) for row in table)]
        (folder / name / "t.csv").write_text("\n".join(rows) + "\n")
    (folder / "my-pictures").mkdir()
    for i in range(40):
        pixels = rng.integers(0, 255, (8, 8), np.uint8)
        Image.fromarray(pixels).save(folder / "my-pictures" / f"{i}.png")


def run(line):
    """The exit code of one command, which runs in this process."""
    words = shlex.split(line)
    if words[0] == "edgeae":
        from typer.testing import CliRunner

        found = CliRunner().invoke(app, words[1:])
        assert found.exit_code == 0, found.output
        return 0
    assert words[:2] == ["python", "-m"], line
    if words[2] == "train.search":
        pytest.importorskip("optuna", reason="the search needs Optuna")
        words[words.index("--trials") + 1] = "1"
    import importlib

    package = importlib.import_module(words[2])
    module = importlib.import_module(f"{words[2]}.__main__") if package.__file__.endswith(
        "__init__.py"
    ) else package  # fmt: skip
    return module.main(words[3:])


def test_every_command_runs(tmp_path, monkeypatch, one_thread, capsys):
    pytest.importorskip("onnxscript", reason="export needs onnxscript")
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    assert len(COMMANDS) >= 9
    for line in COMMANDS:
        assert run(line) == 0, f"{line}\n{capsys.readouterr().err}"
        if line.startswith("python -m export"):
            shutil.copytree("runs/mine", "runs/theirs")
    for written in ("my-data.toml", "runs/mine/report.html", "latents.csv", "latents.html"):
        assert Path(written).stat().st_size > 0, written
    assert np.load("samples.npy").shape == (64, 9)
    assert np.load("restored.npy").shape == (60, 9)


def test_every_example_runs(tmp_path, monkeypatch):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    monkeypatch.chdir(tmp_path)
    projection(tmp_path / "my-model", kind="signal", shape=(4, 1))
    x = items(40)[:, :, None]
    names = {
        "x": x,
        "known": np.random.default_rng(0).random(x.shape) < 0.7,
        "a": x[0],
        "b": x[1],
        "blocks": [x[i, :, :] for i in range(20)],
        "labels": (x[:, 0, 0] > 0).astype(int),
    }
    assert len(EXAMPLES) >= 3
    for example in EXAMPLES:
        exec(example, names)
    np.testing.assert_allclose(names["restored"], x, atol=1e-5)
    np.testing.assert_array_equal(names["whole"][names["known"]], x[names["known"]])
    np.testing.assert_allclose(names["back"], x, atol=0.3)
    assert names["new"].shape == (16, 4, 1) and names["way"].shape == (9, 4, 1)
    assert names["likeness"].shape == (40,)
    assert isinstance(names["model"], edgeae.autoencoder.Autoencoder)
