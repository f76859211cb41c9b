"""Manifests that are not one are refused, whatever is wrong in them."""

from __future__ import annotations

import time

import pytest
import tiny
from bundles import denoiser_with_notes, refused, set_key


@pytest.fixture
def path(tmp_path):
    return denoiser_with_notes(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "7",
        '"edgeae"',
        "\ufeff{}",
        '{"format": NaN}',
        "[" * 100_000,
        "{'a': 1}",
    ],
)
def test_a_manifest_that_is_no_json_object_is_refused(path, text):
    (path / "manifest.json").write_text(text, encoding="utf-8")
    refused(path, "manifest.json")


def test_a_manifest_that_is_no_utf8_is_refused(path):
    (path / "manifest.json").write_bytes(b'{"name": "\xff"}')
    refused(path, "is not JSON")


def test_a_manifest_with_a_number_of_a_million_digits_is_refused(path):
    (path / "manifest.json").write_text('{"format": ' + "1" * 1_000_000 + "}")
    refused(path, "is not JSON")


def test_a_huge_manifest_is_refused_before_it_is_parsed(path):
    with (path / "manifest.json").open("ab") as stream:
        stream.truncate(1 << 40)  # sparse: takes no room
    start = time.process_time()
    refused(path, "expected at most 1048576")
    assert time.process_time() - start < 1


def test_a_key_that_stands_twice_is_refused(path):
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text.replace("{", '{"format": 1,', 1))
    refused(path, "a key stands twice")


@pytest.mark.parametrize(
    "key",
    ["format", "task", "name", "version", "layout", "graphs", "files", "provenance", "figures"],
)
def test_a_missing_key_is_named(path, key):
    set_key(path, ..., key)
    refused(path, f"key '{key}' is missing")


@pytest.mark.parametrize(
    ("task", "key"), [("denoiser", "stream"), ("codec", "latent"), ("codec", "codec_id")]
)
def test_a_key_that_only_this_task_needs_is_named_when_missing(path, task, key):
    def change(manifest):
        manifest.update(task=task, stream={}, latent={}, codec_id="0" * 32)
        del manifest[key]

    tiny.change_manifest(path, change)
    refused(path, f"key '{key}' is missing: a {task} needs it")


KINDS = {
    "format": int,
    "task": str,
    "name": str,
    "version": str,
    "layout": dict,
    "stream": dict,
    "latent": dict,
    "codec_id": str,
    "graphs": dict,
    "graphs/step": dict,
    "graphs/step/fp32": dict,
    "graphs/step/fp32/file": str,
    "graphs/step/fp32/sha256": str,
    "graphs/step/fp32/bytes": int,
    "files": dict,
    "files/CARD.md": dict,
    "files/CARD.md/sha256": str,
    "files/CARD.md/bytes": int,
    "provenance": dict,
    "figures": dict,
}


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (keys, value)
        for keys, kind in KINDS.items()
        for value in (None, True, 1.0, "text", [], {}, 3)
        if type(value) is not kind
    ],
)
def test_a_value_of_a_wrong_type_is_refused(path, keys, value):
    set_key(path, value, *keys.split("/"))
    refused(path, ", expected ")


@pytest.mark.parametrize("version", ["", "one two", "1.0\n", "v\ud800", "1" * 33])
def test_a_version_with_odd_characters_is_refused(path, version):
    set_key(path, version, "version")
    refused(path, "version is")


@pytest.mark.parametrize("value", [0, 2, 99])
def test_an_unknown_format_is_refused(path, value):
    set_key(path, value, "format")
    refused(path, f"format is {value}, expected 1")


def test_an_unknown_format_is_refused_before_its_keys_are_judged(path):
    tiny.save_manifest(path, {"format": 2, "models": []})
    refused(path, "format is 2, expected 1")


def test_an_unknown_task_is_refused(path):
    set_key(path, "translator", "task")
    refused(path, 'task is "translator", expected one of codec, denoiser, detector, autoencoder')


def test_an_unknown_key_is_refused(path):
    set_key(path, 1, "quallity")
    refused(path, 'unknown key "quallity" in the manifest')


def test_an_unknown_key_in_an_entry_is_refused(path):
    set_key(path, "x", "graphs", "step", "fp32", "url")
    refused(path, 'unknown key "url" in graphs.step.fp32')


@pytest.mark.parametrize("value", ["ABC", "0" * 63, "0" * 65, "G" * 64, "0" * 63 + "\n"])
def test_a_hash_that_is_no_sha256_is_refused(path, value):
    set_key(path, value, "files", "CARD.md", "sha256")
    refused(path, "sha256 is")


@pytest.mark.parametrize("value", [-1, 1 << 31, 1 << 200])
def test_a_size_out_of_range_is_refused(path, value):
    set_key(path, value, "files", "CARD.md", "bytes")
    refused(path, "bytes is")


@pytest.mark.parametrize("value", ["", "0" * 31, "Z" * 32, "0x" + "0" * 30])
def test_a_codec_id_that_is_no_16_bytes_is_refused(path, value):
    set_key(path, value, "codec_id")
    refused(path, "codec_id is")


@pytest.mark.parametrize("name", ["", "Photo ImageCodec", "../x", "x" * 65])
def test_a_name_with_odd_characters_is_refused(path, name):
    set_key(path, name, "name")
    refused(path, "name is")


def test_a_bundle_without_a_graph_is_refused(path):
    set_key(path, {}, "graphs")
    refused(path, "graphs is empty")


def test_a_role_without_a_precision_is_refused(path):
    set_key(path, {}, "graphs", "step")
    refused(path, "graphs.step is empty")
