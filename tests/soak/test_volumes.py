"""The commands behind GUARANTEES.md run, write what they measured, and tell what broke."""

from __future__ import annotations

import json
import mmap
import re
import sys
from pathlib import Path

import pytest
import volumes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read as Linux tells it")

ROOT = Path(volumes.__file__).parents[2]
COUNTS = {
    "mutants": 40,
    "flips": 300,
    "bombs": 5,
    "megabytes": 3,
    "bundles": 60,
    "races": 60,
    "encodings": 200,
    "symbols": 100_000,
    "kills": 3,
    "soak": 40,
    "speech": 1400,
}


def run(monkeypatch, path, *arguments):
    monkeypatch.setattr(sys, "argv", ["volumes", *arguments, "--json", str(path)])
    return volumes.main()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What every part writes when it does little."""
    path = tmp_path_factory.mktemp("volumes") / "guarantees.json"
    with pytest.MonkeyPatch.context() as patch:
        for part, count in COUNTS.items():
            assert run(patch, path, part, "--count", str(count)) == 0
    return json.loads(path.read_text())


def test_every_part_is_tried_here():
    assert [*COUNTS] == [*volumes.PARTS]


def test_every_part_writes_its_section_and_leaves_the_others(results):
    assert [*results] == ["what", *COUNTS]
    for part in COUNTS:
        assert results[part]["broken"] == [] and results[part]["count"] > 0
        assert results[part]["machine"]["cores"] > 0 and results[part]["versions"]["numpy"]


def test_what_was_counted_is_there(results):
    assert sum(results["mutants"]["outcomes"].values()) == COUNTS["mutants"]
    assert sum(results["flips"]["detected"].values()) == COUNTS["flips"]
    assert sum(results["bundles"]["refused"].values()) == COUNTS["bundles"]
    # Some of either, or nothing was raced.
    assert results["races"]["same_length"] and results["races"]["ends"]["loaded"] > 0
    assert results["races"]["ends"]["refused"] > 0
    assert sum(results["encodings"]["ends"].values()) == COUNTS["encodings"]
    assert results["symbols"]["count"] >= COUNTS["symbols"]
    assert len(results["symbols"]["settings"]) == 8
    assert {row["kind"] for row in results["megabytes"]["rows"]} == {"hostile", "sound"}
    assert results["soak"]["p99_ms"] >= results["soak"]["p50_ms"] > 0
    assert results["speech"]["count"] == COUNTS["speech"]
    assert 0 < results["speech"]["silence_bit_per_s"] < results["speech"]["speech_bit_per_s"] / 10


def test_mutants_go_on_where_they_ended(monkeypatch, tmp_path, results):
    path = tmp_path / "a.json"
    run(monkeypatch, path, "mutants", "--count", "15")
    assert run(monkeypatch, path, "mutants", "--count", "40", "--resume") == 0
    found = json.loads(path.read_text())["mutants"]
    assert found["outcomes"] == results["mutants"]["outcomes"] and found["count"] == 40


def test_what_breaks_a_promise_is_told_and_fails(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(volumes.image_file, "read", lambda data: None)
    assert run(monkeypatch, tmp_path / "a.json", "flips", "--count", "9") == 1
    assert "not noticed" in capsys.readouterr().err


def test_memory_and_a_crash_of_a_process_are_seen():
    def fill():
        # Pages from the system itself: what the process has freed before is counted as there.
        pages = mmap.mmap(-1, 50_000_000)
        for start in range(0, len(pages), mmap.PAGESIZE):
            pages[start] = 1

    held = volumes.measured(fill)
    assert 45 < held["mb"] < 90 and held["end"] == "data"
    assert volumes.measured(lambda: volumes.os._exit(9))["end"] == "! it crashed"
    assert volumes.measured(lambda: {}["x"])["end"] == "! KeyError: 'x'"


def test_the_tests_that_guarantees_names_are_there():
    text = (ROOT / "GUARANTEES.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:tests|docs|benchmarks)/[\w./]+)`", text)
    assert len(named) > 15 and all((ROOT / name).exists() for name in named)
