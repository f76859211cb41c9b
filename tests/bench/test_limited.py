"""`edgeae verify` runs a stranger's model where it can do no harm but to itself."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import tiny

from edgeae.bench import limited
from edgeae.bench.limited import check_in_child
from edgeae.bench.self_test import check_bundle
from edgeae.errors import BundleError, EdgeaeError, ProviderError
from edgeae.providers import CPU

node = tiny.helper.make_node


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory):
    return tiny.tiny_denoiser_bundle(tmp_path_factory.mktemp("bundle") / "denoiser")


def test_the_child_says_what_the_checks_say(denoiser):
    assert [*check_in_child(denoiser)] == [*check_bundle(denoiser)]


def test_an_edited_card_is_told(tmp_path):
    path = tiny.tiny_denoiser_bundle(tmp_path / "denoiser")
    assert not any("CARD.md" in line for line in check_bundle(path))
    (path / "CARD.md").write_text("# mine")
    assert "CARD.md is not as it was shipped, which no result depends on" in [*check_bundle(path)]


def test_the_child_refuses_with_the_same_class_and_words(denoiser):
    with pytest.raises(BundleError, match="no model named 'nowhere'"):
        [*check_in_child("nowhere")]
    with pytest.raises(ProviderError, match="NoSuchProvider is not on this machine"):
        [*check_in_child(denoiser, providers=["NoSuchProvider"])]
    with pytest.raises(ValueError, match="threads is 0"):
        [*check_in_child(denoiser, threads=0)]


def greedy(model):
    """Makes 16 GB of two small constants: no value asks for it, so the check lets it pass."""
    model.graph.initializer.extend(
        tiny.onnx.numpy_helper.from_array(np.array(shape, np.int64), name)
        for name, shape in (("tall", [1 << 16, 1]), ("wide", [1, 1 << 16]))
    )
    (clean,) = [n for n in model.graph.node if n.output[0] == "clean"]
    clean.output[0] = "before"
    model.graph.node.extend(
        [
            node("ConstantOfShape", ["tall"], ["rows"]),
            node("ConstantOfShape", ["wide"], ["columns"]),
            node("Mul", ["rows", "columns"], ["huge"]),
            node("ReduceMax", ["huge"], ["most"], keepdims=0),
            node("Add", ["before", "most"], ["clean"]),
        ]
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited on Linux")
def test_a_model_that_takes_gigabytes_ends_alone(tmp_path):
    path = tiny.change_graph(tiny.tiny_denoiser_bundle(tmp_path / "greedy"), greedy)
    with pytest.raises(EdgeaeError) as caught:
        [*check_in_child(path, max_address_bytes=3 << 30)]
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited on Linux")
def test_too_little_memory_or_time_is_one_line(denoiser):
    with pytest.raises(EdgeaeError, match="memory|ended by"):
        [*check_in_child(denoiser, max_address_bytes=200 << 20)]
    with pytest.raises(EdgeaeError, match="ended by SIG(XCPU|KILL): the model takes over 0 s"):
        [*check_in_child(denoiser, max_cpu_seconds=0)]


def test_it_is_said_where_memory_is_not_limited(monkeypatch):
    assert limited._on_the_cpu(None) and limited._on_the_cpu([CPU])
    assert not limited._on_the_cpu([CPU, "CUDAExecutionProvider"])
    monkeypatch.setitem(sys.modules, "resource", None)
    assert (
        limited._limit(1, 1) == "this system limits neither memory nor processor time of the check"
    )
