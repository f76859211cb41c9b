"""A new kind of model is a row in the table of doors and files of its own, and nothing else."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import tiny

import edgeae
from edgeae import bundle, loading
from edgeae.bench.self_test import check_bundle
from edgeae.bench.workloads import Workload
from edgeae.errors import BitstreamError, BundleError
from edgeae.loading import DOORS, Door
from edgeae.runtime import Graph

MAGIC = b"\x89odor"


class ScentCodec:
    """A codec of a made-up kind: keeps the numbers as they are."""

    def __init__(self, bundle, **options):
        self.bundle, self.options = bundle, options
        self.graphs = {"encoder": Graph(bundle.graph("encoder", "fp32"))}

    @classmethod
    def load(cls, model, **options):
        return cls(bundle.find(model), **options)

    def compress(self, scent):
        return MAGIC + bytes.fromhex(self.bundle.manifest.codec_id) + bytes(scent)

    def decompress(self, blob, *, strength=1):
        return list(blob[len(MAGIC) + 16 :]) * strength

    def report(self):
        return {"precision": "fp32", "graphs": {"encoder": self.graphs["encoder"].report()}}


def file_codec_id(data, **_):
    if not data.startswith(MAGIC):
        raise BitstreamError("this is no scent")
    return data[len(MAGIC) :][:16]


def file_info(data):
    return {"kind": "scent", "codec_id": file_codec_id(data).hex(), "notes": 3}


def workloads(codec, *, source=None):
    graph = codec.graphs["encoder"]
    return [Workload("smell", "smell a rose", 1, "rose", lambda: graph(np.ones((1, 3), "f4")))]


def self_test(codec):
    assert codec.decompress(codec.compress([1, 2])) == [1, 2]
    yield "a rose is a rose"


@pytest.fixture
def scents(tmp_path, monkeypatch):
    """The package with a third kind of model: one row, one module, and a bundle that ships."""
    module = types.ModuleType("scents")
    for part in (ScentCodec, file_codec_id, file_info, workloads, self_test):
        setattr(module, part.__name__, part)
    monkeypatch.setitem(sys.modules, "scents", module)
    door = Door("scents", "ScentCodec", trials="scents", files="scents", magics=(MAGIC,))
    monkeypatch.setitem(DOORS, ("codec", "scent"), door)
    models = tmp_path / "models"
    monkeypatch.setattr(bundle, "_MODELS", models)
    loading._bundled_codec.cache_clear()
    tiny.tiny_codec_bundle(models / "pictures")
    yield scent_bundle(models / "rose")
    loading._bundled_codec.cache_clear()


def scent_bundle(path, **sections):
    path.mkdir(parents=True)
    tiny.onnx.save(tiny.relu_model(), path / "encoder.fp32.onnx")
    graphs = {"encoder": {"fp32": "encoder.fp32.onnx"}}
    (path / "tables.bin").write_bytes(b"rose")
    latent = {"notes": 3}
    manifest = {
        "task": "codec",
        "name": "rose-codec",
        "layout": {"kind": "scent"},
        "latent": latent,
        "codec_id": tiny.codec_id(path, latent, graphs),
        "graphs": graphs,
        "files": ["tables.bin"],
    }
    return tiny.write_manifest(path, **{**manifest, **sections})


def test_a_third_kind_is_loaded_decompressed_verified_and_timed_through_its_row(scents):
    codec = edgeae.load("rose", threads=2)
    assert type(codec) is ScentCodec and codec.options["threads"] == 2
    blob = codec.compress([3, 4])
    assert edgeae.decompress(blob) == [3, 4]
    assert edgeae.decompress(blob, strength=2) == [3, 4, 3, 4]

    told = edgeae.info(blob)
    assert (told["kind"], told["codec"], told["notes"]) == ("scent", "rose-codec", 3)

    assert "fp32: a rose is a rose" in check_bundle("rose")
    (smell,) = loading.trials_of(codec.bundle).workloads(codec)
    assert smell.call()[0].shape == (1, 3)


def test_the_kinds_that_were_there_are_what_they_were_beside_a_third(scents):
    codec = edgeae.load("pictures")
    assert type(codec) is edgeae.ImageCodec
    image = tiny.picture()
    assert np.array_equal(
        edgeae.decompress(codec.compress(image)), codec.decompress(codec.compress(image))
    )
    with pytest.raises(BitstreamError, match="not an .eae file"):
        edgeae.decompress(b"neither of them")


def test_a_codec_of_a_kind_without_a_door_is_refused_in_one_line(tmp_path):
    path = scent_bundle(tmp_path / "rose")
    with pytest.raises(BundleError, match="rose-codec is a codec of 'scent'.*cannot run") as caught:
        edgeae.load(path)
    assert "\n" not in str(caught.value) and "codec of image" in str(caught.value)
    with pytest.raises(BundleError, match="rose-codec is a codec of 'scent', expected 'image'"):
        edgeae.ImageCodec.load(path)


@pytest.mark.parametrize("kind", [None, 7, [], "imag"])
def test_a_kind_that_is_none_is_refused(tmp_path, kind):
    with pytest.raises(BundleError, match="cannot run|layout.kind is"):
        edgeae.load(scent_bundle(tmp_path / "rose", layout={"kind": kind}))


@pytest.mark.parametrize("task", ["detector", "autoencoder"])
def test_tasks_that_are_to_come_are_refused_by_name(tmp_path, task):
    path = scent_bundle(tmp_path / "rose", task=task, detection={})
    with pytest.raises(BundleError, match=f"rose-codec is a {task}.*this version cannot run"):
        edgeae.load(path)


def test_every_row_names_modules_that_hold_what_they_should():
    for door in DOORS.values():
        module, trials = sys.modules.get(door.module), None
        module = module or __import__(door.module, fromlist=["_"])
        assert getattr(module, door.name).__name__ == door.name
        for function in ("file_codec_id", "file_info"):
            assert callable(getattr(module, function, None)) == bool(door.magics)
        trials = __import__(door.trials, fromlist=["_"])
        assert all(callable(getattr(trials, n)) for n in ("workloads", "self_test", "typical_runs"))
