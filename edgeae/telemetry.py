"""A fleet's view: calls, bytes, latency and alarms of models as OpenTelemetry metrics.

    instruments                     unit   attributes
    edgeae.calls          counter   {call}   edgeae.model, edgeae.bundle, edgeae.operation,
                                             and error.type where the call raised
    edgeae.bytes.in       counter   By       the same
    edgeae.bytes.out      counter   By       the same
    edgeae.call.duration  histogram s        the same
    edgeae.alarms         counter   {alarm}  the same

Needs the extra `otel`. Where metrics go is said to OpenTelemetry, not here.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeae.errors import EdgeaeError

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

__all__ = ["Instrumented", "instrument"]

# What is counted, of every kind of model and stream.
OPERATIONS = frozenset(
    {
        *("compress", "decompress", "packets", "receive", "pack", "unpack"),
        *("encode", "decode", "reconstruct", "sample", "interpolate"),
        *("denoise", "fill", "score", "flag", "process", "skip", "flush"),
    }
)
# Each of what these give is an alarm.
_ALARMS = frozenset({"flag"})
# From a hop of audio on a fast device to a large photo on a slow one.
_SECONDS = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def instrument(model: Any, *, meter_provider: MeterProvider | None = None) -> Any:
    """The model, each of whose calls is counted and timed.

    It has the model's methods and attributes, and so have the streams that it opens. What it gives
    and raises is the model's own.

    Args:
        model: what `edgeae.load` gives.
        meter_provider: where its metrics go; None is OpenTelemetry's global one.

    Raises:
        EdgeaeError: OpenTelemetry is not installed.

    >>> codec = instrument(edgeae.load("photo-codec"))  # doctest: +SKIP
    """
    try:
        from opentelemetry import metrics
    except ImportError:
        raise EdgeaeError("metrics need OpenTelemetry: pip install 'edgeae[otel]'") from None
    import edgeae

    meter = metrics.get_meter("edgeae", edgeae.__version__, meter_provider=meter_provider)
    manifest = model.bundle.manifest
    attributes = {"edgeae.model": manifest.name, "edgeae.bundle": model.bundle.id}
    return Instrumented(model, _Instruments(meter), attributes)


class _Instruments:
    """The metrics that all models of a process share; asking twice for a name gives the same."""

    def __init__(self, meter: Any) -> None:
        self.calls = meter.create_counter("edgeae.calls", "{call}", "Calls of a model.")
        self.bytes_in = meter.create_counter("edgeae.bytes.in", "By", "Bytes of data and codes in.")
        self.bytes_out = meter.create_counter("edgeae.bytes.out", "By", "The same, given back.")
        self.alarms = meter.create_counter("edgeae.alarms", "{alarm}", "What a detector flagged.")
        self.duration = meter.create_histogram(
            "edgeae.call.duration",
            "s",
            "Seconds that a call took.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )


class Instrumented:
    """A model or a stream whose calls are counted; everything else is its own."""

    def __init__(self, model: Any, instruments: _Instruments, attributes: dict[str, str]) -> None:
        self._model, self._instruments, self._attributes = model, instruments, attributes

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._model, name)
        if name == "stream":
            return functools.partial(self._stream, found)
        if name in OPERATIONS and callable(found):
            return functools.partial(self._call, name, found)
        return found

    def __repr__(self) -> str:
        return f"<instrumented {self._model!r}>"

    def _stream(self, open_stream: Callable[..., Any], *args: Any, **options: Any) -> Instrumented:
        stream = open_stream(*args, **options)
        return Instrumented(stream, self._instruments, self._attributes)

    def _call(self, name: str, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        attributes = {**self._attributes, "edgeae.operation": name}
        start = time.perf_counter()
        try:
            result = call(*args, **options)
        except Exception as error:
            attributes["error.type"] = type(error).__qualname__
            self._count(attributes, start, byte_count(args))
            raise
        self._count(attributes, start, byte_count(args))
        self._instruments.bytes_out.add(byte_count(result), attributes)
        if name in _ALARMS and result:
            self._instruments.alarms.add(len(result), attributes)
        return result

    def _count(self, attributes: dict[str, str], start: float, bytes_in: int) -> None:
        self._instruments.duration.record(time.perf_counter() - start, attributes)
        self._instruments.calls.add(1, attributes)
        self._instruments.bytes_in.add(bytes_in, attributes)


def byte_count(value: Any) -> int:
    """The bytes of arrays and codes, also in tuples, lists and records; other values have none."""
    if isinstance(value, bytes | bytearray):
        return len(value)
    if isinstance(value, np.ndarray | memoryview):
        return value.nbytes
    if isinstance(value, tuple | list):
        return sum(map(byte_count, value))
    if dataclasses.is_dataclass(value):
        return sum(byte_count(getattr(value, field.name)) for field in dataclasses.fields(value))
    return 0
