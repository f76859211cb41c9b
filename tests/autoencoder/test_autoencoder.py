"""The autoencoder in the package: any item or batch comes back, gaps are filled, misuse is told."""

from __future__ import annotations

import copy
import pickle

import coded_items
import numpy as np
import onnx
import pytest
import tiny
from onnx import TensorProto, helper, numpy_helper

import edgeae
from edgeae.autoencoder import Autoencoder
from edgeae.bench.autoencoder import self_test, workloads
from edgeae.errors import BundleError, EdgeaeError

LATENTS = 2
# Two orthonormal directions of four features.
BASIS = np.array([[0.5, 0.5, 0.5, 0.5], [0.5, -0.5, 0.5, -0.5]], np.float32)


def projection(
    path,
    *,
    kind="vector",
    shape=(4,),
    dtype="float32",
    scale=1.0,
    masked=False,
    coded=True,
    **sections,
):
    """An autoencoder bundle that projects items of four entries on two directions; with `masked`
    its encoder is told what is known, and leaves out the rest; with `coded` it has tables."""
    path.mkdir(parents=True, exist_ok=True)
    size = int(np.prod(shape))
    basis = np.resize(BASIS, (LATENTS, size)) if size != 4 else BASIS

    def model(name, weights, before, after):
        flat = numpy_helper.from_array(np.array([-1, weights.shape[0]], np.int64), "flat")
        back = numpy_helper.from_array(np.array([-1, *after], np.int64), "back")
        gated = masked and name.startswith("encoder")
        nodes = [
            *([helper.make_node("Mul", ["in", "known"], ["seen"])] if gated else []),
            helper.make_node("Reshape", ["seen" if gated else "in", "flat"], ["rows"]),
            helper.make_node("MatMul", ["rows", "weights"], ["product"]),
            helper.make_node("Reshape", ["product", "back"], ["out"]),
        ]
        graph = helper.make_graph(
            nodes,
            name,
            [
                helper.make_tensor_value_info(one, TensorProto.FLOAT, ["n", *before])
                for one in ("in", "known")[: 1 + gated]
            ],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", *after])],
            [numpy_helper.from_array(weights, "weights"), flat, back],
        )
        opset = [helper.make_opsetid("", 20)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path / name)

    model("encoder.fp32.onnx", np.ascontiguousarray(basis.T), shape, (LATENTS,))
    model("decoder.fp32.onnx", (basis * np.float32(scale)).astype(np.float32), (LATENTS,), shape)
    np.save(path / "latents.npy", np.vstack([np.zeros((1, 2)), np.eye(2)]).astype(np.float32))
    (path / "CARD.md").write_text("# projection\n")
    manifest = {
        "task": "autoencoder",
        "name": "projection",
        "layout": {"kind": kind, "shape": list(shape), "dtype": dtype, "names": []},
        "latent": {"size": LATENTS, "masked": masked},
        "graphs": {
            "encoder": {"fp32": "encoder.fp32.onnx"},
            "decoder": {"fp32": "decoder.fp32.onnx"},
        },
        "files": ["latents.npy", "CARD.md"],
    }
    if coded:
        manifest["files"].append("tables.bin")
        latent = {**manifest, **sections}["latent"]
        manifest["codec_id"] = coded_items.add_tables(path, coded_items.item_latent(2), latent)
    return tiny.write_manifest(path, **{**manifest, **sections})


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return edgeae.load(projection(tmp_path_factory.mktemp("autoencoder") / "p"))


def items(count, seed=0):
    """Items that lie in the plane of the two directions."""
    codes = np.random.default_rng(seed).normal(size=(count, LATENTS))
    return (codes @ BASIS).astype(np.float32)


def test_load_gives_the_class_and_it_says_what_it_is(model):
    assert isinstance(model, Autoencoder)
    assert (model.kind, model.shape, model.latents) == ("vector", (4,), 2)
    assert repr(model) == "<Autoencoder projection: vector 4 to 2 latents, fp32>"


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_an_autoencoder_is_copied_by_its_path_and_settings(tmp_path, copied):
    model = Autoencoder.load(projection(tmp_path / "p"), precision="fp32", threads=2)
    twin = copied(model)
    assert twin is not model and twin.bundle == model.bundle
    assert twin.graphs["encoder"].report() == model.graphs["encoder"].report()
    np.testing.assert_array_equal(twin.encode(items(3)), model.encode(items(3)))


@pytest.mark.parametrize("count", [1, 2, 255, 256, 257, 600])
def test_a_batch_of_any_length_comes_back_as_its_items_do(model, count):
    x = items(count)
    assert model.encode(x).shape == (count, 2)
    restored = model.reconstruct(x)
    np.testing.assert_allclose(restored, x, atol=1e-5)
    one = model.reconstruct(x[-1])
    assert one.shape == (4,) and one.dtype == np.float32
    np.testing.assert_allclose(one, restored[-1], atol=1e-6)


def test_decode_of_encode_is_reconstruct(model):
    x = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_array_equal(model.decode(model.encode(x)), model.reconstruct(x))


def test_double_precision_comes_back_in_double_precision(model):
    assert model.reconstruct(items(3).astype(np.float64)).dtype == np.float64


def test_fill_keeps_what_is_known_and_finds_the_rest(model):
    x = items(20)
    known = np.ones(x.shape, bool)
    known[:, 1] = False
    spoiled = np.where(known, x, np.nan).astype(np.float32)
    filled = model.fill(spoiled, known)
    np.testing.assert_array_equal(filled[known], x[known])
    # Each pass halves what is wrong of one entry in four of a plane.
    assert np.abs(filled - x).max() < 0.01 * np.abs(x).max()
    np.testing.assert_array_equal(model.fill(spoiled[3], known[3]), filled[3])


def test_samples_follow_the_seed_and_the_prior(model):
    a, b = model.sample(4000, seed=5), model.sample(4000, seed=5)
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, model.sample(4000, seed=6))
    np.testing.assert_allclose(np.cov(model.encode(a).T), np.eye(2), atol=0.1)


def test_an_interpolation_begins_and_ends_at_its_items_and_keeps_to_the_sphere(model):
    a, b = items(2, seed=3)
    way = model.interpolate(a, b, steps=9)
    assert way.shape == (9, 4)
    np.testing.assert_allclose(way[[0, -1]], [a, b], atol=1e-5)
    lengths = np.linalg.norm(way, axis=1)
    assert lengths.min() > 0.999 * min(lengths[0], lengths[-1])


def test_pictures_may_be_bytes(tmp_path):
    model = edgeae.load(projection(tmp_path / "p", kind="image", shape=(2, 2, 1), dtype="uint8"))
    picture = np.full((2, 2, 1), 200, np.uint8)
    restored = model.reconstruct(picture)
    assert restored.dtype == np.uint8
    np.testing.assert_array_equal(restored, picture)


@pytest.mark.parametrize(
    ("x", "error", "told"),
    [
        ([[1.0, 2, 3, 4]], TypeError, "list, expected a numpy array"),
        (np.zeros(4, np.int64), TypeError, "int64, expected float32"),
        (np.zeros((2, 3), np.float32), ValueError, r"\(2, 3\), expected \(4,\)"),
        (np.zeros((0, 4), np.float32), ValueError, r"\(0, 4\), expected \(4,\)"),
        (np.full(4, np.nan, np.float32), ValueError, "NaN"),
        (np.ma.masked_array(np.zeros(4, np.float32)), TypeError, "MaskedArray"),
        (np.zeros(4, np.uint8), TypeError, "uint8"),
    ],
)
def test_what_is_no_item_is_refused(model, x, error, told):
    for method in (model.encode, model.reconstruct):
        with pytest.raises(error, match=told):
            method(x)


def test_misuse_of_the_others_is_told(model):
    with pytest.raises(ValueError, match=r"latents have shape \(3,\)"):
        model.decode(np.zeros(3, np.float32))
    with pytest.raises(TypeError, match="known has dtype float64, expected bool"):
        model.fill(items(1), np.ones(4))
    with pytest.raises(ValueError, match=r"known has shape \(3,\)"):
        model.fill(items(1), np.ones(3, bool))
    for n in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="n is"):
            model.sample(n)
    with pytest.raises(ValueError, match="steps is 1"):
        model.interpolate(*items(2), steps=1)
    with pytest.raises(ValueError, match="a has shape"):
        model.interpolate(items(2), items(1)[0], steps=3)


@pytest.mark.parametrize(
    ("section", "value", "told"),
    [
        ("layout", {"kind": "vector", "shape": [0], "dtype": "float32"}, "layout.shape is"),
        ("layout", {"kind": "vector", "shape": [1 << 30], "dtype": "float32"}, "layout.shape is"),
        ("layout", {"kind": "vector", "shape": [2, 2], "dtype": "float32"}, "layout.shape is"),
        ("layout", {"kind": "scent", "shape": [4], "dtype": "float32"}, "scent"),
        ("layout", {"kind": "vector", "shape": [4], "dtype": "int8"}, "layout.dtype is 'int8'"),
        ("latent", {"size": 0}, "latent.size is 0"),
        ("latent", {"size": 2, "masked": 1}, "latent.masked is 1"),
        ("latent", {"size": 3}, "latents.npy holds"),
        ("latent", {"size": 2, "masked": True}, "inputs"),
    ],
)
def test_a_manifest_that_disagrees_is_refused(tmp_path, section, value, told):
    path = projection(tmp_path / "p", **{section: value})
    with pytest.raises(BundleError, match=told):
        edgeae.load(path)


def test_graphs_of_another_shape_or_not_finite_are_an_error(tmp_path):
    path = projection(tmp_path / "p", layout={"kind": "vector", "shape": [5], "dtype": "float32"})
    with pytest.raises(EdgeaeError, match="expected float32"):
        edgeae.load(path).sample(1)
    loud = edgeae.load(projection(tmp_path / "q", scale=3e38))
    with pytest.raises(EdgeaeError, match="not finite"):
        loud.decode(np.full(2, 3e5, np.float32))


def test_bench_and_verify_know_it(model):
    assert [one.name for one in workloads(model)] == ["encode", "decode"]
    for one in workloads(model):
        one.call()
    assert len(list(self_test(model))) == 3


def mixed(path, components, **latent):
    """The projection with a mixture of three groups of latents."""
    projection(path)
    rows = np.zeros((3, LATENTS + 2, LATENTS), np.float32) if components is None else components
    if components is None:
        for k, mean in enumerate([(-5, 0), (5, 0), (0, 9)]):
            rows[k] = np.vstack([np.full((1, 2), (0.5, 0.25, 0.25)[k]), [mean], 0.1 * np.eye(2)])
    np.save(path / "mixture.npy", rows)
    return projection(
        path,
        coded=False,
        latent={"size": LATENTS, "masked": False, "mixture": 3, **latent},
        files=["latents.npy", "mixture.npy", "CARD.md"],
    )


def test_samples_of_a_mixture_lie_in_its_groups_by_weight(tmp_path):
    model = edgeae.load(mixed(tmp_path / "p", None))
    codes = model.encode(model.sample(4000, seed=1))
    centers = np.array([(-5, 0), (5, 0), (0, 9)])
    distance = np.linalg.norm(codes[:, None] - centers, axis=2)
    assert distance.min(axis=1).max() < 1
    shares = np.bincount(distance.argmin(axis=1)) / 4000
    np.testing.assert_allclose(shares, [0.5, 0.25, 0.25], atol=0.03)
    np.testing.assert_array_equal(model.sample(5, seed=2), model.sample(5, seed=2))


@pytest.mark.parametrize(
    ("components", "latent", "told"),
    [
        (np.ones((2, 4, 2), np.float32), {}, r"expected finite float32 \(3, 4, 2\)"),
        (np.zeros((3, 4, 2), np.float32), {}, "no Cholesky factor"),
        (np.tile(np.array([[-1, -1], [0, 0], [1, 0], [0, 1]], "f4"), (3, 1, 1)), {}, "negative"),
        (None, {"mixture": -1}, "latent.mixture is -1, expected 0 to"),
        (None, {"mixture": True}, "latent.mixture is True"),
    ],
)
def test_a_mixture_that_is_none_is_refused(tmp_path, components, latent, told):
    with pytest.raises(BundleError, match=told):
        edgeae.load(mixed(tmp_path / "p", components, **latent))


def test_latents_of_what_is_known_alone(tmp_path, model):
    masked = edgeae.load(projection(tmp_path / "p", masked=True))
    x = items(6)
    known = np.random.default_rng(1).random(x.shape) < 0.5
    spoiled = np.where(known, x, np.nan).astype(np.float32)
    np.testing.assert_allclose(
        masked.encode(spoiled, known=known), (x * known) @ BASIS.T, atol=1e-6
    )
    np.testing.assert_allclose(masked.encode(x), x @ BASIS.T, atol=1e-6)
    with pytest.raises(ValueError, match="the model knows no missing values"):
        model.encode(x, known=known)
    with pytest.raises(TypeError, match="expected bool"):
        masked.encode(x, known=known.astype(np.float32))
