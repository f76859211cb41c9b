"""A bundle is read whole and unchanged, or refused with one line that says why."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
import tiny
from bundles import denoiser_with_notes, refused, set_key

import edgeae
from edgeae import bundle
from edgeae.errors import BundleError, UnknownCodec


@pytest.fixture
def path(tmp_path):
    return denoiser_with_notes(tmp_path)


# What a good bundle gives


def test_a_bundle_is_found_by_path_and_by_string(path):
    found = bundle.find(path)
    assert bundle.find(str(path)) == found
    assert found.path == path
    assert found.manifest.task == "denoiser"
    assert found.manifest.stream["hop_samples"] == 256
    assert found.manifest.latent is None and found.manifest.codec_id is None


def test_the_id_is_the_hash_of_the_manifest(path):
    assert bundle.find(path).id == tiny.fingerprint(path / "manifest.json")["sha256"]


def test_a_bundle_read_through_a_link_to_its_directory_is_the_same(path, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(path, target_is_directory=True)
    assert bundle.find(link).id == bundle.find(path).id


def test_a_relative_path_means_the_same_after_a_change_of_directory(path, monkeypatch, tmp_path):
    monkeypatch.chdir(path.parent)
    found = bundle.find("./tiny")
    monkeypatch.chdir("/")
    assert found.graph_file("step", "fp32").is_file()


def test_files_outside_the_manifest_are_left_alone(path):
    (path / "notes.txt").write_text("mine")
    assert bundle.find(path).manifest.name == "tiny-denoiser"


@pytest.mark.parametrize(
    "make", [tiny.tiny_denoiser_bundle, lambda path: tiny.tiny_codec_bundle(path, int8=True)]
)
def test_to_load_a_model_looks_into_every_graph_once(tmp_path, monkeypatch, make):
    path, seen = make(tmp_path / "b"), []
    check = bundle.check_graph
    monkeypatch.setattr(
        bundle, "check_graph", lambda data, *, name: seen.append(name) or check(data, name=name)
    )
    model = edgeae.load(path)
    assert sorted(seen) == sorted(path.glob("*.onnx"))
    assert model.bundle == bundle.find(path)


def test_a_graph_that_the_check_writes_anew_runs_as_it_was_written(path):
    file = path / "step.fp32.onnx"
    data = file.read_bytes()
    # The first field behind all others: the same model in other bytes.
    file.write_bytes(data[2:] + data[:2])
    entry = {"file": file.name, **tiny.fingerprint(file)}
    set_key(path, entry, "graphs", "step", "fp32")
    found = bundle.find(path)
    assert found.graph("step", "fp32").data == data


def test_a_graph_that_no_check_has_passed_is_checked_when_it_is_opened(path):
    found = bundle.find(path)
    file = path / "step.fp32.onnx"
    model = onnx.load(file)
    model.graph.node[0].domain = "com.example"
    onnx.save(model, file)
    entry = bundle.FileEntry(**tiny.fingerprint(file), file=file.name)
    manifest = replace(found.manifest, graphs={"step": {"fp32": entry}})
    with pytest.raises(BundleError, match="com.example"):
        replace(found, manifest=manifest).graph("step", "fp32")


def test_read_gives_the_bytes_of_a_file(path):
    assert bundle.find(path).read("notes.bin") == bytes(range(200))


def test_read_refuses_a_file_that_the_manifest_does_not_name(path):
    (path / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match="has no file 'notes.txt': it has notes.bin"):
        bundle.find(path).read("notes.txt")


def test_read_refuses_a_file_changed_after_the_bundle_was_found(path):
    found = bundle.find(path)
    (path / "notes.bin").write_bytes(bytes(200))
    with pytest.raises(BundleError, match="notes.bin has changed"):
        found.read("notes.bin")


def test_an_unknown_role_or_precision_names_those_there(path):
    found = bundle.find(path)
    with pytest.raises(BundleError, match="has no 'encoder' graph: it has step"):
        found.graph_file("encoder", "fp32")
    with pytest.raises(BundleError, match="has no 'int8' step: it has fp32"):
        found.graph_file("step", "int8")
    with pytest.raises(BundleError, match="has no precision 'int8': it has fp32"):
        found.precision("int8")


def test_the_default_precision_is_int8_where_the_encoder_has_it(path):
    assert bundle.find(path).precision(None) == "fp32"
    entry = tiny.load_manifest(path)["graphs"]["step"]["fp32"]
    set_key(path, {"fp32": entry, "int8": entry}, "graphs", "encoder")
    found = bundle.find(path)
    assert found.precision(None) == found.precision("int8") == "int8"
    assert found.precision("fp32") == "fp32"


# Where it is looked for


def test_an_unknown_name_lists_the_known_ones(monkeypatch, tmp_path):
    tiny.tiny_denoiser_bundle(tmp_path / "one")
    tiny.tiny_denoiser_bundle(tmp_path / "two")
    (tmp_path / "no-bundle").mkdir()
    monkeypatch.setattr(bundle, "_MODELS", tmp_path)
    assert bundle.bundled_names() == ["one", "two"]
    with pytest.raises(BundleError, match="no model named 'three'.*known models are one, two"):
        bundle.find("three")


def test_a_bundled_name_means_the_bundled_model_whatever_the_working_directory(
    monkeypatch, tmp_path
):
    tiny.tiny_denoiser_bundle(tmp_path / "models" / "one")
    tiny.tiny_denoiser_bundle(tmp_path / "here" / "one", gain=2.0)
    monkeypatch.setattr(bundle, "_MODELS", tmp_path / "models")
    monkeypatch.chdir(tmp_path / "here")
    assert bundle.find("one").path == tmp_path / "models" / "one"
    assert bundle.find("./one").path == tmp_path / "here" / "one"


def test_a_missing_models_folder_means_that_none_are_bundled(monkeypatch, tmp_path):
    monkeypatch.setattr(bundle, "_MODELS", tmp_path / "nowhere")
    assert bundle.bundled_names() == []
    with pytest.raises(BundleError, match="the known models are none$"):
        bundle.find("photo-codec")


def test_every_bundled_model_is_sound():
    for name in bundle.bundled_names():
        assert bundle.find(name).manifest.name == name


def test_a_codec_is_found_by_its_id(monkeypatch, codec_path):
    monkeypatch.setattr(bundle, "_MODELS", codec_path.parent)
    codec_id = bytes.fromhex(tiny.load_manifest(codec_path)["codec_id"])
    assert bundle.bundled_with_codec_id(codec_id).path == codec_path
    assert bundle.bundled_with_codec_id(codec_id[:4]).path == codec_path


# What names a codec


@pytest.fixture
def codec(tmp_path):
    return tiny.tiny_codec_bundle(tmp_path / "codec")


def test_a_codec_id_that_is_not_that_of_the_latent_and_tables_is_refused(codec):
    set_key(codec, "0" * 32, "codec_id")
    refused(codec, f"codec_id is {'0' * 32}, expected [0-9a-f]{{32}} for this latent section")


def test_another_latent_section_table_or_context_graph_has_another_codec_id(codec):
    sound = (codec / "manifest.json").read_bytes()
    set_key(codec, 0, "latent", "decoder_halo")
    refused(codec, "codec_id is .*, expected")
    (codec / "manifest.json").write_bytes(sound)

    tables = codec / "tables.bin"
    tables.write_bytes(tables.read_bytes()[:-1] + b"\x01")
    entry = tiny.fingerprint(tables)
    set_key(codec, entry, "files", "tables.bin")
    refused(codec, "codec_id is .*, expected")


def test_other_encoders_decoders_cards_and_figures_leave_the_codec_id(codec):
    tiny.change_graph(codec, lambda model: setattr(model, "producer_name", "x"), role="encoder")
    tiny.change_graph(codec, lambda model: setattr(model, "producer_name", "x"), role="decoder")
    set_key(codec, {"measured": 1}, "figures")
    assert bundle.find(codec).manifest.codec_id
    tiny.change_graph(codec, lambda model: setattr(model, "producer_name", "x"), role="context1")
    refused(codec, "codec_id is .*, expected")


# What people may edit


def test_an_edited_card_is_noted_and_not_refused(path):
    assert bundle.find(path).changed_documents() == []
    (path / "CARD.md").write_text("# mine")
    found = bundle.find(path)
    assert found.changed_documents() == ["CARD.md"]
    assert found.document("CARD.md") == "# mine"
    (path / "CARD.md").unlink()
    assert bundle.find(path).changed_documents() == ["CARD.md"]
    assert found.document("CARD.md") == found.document("other.md") == ""


def test_documents_have_a_section_of_their_own(path):
    (path / "LICENSE.md").write_text("free")
    set_key(path, {"LICENSE.md": tiny.fingerprint(path / "LICENSE.md")}, "documents")
    (path / "LICENSE.md").write_text("freer")
    found = bundle.find(path)
    assert list(found.manifest.files) == ["notes.bin"]
    assert list(found.manifest.documents) == ["LICENSE.md", "CARD.md"]
    assert found.changed_documents() == ["LICENSE.md"]
    assert found.document("LICENSE.md") == "freer"


def test_what_a_model_needs_is_no_document(path):
    set_key(path, {"notes.bin": tiny.fingerprint(path / "notes.bin")}, "documents")
    refused(path, '"notes.bin" is a file and a document')


# What would take hours or gigabytes


def test_one_graph_named_seven_thousand_times_is_refused(path):
    entry = tiny.load_manifest(path)["graphs"]["step"]["fp32"]
    set_key(path, {f"p{i}": entry for i in range(5000)}, "graphs", "step")
    refused(path, "graphs has 5000 files, expected at most 64")
    set_key(path, {"fp32": entry}, "graphs", "step")
    card = tiny.load_manifest(path)["files"]["CARD.md"]
    set_key(path, {f"f{i}": card for i in range(5000)}, "files")
    refused(path, "files has 5000 entries")


def test_one_graph_named_many_times_is_looked_into_once(path, monkeypatch):
    entry = tiny.load_manifest(path)["graphs"]["step"]["fp32"]
    set_key(path, {f"p{i}": entry for i in range(64)}, "graphs", "step")
    seen, check = [], bundle.check_graph
    monkeypatch.setattr(
        bundle, "check_graph", lambda data, name: seen.append(name) or check(data, name=name)
    )
    bundle.find(path)
    assert seen == [path / "step.fp32.onnx"]


@pytest.mark.parametrize("section", ["provenance", "figures", "layout", "stream"])
def test_sections_that_nest_deep_and_long_strings_are_refused(path, section):
    set_key(path, "@", section, "deep")
    manifest = path / "manifest.json"
    text = manifest.read_text()
    for depth in (40, 700):
        manifest.write_text(text.replace('"@"', "[" * depth + "]" * depth))
        refused(path, "nest deeper than 32|is not JSON")
    manifest.write_text(text)
    set_key(path, {"a": ["x" * 900_000]}, section, "deep")
    refused(path, "has 900000 characters, expected at most 16384")
    set_key(path, 1, section, "deep")
    set_key(path, 1, section, "x" * 20_000)
    refused(path, "has 20000 characters")


@pytest.mark.parametrize(
    ("value", "keys"),
    [
        (1_048_573, ("layout", "sample_rate_hz")),
        (1_048_575, ("layout", "sample_rate_hz")),
        (95_989, ("layout", "sample_rate_hz")),
        (192_025, ("layout", "sample_rate_hz")),
        (1 << 17, ("stream", "window_samples")),
        (1 << 17, ("stream", "hop_samples")),
        (65, ("stream", "lookahead_hops")),
        ([1 << 20, 1 << 10], ("stream", "state", "h0")),
        ([1 << 200], ("stream", "state", "h0")),
    ],
)
def test_an_absurd_rate_window_or_state_is_refused(path, value, keys):
    set_key(path, value, *keys)
    refused(path, "expected (at most|a multiple of)")


def test_a_layout_without_a_kind_is_refused(path):
    set_key(path, ..., "layout", "kind")
    refused(path, "key 'kind' is missing in layout")
    for kind in (None, 3, [], "", "Au dio", "x" * 65):
        set_key(path, kind, "layout", "kind")
        refused(path, "layout.kind is")


@pytest.mark.parametrize("name", ["step.fp32.ort", "step.fp32", "step.onnx.bin", "CARD.md"])
def test_a_graph_is_an_onnx_file_by_its_name(path, name):
    set_key(path, name, "graphs", "step", "fp32", "file")
    refused(path, "expected .onnx")


# Check and use are of the same bytes


def test_a_kept_bundle_refuses_a_graph_that_changed_later(path):
    found = bundle.find(path)
    graph = found.graph("step", "fp32")
    assert graph.data == (path / "step.fp32.onnx").read_bytes()
    other = tiny.denoiser_step_model(bins=257, gain=2.0).SerializeToString()
    assert len(other) == len(graph.data)
    (path / "step.fp32.onnx").write_bytes(other)
    with pytest.raises(BundleError, match="step.fp32.onnx has changed"):
        found.graph("step", "fp32")


def test_a_graph_is_read_once_and_those_bytes_are_handed_on(path, monkeypatch):
    found, opened = bundle.find(path), []

    def swapping(file, flags):
        opened.append(file)
        descriptor = os.open(file, flags)
        (path / "other").write_bytes(b"not what was opened")
        os.replace(path / "other", file)
        return descriptor

    good = (path / "step.fp32.onnx").read_bytes()
    monkeypatch.setattr(bundle, "_open_at_once", swapping)
    assert found.graph("step", "fp32").data == good
    assert len(opened) == 1
    with pytest.raises(BundleError, match="step.fp32.onnx has"):
        found.graph("step", "fp32")


def test_an_unknown_codec_id_is_named_in_full():
    codec_id = b"\xee" * 16
    with pytest.raises(UnknownCodec, match="ee" * 16) as caught:
        bundle.bundled_with_codec_id(codec_id)
    assert caught.value.codec_id == codec_id


def test_a_file_is_no_model(path):
    with pytest.raises(BundleError, match="is a file: a model is a directory"):
        bundle.find(path / "CARD.md")


@pytest.mark.parametrize("model", ["", "a\0b", "x" * 5000, "../nowhere"])
def test_a_name_that_can_be_no_path_is_refused(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError):
        bundle.find(model)


def test_a_model_that_is_neither_name_nor_path_is_a_type_error():
    with pytest.raises(TypeError, match="model is a int"):
        bundle.find(3)


def test_a_model_in_a_folder_whose_name_is_not_utf_8_loads_or_is_refused_plainly(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        tiny.tiny_denoiser_bundle(folder)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    hop = np.ones((1, 2, 257), np.float32)
    step = edgeae.load(folder).graphs["step"]
    assert np.array_equal(step(hop, np.zeros((1, 1, 4), np.float32))[0], hop)
    tiny.replace_graph(folder, b"not a model")
    refused(folder, "step.fp32.onnx: not an ONNX file")


# Files that are not what the manifest says


@pytest.mark.parametrize("file", ["step.fp32.onnx", "notes.bin"])
def test_a_changed_byte_in_any_file_is_refused(path, file):
    data = bytearray((path / file).read_bytes())
    for at in range(0, len(data), max(1, len(data) // 40)):
        spoiled = bytearray(data)
        spoiled[at] ^= 1
        (path / file).write_bytes(spoiled)
        refused(path, f"{file} has changed")


def test_a_changed_byte_in_the_manifest_is_refused_or_changes_the_id(path):
    manifest = path / "manifest.json"
    data, whole = manifest.read_bytes(), bundle.find(path).id
    refusals = 0
    for at in range(len(data)):
        spoiled = bytearray(data)
        spoiled[at] ^= 1
        manifest.write_bytes(spoiled)
        try:
            assert bundle.find(path).id != whole
        except BundleError:
            refusals += 1
    assert refusals > len(data) // 2


@pytest.mark.parametrize("file", ["manifest.json", "step.fp32.onnx", "notes.bin"])
def test_a_missing_file_is_refused(path, file):
    (path / file).unlink()
    refused(path, f"{file} is missing")


@pytest.mark.parametrize("file", ["step.fp32.onnx", "notes.bin"])
def test_a_cut_or_grown_file_is_refused(path, file):
    data = (path / file).read_bytes()
    for changed in (data[:-1], data + b"\0", b""):
        (path / file).write_bytes(changed)
        refused(path, f"{file} has {len(changed)} bytes: manifest.json says {len(data)}")


@pytest.mark.parametrize("file", ["manifest.json", "step.fp32.onnx", "notes.bin"])
def test_a_directory_in_the_place_of_a_file_is_refused(path, file):
    (path / file).unlink()
    (path / file).mkdir()
    refused(path, f"{file} is not a regular file")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("file", ["manifest.json", "notes.bin"])
def test_a_pipe_in_the_place_of_a_file_is_refused_at_once(path, file):
    (path / file).unlink()
    os.mkfifo(path / file)
    refused(path, f"{file} is not a regular file")


@pytest.mark.parametrize("file", ["manifest.json", "step.fp32.onnx", "notes.bin"])
def test_a_link_out_of_the_directory_is_refused(path, tmp_path, file):
    shutil.move(path / file, tmp_path / file)
    (path / file).symlink_to(tmp_path / file)
    refused(path, f"{file} is a link out of the model's directory")


def test_a_link_to_itself_is_refused(path):
    (path / "notes.bin").unlink()
    (path / "notes.bin").symlink_to("notes.bin")
    refused(path, "cannot read .*notes.bin|notes.bin is missing")


@pytest.mark.parametrize(
    "name",
    [
        "../CARD.md",
        "/etc/passwd",
        "sub/CARD.md",
        "sub\\CARD.md",
        "..",
        ".",
        "",
        ".hidden",
        "C:CARD.md",
        "CARD.md\n",
        "CARD\0.md",
        "x" * 129,
        "manifest.json",
    ],
)
def test_a_file_name_that_could_leave_the_directory_is_refused(path, name):
    set_key(path, name, "graphs", "step", "fp32", "file")
    refused(path, "is no file name")
    set_key(path, "step.fp32.onnx", "graphs", "step", "fp32", "file")
    set_key(path, {"sha256": "0" * 64, "bytes": 1}, "files", name)
    refused(path, "is no file name")
