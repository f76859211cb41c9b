"""`edgeae bench`: what it measures is what happens, and what it shows is what it measured."""

from __future__ import annotations

import copy
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import onnx
import pytest
import tiny
from typer.testing import CliRunner

import edgeae
from edgeae import runtime
from edgeae.bench import arithmetic, image_codec, measure, plots, report, signal_denoiser
from edgeae.bench.cold_start import cold_start
from edgeae.bench.onnx_models import count_parameters, matrix_product_model
from edgeae.bench.profiling import NodeRun, profile
from edgeae.cli.app import app
from edgeae.errors import EdgeaeError, ProviderError
from edgeae.media import write_image
from edgeae.onnx_check import check_graph, read_graph
from edgeae.runtime import CPU, Graph

SECONDS = 0.02
CUDA = "CUDAExecutionProvider"


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory):
    return tiny.tiny_denoiser_bundle(tmp_path_factory.mktemp("bundle") / "denoiser")


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    return tiny.tiny_codec_bundle(tmp_path_factory.mktemp("bundle") / "codec", tile=64, int8=True)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "small.png"
    rows, columns = np.mgrid[:40, :64]
    write_image(path, np.stack([rows * 5, columns * 3, 99 + rows], -1).astype(np.uint8))
    return path


@pytest.fixture(scope="module")
def hasty():
    """One new process instead of three, and no time for warming up and for ceilings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "COLD_STARTS", 1)
        patch.setattr(measure, "WARM_UP_S", 0.0)
        patch.setattr(measure, "ceilings", lambda: arithmetic.ceilings(seconds=0.01))
        yield


@pytest.fixture(scope="module")
def codec_result(codec, photo, hasty):
    return measure.measure(codec, threads=[1, 2], seconds=SECONDS, source=photo)


@pytest.fixture(scope="module")
def denoiser_result(denoiser, hasty):
    return measure.measure(denoiser, threads=[1], seconds=SECONDS)


def save(model, path):
    onnx.save(model, path)
    return path


# --- arithmetic ---


def node(operator, inputs, outputs):
    return NodeRun(operator, CPU, 0.0, inputs, outputs, 0)


@pytest.mark.parametrize(
    ("operator", "inputs", "output", "expected"),
    [
        ("Conv", ((1, 3, 8, 8), (16, 3, 3, 3)), (1, 16, 8, 8), 16 * 64 * 27),
        ("Conv", ((1, 16, 8, 8), (16, 1, 3, 3)), (1, 16, 8, 8), 16 * 64 * 9),  # depthwise
        ("ConvTranspose", ((1, 4, 5, 5), (4, 6, 2, 2)), (1, 6, 10, 10), 4 * 25 * 6 * 4),
        ("MatMul", ((2, 3, 5), (5, 7)), (2, 3, 7), 2 * 3 * 5 * 7),
        ("Gemm", ((3, 5), (5, 7)), (3, 7), 3 * 5 * 7),
        ("Gemm", ((5, 3), (5, 7)), (3, 7), 3 * 5 * 7),  # transposed
        ("GRU", ((2, 1, 4), (1, 24, 4), (1, 24, 8)), (2, 1, 1, 8), 2 * (24 * 4 + 24 * 8)),
        ("Relu", ((1, 9),), (1, 9), 0),
        ("Einsum", ((3, 4), (4, 5)), (3, 5), "Einsum"),
    ],
)
def test_multiply_adds_of_an_operator(operator, inputs, output, expected):
    assert arithmetic.multiply_adds(node(operator, inputs, (output,))) == expected


def test_work_of_a_graph_counts_arithmetic_and_parameters(tmp_path):
    weights = np.ones((4, 2, 3, 3), np.float32)
    model = tiny.make_model(
        [
            tiny.helper.make_node("Conv", ["x", "w"], ["a"], kernel_shape=[3, 3], pads=[1] * 4),
            tiny.helper.make_node("Reshape", ["a", "shape"], ["y"]),
        ],
        {"x": (1, 2, "h", "w")},
        {"y": (4, "n")},
        {"w": weights, "shape": np.int64([4, -1])},
    )
    work = arithmetic.work_of(save(model, tmp_path / "a.onnx"), [np.ones((1, 2, 5, 6), np.float32)])
    assert work.multiply_adds == 4 * 30 * 18
    assert work.parameters == 72
    # Input and output of the convolution and the weights move at the very least.
    assert work.moved_bytes >= 4 * (60 + 120 + 72)
    assert "Conv" in work.seconds_by_operator and work.uncounted == ()


def test_a_quantized_graph_does_the_arithmetic_of_its_original(codec):
    pixels = np.zeros((1, 3, 16, 16), np.float32)
    works = [
        arithmetic.work_of(codec / f"encoder.{kind}.onnx", [pixels]) for kind in ("fp32", "int8")
    ]
    assert works[0].multiply_adds == works[1].multiply_adds > 0


def test_parameters_are_counted_in_initializers_and_constants(tmp_path):
    constant = tiny.helper.make_tensor("c", 1, [2, 2], [1.0, 2.0, 3.0, 4.0])
    model = tiny.make_model(
        [
            tiny.helper.make_node("Constant", [], ["c"], value=constant),
            tiny.helper.make_node("MatMul", ["x", "c"], ["y"]),
            tiny.helper.make_node("Add", ["y", "b"], ["z"]),
        ],
        {"x": (1, 2)},
        {"z": (1, 2)},
        {"b": np.float32([1, 2]), "unused_axes": np.int64([0, 1])},
    )
    assert count_parameters(check_graph(model.SerializeToString(), name="tiny")) == (6, 24)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_matrix_product_is_a_sound_model(precision):
    model = matrix_product_model(8, precision=precision)
    onnx.checker.check_model(onnx.load_from_string(model.data), full_check=True)
    graph = Graph(model)
    (product,) = graph(np.ones((8, 8), graph.inputs[0].dtype))
    assert (product == 8).all()


def test_an_unknown_precision_has_no_matrix_product():
    with pytest.raises(ValueError, match="'fp16', expected fp32 or int8"):
        matrix_product_model(8, precision="fp16")


def test_ceilings_are_positive():
    found = arithmetic.ceilings(seconds=0.01)
    speeds = [*found.multiply_adds_per_s.values(), found.memory_bytes_per_s]
    assert set(found.multiply_adds_per_s) == {"fp32", "int8"}
    assert min(*speeds, found.cache_bytes_per_s) > 1e6


# --- watching and profiling a graph ---


def test_a_watched_graph_tells_each_run_and_then_no_more(tmp_path):
    graph = Graph(read_graph(save(tiny.relu_model(), tmp_path / "a.onnx")))
    x = np.float32([[1, -1, 2]])
    with graph.watched() as runs, graph.watched(keep_inputs=True) as kept:
        graph(x)
        x[:] = 7
    graph(x)
    assert len(runs) == len(kept) == 1
    assert 0 < runs[0].seconds <= kept[0].seconds < 10  # the second watches the first
    assert runs[0].inputs == () and kept[0].inputs[0].tolist() == [[1, -1, 2]]


def test_a_watch_ends_with_an_error(tmp_path):
    graph = Graph(read_graph(save(tiny.relu_model(), tmp_path / "a.onnx")))
    session = graph._session
    with pytest.raises(ZeroDivisionError), graph.watched():
        raise ZeroDivisionError
    assert graph._session is session


def test_a_profile_tells_the_nodes_of_the_file_or_those_that_run(tmp_path):
    file = save(tiny.denoiser_step_model(bins=9), tmp_path / "step.onnx")
    inputs = [np.ones((1, 2, 9), np.float32), np.ones((1, 1, 4), np.float32)]
    nodes = profile(read_graph(file), inputs, optimization="disabled", repeats=2)
    assert len(nodes) == len(tiny.denoiser_step_model(bins=9).graph.node)
    (square,) = [node for node in nodes if node.inputs == ((1, 2, 9), (1, 2, 9))]
    assert (square.operator, square.provider, square.outputs) == ("Mul", CPU, ((1, 2, 9),))
    assert square.moved_bytes == 3 * 4 * 18 and 0 <= square.seconds < 10
    with pytest.raises(ValueError, match="has shape"):
        profile(read_graph(file), [np.ones(3, np.float32), inputs[1]])


def test_a_profile_leaves_no_file_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = save(tiny.relu_model(), tmp_path / "a.onnx")
    profile(read_graph(file), [np.ones((1, 3), np.float32)])
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


# --- workloads and processes ---


def test_a_codec_is_timed_at_what_it_is_for(codec, photo):
    compress, decompress = image_codec.workloads(edgeae.ImageCodec.load(codec), source=photo)
    assert (compress.name, decompress.name) == ("compress", "decompress")
    assert compress.amount == 40 * 64 / 1e6 and "64x40 pixels" in compress.what
    decompress.call()


def test_a_denoiser_is_timed_hop_by_hop_and_block_by_block(denoiser):
    hop, block = signal_denoiser.workloads(edgeae.SignalDenoiser.load(denoiser))
    assert hop.amount == 256 / 16_000 and block.amount == pytest.approx(0.01)
    assert len(hop.call()) == 256 and len(block.call()) == 480
    for _ in range(1000):  # the recording begins again when it is over
        hop.call()


def test_a_cold_start_is_told_by_a_process_of_its_own(denoiser):
    told = cold_start(denoiser, precision="fp32")
    assert set(told["first_ms"]) == {"hop", "block"}
    assert told["import_edgeae_ms"] > 0 and told["load_ms"] > 0
    if told["peak_mb"] is not None:
        assert 5 < told["imported_mb"] < told["loaded_mb"] <= told["peak_mb"] < 2000


def test_a_cold_start_that_fails_says_why_in_one_line(tmp_path):
    with pytest.raises(EdgeaeError, match="a new process could not run .*BundleError") as caught:
        cold_start(tmp_path / "gone", precision="fp32")
    assert "\n" not in str(caught.value)


# --- results ---


def test_every_precision_and_number_of_threads_is_measured(codec_result):
    found = [(e["precision"], e["threads"]) for e in codec_result["configurations"]]
    assert found == [("int8", 1), ("int8", 2), ("fp32", 1), ("fp32", 2)]
    for entry in codec_result["configurations"]:
        assert set(entry["tasks"]) == {"compress", "decompress"}
        assert entry["nodes"]["encoder"] == {CPU: sum(entry["nodes"]["encoder"].values())}
        for task in entry["tasks"].values():
            assert task["ms"]["count"] == len(task["samples_ms"]) >= 10
            assert task["ms"]["minimum"] == pytest.approx(min(task["samples_ms"]), rel=1e-3)
            assert 0 < task["outside_graphs"] < 1
            assert task["multiply_adds"] > 0


def test_a_provider_that_runs_nothing_is_listed_with_the_reason(codec_result):
    others = set(runtime.available_providers()) - {CPU}
    measured = {entry["provider"] for entry in codec_result["configurations"]}
    assert set(codec_result["absent"]) | measured == others | {CPU}
    for provider, why in codec_result["absent"].items():
        assert provider in why


def test_the_time_inside_the_graphs_is_part_of_the_calls(codec_result):
    for entry in codec_result["configurations"]:
        for task in entry["tasks"].values():
            inside = sum(g["runs_per_call"] * g["ms"]["mean"] for g in task["graphs"].values())
            expected = task["ms"]["mean"] * (1 - task["outside_graphs"])
            assert inside == pytest.approx(expected, rel=0.01)
    graphs = codec_result["configurations"][0]["tasks"]["compress"]["graphs"]
    assert graphs["encoder"]["runs_per_call"] == 1 and graphs["context0"]["runs_per_call"] == 2


def test_a_block_that_completes_no_hop_runs_nothing_and_is_counted_so(denoiser_result):
    (entry,) = denoiser_result["configurations"]
    hop, block = entry["tasks"]["hop"], entry["tasks"]["block"]
    assert hop["graphs"]["step"]["runs_per_call"] == 1
    assert block["graphs"]["step"]["runs_per_call"] == pytest.approx(10 / 16, abs=0.1)


def test_the_result_says_what_was_measured_where_and_goes_through_json(codec_result, codec):
    assert codec_result["bundle"]["id"] == edgeae.ImageCodec.load(codec).bundle.id
    size = sum(f.stat().st_size for f in codec.iterdir() if f.name != "manifest.json")
    assert codec_result["bundle"]["bytes"] == size
    assert codec_result["machine"]["cores"] >= 1
    assert codec_result["versions"]["onnxruntime"]
    (process,) = codec_result["cold_start"]["processes"]
    assert set(process["first_ms"]) == {"compress", "decompress"}
    graphs = {(g["role"], g["precision"]): g for g in codec_result["graphs"]}
    assert {("encoder", "int8"), ("encoder", "fp32"), ("decoder", "fp32")} < set(graphs)
    assert graphs["encoder", "fp32"]["parameters"] == 9 * 48 + 9 * 9 * 9
    assert graphs["decoder", "fp32"]["ms"] > 0
    read = json.loads(json.dumps(codec_result))
    assert report.page(read) == report.page(codec_result)


def test_naming_a_provider_that_cannot_be_given_is_an_error(denoiser):
    with pytest.raises(ProviderError, match="CUDAExecutionProvider"):
        measure.measure(denoiser, providers=["CUDAExecutionProvider"], seconds=SECONDS)


@pytest.mark.parametrize(
    "wrong", [{"seconds": 0}, {"seconds": float("nan")}, {"threads": []}, {"threads": [0]}]
)
def test_a_measurement_that_makes_no_sense_is_refused(denoiser, wrong):
    with pytest.raises(ValueError, match=", expected "):
        measure.measure(denoiser, **wrong)


def test_threads_go_up_in_powers_of_two_to_all_cores(monkeypatch):
    for cores, expected in [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])]:
        monkeypatch.setattr(measure, "cores", lambda cores=cores: cores)
        assert measure.thread_counts() == expected


# --- side by side ---


def slower(result, factor):
    changed = copy.deepcopy(result)
    for entry in changed["configurations"]:
        for task in entry["tasks"].values():
            task["samples_ms"] = [ms * factor for ms in task["samples_ms"]]
    return changed


def test_a_result_is_the_same_as_itself_and_slower_when_it_is(codec_result):
    for difference in measure.compare_results(codec_result, codec_result):
        assert difference.change.ratio == 1 and difference.verdict == "the same but for noise"
    found = measure.compare_results(codec_result, slower(codec_result, 1000))
    assert [d.verdict for d in found] == ["slower"] * 8
    found = measure.compare_results(slower(codec_result, 1000), codec_result)
    assert [d.verdict for d in found] == ["faster"] * 8


def test_results_with_nothing_in_common_are_refused(codec_result, denoiser_result):
    with pytest.raises(ValueError, match="no workload"):
        measure.compare_results(codec_result, denoiser_result)
    for wrong in ({}, [], {"what": "edgeae bench", "format": 99}, {**codec_result, "format": 2}):
        with pytest.raises(ValueError, match="no result of edgeae bench"):
            measure.compare_results(wrong, codec_result)


# --- shown ---


class Page(HTMLParser):
    """Checks that tags nest, and collects what a browser would fetch."""

    VOID = {"meta", "link", "img", "br", "rect", "line", "circle", "polygon", "polyline"}

    def __init__(self, text):
        super().__init__()
        self.open, self.fetched, self.tags = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.fetched += [v for k, v in attributes if k in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_is_whole_and_fetches_nothing(codec_result, denoiser_result):
    for result in (codec_result, denoiser_result):
        text = report.page(result)
        read = Page(text)
        assert read.open == [] and read.fetched == []
        assert "script" not in read.tags and "@import" not in text and "url(http" not in text
        assert result["bundle"]["id"][:16] in text
        for task in result["configurations"][0]["tasks"].values():
            assert f"{task['what']}" in text


def test_every_plot_is_sound_svg(codec_result):
    found = re.findall(r"<svg.*?</svg>", report.page(codec_result), re.DOTALL)
    assert len(found) == 7  # latency and speed of two tasks, two of time, roofline
    for svg in found:
        root = ElementTree.fromstring(svg)
        width, height = map(float, root.get("viewBox").split()[2:])
        for text in root.iter("{http://www.w3.org/2000/svg}text"):
            if text.get("x") is not None:
                assert 0 <= float(text.get("x")) <= width and 0 <= float(text.get("y")) <= height


def test_what_comes_from_a_file_cannot_break_the_page(codec_result):
    hostile = copy.deepcopy(codec_result)
    hostile["bundle"]["name"] = "<script>alert(1)</script>"
    hostile["machine"]["cpu"] = "</style><b>"
    hostile["configurations"][0]["tasks"]["compress"]["what"] = "<img src=x>"
    read = Page(report.page(hostile))
    assert read.open == [] and not {"script", "img", "b"} & read.tags


def test_a_single_sample_and_equal_samples_can_be_drawn():
    ElementTree.fromstring(plots.distributions({"one": [3.0], "same": [2.0, 2.0]}, unit="ms"))
    ElementTree.fromstring(plots.distributions({"one": [3.0]}, unit="ms"))


def test_a_slow_outlier_does_not_press_the_rest_together():
    many = [1.0 + i / 1000 for i in range(1000)]
    svg = plots.distributions({"a": [*many, 1000.0]}, unit="ms")
    assert "1k" not in svg and "maximum 1000" in svg


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01234, "0.0123"), (12.345, "12.3"), (1234, "1.23k"), (5.5e10, "55G"),
     (999_600, "1M"), (999.4, "999")],
)  # fmt: skip
def test_quantities_are_short(value, text):
    assert plots.quantity(value) == text


def test_numbers_have_three_digits_and_no_exponent():
    texts = [plots.number(value) for value in (1234.5, 0.98765, 45, 0.00001)]
    assert texts == ["1,230", "0.988", "45", "1e-05"]


def test_the_reader_is_told_when_the_machine_was_busy(codec_result):
    busy, idle = copy.deepcopy(codec_result), copy.deepcopy(codec_result)
    for result, share in ((busy, 0.5), (idle, 1.0)):
        for entry in result["configurations"]:
            for task in entry["tasks"].values():
                task["processor_ms"] = task["ms"]["mean"] * share
    assert any("50% of the time" in note for note in report.notes(busy))
    assert not any("of the time" in note for note in report.notes(idle))


def boxes_of_texts(svg):
    """(left, top, right, bottom) of each level text of an SVG, with its words."""
    for text in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text"):
        if text.get("x") is None:
            continue
        width = 6.2 * len(text.text)
        x, y = float(text.get("x")), float(text.get("y"))
        left = x - {"start": 0, "middle": width / 2, "end": width}[text.get("text-anchor")]
        yield text.text, (left, y - 9, left + width, y + 2)


def test_no_names_of_a_roofline_lie_on_each_other():
    spots = [
        plots.Spot(f"encoder int8 {index}", 20 * 1.02**index, 3e9 * 1.01**index, index)
        for index in range(9)
    ]
    roofs = [
        plots.Roof("product fp32", 3.1e10, per_byte=False),
        plots.Roof("product int8", 3.3e10, per_byte=False),
        plots.Roof("memory", 2e10, per_byte=True),
        plots.Roof("cache", 2.2e10, per_byte=True),
    ]
    found = list(boxes_of_texts(plots.roofline(spots, roofs)))
    assert len(found) >= 11
    for index, (name, (left, top, right, bottom)) in enumerate(found):
        for other, (l2, t2, r2, b2) in found[:index]:
            assert right <= l2 or r2 <= left or bottom <= t2 or b2 <= top, (name, other)


def test_a_provider_that_nobody_asked_for_and_that_runs_no_model_is_no_warning(codec_result):
    result = copy.deepcopy(codec_result)
    result["absent"] = {"AzureExecutionProvider": "runs none", CUDA: "has no driver"}
    told = report.notes(result)
    assert not any("Azure" in note for note in told) and any(CUDA in note for note in told)


# --- the command ---


def run(*arguments):
    return CliRunner().invoke(app, ["bench", *map(str, arguments)])


def test_the_command_prints_tables_or_json_and_writes_the_page(
    denoiser, hasty, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    quick = ("--seconds", SECONDS, "--threads", 1)
    said = run(denoiser, *quick, "--report", "out.html")
    assert said.exit_code == 0, said.output
    for word in ("p50", "p99", "outside graphs", "CPU fp32, 1 thread", "memory at most"):
        assert word in said.stdout
    assert "<svg" in (tmp_path / "out.html").read_text()
    again = run(denoiser, *quick, "--report", "out.html")
    assert again.exit_code == 1 and "out.html" in again.stderr
    result = run(denoiser, *quick, "--json", "--provider", CPU)
    assert json.loads(result.stdout)["what"] == "edgeae bench"


def test_the_command_compares_two_files(codec_result, tmp_path):
    for name, result in (("a", codec_result), ("b", slower(codec_result, 100))):
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    both = tmp_path / "a.json", tmp_path / "b.json"
    said = run("--compare", *both)
    assert said.exit_code == 0 and said.stdout.count("slower") == 8, said.output
    found = json.loads(run("--compare", *both, "--json").stdout)
    assert len(found) == 8 and found[0]["change"]["ratio"] == pytest.approx(100)
    assert "samples" not in json.dumps(found)
    page = tmp_path / "page.html"
    assert run("--compare", *both, "--report", page).exit_code == 0
    text = page.read_text()
    read = Page(text)
    assert read.open == [] and read.fetched == [] and "script" not in read.tags
    assert text.count("slower") == 8 and text.count("<svg") == 8
    assert run("--compare", *both, "--report", page).exit_code == 1  # it exists


def test_the_command_fails_in_one_line(denoiser, tmp_path):
    (tmp_path / "bad.json").write_text("{")
    bad = tmp_path / "bad.json"
    for code, arguments in [
        (2, ()),
        (2, (denoiser, "--compare", bad, bad)),
        (1, ("--compare", bad, bad)),
        (1, (denoiser, "--provider", "CUDAExecutionProvider")),
        (1, (denoiser, "--precision", "int4")),
    ]:
        result = run(*arguments)
        assert result.exit_code == code, result.output
        assert len(result.stderr.strip().splitlines()) == 1
