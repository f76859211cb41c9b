"""One ONNX graph that runs: arrays in, arrays out, and the truth about where its nodes ran."""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeae.errors import BundleError, EdgeaeError, ProviderError
from edgeae.onnx_check import CheckedGraph
from edgeae.providers import CPU, KNOWN, Choice, Provider, alternatives

__all__ = [
    "CPU",
    "Graph",
    "Hardware",
    "Port",
    "Run",
    "available_providers",
    "hardware",
    "profile_events",
    "register_provider",
]

OPTIMIZATIONS = ("disabled", "basic", "extended", "all")
# Each thread is one of the system's, with a stack: 4,000 of them take a minute and 2 GB. The
# largest servers have about this many cores in a socket.
MAX_THREADS = 256

# onnxruntime's own names of the element types that numpy has too
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
}


@dataclass(frozen=True)
class Port:
    """An input or output of a graph: a free axis of `shape` is a string, its name."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Run:
    """One run of a watched graph: the time inside onnxruntime, and the inputs if they were kept."""

    seconds: float
    inputs: tuple[np.ndarray[Any, Any], ...] = ()


class Graph:
    """One onnxruntime session over one checked model; safe to call from many threads.

    `inputs` and `outputs` are the graph's ports, in its order.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def __init__(
        self,
        model: CheckedGraph,
        *,
        providers: Sequence[Provider] | None = None,
        device: str | None = None,
        threads: int = 1,
        strict: bool = False,
        optimization: str = "all",
    ) -> None:
        """Opens the model, on the CPU unless `providers` or `device` says otherwise.

        What runs are the bytes that were checked, `Bundle.graph` or `read_graph` gives them; no
        file is opened.

        `providers` are onnxruntime's names, or pairs of a name and its options. `device` is "cpu",
        "gpu", "npu", or "auto": a GPU if there is one that runs the graph, else the CPU.

        onnxruntime runs on the CPU whatever the providers cannot; `strict` refuses that. Raises
        ProviderError for a provider that is not there or gets no node, BundleError for a model
        that onnxruntime cannot load. To name the CPU after another provider is a permission, so
        the CPU alone may end up without a node.
        """
        if not isinstance(model, CheckedGraph):
            raise TypeError(f"model is a {type(model).__name__}, expected a CheckedGraph")
        if type(threads) is not int or not 1 <= threads <= MAX_THREADS:
            raise ValueError(f"threads is {threads!r}, expected 1 to {MAX_THREADS}")
        if optimization not in OPTIMIZATIONS:
            raise ValueError(
                f"optimization is {optimization!r}: {', '.join(OPTIMIZATIONS)} are allowed"
            )
        onnxruntime = _onnxruntime()
        _bring(onnxruntime, providers, device)
        ways = alternatives(
            providers,
            device,
            strict=strict,
            available=onnxruntime.get_available_providers(),
        )
        self.file = model.file
        self._asked = tuple(choice.name for choice in ways[0]) if device is None else (device,)
        self._threads = threads
        self._session, self._nodes = _first_that_runs(
            onnxruntime, model, ways, self._asked, threads, strict, optimization
        )
        self.inputs = tuple(_port(node, self.file) for node in self._session.get_inputs())
        self.outputs = tuple(_port(node, self.file) for node in self._session.get_outputs())
        for port in self.inputs:
            # onnxruntime shows an undeclared rank as a scalar's, and a scalar fed to an int8 graph
            # whose rank is undeclared aborts the process.
            if not port.shape:
                raise BundleError(f"{self.file}: input {port.name!r} is a scalar or has no rank")
        # What a call needs, looked up once: a denoiser calls this every few milliseconds.
        self._input_names = tuple(port.name for port in self.inputs)
        self._output_names = [port.name for port in self.outputs]
        self._accepted = tuple((np.dtype(port.dtype), port.shape) for port in self.inputs)

    def __call__(self, *arrays: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], ...]:
        """The outputs for these inputs, both in the graph's order.

        Raises TypeError or ValueError, before anything runs, if an input is no array or differs
        from its port in dtype, rank or a fixed axis, or is empty; EdgeaeError if the run fails.
        """
        if len(arrays) != len(self._accepted):
            raise ValueError(
                f"{self.file.name} got {len(arrays)} inputs: {len(self._accepted)} are needed "
                f"({', '.join(self._input_names)})"
            )
        for array, (dtype, shape) in zip(arrays, self._accepted, strict=True):
            # One comparison settles a fixed shape; free axes and errors take the slow path.
            if type(array) is not np.ndarray or array.dtype != dtype or array.shape != shape:
                self._check(arrays)
                break
        try:
            return tuple(
                self._session.run(
                    self._output_names, dict(zip(self._input_names, arrays, strict=True))
                )
            )
        except Exception as error:  # onnxruntime's own exceptions share no base but this one
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> EdgeaeError:
        return EdgeaeError(f"{self.file.name} failed to run: {_first_line(error)}")

    def bind(
        self,
        inputs: Sequence[np.ndarray[Any, Any]],
        outputs: Sequence[np.ndarray[Any, Any]],
    ) -> Callable[[], None]:
        """A call that runs the graph on whatever `inputs` then hold and writes into `outputs`.

        For many runs on arrays of one shape: they are checked here, once, and nothing is copied.
        Raises what a call of the graph raises for inputs that do not fit; ValueError for outputs
        that do not, or arrays that are not contiguous. What is returned may raise EdgeaeError.
        """
        if len(inputs) != len(self.inputs) or len(outputs) != len(self.outputs):
            raise ValueError(
                f"{self.file.name} got {len(inputs)} inputs and {len(outputs)} outputs: "
                f"{len(self.inputs)} and {len(self.outputs)} are needed"
            )
        self._check(inputs)
        for array, port in zip(outputs, self.outputs, strict=True):
            if array.dtype != port.dtype or array.shape != port.shape:
                raise ValueError(
                    f"{self.file.name} output {port.name!r} is {array.dtype} {array.shape}: "
                    f"{port.dtype} {port.shape} is allowed"
                )
        kept_inputs, kept_outputs = tuple(inputs), tuple(outputs)
        if not all(array.flags.c_contiguous for array in (*kept_inputs, *kept_outputs)):
            raise ValueError(
                f"{self.file.name} got an array with gaps: contiguous ones are allowed"
            )
        binding = self._session.io_binding()
        for port, array in zip(self.inputs, kept_inputs, strict=True):
            binding.bind_input(port.name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for port, array in zip(self.outputs, kept_outputs, strict=True):
            binding.bind_output(port.name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

        # onnxruntime holds the addresses only: as long as there is a call, there are the arrays.
        def run(alive: object = (kept_inputs, kept_outputs)) -> None:
            session = self._session
            try:
                if type(session) is _Watch:
                    session.run_bound(binding, kept_inputs)
                else:
                    session.run_with_iobinding(binding)
            except Exception as error:
                raise self._failed(error) from error

        return run

    @contextmanager
    def watched(self, *, keep_inputs: bool = False) -> Iterator[list[Run]]:
        """The list that every run of this graph is added to while the context is open.

        With `keep_inputs` each run holds copies of its inputs, which takes time and memory.
        """
        session, runs = self._session, []  # type: Any, list[Run]
        self._session = _Watch(session, runs, keep_inputs)
        try:
            yield runs
        finally:
            self._session = session

    def report(self) -> dict[str, Any]:
        """What was asked for and what runs where.

        {"file": name, "asked": [provider], "nodes": {provider: count}, "threads": n}; the counts
        are of the nodes after onnxruntime's basic optimizations, as it assigned them.
        """
        return {
            "file": self.file.name,
            "asked": list(self._asked),
            "nodes": dict(self._nodes),
            "threads": self._threads,
        }

    def _check(self, arrays: Sequence[Any]) -> None:
        for array, port, (dtype, shape) in zip(arrays, self.inputs, self._accepted, strict=True):
            where = f"{self.file.name} input {port.name!r}"
            if not isinstance(array, np.ndarray):
                raise TypeError(f"{where} is a {type(array).__name__}: a numpy array is allowed")
            if array.dtype != dtype:
                raise ValueError(f"{where} is {array.dtype.str} data: {dtype.name} is allowed")
            fits = len(array.shape) == len(shape) and all(
                size == allowed if isinstance(allowed, int) else size > 0
                for size, allowed in zip(array.shape, shape, strict=True)
            )
            if not fits:
                wanted = ", ".join(str(axis) for axis in shape)
                raise ValueError(
                    f"{where} has shape {array.shape}: ({wanted}) is allowed, no axis empty"
                )


class _Watch:
    """A session whose runs are timed."""

    def __init__(self, session: Any, runs: list[Run], keep_inputs: bool) -> None:
        self._session, self._runs, self._keep = session, runs, keep_inputs

    def io_binding(self) -> Any:
        return self._session.io_binding()

    def run(self, names: list[str], inputs: dict[str, np.ndarray[Any, Any]]) -> Any:
        kept = self._kept(inputs.values())
        start = time.perf_counter()
        outputs = self._session.run(names, inputs)
        self._runs.append(Run(time.perf_counter() - start, kept))
        return outputs

    def run_bound(self, binding: Any, inputs: Sequence[np.ndarray[Any, Any]]) -> None:
        kept = self._kept(inputs)
        start = time.perf_counter()
        self._session.run_with_iobinding(binding)
        self._runs.append(Run(time.perf_counter() - start, kept))

    def _kept(self, inputs: Iterable[np.ndarray[Any, Any]]) -> tuple[np.ndarray[Any, Any], ...]:
        return tuple(array.copy() for array in inputs) if self._keep else ()


def profile_events(
    model: CheckedGraph,
    inputs: Sequence[np.ndarray[Any, Any]],
    folder: Path,
    *,
    optimization: str = "all",
    runs: int = 1,
) -> str:
    """What onnxruntime's profiler writes, JSON, about so many runs on the CPU with one thread.

    `folder` is where it writes. Raises what `Graph` raises.
    """
    graph = Graph(model, optimization=optimization)
    graph._check(inputs)
    onnxruntime = _onnxruntime()
    options = _session_options(onnxruntime, 1, False, optimization)
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    session = _session(onnxruntime, model, options, [CPU])
    feed = {port.name: array for port, array in zip(graph.inputs, inputs, strict=True)}
    for _ in range(runs):
        session.run(None, feed)
    return Path(session.end_profiling()).read_text(encoding="utf-8")


def available_providers() -> list[str]:
    """The execution providers that this installation of onnxruntime brings, its first choice first.

    One that is listed may still run no node of a graph. Raises EdgeaeError without onnxruntime.
    """
    return list(_onnxruntime().get_available_providers())


# onnxruntime 1.32 tells its maker what it is used for, keeps a database of it in the user's cache
# and follows a link that anyone can plant in the temporary folder. It reads this when imported.
_NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"
# With this one set, a session made of bytes is refused, whatever else is asked.
_CONFIG_FROM_MODEL = "ORT_LOAD_CONFIG_FROM_MODEL"
_environment = threading.Lock()


def _onnxruntime() -> Any:
    os.environ[_NO_TELEMETRY] = "1"
    try:
        import onnxruntime
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "onnxruntime":
            raise EdgeaeError(
                'onnxruntime is not installed: pip install "edgeae[cpu]" (or [gpu])'
            ) from None
        raise EdgeaeError(f"onnxruntime does not load: {_first_line(error)}") from error
    return onnxruntime


def _first_that_runs(
    onnxruntime: Any,
    model: CheckedGraph,
    ways: Sequence[tuple[Choice, ...]],
    asked: Sequence[str],
    threads: int,
    strict: bool,
    optimization: str,
) -> tuple[Any, dict[str, int]]:
    """The session of the first of the `ways`, and its nodes by provider."""
    available = onnxruntime.get_available_providers()
    failed = ProviderError(
        "no device here is an accelerator, and strict refuses the CPU: "
        f"{', '.join(available)} are here",
        asked=asked,
        available=available,
    )
    for way in ways:
        try:
            for choice in way:
                if choice.name not in available:
                    raise ProviderError(
                        f"{choice.name} is not on this machine: {', '.join(available)} are",
                        asked=asked,
                        available=available,
                    )
            session = _open(onnxruntime, model, way, threads, strict, optimization)
            nodes = _nodes_by_provider(session, onnxruntime.__version__)
            for choice in way:
                if choice.name != CPU and choice.name not in nodes:
                    raise ProviderError(
                        f"{choice.name} runs no node of {model.file.name}: its nodes run on "
                        f"{', '.join(nodes) or 'nothing'}",
                        asked=asked,
                        available=available,
                    )
            return session, nodes
        except ProviderError as error:
            failed = error
    raise failed


def _open(
    onnxruntime: Any,
    model: CheckedGraph,
    way: Sequence[Choice],
    threads: int,
    strict: bool,
    optimization: str,
) -> Any:
    options = _session_options(onnxruntime, threads, strict, optimization)
    try:
        return _session(onnxruntime, model, options, _ask_for(onnxruntime, options, way))
    except Exception as error:
        names = [choice.name for choice in way]
        if names == [CPU]:
            raise BundleError(
                f"onnxruntime cannot load {model.file}: {_first_line(error)}"
            ) from error
        # The CPU runs every sound graph: if it loads this one, the provider is to blame.
        _open(onnxruntime, model, [Choice(CPU)], threads, False, optimization)
        raise ProviderError(
            f"{', '.join(names)} cannot run {model.file.name}"
            f"{' without the CPU' if strict else ''}: {_first_line(error)}",
            asked=names,
            available=onnxruntime.get_available_providers(),
        ) from error


def _session(
    onnxruntime: Any, model: CheckedGraph, options: Any, providers: Sequence[Any] | None
) -> Any:
    """A session over the model's bytes; nothing but its arguments has a say in it."""

    def opened() -> Any:
        return onnxruntime.InferenceSession(
            model.data,
            options,
            providers=providers,
            # By default a provider that fails is replaced by the CPU, with a print.
            enable_fallback=0,
            read_config_from_model=0,
        )

    if _CONFIG_FROM_MODEL not in os.environ and not _environment.locked():
        return opened()
    with _environment:
        set_before = os.environ.pop(_CONFIG_FROM_MODEL, None)
        try:
            return opened()
        finally:
            if set_before is not None:
                os.environ[_CONFIG_FROM_MODEL] = set_before


def _ask_for(onnxruntime: Any, options: Any, way: Sequence[Choice]) -> list[Any] | None:
    """What to pass as `providers`, or None where the session options hold the wish.

    A plugin's provider that is passed by name is dropped without a word: it goes by its devices.
    """
    devices = {choice.name: _plugin_devices(onnxruntime, choice) for choice in way}
    if not any(devices.values()):
        return [(c.name, dict(c.options)) if c.options else c.name for c in way]
    for choice in way:
        if devices[choice.name]:
            wanted = dict(choice.options) or _default_options(choice.name)
            options.add_provider_for_devices(devices[choice.name][:1], wanted)
        elif choice.name != CPU:
            options.add_provider(choice.name, dict(choice.options))
    return None


def _plugin_devices(onnxruntime: Any, choice: Choice) -> list[Any]:
    """The hardware under a plugin's provider, what was asked for first; none if it is built in."""
    if choice.name not in _registered:
        return []
    order = [choice.kind, "npu", "gpu", "cpu"]
    found = [d for d in onnxruntime.get_ep_devices() if d.ep_name == choice.name]
    return sorted(found, key=lambda d: order.index(d.device.type.name.lower()))


def _default_options(name: str) -> dict[str, str]:
    """Options without which a provider does not know what to do, its fastest hardware first."""
    for known in KNOWN:
        if known.name == name:
            return dict(next(iter(known.options.values())))
    return {}


# Plugins in this process, by the name of their provider: onnxruntime takes each library once.
_registered: dict[str, Path] = {}
_registering = threading.Lock()


def register_provider(name: str, library: str | Path) -> None:
    """Makes a plugin's provider known to onnxruntime, under onnxruntime's name for it.

    Those of installed packages that edgeae knows are found by themselves. Does nothing if the name
    is known already. Raises ProviderError if the library is not there or is none.
    """
    onnxruntime = _onnxruntime()
    path = Path(library).absolute()
    with _registering:
        if name in onnxruntime.get_available_providers():
            return
        try:
            onnxruntime.register_execution_provider_library(name, str(path))
        except Exception as error:
            raise ProviderError(
                f"{path} is no plugin for {name}: {_first_line(error)}",
                asked=[name],
                available=onnxruntime.get_available_providers(),
            ) from error
        _registered[name] = path


def _bring(onnxruntime: Any, providers: Sequence[Provider] | None, device: str | None) -> None:
    """Registers the installed plugins that could be meant; the CPU costs nothing."""
    names = [p[0] if isinstance(p, tuple) and p else p for p in providers or ()]
    for known in KNOWN:
        kinds = {"auto": "gpu"}.get(device or "", device)
        if known.name in names or (kinds in known.options and kinds != "cpu"):
            _bring_plugin(onnxruntime, known.name, known.plugin)


def _bring_plugin(onnxruntime: Any, name: str, package: str | None) -> None:
    if package is None or name in onnxruntime.get_available_providers():
        return
    try:
        library = importlib.import_module(package).get_library_path()
    except ModuleNotFoundError:
        return
    register_provider(name, library)


@dataclass(frozen=True)
class Hardware:
    """A device that a provider can use: its `kind` is "cpu", "gpu" or "npu", or "" if untold.

    `source` is "built in" or "plugin". A simulator of an NPU is a "cpu".
    """

    provider: str
    source: str
    kind: str
    vendor: str


def hardware() -> list[Hardware]:
    """Every provider and its devices, installed plugins included, as onnxruntime tells them.

    A provider that is built in often tells no device. That a provider is here does not mean that
    it runs a given graph: `Graph.report` says that.
    """
    onnxruntime = _onnxruntime()
    for known in KNOWN:
        _bring_plugin(onnxruntime, known.name, known.plugin)
    found = []
    for name in onnxruntime.get_available_providers():
        source = "plugin" if name in _registered else "built in"
        devices = [d for d in onnxruntime.get_ep_devices() if d.ep_name == name]
        found += [
            Hardware(name, source, d.device.type.name.lower(), d.device.vendor) for d in devices
        ] or [Hardware(name, source, "", "")]
    return found


def _session_options(onnxruntime: Any, threads: int, strict: bool, optimization: str) -> Any:
    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = {
        "disabled": levels.ORT_DISABLE_ALL,
        "basic": levels.ORT_ENABLE_BASIC,
        "extended": levels.ORT_ENABLE_EXTENDED,
        "all": levels.ORT_ENABLE_ALL,
    }[optimization]
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = threads
    # Threads that spin between two hops burn a core for nothing.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # By default the first bytes decide: a flatbuffer inside protobuf would be run as another model.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1" if strict else "0")
    # Every failure is raised, and the promise is one line on stderr: log what is fatal only.
    options.log_severity_level = 4
    return options


def _nodes_by_provider(session: Any, version: str) -> dict[str, int]:
    if not hasattr(session, "get_provider_graph_assignment_info"):
        raise EdgeaeError(
            f"onnxruntime {version} cannot tell where a graph runs: "
            'pip install --upgrade "edgeae[cpu]" (or [gpu])'
        )
    counts: Counter[str] = Counter()
    for subgraph in session.get_provider_graph_assignment_info():
        counts[subgraph.ep_name] += len(subgraph.get_nodes())
    return dict(counts)


def _port(node: Any, file: Path) -> Port:
    if node.type not in _DTYPES:
        raise BundleError(f"{file}: {node.name!r} is a {node.type}: tensors of numbers are allowed")
    # onnxruntime gives None for an axis that is free and has no name.
    shape = tuple("?" if axis is None else axis for axis in node.shape)
    return Port(name=node.name, dtype=_DTYPES[node.type], shape=shape)


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
