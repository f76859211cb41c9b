"""Which execution provider is asked for and what it is told; nothing runs elsewhere unsaid."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import tiny
from typer.testing import CliRunner

import edgeae
import edgeae.media
from edgeae import plugins, providers, runtime
from edgeae.cli.app import app
from edgeae.errors import ProviderError
from edgeae.onnx_check import check_graph
from edgeae.providers import CPU, KNOWN, Choice, alternatives, parse
from edgeae.runtime import Graph

CUDA, QNN, COREML = "CUDAExecutionProvider", "QNNExecutionProvider", "CoreMLExecutionProvider"
HERE = ("AzureExecutionProvider", CPU)
without_gpu = pytest.mark.skipif(
    CUDA in onnxruntime.get_available_providers(), reason="a GPU wheel is installed"
)


@pytest.fixture
def relu():
    return check_graph(tiny.relu_model().SerializeToString(), name="relu.onnx")


def ways(given=None, device=None, *, strict=False, available=HERE):
    return alternatives(given, device, strict=strict, available=available)


# --- what is asked for ---


def test_nothing_said_means_the_cpu_and_so_does_the_word():
    assert ways() == ways(device="cpu") == [(Choice(CPU),)]


def test_names_and_options_are_passed_as_they_are():
    given = [(COREML, {"ModelFormat": "MLProgram"}), CPU]
    assert ways(given) == [(Choice(COREML, {"ModelFormat": "MLProgram"}), Choice(CPU))]


def test_a_word_means_the_first_provider_here_that_has_such_a_device():
    available = ["QNNExecutionProvider", "OpenVINOExecutionProvider", CPU]
    assert ways(device="npu", available=available) == [
        (Choice(QNN, {"backend_type": "htp", "offload_graph_io_quantization": "0"}, "npu"),)
    ]
    available = ["OpenVINOExecutionProvider", CUDA, CPU]
    assert ways(device="gpu", available=available) == [(Choice(CUDA, {}, "gpu"),)]


def test_auto_means_every_gpu_there_is_and_then_the_cpu():
    found = ways(device="auto", available=["DmlExecutionProvider", CUDA, CPU])
    assert [way[0].name for way in found] == [CUDA, "DmlExecutionProvider", CPU]
    assert ways(device="auto") == [(Choice(CPU),)]
    assert ways(device="auto", strict=True) == []


@pytest.mark.parametrize("device", ["gpu", "npu"])
def test_a_device_that_is_not_here_says_what_is_and_what_would_do(device):
    with pytest.raises(ProviderError, match=f"no {device.upper()} on this machine") as caught:
        ways(device=device)
    assert caught.value.asked == (device,) and caught.value.available == HERE
    assert CPU in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "device", "error", "match"),
    [
        ([CPU], "cpu", ValueError, "providers or a device, not both"),
        (None, "tpu", ValueError, "'tpu', expected one of auto, cpu, gpu, npu"),
        ([(CPU,)], None, TypeError, "pairs of a name and a dict"),
        ([(CPU, "x")], None, TypeError, "pairs of a name and a dict"),
        ([[CPU, {}]], None, TypeError, "holds a list"),
        ([(CPU, {"threads": 3})], None, TypeError, "option 'threads': 3 .* expected strings"),
        ([CPU, (CPU, {})], None, ValueError, "names one twice"),
    ],
)
def test_what_makes_no_sense_is_refused(given, device, error, match, relu):
    with pytest.raises(error, match=match):
        ways(given, device)
    with pytest.raises(error, match=match):
        Graph(relu, providers=given, device=device)


def test_strict_and_the_cpu_exclude_each_other_by_any_name():
    for arguments in ({"device": "cpu"}, {}, {"given": [(CPU, {})]}):
        with pytest.raises(ValueError, match="strict refuses every node on the CPU"):
            ways(**arguments, strict=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CPU, CPU),
        (f"{QNN}:backend_type=htp", (QNN, {"backend_type": "htp"})),
        ("A:b=c,d=e=f", ("A", {"b": "c", "d": "e=f"})),
    ],
)
def test_a_command_line_can_say_options(text, expected):
    assert parse(text) == expected


@pytest.mark.parametrize("text", ["A:", "A:b", "A:=c", ":b=c", "A:b=c,"])
def test_half_an_option_is_refused(text):
    with pytest.raises(ValueError, match="expected NAME or NAME:key=value,key=value"):
        parse(text)


def test_what_is_known_of_providers_is_in_order():
    names = [known.name for known in KNOWN]
    assert len(set(names)) == len(names) and CPU not in names
    for known in KNOWN:
        assert known.options and set(known.options) <= {"gpu", "npu", "cpu"}
        assert providers.parse(known.name) == known.name


# --- where it runs ---


@without_gpu
def test_cuda_without_it_fails_in_one_clear_line(relu):
    with pytest.raises(ProviderError) as caught:
        Graph(relu, providers=[CUDA])
    assert str(caught.value) == (
        f"{CUDA} is not on this machine: {', '.join(onnxruntime.get_available_providers())} are"
    )


@without_gpu
def test_auto_without_an_accelerator_runs_on_the_cpu_and_says_so(relu):
    graph = Graph(relu, device="auto")
    assert graph.report()["asked"] == ["auto"] and graph.report()["nodes"] == {CPU: 1}
    with pytest.raises(ProviderError, match="strict refuses the CPU"):
        Graph(relu, device="auto", strict=True)


@pytest.fixture
def pretend(monkeypatch):
    """Makes onnxruntime list CUDA, which then runs so many nodes; tells what it was asked for."""
    asked = []

    def as_if(nodes):
        session = onnxruntime.InferenceSession

        def open_on_cpu(file, options, providers, **rest):
            asked.append(providers)
            return session(file, options, providers=[CPU], **rest)

        def assignment(self):
            name = CUDA if nodes and asked[-1][0] != CPU else CPU
            return [SimpleNamespace(ep_name=name, get_nodes=lambda: [object()] * 3)]

        for owner in session.__mro__:
            if "get_provider_graph_assignment_info" in vars(owner):
                monkeypatch.setattr(owner, "get_provider_graph_assignment_info", assignment)
        monkeypatch.setattr(onnxruntime, "InferenceSession", open_on_cpu)
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
        return asked

    return as_if


def test_auto_passes_over_a_gpu_that_is_listed_but_runs_nothing(relu, pretend):
    asked = pretend(nodes=0)
    assert Graph(relu, device="auto").report()["nodes"] == {CPU: 3}
    assert asked == [[CUDA], [CPU]]
    with pytest.raises(ProviderError, match=f"{CUDA} runs no node of relu.onnx"):
        Graph(relu, device="gpu")
    with pytest.raises(ProviderError, match=f"{CUDA} cannot run relu.onnx without the CPU"):
        Graph(relu, device="auto", strict=True)


def test_auto_takes_a_gpu_that_runs(relu, pretend):
    asked = pretend(nodes=3)
    report = Graph(relu, device="auto").report()
    assert report["nodes"] == {CUDA: 3} and report["asked"] == ["auto"]
    assert asked == [[CUDA]]


def test_options_reach_onnxruntime(relu, pretend):
    asked = pretend(nodes=3)
    Graph(relu, providers=[(CUDA, {"device_id": "1"}), CPU])
    assert asked == [[(CUDA, {"device_id": "1"}), CPU]]


def test_a_device_reaches_every_graph_of_a_model(tmp_path):
    codec = edgeae.ImageCodec.load(tiny.tiny_codec_bundle(tmp_path / "codec"), device="auto")
    graphs = codec.report()["graphs"]
    assert graphs["encoder"]["asked"] == graphs["decoder"]["asked"] == ["auto"]
    assert graphs["context0"]["asked"] == [CPU]  # exact integers are the CPU's, whatever is asked
    denoiser = edgeae.load(tiny.tiny_denoiser_bundle(tmp_path / "denoiser"), device="auto")
    assert denoiser.report()["graphs"]["step"]["asked"] == ["auto"]
    with pytest.raises(ValueError, match="not both"):
        edgeae.load(denoiser.bundle.path, device="auto", providers=[CPU])


# --- plugins ---


@pytest.fixture
def plugin(monkeypatch):
    """A package that brings QNN, as far as onnxruntime's side of it can be pretended."""
    package = ModuleType("onnxruntime_qnn")
    package.get_library_path = lambda: "/nowhere/libqnn.so"
    monkeypatch.setitem(sys.modules, "onnxruntime_qnn", package)
    monkeypatch.setattr(plugins, "_registered", {})
    known = list(onnxruntime.get_available_providers())

    def devices():
        kinds = ("cpu", "gpu", "npu") if QNN in known else ()
        return [
            SimpleNamespace(
                ep_name=QNN,
                device=SimpleNamespace(type=SimpleNamespace(name=kind.upper()), vendor="Qualcomm"),
            )
            for kind in kinds
        ]

    monkeypatch.setattr(
        onnxruntime, "register_execution_provider_library", lambda name, path: known.append(name)
    )
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(known))
    monkeypatch.setattr(onnxruntime, "get_ep_devices", devices)


class Options:
    """Session options that remember what they are told."""

    def __init__(self):
        self.told = []

    def add_provider_for_devices(self, devices, options):
        self.told.append(([device.device.type.name for device in devices], options))

    def add_provider(self, name, options):
        self.told.append((name, options))


def test_a_plugins_provider_is_asked_for_by_its_device(plugin):
    plugins.bring(onnxruntime, None, "npu")
    (way,) = ways(device="npu", available=onnxruntime.get_available_providers())
    assert plugins.ask_for(onnxruntime, options := Options(), way) is None
    assert options.told == [
        (["NPU"], {"backend_type": "htp", "offload_graph_io_quantization": "0"})
    ]
    (way,) = ways(device="gpu", available=onnxruntime.get_available_providers())
    plugins.ask_for(onnxruntime, options := Options(), way)
    assert options.told == [(["GPU"], {"backend_type": "gpu"})]


def test_a_plugins_provider_asked_for_by_name_gets_its_best_device_and_the_options_given(plugin):
    plugins.bring(onnxruntime, [QNN], None)
    plugins.ask_for(onnxruntime, options := Options(), (Choice(QNN), Choice(CPU)))
    assert options.told == [
        (["NPU"], {"backend_type": "htp", "offload_graph_io_quantization": "0"})
    ]
    way = (Choice(QNN, {"backend_path": "x"}), Choice(CUDA, {"a": "b"}))
    plugins.ask_for(onnxruntime, options := Options(), way)
    assert options.told == [(["NPU"], {"backend_path": "x"}), (CUDA, {"a": "b"})]


def test_the_cpu_registers_no_plugin(plugin, relu):
    Graph(relu)
    Graph(relu, device="cpu")
    assert QNN not in onnxruntime.get_available_providers()


def test_hardware_lists_plugins_and_what_they_can_use(plugin):
    found = [(h.provider, h.source, h.kind) for h in runtime.hardware()]
    assert [(QNN, "plugin", kind) for kind in ("cpu", "gpu", "npu")] == found[-3:]
    assert any(provider == CPU and source == "built in" for provider, source, _ in found)


def test_a_library_that_is_no_plugin_is_refused_in_one_line(tmp_path):
    (tmp_path / "lib.so").write_bytes(b"no library")
    with pytest.raises(ProviderError, match="lib.so is no plugin for Moon") as caught:
        runtime.register_provider("MoonExecutionProvider", tmp_path / "lib.so")
    assert "\n" not in str(caught.value)


# --- the command ---


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_info_lists_the_providers():
    said = run("info", "--providers")
    assert said.exit_code == 0 and CPU in said.stdout.replace("\n", "")
    assert run("info").exit_code == 2


@without_gpu
def test_a_command_that_asks_for_a_gpu_fails_in_one_line(tmp_path):
    bundle = tiny.tiny_codec_bundle(tmp_path / "codec")
    edgeae.media.write_image(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    arguments = ("compress", tmp_path / "a.png", tmp_path / "a.eae", "--model", bundle)
    for extra in (("--device", "gpu"), ("--provider", CUDA), ("--provider", f"{CUDA}:device_id=0")):
        said = run(*arguments, *extra)
        assert said.exit_code == 1 and len(said.stderr.strip().splitlines()) == 1
        assert CUDA in said.stderr
    said = run(*arguments, "--provider", f"{CUDA}:device_id")
    assert said.exit_code == 2 and "key=value" in said.stderr
    assert run(*arguments, "--device", "auto").exit_code == 0
