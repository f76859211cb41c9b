"""The README keeps its word: its examples run, its commands exist, its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import edgeae
from edgeae import media
from edgeae.cli.app import app

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_there_are_three_examples() -> None:
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs_as_it_stands(number: int, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(EXAMPLES[number], f"README example {number + 1}", "exec"), {"__name__": "readme"})


def test_the_example_of_the_page_about_images_runs_as_it_stands(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    photo = media.read_image(ROOT / "edgeae" / "assets" / "photo.webp")[:64, :80]
    media.write_image("photo.png", photo)
    mask = np.zeros((64, 80), np.uint8)
    mask[20:24] = 255
    media.write_image("scratches.png", mask)
    page = (ROOT / "docs" / "images.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    there = {"__name__": "images"}
    exec(compile(example, "docs/images.md", "exec"), there)
    assert there["whole"].shape == photo.shape and there["level"].shape == (64, 80)
    (mix,) = re.findall(r"`(np\.rint\(.*\))`", page)
    assert eval(mix, there).dtype == np.uint8


@pytest.mark.parametrize(
    "command",
    [
        'python -m pip install ".[cpu]" && edgeae demo',
        'python -m pip install -e ".[dev]" && pytest',
    ],
)
def test_the_two_commands_stand_there_on_a_line_of_their_own(command: str) -> None:
    assert f"\n{command}\n" in README


def test_every_command_and_option_that_is_shown_exists() -> None:
    said = {name: _help(name) for name in _help_commands()}
    shown = re.findall(r"^edgeae (\w+)(.*)$", README, re.MULTILINE)
    assert {name for name, _ in shown} == set(said)
    for name, rest in shown:
        for option in re.findall(r"--[a-z-]+", rest.split("&&")[0]):
            assert option in said[name], (name, option)


def test_the_nodes_that_are_shown_are_those_of_the_encoder() -> None:
    nodes = edgeae.load("photo-codec").report()["graphs"]["encoder"]["nodes"][
        "CPUExecutionProvider"
    ]
    quick = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for page in (README, quick):
        shown = re.findall(r"# .*\{'CPUExecutionProvider': (\d+)\}", page)
        # What onnxruntime joins changes from version to version.
        assert len(shown) == 1 and abs(int(shown[0]) - nodes) <= 0.15 * nodes


def test_every_link_leads_to_a_file() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).is_file(), target


def _help(name: str) -> str:
    result = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    return result.output


def _help_commands() -> list[str]:
    return [command.callback.__name__ for command in app.registered_commands]
