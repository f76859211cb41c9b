"""One ONNX graph that runs: arrays in, arrays out, and the truth about where its nodes ran."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeae import plugins
from edgeae.errors import BundleError, EdgeaeError, ProviderError
from edgeae.onnx_check import CheckedGraph
from edgeae.plugins import Hardware, ask_for, bring, first_line
from edgeae.providers import CPU, Choice, Provider, alternatives

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
                f"optimization is {optimization!r}, expected one of {', '.join(OPTIMIZATIONS)}"
            )
        onnxruntime = _onnxruntime()
        bring(onnxruntime, providers, device)
        choices = alternatives(
            providers,
            device,
            strict=strict,
            available=onnxruntime.get_available_providers(),
        )
        self.file = model.file
        self._asked = tuple(choice.name for choice in choices[0]) if device is None else (device,)
        self._threads = threads
        self._session, self._nodes = _first_that_runs(
            onnxruntime, model, choices, self._asked, threads, strict, optimization
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
        self._promised = tuple((np.dtype(port.dtype), port.shape) for port in self.outputs)

    def __call__(self, *arrays: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], ...]:
        """The outputs for these inputs, both in the graph's order: see `run`."""
        return self.run(arrays)

    def run(
        self,
        arrays: Sequence[np.ndarray[Any, Any]],
        *,
        shapes: Sequence[tuple[int, ...]] | None = None,
        finite: bool = False,
    ) -> tuple[np.ndarray[Any, Any], ...]:
        """The outputs for these inputs, both in the graph's order.

        What a graph gives is not taken on trust: an output of another dtype or shape than it
        declares is an error.

        Args:
            arrays: one for each input, of its dtype and shape, no axis empty.
            shapes: what the caller expects of each output, where the graph leaves axes free.
            finite: whether NaN or infinity in an output is an error.

        Raises:
            TypeError, ValueError: before anything runs, an input is no array or does not fit.
            EdgeaeError: the run fails, or an output is not as declared and as asked.
        """
        if len(arrays) != len(self._accepted):
            raise ValueError(
                f"{self.file.name}: inputs are {len(arrays)}, expected {len(self._accepted)} "
                f"({', '.join(self._input_names)})"
            )
        for array, (dtype, shape) in zip(arrays, self._accepted, strict=True):
            # One comparison settles a fixed shape; free axes and errors take the slow path.
            if type(array) is not np.ndarray or array.dtype != dtype or array.shape != shape:
                self._check(arrays)
                break
        try:
            outputs = tuple(
                self._session.run(
                    self._output_names, dict(zip(self._input_names, arrays, strict=True))
                )
            )
        except Exception as error:  # onnxruntime's own exceptions share no base but this one
            raise self._failed(error) from error
        for i, (output, (dtype, shape)) in enumerate(zip(outputs, self._promised, strict=True)):
            if output.dtype != dtype or output.shape != shape:
                self._check_output(i, output)
            if shapes is not None and output.shape != shapes[i]:
                raise self._unexpected(i, f"has shape {output.shape}, expected {shapes[i]}")
            if finite and not _is_finite(output):
                raise self._unexpected(i, "holds NaN or infinity, expected finite numbers")
        return outputs

    def _check_output(self, index: int, output: np.ndarray[Any, Any]) -> None:
        """Raises EdgeaeError unless an output has the dtype, rank and fixed axes of its port."""
        dtype, shape = self._promised[index]
        if output.dtype != dtype:
            raise self._unexpected(index, f"is {output.dtype}, expected {dtype}")
        if len(output.shape) != len(shape) or any(
            isinstance(axis, int) and axis != size
            for size, axis in zip(output.shape, shape, strict=True)
        ):
            wanted = ", ".join(map(str, shape))
            raise self._unexpected(index, f"has shape {output.shape}, expected ({wanted})")

    def _unexpected(self, index: int, offence: str) -> EdgeaeError:
        return EdgeaeError(f"{self.file.name} output {self._output_names[index]!r} {offence}")

    def _failed(self, error: Exception) -> EdgeaeError:
        return EdgeaeError(f"{self.file.name} failed to run: {first_line(error)}")

    def bind(
        self,
        inputs: Sequence[np.ndarray[Any, Any]],
        outputs: Sequence[np.ndarray[Any, Any]],
        *,
        finite: Collection[int] = (),
    ) -> Callable[[], None]:
        """A call that runs the graph on whatever `inputs` then hold and writes into `outputs`.

        For many runs on arrays of one shape: they are checked here, once, and nothing is copied.
        Raises what a call of the graph raises for inputs that do not fit; ValueError for outputs
        that do not, or arrays that are not contiguous. What is returned may raise EdgeaeError: the
        run fails, as it does where the graph leaves axes free and gives another shape, or an output
        whose number is in `finite` holds NaN or infinity.
        """
        if len(inputs) != len(self.inputs) or len(outputs) != len(self.outputs):
            raise ValueError(
                f"{self.file.name}: inputs and outputs are {len(inputs)} and {len(outputs)}, "
                f"expected {len(self.inputs)} and {len(self.outputs)}"
            )
        self._check(inputs)
        for array, port in zip(outputs, self.outputs, strict=True):
            if array.dtype != port.dtype or not _fits(array.shape, port.shape):
                raise ValueError(
                    f"{self.file.name} output {port.name!r} is {array.dtype} {array.shape}, "
                    f"expected {port.dtype} {port.shape}"
                )
        kept_inputs, kept_outputs = tuple(inputs), tuple(outputs)
        if not all(array.flags.c_contiguous for array in (*kept_inputs, *kept_outputs)):
            raise ValueError(f"{self.file.name}: an array has gaps, expected contiguous ones")
        binding = self._session.io_binding()
        for port, array in zip(self.inputs, kept_inputs, strict=True):
            binding.bind_input(port.name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for port, array in zip(self.outputs, kept_outputs, strict=True):
            binding.bind_output(port.name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

        watched = [(index, kept_outputs[index]) for index in sorted(finite)]

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
            for index, numbers in watched:
                if not _is_finite(numbers):
                    raise self._unexpected(index, "holds NaN or infinity, expected finite numbers")

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
            fits = isinstance(array, np.ndarray) and array.dtype == dtype
            if fits and _fits(array.shape, shape):
                continue
            where = f"{self.file.name} input {port.name!r}"
            if not isinstance(array, np.ndarray):
                raise TypeError(f"{where} is a {type(array).__name__}, expected a numpy array")
            if array.dtype != dtype:
                raise ValueError(f"{where} is {array.dtype.str} data, expected {dtype.name}")
            wanted = ", ".join(str(axis) for axis in shape)
            raise ValueError(f"{where} has shape {array.shape}, expected ({wanted}), no axis empty")


def _fits(shape: tuple[int, ...], allowed: tuple[int | str | None, ...]) -> bool:
    """Whether a shape has the fixed axes of a port, and no empty one where it leaves them free."""
    if len(shape) != len(allowed):
        return False
    for size, axis in zip(shape, allowed, strict=True):
        if size != axis and (isinstance(axis, int) or size < 1):
            return False
    return True


def _is_finite(numbers: np.ndarray[Any, Any]) -> bool:
    """Whether an array holds neither NaN nor infinity."""
    return numbers.dtype.kind != "f" or bool(np.isfinite(numbers).all())


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

    Args:
        model: the graph.
        inputs: one array for each of its inputs, of its dtype and shape.
        folder: where the profiler writes its file.
        optimization: one of `OPTIMIZATIONS`.
        runs: how often the graph runs, from 1.

    Raises:
        BundleError: onnxruntime cannot load the graph.
        TypeError, ValueError: the inputs do not fit, or another optimization.
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
        raise EdgeaeError(f"onnxruntime does not load: {first_line(error)}") from error
    return onnxruntime


def hardware() -> list[Hardware]:
    """Every provider and its devices, installed plugins included, as onnxruntime tells them.

    A provider that is built in often tells no device. That a provider is here does not mean that
    it runs a given graph: `Graph.report` says that.
    """
    return plugins.hardware(_onnxruntime())


def register_provider(name: str, library: str | Path) -> None:
    """Makes a plugin's provider known to onnxruntime, under onnxruntime's name for it.

    Those of installed packages that edgeae knows are found by themselves. Does nothing if the name
    is known already. Raises ProviderError if the library is not there or is none.
    """
    plugins.register(_onnxruntime(), name, library)


def _first_that_runs(
    onnxruntime: Any,
    model: CheckedGraph,
    choices: Sequence[tuple[Choice, ...]],
    asked: Sequence[str],
    threads: int,
    strict: bool,
    optimization: str,
) -> tuple[Any, dict[str, int]]:
    """The session of the first of the `choices` that runs the model, and its nodes by provider."""
    available = onnxruntime.get_available_providers()
    failed = ProviderError(
        "no device here is an accelerator, and strict refuses the CPU: "
        f"{', '.join(available)} are here",
        asked=asked,
        available=available,
    )
    for providers in choices:
        try:
            for choice in providers:
                if choice.name not in available:
                    raise ProviderError(
                        f"{choice.name} is not on this machine: {', '.join(available)} are",
                        asked=asked,
                        available=available,
                    )
            session = _open(onnxruntime, model, providers, threads, strict, optimization)
            nodes = _nodes_by_provider(session, onnxruntime.__version__)
            for choice in providers:
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
    providers: Sequence[Choice],
    threads: int,
    strict: bool,
    optimization: str,
) -> Any:
    options = _session_options(onnxruntime, threads, strict, optimization)
    try:
        return _session(onnxruntime, model, options, ask_for(onnxruntime, options, providers))
    except Exception as error:
        names = [choice.name for choice in providers]
        if names == [CPU]:
            raise BundleError(
                f"onnxruntime cannot load {model.file}: {first_line(error)}"
            ) from error
        # The CPU runs every sound graph: if it loads this one, the provider is to blame.
        _open(onnxruntime, model, [Choice(CPU)], threads, False, optimization)
        raise ProviderError(
            f"{', '.join(names)} cannot run {model.file.name}"
            f"{' without the CPU' if strict else ''}: {first_line(error)}",
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
        raise BundleError(f"{file}: {node.name!r} is a {node.type}, expected tensors of numbers")
    # onnxruntime gives None for an axis that is free and has no name.
    shape = tuple("?" if axis is None else axis for axis in node.shape)
    return Port(name=node.name, dtype=_DTYPES[node.type], shape=shape)
