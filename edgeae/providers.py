"""Execution providers: onnxruntime's names, what each needs, and which one a word like "gpu" means.

What is written here without a measurement behind it comes from onnxruntime's documentation; which
of them have really run edgeae's models stands in docs/providers.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgeae.errors import ProviderError

__all__ = ["CPU", "DEVICES", "KNOWN", "Choice", "Known", "Provider", "alternatives", "parse"]

CPU = "CPUExecutionProvider"
DEVICES = ("auto", "cpu", "gpu", "npu")

# A name, or a name and onnxruntime's options for it.
Provider = str | tuple[str, Mapping[str, str]]


@dataclass(frozen=True)
class Choice:
    """One provider to ask onnxruntime for; `kind` is the hardware that was asked for, if any."""

    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    kind: str | None = None


@dataclass(frozen=True)
class Known:
    """What must be known about a provider before asking for it.

    Attributes:
        name: onnxruntime's.
        options: what to pass to reach each kind of hardware, by "gpu", "npu" or "cpu".
        fixed_shapes: whether it takes nothing of a graph with free axes.
        quantized: whether its accelerator runs quantized graphs only.
        plugin: the package that brings it to an onnxruntime that has it not built in.
    """

    name: str
    options: Mapping[str, Mapping[str, str]]
    fixed_shapes: bool = False
    quantized: bool = False
    plugin: str | None = None


# In the order in which they are tried for a word: the maker's own before the general.
KNOWN = (
    Known("CUDAExecutionProvider", {"gpu": {}}),
    Known("MIGraphXExecutionProvider", {"gpu": {}}),
    Known(
        "CoreMLExecutionProvider",
        {
            "npu": {"ModelFormat": "MLProgram", "MLComputeUnits": "CPUAndNeuralEngine"},
            "gpu": {"ModelFormat": "MLProgram", "MLComputeUnits": "CPUAndGPU"},
        },
        fixed_shapes=True,
    ),
    Known(
        "QNNExecutionProvider",
        {
            # By default it leaves the quantization of inputs and outputs to the CPU.
            "npu": {"backend_type": "htp", "offload_graph_io_quantization": "0"},
            "gpu": {"backend_type": "gpu"},
        },
        fixed_shapes=True,
        quantized=True,
        plugin="onnxruntime_qnn",
    ),
    Known("VitisAIExecutionProvider", {"npu": {}}, fixed_shapes=True, quantized=True),
    Known("NnapiExecutionProvider", {"npu": {}}, fixed_shapes=True),
    Known(
        "OpenVINOExecutionProvider",
        {
            "npu": {"device_type": "NPU"},
            "gpu": {"device_type": "GPU"},
            "cpu": {"device_type": "CPU"},
        },
        plugin="onnxruntime_ep_openvino",
    ),
    Known("NvTensorRTRTXExecutionProvider", {"gpu": {}}, plugin="onnxruntime_ep_nv_tensorrt_rtx"),
    Known("DmlExecutionProvider", {"gpu": {}}),
    Known("WebGpuExecutionProvider", {"gpu": {}}, plugin="onnxruntime_ep_webgpu"),
    Known("XnnpackExecutionProvider", {"cpu": {}}),
)


def alternatives(
    providers: Sequence[Provider] | None,
    device: str | None,
    *,
    strict: bool,
    available: Sequence[str],
) -> list[tuple[Choice, ...]]:
    """What to ask onnxruntime for: the first of these that runs the graph is meant.

    Only "auto" gives more than one: every GPU there is, then the CPU. `available` are the providers
    of this machine. Raises TypeError or ValueError for arguments that make no sense, ProviderError
    for a device that no provider here has.
    """
    if device is None:
        return [_by_name(providers, strict)]
    if providers is not None:
        raise ValueError("give providers or a device, not both")
    if device not in DEVICES:
        raise ValueError(f"device is {device!r}, expected one of {', '.join(DEVICES)}")
    if device == "cpu":
        return [_by_name(None, strict)]
    kind = "gpu" if device == "auto" else device
    found: list[tuple[Choice, ...]] = [
        (Choice(known.name, known.options[kind], kind),)
        for known in KNOWN
        if kind in known.options and known.name in available
    ]
    if device == "auto":
        return found if strict else [*found, (Choice(CPU),)]
    if not found:
        would = ", ".join(known.name for known in KNOWN if kind in known.options)
        raise ProviderError(
            f"no {device.upper()} on this machine that onnxruntime could use: "
            f"{', '.join(available)} are here, one of {would} is needed",
            asked=[device],
            available=available,
        )
    return found[:1]


def parse(text: str) -> Provider:
    """The provider of a command line: NAME, or NAME:key=value,key=value.

    >>> parse("OpenVINOExecutionProvider:device_type=CPU")
    ('OpenVINOExecutionProvider', {'device_type': 'CPU'})

    Raises ValueError for anything else.
    """
    name, colon, rest = text.partition(":")
    if not colon:
        return name
    options = {}
    for part in rest.split(","):
        key, equals, value = part.partition("=")
        if not (name and key and equals):
            raise ValueError(f"provider is {text!r}, expected NAME or NAME:key=value,key=value")
        options[key] = value
    return name, options


def _by_name(providers: Sequence[Provider] | None, strict: bool) -> tuple[Choice, ...]:
    if isinstance(providers, str):
        raise TypeError(f"providers is the string {providers!r}, expected a list of names")
    asked = (Choice(CPU),) if providers is None else tuple(map(_choice, providers))
    if not asked:
        raise ValueError("providers is empty, expected None (the CPU) or at least one name")
    names = [choice.name for choice in asked]
    if len(set(names)) != len(names):
        raise ValueError(f"providers names one twice: {', '.join(names)}")
    if strict and CPU in names:
        raise ValueError(
            f"strict refuses every node on the CPU, but providers is {', '.join(names)}, "
            "expected others than the CPU"
        )
    return asked


def _choice(provider: object) -> Choice:
    if isinstance(provider, str):
        return Choice(provider)
    if not (
        isinstance(provider, tuple)
        and len(provider) == 2
        and isinstance(provider[0], str)
        and isinstance(provider[1], Mapping)
    ):
        raise TypeError(
            f"providers holds a {type(provider).__name__}, expected names and pairs of a name "
            "and a dict of options"
        )
    name, options = provider
    for key, value in options.items():
        if not (isinstance(key, str) and isinstance(value, str)):
            raise TypeError(
                f"the option {key!r}: {value!r} of {name} is not text, expected strings"
            )
    return Choice(name, dict(options))
