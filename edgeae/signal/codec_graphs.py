"""The graphs of a signal codec: samples to latents and back, in pieces that overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgeae.coding.rate import LEVELS
from edgeae.errors import BundleError
from edgeae.runtime import Graph
from edgeae.signal.codec_latent import LatentSpec

__all__ = ["Transforms", "check_ports"]

Floats = npt.NDArray[np.float32]
# Steps that go through a graph at once: 65,536 samples, 25 MB of activations.
_PIECE_STEPS = 4096
_Port = tuple[str, tuple[int | None, ...]]


class Transforms:
    """Analysis and synthesis of one lead at a time."""

    def __init__(self, spec: LatentSpec, encoder: Graph, decoder: Graph) -> None:
        """Raises BundleError if a graph does not take and give what the latent needs."""
        self.encoder, self.decoder = encoder, decoder
        self._spec = spec

    def analyze(self, signal: Floats, level: int) -> Floats:
        """Latents (channels, steps) of samples (16 * steps,) of about deviation 1."""
        spec = self._spec
        steps = len(signal) // spec.stride
        found = np.empty((spec.channels, steps), np.float32)
        for begin, end, first, last in _pieces(steps, spec.encoder_halo):
            part = signal[first * spec.stride : last * spec.stride]
            phases = np.ascontiguousarray(part.reshape(-1, spec.phases).T)[None, :, None]
            (latents,) = self.encoder(phases, _level(level))
            found[:, begin:end] = latents[0, :, 0, begin - first : end - first]
        return found

    def synthesize(self, latents: Floats, level: int) -> Floats:
        """Samples (16 * steps,) of latents (channels, steps)."""
        spec = self._spec
        steps = latents.shape[1]
        found = np.empty(steps * spec.stride, np.float32)
        for begin, end, first, last in _pieces(steps, spec.decoder_halo):
            part = np.ascontiguousarray(latents[:, first:last])[None, :, None]
            (phases,) = self.decoder(part, _level(level))
            signal = phases[0, :, 0].T.reshape(-1)
            here = slice((begin - first) * spec.stride, (end - first) * spec.stride)
            found[begin * spec.stride : end * spec.stride] = signal[here]
        if not np.isfinite(found).all():
            raise BundleError(f"{self.decoder.file.name} gives numbers that are not finite")
        return found


def _pieces(steps: int, halo: int) -> list[tuple[int, int, int, int]]:
    """Begin and end of each piece, and of what it is worked out from."""
    pieces = []
    for begin in range(0, steps, _PIECE_STEPS):
        end = min(steps, begin + _PIECE_STEPS)
        pieces.append((begin, end, max(0, begin - halo), min(steps, end + halo)))
    return pieces


def _level(level: int) -> Floats:
    return np.full((1, 1, 1, 1), level / (LEVELS - 1), np.float32)


def check_ports(
    spec: LatentSpec, encoder: Graph, decoder: Graph, contexts: Sequence[Graph]
) -> None:
    """Raises BundleError, naming the file, unless every graph takes and gives what is needed."""
    channels = spec.channels
    phases: _Port = ("float32", (1, spec.phases, 1, None))
    latents: _Port = ("float32", (1, channels, 1, None))
    one: _Port = ("float32", (1, 1, 1, 1))
    _check(encoder, [phases, one], [latents])
    _check(decoder, [latents, one], [phases])
    width = contexts[0].outputs[0].shape[1] if contexts[0].outputs else None
    if not isinstance(width, int):
        raise BundleError(f"{contexts[0].file} gives no summary of a fixed width")
    summary: _Port = ("float32", (1, width, 1, None))
    _check(contexts[0], [one, latents], [summary])
    known = 0
    for own, graph in zip(spec.slices, contexts[1:], strict=True):
        # Three matches of two kinds, each with its distance; two steps before and two matches.
        takes: list[_Port] = [
            one,
            summary,
            ("float32", (1, 6 * (channels + 1), 1, None)),
            ("float32", (1, 4 * channels, 1, None)),
        ]
        if known:
            takes.append(("float32", (1, known, 1, None)))
        gives: _Port = ("int32", (1, own, 1, None))
        _check(graph, takes, [gives, gives])
        known += own


def _check(graph: Graph, takes: Sequence[_Port], gives: Sequence[_Port]) -> None:
    for side, ports, expected in (("takes", graph.inputs, takes), ("gives", graph.outputs, gives)):
        found = [
            (port.dtype, tuple(size if isinstance(size, int) else None for size in port.shape))
            for port in ports
        ]
        if found != [*expected]:
            raise BundleError(f"{graph.file} {side} {found}, expected {[*expected]}")
