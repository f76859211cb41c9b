"""A graph takes what it declares, refuses the rest before it runs, and tells where it ran."""

from __future__ import annotations

import gc
import inspect
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tiny
import unsafe_graphs

from edgeae import runtime
from edgeae.errors import BundleError, EdgeaeError, ProviderError
from edgeae.onnx_check import CheckedGraph
from edgeae.runtime import CPU, Graph, Port

AZURE = "AzureExecutionProvider"


def passed(model, name="tiny.onnx"):
    """A model as if `check_graph` had passed it: what onnxruntime itself refuses gets this far."""
    return CheckedGraph(Path(name), model.SerializeToString())


@pytest.fixture
def relu():
    return Graph(passed(tiny.relu_model((1, 3))))


@pytest.fixture
def free():
    """A Relu whose second and third axes are free."""
    return Graph(passed(tiny.relu_model((1, "height", None))))


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


def cast_model(kind):
    """A Cast from float32 to the kind of element given."""
    model = tiny.make_model(
        [tiny.helper.make_node("Cast", ["x"], ["y"], to=kind)], {"x": (1, 2)}, {"y": (1, 2)}
    )
    model.graph.output[0].type.tensor_type.elem_type = kind
    return model


# What goes in and comes out


def test_arrays_go_in_and_come_out_in_the_graphs_order():
    graph = Graph(passed(tiny.denoiser_step_model(bins=5, gain=2.0)))
    spectrum = np.arange(10, dtype=np.float32).reshape(1, 2, 5)
    clean, state = graph(spectrum, zeros(1, 1, 4))
    np.testing.assert_allclose(clean, 2 * spectrum)
    np.testing.assert_allclose(state, np.full((1, 1, 4), 0.1 * np.mean(spectrum**2)), rtol=1e-6)


def test_ports_tell_name_dtype_and_shape(free):
    graph = Graph(passed(tiny.denoiser_step_model(bins=5)))
    assert graph.inputs == (
        Port("spectrum", "float32", (1, 2, 5)),
        Port("h0", "float32", (1, 1, 4)),
    )
    assert [port.name for port in graph.outputs] == ["clean", "h0_next"]
    assert free.inputs == (Port("x", "float32", (1, "height", "?")),)


def test_a_graph_gives_a_tuple_of_fresh_arrays(relu):
    first = relu(np.float32([[1, -1, 2]]))
    second = relu(np.float32([[3, -3, 4]]))
    assert isinstance(first, tuple) and len(first) == 1
    assert first[0].tolist() == [[1, 0, 2]] and second[0].tolist() == [[3, 0, 4]]


def test_a_free_axis_takes_any_length(free):
    for height, width in [(1, 1), (7, 3), (3, 7)]:
        assert free(zeros(1, height, width))[0].shape == (1, height, width)


def test_memory_order_does_not_matter(relu):
    x = np.float32([[1, 9, 2, 9, 3, 9]])
    assert relu(x[:, ::2])[0].tolist() == [[1, 2, 3]]
    assert relu(np.asfortranarray(x[:, :3]))[0].tolist() == [[1, 9, 2]]


@pytest.mark.parametrize(
    "dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "float16", "float64", "bool"]
)
def test_other_dtypes_are_named_as_numpy_names_them(dtype):
    kind = tiny.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    (result,) = (graph := Graph(passed(cast_model(kind))))(np.float32([[0, 1]]))
    assert graph.outputs[0].dtype == dtype == result.dtype.name


# What is refused before it runs


def test_a_wrong_number_of_inputs_is_refused(relu):
    with pytest.raises(ValueError, match=r"inputs are 0, expected 1 \(x\)"):
        relu()
    with pytest.raises(ValueError, match="inputs are 2, expected 1"):
        relu(zeros(1, 3), zeros(1, 3))


@pytest.mark.parametrize(
    "dtype", ["float64", "float16", "int32", "uint8", "bool", ">f4", "U1", "O"]
)
def test_a_wrong_dtype_is_refused(relu, dtype):
    with pytest.raises(ValueError, match="input 'x' is .* data, expected float32"):
        relu(zeros(1, 3, dtype=dtype))


@pytest.mark.parametrize("shape", [(), (3,), (1, 1, 3), (1, 2), (1, 4), (2, 3), (3, 1), (0, 3)])
def test_a_wrong_shape_or_rank_is_refused(relu, shape):
    with pytest.raises(ValueError, match=r"input 'x' has shape .*, expected \(1, 3\)"):
        relu(zeros(*shape))


@pytest.mark.parametrize("shape", [(), (1,), (1, 2), (2, 2, 2), (1, 2, 2, 1), (1, 0, 2), (1, 2, 0)])
def test_a_wrong_or_empty_shape_is_refused_where_axes_are_free(free, shape):
    with pytest.raises(ValueError, match=r"expected \(1, height, \?\), no axis empty"):
        free(zeros(*shape))


@pytest.mark.parametrize("value", [1.0, np.float32(1), [[1, 2, 3]], None, "x"], ids=repr)
def test_what_is_no_array_is_refused(relu, value):
    with pytest.raises(TypeError, match="input 'x' is a .*, expected a numpy array"):
        relu(value)


def test_the_offending_one_of_many_inputs_is_named():
    graph = Graph(passed(tiny.denoiser_step_model(bins=5)))
    with pytest.raises(ValueError, match=r"input 'h0' has shape \(1, 4\)"):
        graph(zeros(1, 2, 5), zeros(1, 4))


def test_a_scalar_fed_to_a_quantized_graph_is_refused_and_the_process_lives():
    # onnxruntime aborts on this one when the rank is not declared.
    node = tiny.helper.make_node
    model = tiny.make_model(
        [
            node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            node("DequantizeLinear", ["q", "s", "z"], ["y"]),
        ],
        {"x": (1, 3)},
        {"y": (1, 3)},
        {"s": np.float32(0.1), "z": np.uint8(3)},
    )
    graph = Graph(passed(model, "declared.onnx"))
    with pytest.raises(ValueError, match=r"has shape \(\)"):
        graph(np.array(1, np.float32))
    unsafe_graphs.undeclare_rank(model)
    with pytest.raises(BundleError, match="'x' is a scalar or has no rank"):
        Graph(passed(model, "undeclared.onnx"))


def test_an_input_that_is_no_tensor_is_refused():
    model = tiny.make_model(
        [tiny.helper.make_node("SequenceAt", ["x", "first"], ["y"])],
        {"x": (1, 3)},
        {"y": (1, 3)},
        {"first": np.int64(0)},
    )
    unsafe_graphs.make_input_a_sequence(model)
    with pytest.raises(BundleError, match=r"'x' is a seq\(tensor\(float\)\), expected tensors"):
        Graph(passed(model))


def test_a_run_that_fails_is_one_line():
    model = tiny.make_model(
        [tiny.helper.make_node("MatMul", ["a", "b"], ["y"])],
        {"a": ("m", "k"), "b": ("l", "n")},
        {"y": ("m", "n")},
    )
    graph = Graph(passed(model))
    with pytest.raises(EdgeaeError, match="tiny.onnx failed to run: ") as caught:
        graph(zeros(2, 3), zeros(4, 5))
    assert "\n" not in str(caught.value)
    assert graph(zeros(2, 3), zeros(3, 5))[0].shape == (2, 5)  # and it can be used again


# Files that do not load


@pytest.mark.parametrize("data", [b"", b"not a model", bytes(1000)], ids=["empty", "text", "zeros"])
def test_a_file_that_is_no_model_is_refused(data, capfd):
    with pytest.raises(BundleError, match="onnxruntime cannot load bad.onnx") as caught:
        Graph(CheckedGraph(Path("bad.onnx"), data))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("model", ["tiny.onnx", Path("tiny.onnx"), b"", None])
def test_what_was_not_checked_is_not_opened(model):
    with pytest.raises(TypeError, match="model is a .*, expected a CheckedGraph"):
        Graph(model)


def test_an_operator_that_onnxruntime_does_not_know_is_refused(capfd):
    model = tiny.make_model(
        [tiny.helper.make_node("Nonsense", ["x"], ["y"])], {"x": (1,)}, {"y": (1,)}
    )
    with pytest.raises(BundleError, match="Nonsense"):
        Graph(passed(model))
    assert capfd.readouterr() == ("", "")


def test_a_missing_onnxruntime_says_what_to_install(monkeypatch):
    file = passed(tiny.relu_model())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EdgeaeError, match=r'pip install "edgeae\[cpu\]"'):
        Graph(file)


def test_an_onnxruntime_that_cannot_tell_where_nodes_run_is_refused(monkeypatch):
    for owner in onnxruntime.InferenceSession.__mro__:
        if "get_provider_graph_assignment_info" in vars(owner):
            monkeypatch.delattr(owner, "get_provider_graph_assignment_info")
    with pytest.raises(EdgeaeError, match="cannot tell where a graph runs"):
        Graph(passed(tiny.relu_model()))


# Where it runs


def test_the_available_providers_are_onnxruntimes_own_and_hold_the_cpu(monkeypatch):
    assert runtime.available_providers() == onnxruntime.get_available_providers()
    assert CPU in runtime.available_providers()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EdgeaeError, match="onnxruntime is not installed"):
        runtime.available_providers()


def test_the_report_counts_the_nodes_of_every_provider():
    graph = Graph(passed(tiny.relu_model(), "one.onnx"))
    assert graph.report() == {
        "file": "one.onnx",
        "asked": [CPU],
        "nodes": {CPU: 1},
        "threads": 1,
    }
    chain = [tiny.helper.make_node("Relu", [f"x{i}"], [f"x{i + 1}"]) for i in range(5)]
    model = tiny.make_model(chain, {"x0": (1, 3)}, {"x5": (1, 3)})
    report = Graph(passed(model), providers=[CPU], threads=2, optimization="disabled").report()
    assert report["nodes"] == {CPU: 5} and report["threads"] == 2


def test_the_report_is_a_copy(relu):
    relu.report()["nodes"].clear()
    assert relu.report()["nodes"] == {CPU: 1}


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="CUDA is here"
)
@pytest.mark.parametrize("providers", [["CUDAExecutionProvider"], ["CUDAExecutionProvider", CPU]])
def test_a_provider_that_is_not_there_is_refused(providers):
    with pytest.raises(ProviderError, match=f"CUDAExecutionProvider is not on .*{CPU}") as caught:
        Graph(passed(tiny.relu_model()), providers=providers)
    assert caught.value.asked == tuple(providers)
    assert caught.value.available == tuple(onnxruntime.get_available_providers())


def test_a_made_up_provider_is_refused():
    with pytest.raises(ProviderError, match="cpu is not on this machine"):
        Graph(passed(tiny.relu_model()), providers=["cpu"])


class Subgraph:
    """What onnxruntime tells of some nodes: who runs them, and a list of them."""

    def __init__(self, ep_name, count):
        self.ep_name = ep_name
        self._count = count

    def get_nodes(self):
        return [object()] * self._count


@pytest.fixture
def pretend(monkeypatch):
    """Makes onnxruntime offer a provider NPU, and says which nodes each provider runs."""

    def as_if(**counts):
        session = onnxruntime.InferenceSession

        def open_on_cpu(file, options, providers, **rest):
            return session(file, options, providers=[CPU], **rest)

        info = [Subgraph(name, count) for name, count in counts.items()]
        for owner in session.__mro__:
            if "get_provider_graph_assignment_info" in vars(owner):
                monkeypatch.setattr(owner, "get_provider_graph_assignment_info", lambda _: info)
        monkeypatch.setattr(onnxruntime, "InferenceSession", open_on_cpu)
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["NPU", CPU])

    return as_if


def test_a_provider_that_is_listed_but_gets_no_node_is_refused(pretend):
    pretend(**{CPU: 3})
    with pytest.raises(ProviderError, match=f"NPU runs no node of tiny.onnx.* {CPU}") as caught:
        Graph(passed(tiny.relu_model()), providers=["NPU", CPU])
    assert caught.value.asked == ("NPU", CPU)
    assert caught.value.available == ("NPU", CPU)


def test_nodes_of_several_providers_are_counted_apart(pretend):
    pretend(**{"NPU": 7, CPU: 2})
    assert Graph(passed(tiny.relu_model()), providers=["NPU"]).report()["nodes"] == {
        "NPU": 7,
        CPU: 2,
    }


def test_the_cpu_may_end_up_without_a_node(pretend):
    pretend(NPU=7)
    graph = Graph(passed(tiny.relu_model()), providers=["NPU", CPU])
    assert graph.report() == {
        "file": "tiny.onnx",
        "asked": ["NPU", CPU],
        "nodes": {"NPU": 7},
        "threads": 1,
    }


@pytest.mark.skipif(
    AZURE not in onnxruntime.get_available_providers(), reason="needs a provider that runs nothing"
)
class TestAProviderThatRunsNothing:
    """The CPU wheel lists Azure, which takes no node of an ordinary graph: the real thing."""

    def test_it_is_refused_though_it_is_available(self):
        with pytest.raises(ProviderError, match=f"{AZURE} runs no node of tiny.onnx"):
            Graph(passed(tiny.relu_model()), providers=[AZURE])

    def test_strict_refuses_the_cpu_in_its_place(self, capfd):
        with pytest.raises(ProviderError, match=f"{AZURE} cannot run .* without the CPU") as caught:
            Graph(passed(tiny.relu_model()), providers=[AZURE], strict=True)
        assert "\n" not in str(caught.value)
        assert capfd.readouterr() == ("", "")

    def test_a_bad_file_is_not_blamed_on_it(self):
        with pytest.raises(BundleError, match="onnxruntime cannot load"):
            Graph(CheckedGraph(Path("bad.onnx"), b"not a model"), providers=[AZURE])


# Arguments


@pytest.mark.parametrize("providers", [None, [CPU], [CPU, AZURE]])
def test_strict_with_the_cpu_is_a_contradiction(providers):
    with pytest.raises(ValueError, match="strict refuses every node on the CPU"):
        Graph(passed(tiny.relu_model()), providers=providers, strict=True)


@pytest.mark.parametrize(
    ("providers", "error"),
    [([], ValueError), (CPU, TypeError), ([3], TypeError), ([CPU, CPU], ValueError)],
    ids=repr,
)
def test_providers_must_be_a_list_of_different_names(providers, error):
    with pytest.raises(error, match="providers"):
        Graph(passed(tiny.relu_model()), providers=providers)


@pytest.mark.parametrize("threads", [0, -1, True, 1.0, "2", None, 257, 4000, 1 << 31])
def test_threads_must_be_a_whole_number_up_to_what_a_machine_has(threads):
    with pytest.raises(ValueError, match="threads is .*, expected 1 to 256"):
        Graph(passed(tiny.relu_model()), threads=threads)


def test_an_unknown_optimization_lists_the_known_ones():
    with pytest.raises(ValueError, match="'most', expected one of disabled, basic, extended, all"):
        Graph(passed(tiny.relu_model()), optimization="most")


@pytest.mark.parametrize("optimization", runtime.OPTIMIZATIONS)
def test_every_optimization_gives_the_same_numbers(optimization):
    graph = Graph(passed(tiny.denoiser_step_model(bins=9, feedback=0.5)), optimization=optimization)
    spectrum = np.linspace(-3, 3, 18, dtype=np.float32).reshape(1, 2, 9)
    clean, _ = graph(spectrum, np.ones((1, 1, 4), np.float32))
    state = 0.9 + 0.1 * np.mean(spectrum**2)
    np.testing.assert_allclose(clean, spectrum * (1 - 0.5 * state / (1 + state)), rtol=1e-5)


def test_everything_after_the_file_is_keyword_only():
    kinds = [p.kind for p in list(inspect.signature(Graph.__init__).parameters.values())[2:]]
    assert kinds == [inspect.Parameter.KEYWORD_ONLY] * 5


# Threads and cost


def test_eight_threads_on_one_graph_give_what_one_gives():
    graph = Graph(passed(tiny.denoiser_step_model(bins=33, feedback=0.7)))
    rng = np.random.default_rng(0)
    hops = rng.standard_normal((20, 1, 2, 33)).astype(np.float32)

    def run():
        state, cleaned = zeros(1, 1, 4), []
        for hop in hops:
            clean, state = graph(hop, state)
            cleaned.append(clean.tobytes())
        return cleaned

    alone, together = run(), []
    threads = [threading.Thread(target=lambda: together.append(run())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == [alone] * 8


def test_one_thread_means_that_no_pool_is_started(tmp_path):
    # In a process of its own: other tests may have started pools.
    code = (
        "import sys, numpy, onnxruntime, os\n"
        "from edgeae.onnx_check import read_graph\n"
        "from edgeae.runtime import Graph\n"
        "count = lambda: len(os.listdir('/proc/self/task'))\n"
        "before = count()\n"
        "graph = Graph(read_graph(sys.argv[1]), threads=int(sys.argv[2]))\n"
        "graph(numpy.zeros((1, 3), 'float32'))\n"
        "print(count() - before)\n"
    )
    if not sys.platform.startswith("linux"):
        pytest.skip("threads are counted in /proc")
    file = str(tmp_path / "relu.onnx")
    tiny.onnx.save(tiny.relu_model(), file)
    for threads, started in (("1", "0"), ("3", "2")):
        out = subprocess.run(
            [sys.executable, "-P", "-c", code, file, threads],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(Path(runtime.__file__).parent.parent)},
        )
        assert out.stdout.strip() == started, out.stderr


# Bound to arrays


def test_a_bound_graph_runs_on_what_its_arrays_hold_and_keeps_them_alive(relu):
    given, taken = np.float32([[1, -2, 3]]), zeros(1, 3)
    run = relu.bind([given], [taken])
    run()
    assert taken.tolist() == [[1, 0, 3]]
    given[:] = [[-1, 5, -6]]
    run()
    assert taken.tolist() == [[0, 5, 0]]
    assert [sys.getrefcount(array) > 2 for array in (given, taken)] == [True, True]
    run = relu.bind([zeros(1, 3)], [zeros(1, 3)])
    gc.collect()
    run()


def test_runs_of_a_bound_graph_are_watched_whether_bound_before_or_meanwhile(relu):
    given = np.float32([[1, -2, 3]])
    before = relu.bind([given], [zeros(1, 3)])
    with relu.watched(keep_inputs=True) as runs:
        before()
        relu.bind([given], [zeros(1, 3)])()
    before()
    assert len(runs) == 2
    assert all(run.inputs[0].tolist() == [[1, -2, 3]] and run.seconds > 0 for run in runs)
    assert runs[0].inputs[0] is not given


@pytest.mark.parametrize(
    ("inputs", "outputs", "match"),
    [
        ([], [zeros(1, 3)], "inputs and outputs are 0 and 1, expected 1 and 1"),
        ([zeros(1, 3)], [zeros(1, 3)] * 2, "inputs and outputs are 1 and 2, expected 1 and 1"),
        ([zeros(1, 4)], [zeros(1, 3)], r"input 'x' has shape \(1, 4\)"),
        ([zeros(1, 3, dtype=np.float64)], [zeros(1, 3)], "input 'x' is <f8 data"),
        (
            [zeros(1, 3)],
            [zeros(1, 4)],
            r"output 'y' is float32 \(1, 4\), expected float32 \(1, 3\)",
        ),
        ([zeros(1, 3)], [zeros(1, 3, dtype=np.float64)], "output 'y' is float64"),
        ([zeros(1, 6)[:, ::2]], [zeros(1, 3)], "an array has gaps, expected contiguous"),
        ([zeros(1, 3)], [zeros(1, 6)[:, ::2]], "an array has gaps, expected contiguous"),
    ],
)
def test_arrays_that_do_not_fit_are_not_bound(relu, inputs, outputs, match):
    with pytest.raises(ValueError, match=match):
        relu.bind(inputs, outputs)


def test_a_bound_graph_that_fails_says_so_as_a_call_does():
    node = tiny.helper.make_node
    model = tiny.make_model(
        [node("Cast", ["x"], ["i"], to=tiny.TensorProto.INT64),
         node("Gather", ["table", "i"], ["y"], axis=0)],
        {"x": (2,)}, {"y": (2,)}, {"table": np.float32([1, 2, 3])},
    )  # fmt: skip
    graph = Graph(passed(model))
    given, taken = np.float32([0, 2]), zeros(2)
    run = graph.bind([given], [taken])
    run()
    assert taken.tolist() == [1, 3]
    given[:] = 9
    with pytest.raises(EdgeaeError, match="tiny.onnx failed to run: .*out of data bounds"):
        run()


# What comes out


def cut_model(declared):
    """Gives the first n elements of a table of 8, whatever the shape it declares; n is an input."""
    node = tiny.helper.make_node
    model = tiny.make_model(
        [node("Cast", ["n"], ["end"], to=tiny.TensorProto.INT64),
         node("Slice", ["table", "start", "end"], ["y"])],
        {"n": (1,)}, {"y": declared},
        {"table": np.arange(8, dtype=np.float32), "start": np.int64([0])},
    )  # fmt: skip
    return model


def test_an_output_of_another_shape_than_declared_is_an_error():
    graph = Graph(passed(cut_model((5,))))
    assert graph(np.float32([5]))[0].shape == (5,)
    with pytest.raises(EdgeaeError, match=r"output 'y' has shape \(3,\), expected \(5\)"):
        graph(np.float32([3]))


def test_an_output_of_another_shape_than_the_caller_expects_is_an_error():
    graph = Graph(passed(cut_model(("n",))))
    assert graph(np.float32([3]))[0].shape == (3,)
    assert graph.run([np.float32([3])], shapes=[(3,)])[0].tolist() == [0, 1, 2]
    with pytest.raises(EdgeaeError, match=r"output 'y' has shape \(3,\), expected \(4,\)"):
        graph.run([np.float32([3])], shapes=[(4,)])


def log_model():
    return tiny.make_model(
        [tiny.helper.make_node("Log", ["x"], ["y"])], {"x": (1, 3)}, {"y": (1, 3)}
    )


@pytest.mark.parametrize("value", [0, -1], ids=["infinity", "NaN"])
def test_numbers_that_are_not_finite_are_an_error_where_asked(value):
    graph, x = Graph(passed(log_model())), np.float32([[1, value, 2]])
    assert not np.isfinite(graph(x)[0]).all()
    with pytest.raises(EdgeaeError, match="output 'y' holds NaN or infinity"):
        graph.run([x], finite=True)
    given, taken = x.copy(), zeros(1, 3)
    run = graph.bind([given], [taken], finite=[0])
    with pytest.raises(EdgeaeError, match="output 'y' holds NaN or infinity"):
        run()
    given[:] = 1
    run()
    assert taken.tolist() == [[0, 0, 0]]


def test_large_numbers_are_finite():
    graph = Graph(passed(tiny.relu_model((1, 3))))
    large = np.full((1, 3), np.finfo(np.float32).max, np.float32)
    assert graph.run([large], finite=True)[0].max() == large.max()


def test_a_bound_output_of_another_shape_than_declared_is_an_error():
    given, taken = np.float32([5]), zeros(5)
    run = Graph(passed(cut_model((5,)))).bind([given], [taken])
    run()
    for count in (3, 7):
        given[:] = count
        with pytest.raises(EdgeaeError, match="failed to run|has shape"):
            run()
